// Arithmetic element by element: a thread is one element of the result. Functions are chosen by a uniform, so that
// one pipeline serves all of them.
// uses: grid, math, walk

struct One {
    count: u32,
    function: u32,
    value: f32,
    reversed: u32,
    first_group: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

// An operand's step along an axis is 0 where it is repeated.
struct Pair {
    count: u32,
    function: u32,
    a_start: u32,
    b_start: u32,
    y_start: u32,
    n1: u32,
    n2: u32,
    n3: u32,
    n4: u32,
    n5: u32,
    a0: u32,
    a1: u32,
    a2: u32,
    a3: u32,
    a4: u32,
    a5: u32,
    b0: u32,
    b1: u32,
    b2: u32,
    b3: u32,
    b4: u32,
    b5: u32,
    // number of the piece's first element: starts are less by what it stands for
    first: u32,
    first_group: u32,
}

struct Choice {
    count: u32,
    c_start: u32,
    a_start: u32,
    b_start: u32,
    y_start: u32,
    n1: u32,
    n2: u32,
    n3: u32,
    n4: u32,
    n5: u32,
    c0: u32,
    c1: u32,
    c2: u32,
    c3: u32,
    c4: u32,
    c5: u32,
    a0: u32,
    a1: u32,
    a2: u32,
    a3: u32,
    a4: u32,
    a5: u32,
    b0: u32,
    b1: u32,
    b2: u32,
    b3: u32,
    b4: u32,
    b5: u32,
    first_group: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> one: One;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<uniform> pair: Pair;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<f32>;

// Choices move bits, whatever they stand for.
@group(0) @binding(0) var<uniform> choice: Choice;
@group(0) @binding(1) var<storage, read> condition: array<u32>;
@group(0) @binding(2) var<storage, read> yes: array<u32>;
@group(0) @binding(3) var<storage, read> no: array<u32>;
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;

// NaN and infinity cannot be written in WGSL; their bits can, through a variable.
fn nan() -> f32 {
    var bits = 0x7fc00000u;
    return bitcast<f32>(bits);
}

fn infinity() -> f32 {
    var bits = 0x7f800000u;
    return bitcast<f32>(bits);
}

// The natural logarithm (polynomial of Cephes' logf, Moshier 1984): x = m 2^e with m in [sqrt(1/2), sqrt(2)).
// Subnormals count as 0.
fn ln(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let i = bits - 0x3f3504f3u;
    let e = f32(bitcast<i32>(i) >> 23u);
    let f = bitcast<f32>((i & 0x7fffffu) + 0x3f3504f3u) - 1.0;
    var p = 7.0376836e-2;
    p = p * f - 0.1151461;
    p = p * f + 0.11676999;
    p = p * f - 0.12420141;
    p = p * f + 0.14249323;
    p = p * f - 0.16668058;
    p = p * f + 0.20000714;
    p = p * f - 0.24999994;
    p = p * f + 0.3333333;
    let s = f * f;
    let tail = e * -2.1219444e-4 + p * s * f - 0.5 * s;
    var y = e * 0.693359375 + (f + tail);
    if (bits & 0x7fffffffu) < 0x00800000u {
        y = -infinity();
    } else if bits >= 0x80000000u {
        y = nan();
    } else if bits == 0x7f800000u {
        y = x;
    }
    return select(y, x, is_nan(x));
}

fn root(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    // 0, infinity and NaN are their own roots
    if (bits & 0x7fffffffu) == 0u || bits == 0x7f800000u || is_nan(x) {
        return x;
    }
    return select(sqrt(abs(x)), nan(), x < 0.0);
}

fn is_infinite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u;
}

// x^y for x > 0, both finite. Integers up to 64 by repeated squaring, else e^(y ln x).
fn power_of_positive(x: f32, y: f32) -> f32 {
    let size = abs(y);
    if size <= 64.0 && floor(size) == size {
        var left = u32(size);
        var square = x;
        var product = 1.0;
        for (var bit = 0u; bit < 7u; bit += 1u) {
            if (left & 1u) == 1u {
                product = product * square;
            }
            left = left >> 1u;
            if left == 0u {
                break;
            }
            square = square * square;
        }
        return select(product, 1.0 / product, y < 0.0);
    }
    if y == 0.5 {
        return root(x);
    }
    return exp_f32(y * ln(x));
}

// x^y with the special cases of C's pow.
fn power(x: f32, y: f32) -> f32 {
    if (bitcast<u32>(y) & 0x7fffffffu) < 0x00800000u || bitcast<u32>(x) == 0x3f800000u {
        return 1.0;
    }
    if is_nan(x) || is_nan(y) {
        return nan();
    }
    let size = abs(y);
    let whole = is_infinite(y) || floor(size) == size;
    let odd = size < 16777216.0 && whole && (u32(min(size, 16777216.0)) & 1u) == 1u;
    let x_size = abs(x);
    let negative = (bitcast<u32>(x) >> 31u) == 1u;
    let zero = (bitcast<u32>(x) & 0x7fffffffu) < 0x00800000u;
    var magnitude = 0.0;
    if zero || is_infinite(x) || is_infinite(y) {
        let large = is_infinite(x) || (!zero && x_size > 1.0);
        magnitude = select(0.0, infinity(), large == (bitcast<u32>(y) < 0x80000000u));
        magnitude = select(magnitude, 1.0, !zero && x_size == 1.0);
    } else if negative && !whole {
        return nan();
    } else {
        magnitude = power_of_positive(x_size, y);
    }
    return select(magnitude, -magnitude, odd && negative);
}

fn unary_function(function: u32, x: f32) -> f32 {
    switch function {
        case 0u: { return bitcast<f32>(bitcast<u32>(x) ^ 0x80000000u); }
        case 1u: { return exp_f32(x); }
        case 2u: { return ln(x); }
        case 3u: { return root(x); }
        case 4u: { return bitcast<f32>(bitcast<u32>(x) & 0x7fffffffu); }
        default: { return x * x; }
    }
}

fn binary_function(function: u32, a: f32, b: f32) -> f32 {
    switch function {
        case 0u: { return a + b; }
        case 1u: { return a - b; }
        case 2u: { return a * b; }
        case 3u: { return a / b; }
        case 4u: { return power(a, b); }
        case 5u: { return select(select(b, a, a > b || is_nan(a)), b, is_nan(b)); }
        default: { return select(select(b, a, a < b || is_nan(a)), b, is_nan(b)); }
    }
}

// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn unary(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + one.first_group) * 256u + lane;
    if i < one.count {
        y[i] = unary_function(one.function, x[i]);
    }
}

