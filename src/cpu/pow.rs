//! x^y of f32 numbers, computed in f64 from sums and products alone, so the bits are the same on every machine and
//! for every instruction set (a library's `pow` is neither).

/// x^y, at most 0.5001 ULP off, with the special cases of IEEE 754 and C (x^0 = 1^y = 1 even for NaN; a negative
/// number to a power that is no integer is NaN). Subnormal arguments count as 0 of their sign, smaller results are 0.
///
/// Integers up to 64 are repeated squaring, 1/2 is the square root, the rest e^(y ln x).
pub fn pow(x: f32, y: f32) -> f32 {
    let (x, y) = (flushed(x), flushed(y));
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return f32::NAN;
    }
    let integer = y.trunc() == y;
    let odd = integer && y.abs() < 16_777_216.0 && (y as i32) & 1 == 1;
    let magnitude = if x == 0.0 || x.is_infinite() || y.is_infinite() {
        // 0, inf and (for infinite y) anything but 1: whether x is large decides, and the sign of y turns it round
        let large = x.abs() > 1.0;
        match (x == -1.0, large == (y > 0.0)) {
            (true, _) => 1.0,
            (_, true) => f32::INFINITY,
            (_, false) => 0.0,
        }
    } else if x < 0.0 && !integer {
        return f32::NAN;
    } else {
        rounded(positive(f64::from(x.abs()), f64::from(y), integer))
    };
    if odd && x.is_sign_negative() { -magnitude } else { magnitude }
}

fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// As f32, and 0 where the rounded number is below 2^-126 (as the processors' flush decides it).
fn rounded(x: f64) -> f32 {
    const LEAST: f64 = f32::MIN_POSITIVE as f64 * (1.0 - 1.0 / 33_554_432.0);
    if x < LEAST { 0.0 } else { x as f32 }
}

/// x^y for finite x > 0.
fn positive(x: f64, y: f64, integer: bool) -> f64 {
    if integer && y.abs() <= 64.0 {
        let (mut left, mut square, mut product) = (y.abs() as u32, x, 1.0);
        loop {
            if left & 1 == 1 {
                product *= square;
            }
            left >>= 1;
            if left == 0 {
                break;
            }
            square *= square;
        }
        return if y < 0.0 { 1.0 / product } else { product };
    }
    if y == 0.5 {
        return x.sqrt();
    }
    exp(y * ln(x))
}

/// ln 2 in two parts, the first of 33 bits: exact in products with exponents.
const LN2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];

/// Natural logarithm of a normal number: x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh((m-1)/(m+1)).
fn ln(x: f64) -> f64 {
    const HALF_ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
    let i = x.to_bits().wrapping_sub(HALF_ROOT) as i64;
    let e = (i >> 52) as f64;
    let m = f64::from_bits((i as u64 & 0xf_ffff_ffff_ffff).wrapping_add(HALF_ROOT));
    let f = (m - 1.0) / (m + 1.0);
    let s = f * f;
    // f below 0.172: the term after these is 1e-19 of the first
    let mut q = 0.0;
    for k in (1..=10).rev() {
        q = (q + 1.0 / f64::from(2 * k + 1)) * s;
    }
    let tail = 2.0 * f * q + e * LN2[1];
    e * LN2[0] + (2.0 * f + tail)
}

/// e^z: z = n ln 2 + r with |r| <= 0.35, Taylor's series of e^r to r^13 (the next term is 4e-18).
fn exp(z: f64) -> f64 {
    if z > 90.0 {
        return f64::INFINITY;
    }
    if z < -90.0 {
        return 0.0;
    }
    let n = (z * std::f64::consts::LOG2_E).round();
    let r = (z - n * LN2[0]) - n * LN2[1];
    let mut p = 1.0;
    for k in (1..=13).rev() {
        p = 1.0 + p * r * (1.0 / f64::from(k));
    }
    p * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_cases() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        // as C's Annex F lists them
        for (x, y, want) in [
            (nan, 0.0, 1.0),
            (1.0, nan, 1.0),
            (-1.0, inf, 1.0),
            (-1.0, -inf, 1.0),
            (0.0, -3.0, inf),
            (-0.0, -3.0, -inf),
            (-0.0, -2.0, inf),
            (-0.0, -2.5, inf),
            (-0.0, 3.0, -0.0),
            (-0.0, 2.0, 0.0),
            (0.0, inf, 0.0),
            (0.0, -inf, inf),
            (0.5, inf, 0.0),
            (-0.5, -inf, inf),
            (2.0, inf, inf),
            (-2.0, -inf, 0.0),
            (inf, 2.5, inf),
            (inf, -2.5, 0.0),
            (-inf, 3.0, -inf),
            (-inf, 2.0, inf),
            (-inf, -3.0, -0.0),
            (-inf, 0.5, inf),
            (-8.0, 3.0, -512.0),
            (-2.0, -1.0, -0.5),
            (9.0, 0.5, 3.0),
            (10.0, 10.0, 1e10),
            (2.0, -126.0, f32::MIN_POSITIVE),
            (2.0, -127.0, 0.0),
            (2.0, 127.0, 1.701_411_8e38),
            (2.0, 128.0, inf),
            (1e-40, 0.5, 0.0),
            (-1e-40, -1.0, -inf),
        ] {
            assert_eq!(pow(x, y).to_bits(), want.to_bits(), "{x}^{y} = {}", pow(x, y));
        }
        for (x, y) in [(nan, 1.0), (2.0, nan), (-2.0, 0.5), (-2.0, 1e-3)] {
            assert!(pow(x, y).is_nan(), "{x}^{y}");
        }
    }

    #[test]
    fn rounded_from_the_right_answer() {
        let mut worst = 0f64;
        for i in 1..400u32 {
            let x = f32::from_bits(0x0080_0000 + i * 5_300_007);
            for j in 1..200u32 {
                let y = (j as f32 - 100.3) * if i % 2 == 0 { 0.07 } else { 0.9 };
                let want = f64::from(x).powf(f64::from(y));
                if want > 1.2e-38 && want < 3.3e38 {
                    let unit = 2f64.powi(want.log2().floor() as i32 - 23);
                    worst = worst.max((f64::from(pow(x, y)) - want).abs() / unit);
                }
            }
        }
        assert!(worst <= 0.5001, "{worst}");
    }
}
