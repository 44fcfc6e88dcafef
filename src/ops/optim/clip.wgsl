// Clipping by the norm of all gradients together, without reading anything back: `squares` of each tensor, `join` where
// they are very many, `finish` for the norm and what to do, `scale` for each tensor. Squares are taken of numbers divided by a power of two near
// the largest of them, so that they neither overflow nor underflow: the norm is right in all of f32.
// uses: grid, math

struct Clip {
    // elements of this tensor; in `join` and `finish` partial sums
    count: u32,
    // `squares`: elements of a workgroup, and the number of its first partial sum; `join`: partial sums of a workgroup
    range: u32,
    first: u32,
    // 1 where the limit is infinite
    unlimited: u32,
    // max_norm, as far as f32 goes; and over 2^64
    limit: f32,
    limit_64: f32,
    first_group: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> p: Clip;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<u32>;

const LANES = 256u;
// terms of a chain: long ones round too far
const RUN = 128u;

var<workgroup> numbers: array<f32, LANES>;
var<workgroup> greatest: array<u32, LANES>;

// The greatest of all lanes.
fn join_greatest(lane: u32, value: u32) -> u32 {
    greatest[lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            greatest[lane] = max(greatest[lane], greatest[lane + half]);
        }
    }
    workgroupBarrier();
    return greatest[0];
}

// The sum of all lanes, joined in halves.
fn join_sum(lane: u32, value: f32) -> f32 {
    numbers[lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            numbers[lane] += numbers[lane + half];
        }
    }
    workgroupBarrier();
    return numbers[0];
}

// The exponent field of the largest magnitude, kept where it and its counterpart below are normal.
fn exponent(magnitude: u32) -> u32 {
    return clamp(magnitude >> 23u, 1u, 253u);
}

// 2^(127 - e), which brings numbers of that exponent near 1; and its inverse.
fn towards_one(e: u32) -> f32 {
    return bitcast<f32>((254u - e) << 23u);
}

fn back(e: u32) -> f32 {
    return bitcast<f32>(e << 23u);
}

// A partial sum is three numbers: the largest magnitude's bits, its exponent field, the sum of squares over 4^exponent.
// grid: workgroups of this tensor, fixed by its length
// trips: ceil(range / 256) + 130 * ceil(range / 32768) + 20
@compute @workgroup_size(256)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let begin = number * p.range;
    let end = min(begin + p.range, p.count);
    var magnitude = 0u;
    for (var i = begin + lane; i < end; i += LANES) {
        magnitude = max(magnitude, bitcast<u32>(grad[i]) & 0x7fffffffu);
    }
    let top = join_greatest(lane, magnitude);
    let e = exponent(top);
    let unit = towards_one(e);
    var of_runs = 0.0;
    for (var first = begin + lane; first < end; first += RUN * LANES) {
        let last = min(end, first + RUN * LANES);
        var sum = 0.0;
        for (var i = first; i < last; i += LANES) {
            let g = grad[i] * unit;
            sum += g * g;
        }
        of_runs += sum;
    }
    let all = join_sum(lane, of_runs);
    if lane == 0u && begin < p.count {
        let at = 3u * (p.first + number);
        partial[at] = top;
        partial[at + 1u] = e;
        partial[at + 2u] = bitcast<u32>(all);
    }
}

@group(0) @binding(1) var<storage, read> partials: array<u32>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;
// what to do (see below), and two factors
@group(0) @binding(3) var<storage, read_write> action: array<u32>;

const LEAVE = 0u;
const MULTIPLY = 1u;
const ALL_NAN = 2u;
const ZERO = 3u;

struct Part {
    top: u32,
    e: u32,
    all: f32,
}

fn joined(begin: u32, end: u32, lane: u32) -> Part {
    var magnitude = 0u;
    for (var i = begin + lane; i < end; i += LANES) {
        magnitude = max(magnitude, partials[3u * i]);
    }
    let top = join_greatest(lane, magnitude);
    let e = exponent(top);
    var sum = 0.0;
    for (var i = begin + lane; i < end; i += LANES) {
        // 4^(its exponent - e), 0 where that is no normal number
        let less = 2u * (e - partials[3u * i + 1u]);
        let unit = select(0.0, bitcast<f32>((127u - min(less, 126u)) << 23u), less <= 126u);
        sum += bitcast<f32>(partials[3u * i + 2u]) * unit;
    }
    return Part(top, e, join_sum(lane, sum));
}

// grid: ceil(count / range)
// trips: 2 * ceil(range / 256) + 20
@compute @workgroup_size(256)
fn join(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_number(group, groups) + p.first_group;
    let begin = number * p.range;
    let it = joined(begin, min(begin + p.range, p.count), lane);
    if lane == 0u && begin < p.count {
        partial[3u * number] = it.top;
        partial[3u * number + 1u] = it.e;
        partial[3u * number + 2u] = bitcast<u32>(it.all);
    }
}

// grid: 1
// trips: 2 * ceil(count / 256) + 20
@compute @workgroup_size(256)
fn finish(@builtin(local_invocation_index) lane: u32) {
    let it = joined(0u, p.count, lane);
    let top = it.top;
    let e = it.e;
    if lane == 0u {
        let root = sqrt(it.all);
        var result = root * back(e);
        var what = LEAVE;
        var first = 1.0;
        var second = 1.0;
        if top > 0x7f800000u {
            var quiet = 0x7fc00000u;
            result = bitcast<f32>(quiet);
            what = ALL_NAN;
        } else if top == 0x7f800000u {
            var infinity = top;
            result = bitcast<f32>(infinity);
            what = select(ZERO, ALL_NAN, p.unlimited == 1u);
        } else if root > 3.4028234e38 * towards_one(e) {
            // past f32 though every gradient is finite: the norm over 2^64 is not, and the coefficient may need two
            // factors to stay normal
            var infinity = 0x7f800000u;
            result = bitcast<f32>(infinity);
            let less = root * back(e - 64u);
            let coefficient = p.limit_64 / less;
            what = select(LEAVE, MULTIPLY, coefficient < 1.0 && p.unlimited == 0u);
            first = select(back(127u - 64u), 1.0, p.limit_64 > 1.0);
            second = select(p.limit / less, coefficient, p.limit_64 > 1.0);
        } else {
            second = p.limit / (result + 1e-6);
            what = select(LEAVE, MULTIPLY, second < 1.0 && p.unlimited == 0u);
        }
        norm[0] = result;
        action[0] = what;
        action[1] = bitcast<u32>(first);
        action[2] = bitcast<u32>(second);
    }
}

@group(0) @binding(1) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(2) var<storage, read> wanted: array<u32>;

// grid: ceil(count / 256) groups of 256 elements
// trips: none
@compute @workgroup_size(256)
fn scale(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    let what = wanted[0];
    if i < p.count && what != LEAVE {
        let g = scaled[i];
        var quiet = 0x7fc00000u;
        let nan = bitcast<f32>(quiet);
        var result = g * bitcast<f32>(wanted[1]) * bitcast<f32>(wanted[2]);
        if what == ALL_NAN {
            result = nan;
        } else if what == ZERO {
            result = select(0.0, nan, (bitcast<u32>(g) & 0x7fffffffu) >= 0x7f800000u);
        }
        scaled[i] = result;
    }
}