// One operand is a number.
// grid: ceil(count / 256)
// trips: 9
@compute @workgroup_size(256)
fn number(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + one.first_group) * 256u + lane;
    if i < one.count {
        let v = x[i];
        let first = select(v, one.value, one.reversed == 1u);
        let second = select(one.value, v, one.reversed == 1u);
        y[i] = binary_function(one.function, first, second);
    }
}

// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn fill(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + one.first_group) * 256u + lane;
    if i < one.count {
        // the value's bits, so that NaN and ids pass unchanged
        y[i] = bitcast<f32>(one.function);
    }
}

// grid: ceil(count / 256)
// trips: 9
@compute @workgroup_size(256)
fn binary(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + pair.first_group) * 256u + lane;
    if i < pair.count {
        let index = i + pair.first;
        let at = index_of(index, pair.n1, pair.n2, pair.n3, pair.n4, pair.n5);
        let at_a = pair.a_start + offset_of(at, pair.a0, pair.a1, pair.a2, pair.a3, pair.a4, pair.a5);
        let at_b = pair.b_start + offset_of(at, pair.b0, pair.b1, pair.b2, pair.b3, pair.b4, pair.b5);
        z[pair.y_start + index] = binary_function(pair.function, a[at_a], b[at_b]);
    }
}

// Conditions are bits of words.
// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn choose(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + choice.first_group) * 256u + lane;
    if i < choice.count {
        let at = index_of(i, choice.n1, choice.n2, choice.n3, choice.n4, choice.n5);
        let at_c = choice.c_start + offset_of(at, choice.c0, choice.c1, choice.c2, choice.c3, choice.c4, choice.c5);
        let at_a = choice.a_start + offset_of(at, choice.a0, choice.a1, choice.a2, choice.a3, choice.a4, choice.a5);
        let at_b = choice.b_start + offset_of(at, choice.b0, choice.b1, choice.b2, choice.b3, choice.b4, choice.b5);
        let holds = ((condition[at_c >> 5u] >> (at_c & 31u)) & 1u) == 1u;
        chosen[choice.y_start + i] = select(no[at_b], yes[at_a], holds);
    }
}
