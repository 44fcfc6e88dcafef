// Cross-entropy (equations: mod.rs), a workgroup a row, or a part of a long one. Infinities and NaN are told by their
// bits and written as bits: drivers may assume that there are none.
// uses: grid, math

struct CrossEntropy {
    rows: u32,
    classes: u32,
    // of the gradient
    scale: f32,
    // what the sum of the losses is divided by
    divisor: f32,
    first_group: u32,
    // most classes, or losses, that a workgroup takes where it does not take them all; and into how many such parts a
    // row is cut
    part: u32,
    parts: u32,
    pad: u32,
}

@group(0) @binding(0) var<uniform> p: CrossEntropy;
// classes; 0xffffffff where ignored
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>;

const LANES = 64u;
const RUN = 32u;
// the row has a NaN or +inf; it has a finite number
const BAD = 1u;
const FINITE = 2u;

var<workgroup> numbers: array<f32, LANES>;
var<workgroup> kinds: array<u32, LANES>;

fn bits_of(x: f32) -> u32 {
    return bitcast<u32>(x);
}

fn not_a_number() -> f32 {
    var quiet = 0x7fc00000u;
    return bitcast<f32>(quiet);
}

fn is_minus_infinity(x: f32) -> bool {
    return bits_of(x) == 0xff800000u;
}

fn kind_of(x: f32) -> u32 {
    let bits = bits_of(x);
    let bad = (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u;
    return select(select(FINITE, 0u, bits == 0xff800000u), BAD, bad);
}

// e^(x - m) for a finite m >= x, 0 for x = -inf.
fn exp_below(x: f32, m: f32) -> f32 {
    return select(exp_finite(x - m), 0.0, is_minus_infinity(x));
}

// Natural logarithm of a finite number of at least 1: m in [sqrt(1/2), sqrt(2)) and a polynomial (Cephes' logf).
fn ln_from_one(x: f32) -> f32 {
    let i = bits_of(x) - 0x3f3504f3u;
    let m = bitcast<f32>((i & 0x7fffffu) + 0x3f3504f3u);
    let e = f32(i >> 23u);
    let f = m - 1.0;
    var q = 7.0376836292e-2;
    q = q * f - 1.1514610310e-1;
    q = q * f + 1.1676998740e-1;
    q = q * f - 1.2420140846e-1;
    q = q * f + 1.4249322787e-1;
    q = q * f - 1.6668057665e-1;
    q = q * f + 2.0000714765e-1;
    q = q * f - 2.4999993993e-1;
    q = q * f + 3.3333331174e-1;
    let s = f * f;
    let tail = q * s * f - 0.5 * s + e * -2.12194440e-4;
    return (f + tail) + e * 0.693359375;
}

// Joins the lanes of the workgroup in halves: the greatest number and all kinds, or the sum.
fn join_greatest(lane: u32) {
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = numbers[lane + half];
            numbers[lane] = select(numbers[lane], other, other > numbers[lane]);
            kinds[lane] |= kinds[lane + half];
        }
    }
    workgroupBarrier();
}

fn join_sum(lane: u32) {
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            numbers[lane] += numbers[lane + half];
        }
    }
    workgroupBarrier();
}

struct Row {
    greatest: f32,
    sum: f32,
    kinds: u32,
}

// Logits `begin .. end`, whose classes may be a part of a row.
fn reduce(begin: u32, end: u32, lane: u32) -> Row {
    // finite, and below every finite number or equal to it
    var greatest = -3.4028234e38;
    var kind = 0u;
    for (var c = begin + lane; c < end; c += LANES) {
        let x = logits[c];
        let k = kind_of(x);
        kind |= k;
        greatest = select(greatest, x, k == FINITE && x > greatest);
    }
    numbers[lane] = greatest;
    kinds[lane] = kind;
    join_greatest(lane);
    let m = numbers[0];
    let all = kinds[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var c = begin + lane; c < end; c += LANES) {
        sum += exp_below(logits[c], m);
    }
    numbers[lane] = sum;
    join_sum(lane);
    return Row(m, numbers[0], all);
}

fn loss_of(row: u32, it: Row) -> f32 {
    let t = targets[row];
    let x = logits[row * p.classes + min(t, p.classes - 1u)];
    var loss = ln_from_one(max(it.sum, 1.0)) - (x - it.greatest);
    if is_minus_infinity(x) {
        var infinity = 0x7f800000u;
        loss = bitcast<f32>(infinity);
    }
    if it.kinds != FINITE {
        loss = not_a_number();
    }
    return select(loss, 0.0, t == 0xffffffffu);
}

fn write_gradient(row: u32, begin: u32, end: u32, it: Row, lane: u32) {
    let t = targets[row];
    let first = row * p.classes;
    for (var c = begin + lane; c < end; c += LANES) {
        let share = exp_below(logits[first + c], it.greatest) / it.sum;
        var g = (share - select(0.0, 1.0, c == t)) * p.scale;
        if it.kinds != FINITE {
            g = not_a_number();
        }
        gradient[first + c] = select(g, 0.0, t == 0xffffffffu);
    }
}

