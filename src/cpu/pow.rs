//! x^y of f32 numbers, computed in f64 from sums and products alone, so the bits are the same on every machine and
//! for every instruction set (a library's `pow` is neither).

use super::isa::Isa;
use super::lanes::{Kernel, Lanes, launch};
use crate::error::{Error, Result};

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
    // from 2^24 on every number is an even integer
    let integer = y.abs() >= 16_777_216.0 || (y as i32) as f32 == y;
    let odd = y.abs() < 16_777_216.0 && integer && (y as i32) & 1 == 1;
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
#[inline(always)]
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

/// Natural logarithm of a positive normal number: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and
/// ln m = 2 artanh((m-1)/(m+1)).
#[inline(always)]
fn ln(x: f64) -> f64 {
    const HALF_ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
    let i = x.to_bits().wrapping_sub(HALF_ROOT);
    let e = f64::from((i >> 32) as i32 >> 20);
    let m = f64::from_bits((i & 0xf_ffff_ffff_ffff).wrapping_add(HALF_ROOT));
    let f = (m - 1.0) / (m + 1.0);
    let s = f * f;
    // f below 0.172: the term after these is 1e-19 of the first
    const ODD: [f64; 10] =
        [1.0 / 21.0, 1.0 / 19.0, 1.0 / 17.0, 1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0];
    let mut q = 0.0;
    let mut k = 0;
    while k < 10 {
        q = (q + ODD[k]) * s;
        k += 1;
    }
    let tail = 2.0 * f * q + e * LN2[1];
    e * LN2[0] + (2.0 * f + tail)
}

/// e^z, for |z| > 90 that of 90 (past f32's range on either side): z = n ln 2 + r with |r| <= 0.35, and Taylor's series
/// of e^r to r^13 (the next term is 4e-18).
#[inline(always)]
fn exp(z: f64) -> f64 {
    /// Rounds to an integer when added: the low bits of the sum are that integer.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// 1/13!, 1/12!, ..., 1/0!
    const FACTORIALS: [f64; 14] = {
        let mut all = [1.0; 14];
        let mut k = 1;
        while k < 14 {
            all[13 - k] = all[14 - k] / k as f64;
            k += 1;
        }
        all
    };
    let z = if z > 90.0 { 90.0 } else { z };
    let z = if z < -90.0 { -90.0 } else { z };
    let shifted = z * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (z - n * LN2[0]) - n * LN2[1];
    let mut p = 0.0;
    let mut k = 0;
    while k < 14 {
        p = p * r + FACTORIALS[k];
        k += 1;
    }
    p * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// Numbers that the vector form takes at once.
const WIDTH: usize = 16;

/// `y[i] = a[i]^b[i]` with the bits of [`pow`]; an operand of one number stands for as many as there are results.
pub fn pow_all(isa: Isa, a: &[f32], b: &[f32], y: &mut [f32]) -> Result<()> {
    let fits = |x: &[f32]| x.len() == 1 || x.len() >= y.len();
    if !fits(a) || !fits(b) {
        return Err(Error::internal("an operand is shorter than the result needs"));
    }
    // SAFETY: the kernel borrows the slices themselves.
    unsafe { launch(isa, &All { a, b, y: std::cell::Cell::new(y) }) };
    Ok(())
}

struct All<'a> {
    a: &'a [f32],
    b: &'a [f32],
    y: std::cell::Cell<&'a mut [f32]>,
}

impl Kernel for All<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let y = self.y.take();
        let mut start = 0;
        while start < y.len() {
            let n = WIDTH.min(y.len() - start);
            let (mut a, mut b, mut out) = ([1f32; WIDTH], [1f32; WIDTH], [0f32; WIDTH]);
            let mut i = 0;
            while i < n {
                a[i] = self.a[if self.a.len() == 1 { 0 } else { start + i }];
                b[i] = self.b[if self.b.len() == 1 { 0 } else { start + i }];
                i += 1;
            }
            let mut i = 0;
            while i < WIDTH {
                let p = exp(f64::from(b[i]) * ln(f64::from(a[i])));
                out[i] = rounded(p);
                i += 1;
            }
            let y = &mut y[start..start + n];
            let mut i = 0;
            while i < n {
                y[i] = if is_plain(a[i], b[i]) { out[i] } else { pow(a[i], b[i]) };
                i += 1;
            }
            start += n;
        }
    }
}

/// Whether x^y is just e^(y ln x).
#[inline(always)]
fn is_plain(x: f32, y: f32) -> bool {
    let small = y.abs() <= 64.0 && (y as i32) as f32 == y;
    (f32::MIN_POSITIVE..=f32::MAX).contains(&x)
        && x != 1.0
        && y.abs() <= f32::MAX
        && !small
        && y != 0.5
        && !y.is_subnormal()
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
    fn the_vector_form_has_the_same_bits() {
        let special = [0f32, -0.0, 1.0, -1.0, 1e-40, 0.5, 2.0, 3.0, -2.5, 65.0, 1e30, f32::INFINITY, f32::NAN];
        let some = (0..3000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9)));
        let x: Vec<f32> = special.into_iter().chain(some).collect();
        let mut y = vec![0f32; x.len()];
        for isa in Isa::available() {
            for exponent in special.into_iter().chain([0.7, -1.3, 17.25]) {
                pow_all(isa, &x, &[exponent], &mut y).unwrap();
                let right = x.iter().zip(&y).all(|(&x, &y)| y.to_bits() == pow(x, exponent).to_bits());
                assert!(right, "{} {exponent}", isa.name());
                pow_all(isa, &[exponent], &x, &mut y).unwrap();
                assert!(x.iter().zip(&y).all(|(&x, &y)| y.to_bits() == pow(exponent, x).to_bits()));
            }
        }
        assert!(pow_all(Isa::PORTABLE, &x[..2], &x, &mut y).is_err());
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
