// exp, sigmoid and tanh of our own, and tests for NaN by bits. What drivers offer instead: tanh that is NaN
// above 45 or wrong by 8000 ulp near zero, exp off by 17 ulp, `x != x` folded to false.

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// e^x for x <= 88.7 or so, 0 below -87.33; NaN is undefined here: callers put it back.
// x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, the first with few bits, so n * part is exact), and
// a polynomial for e^r (coefficients of Cephes' expf, Moshier 1984).
fn exp_finite(x: f32) -> f32 {
    let y = clamp(x, -87.33, 88.72);
    let n = floor(y * 1.44269504 + 0.5);
    let r = (y - n * 0.693359375) - n * -2.12194440e-4;
    var p = 1.9875691500e-4;
    p = p * r + 1.3981999507e-3;
    p = p * r + 8.3334519073e-3;
    p = p * r + 4.1665795894e-2;
    p = p * r + 1.6666665459e-1;
    p = p * r + 5.0000001201e-1;
    let e = (p * (r * r) + r) + 1.0;
    // 2^n in two factors: n = 128 has no float of its own.
    let half_n = i32(n) / 2;
    let rest_n = i32(n) - half_n;
    let scaled = e * bitcast<f32>(u32(half_n + 127) << 23u) * bitcast<f32>(u32(rest_n + 127) << 23u);
    return select(scaled, 0.0, x < -87.33);
}

// e^x: infinity above 88.72, 0 below -87.33, NaN for NaN.
fn exp_f32(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let top = bits == 0x7f800000u || (x > 88.72 && !is_nan(x));
    // An infinity cannot be written in WGSL, but its bits can; through a variable, so that no compiler
    // refuses the constant.
    var infinity = 0x7f800000u;
    return select(select(exp_finite(x), bitcast<f32>(infinity), top), x, is_nan(x));
}

// 1 / (1 + e^-x)
fn sigmoid(x: f32) -> f32 {
    let e = exp_finite(-abs(x));
    return select(select(e, 1.0, x >= 0.0) / (1.0 + e), x, is_nan(x));
}

// Near zero an odd polynomial (Cephes' tanhf), because 1 - 2/(e^2x + 1) cancels there.
fn tanh_f32(x: f32) -> f32 {
    let a = abs(x);
    let z = x * x;
    var p = -5.70498872745e-3;
    p = p * z + 2.06390887954e-2;
    p = p * z - 5.37397155531e-2;
    p = p * z + 1.33314422036e-1;
    p = p * z - 3.33332819422e-1;
    let small = p * z * x + x;
    let far = 1.0 - 2.0 / (exp_finite(2.0 * min(a, 10.0)) + 1.0);
    let large = select(far, -far, x < 0.0);
    return select(select(large, small, a < 0.625), x, is_nan(x));
}