// grid: rows
// trips: 2 * ceil(classes / 64) + 16
@compute @workgroup_size(64)
fn loss(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let row = min(number, p.rows - 1u);
    let it = reduce(row * p.classes, (row + 1u) * p.classes, lane);
    if lane == 0u && number < p.rows {
        losses[row] = loss_of(row, it);
    }
}

// grid: rows
// trips: 3 * ceil(classes / 64) + 17
@compute @workgroup_size(64)
fn loss_and_gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let row = min(number, p.rows - 1u);
    let it = reduce(row * p.classes, (row + 1u) * p.classes, lane);
    if number < p.rows {
        if lane == 0u {
            losses[row] = loss_of(row, it);
        }
        write_gradient(row, 0u, p.classes, it, lane);
    }
}

// Rows of more classes than one workgroup may loop over: first each part by itself, then every workgroup joins the
// parts of its row. A part is three words: the greatest number, the sum by that, the kinds.
@group(0) @binding(1) var<storage, read_write> parts_out: array<u32>;
@group(0) @binding(5) var<storage, read> parts_in: array<u32>;

// grid: rows * parts
// trips: 2 * ceil(part / 64) + 16
@compute @workgroup_size(64)
fn reduce_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let row = min(number / p.parts, p.rows - 1u);
    let begin = (number % p.parts) * p.part;
    let it = reduce(row * p.classes + begin, row * p.classes + min(begin + p.part, p.classes), lane);
    if lane == 0u && number < p.rows * p.parts {
        parts_out[3u * number] = bits_of(it.greatest);
        parts_out[3u * number + 1u] = bits_of(it.sum);
        parts_out[3u * number + 2u] = it.kinds;
    }
}

fn joined(row: u32, lane: u32) -> Row {
    let first = row * p.parts;
    var greatest = -3.4028234e38;
    var kind = 0u;
    for (var i = first + lane; i < first + p.parts; i += LANES) {
        greatest = max(greatest, bitcast<f32>(parts_in[3u * i]));
        kind |= parts_in[3u * i + 2u];
    }
    numbers[lane] = greatest;
    kinds[lane] = kind;
    join_greatest(lane);
    let m = numbers[0];
    let all = kinds[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var i = first + lane; i < first + p.parts; i += LANES) {
        sum += bitcast<f32>(parts_in[3u * i + 1u]) * exp_finite(bitcast<f32>(parts_in[3u * i]) - m);
    }
    numbers[lane] = sum;
    join_sum(lane);
    return Row(m, numbers[0], all);
}

// grid: rows
// trips: 2 * ceil(parts / 64) + 16
@compute @workgroup_size(64)
fn loss_of_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let row = min(number, p.rows - 1u);
    let it = joined(row, lane);
    if lane == 0u && number < p.rows {
        losses[row] = loss_of(row, it);
    }
}

// grid: rows * parts
// trips: 2 * ceil(parts / 64) + ceil(part / 64) + 17
@compute @workgroup_size(64)
fn loss_and_gradient_of_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let row = min(number / p.parts, p.rows - 1u);
    let it = joined(row, lane);
    if number < p.rows * p.parts {
        let begin = (number % p.parts) * p.part;
        if lane == 0u && begin == 0u {
            losses[row] = loss_of(row, it);
        }
        write_gradient(row, begin, min(begin + p.part, p.classes), it, lane);
    }
}

@group(0) @binding(1) var<storage, read> of_rows: array<f32>;
@group(0) @binding(2) var<storage, read_write> totals: array<f32>;

// The sum of the losses, here `rows`, over the divisor: of every `part` of them one, to be summed again where there
// are several. 64 lanes, each over its losses ascending in runs of 32, for long chains round too far; joined in halves.
// grid: ceil(rows / part)
// trips: 34 * ceil(part / 2048) + 8
@compute @workgroup_size(64)
fn reduce_losses(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let begin = number * p.part;
    let end = min(begin + p.part, p.rows);
    var sum = 0.0;
    var bad = 0u;
    for (var first = begin + lane; first < end; first += RUN * LANES) {
        let last = min(end, first + RUN * LANES);
        var run = 0.0;
        for (var r = first; r < last; r += LANES) {
            let loss = of_rows[r];
            bad = max(bad, bits_of(loss) & 0x7fffffffu);
            run += loss;
        }
        sum += run;
    }
    numbers[lane] = sum;
    kinds[lane] = bad;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            numbers[lane] += numbers[lane + half];
            kinds[lane] = max(kinds[lane], kinds[lane + half]);
        }
    }
    if lane == 0u && begin < p.rows {
        // losses are never negative, so the largest bits are NaN's, then infinity's
        var special = kinds[0];
        totals[number] = select(numbers[0] / p.divisor, bitcast<f32>(special), special >= 0x7f800000u);
    }
}
