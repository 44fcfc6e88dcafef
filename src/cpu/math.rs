//! exp, ln, sigmoid, tanh and relu: the same fused operations at every width, so the same bits for AVX2 and
//! AVX-512. Subnormal inputs count as 0, results below 2^-126 are 0, NaN stays NaN.
//!
//! sigmoid and tanh use exp(-|x|) and plain division: IEEE's division is the same everywhere, and of the forms
//! below 3 ULP it is the fastest (5.9 and 6.2 ns for 16 lanes; by Newton steps 7 to 8).

use super::isa::Isa;
use super::lanes::{Kernel, Lanes, ROUND, launch};

/// A function of one number; kernels call it on vectors, [`map`] on slices.
pub trait Function {
    /// Mark it `#[inline(always)]`.
    fn of<L: Lanes>(x: L) -> L;
}

/// `y[i] = F(x[i])`, as far as both go.
pub fn map<F: Function>(isa: Isa, x: &[f32], y: &mut [f32]) {
    struct Map<F> {
        x: *const f32,
        y: *mut f32,
        n: usize,
        f: std::marker::PhantomData<F>,
    }
    impl<F: Function> Kernel for Map<F> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(&self) {
            let whole = self.n - self.n % L::N;
            // SAFETY: all reads and writes lie below n.
            unsafe {
                let mut i = 0;
                while i < whole {
                    F::of(L::load(self.x.add(i))).store(self.y.add(i));
                    i += L::N;
                }
                if i < self.n {
                    F::of(L::load_first(self.x.add(i), self.n - i)).store_first(self.y.add(i), self.n - i);
                }
            }
        }
    }
    let kernel = Map::<F> { x: x.as_ptr(), y: y.as_mut_ptr(), n: x.len().min(y.len()), f: std::marker::PhantomData };
    // SAFETY: n values are there on both sides.
    unsafe { launch(isa, &kernel) }
}

/// e^x; at most 1.1 ULP off.
pub struct Exp;
/// Natural logarithm; at most 1.5 ULP off. -inf at 0 (and at subnormals), NaN below.
pub struct Ln;
/// 1 / (1 + e^-x); at most 2.5 ULP off.
pub struct Sigmoid;
/// Hyperbolic tangent; at most 2.6 ULP off.
pub struct Tanh;
/// max(x, 0) as PyTorch has it: NaN stays NaN, -0 stays -0.
pub struct Relu;

/// The first 10 bits of ln 2: exact in products with exponents, fused or not.
const LN2_HIGH: f32 = 355.0 / 512.0;

/// z = n ln 2 + r with |r| <= ln 2 / 2: (n + ROUND, e^r - 1). ln 2 in two parts; the polynomial of Cephes' expf.
#[inline(always)]
fn reduce<L: Lanes>(z: L) -> (L, L) {
    let shifted = z.fma(L::splat(std::f32::consts::LOG2_E), L::splat(ROUND));
    let n = shifted.sub(L::splat(ROUND));
    let r = n.fma(L::splat(-LN2_HIGH), z);
    let r = n.fma(L::splat(2.121_944_4e-4), r);
    let q = L::splat(1.987_569_1e-4);
    let q = q.fma(r, L::splat(1.398_2e-3));
    let q = q.fma(r, L::splat(8.333_452e-3));
    let q = q.fma(r, L::splat(4.166_579_6e-2));
    let q = q.fma(r, L::splat(0.166_666_65));
    let q = q.fma(r, L::splat(0.5));
    (shifted, r.mul(r).fma(q, r))
}

impl Function for Exp {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        // beyond: 0 by the flush, inf by overflow. 2^n in two factors, because 2^128 is none
        let z = L::splat(89.0).min(L::splat(-88.0).max(x));
        let (shifted, p) = reduce(z);
        let n = shifted.sub(L::splat(ROUND));
        let half = n.fma(L::splat(0.5), L::splat(ROUND));
        let rest = n.sub(half.sub(L::splat(ROUND))).add(L::splat(ROUND));
        p.add(L::splat(1.0)).mul(half.pow2()).mul(rest.pow2())
    }
}

impl Function for Ln {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        // Cephes' logf: m in [sqrt(1/2), sqrt(2)), f = m - 1
        let (m, e) = x.split();
        let f = m.sub(L::splat(1.0));
        let q = L::splat(7.037_683_6e-2);
        let q = q.fma(f, L::splat(-0.115_146_1));
        let q = q.fma(f, L::splat(0.116_769_99));
        let q = q.fma(f, L::splat(-0.124_201_41));
        let q = q.fma(f, L::splat(0.142_493_23));
        let q = q.fma(f, L::splat(-0.166_680_58));
        let q = q.fma(f, L::splat(0.200_007_14));
        let q = q.fma(f, L::splat(-0.249_999_94));
        let q = q.fma(f, L::splat(0.333_333_3));
        let s = f.mul(f);
        let tail = e.fma(L::splat(-2.121_944_4e-4), q.mul(s).mul(f));
        let tail = s.fma(L::splat(-0.5), tail);
        let y = e.fma(L::splat(LN2_HIGH), f.add(tail));
        // inf stays inf, NaN stays NaN (x + x); 0 gives -inf, less than 0 NaN
        let finite = x.select_lt(L::splat(f32::INFINITY), y, x.add(x));
        let positive = x.select_lt(L::splat(f32::MIN_POSITIVE), L::splat(f32::NEG_INFINITY), finite);
        x.select_lt(L::splat(0.0), L::splat(f32::NAN), positive)
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        // at -88 n is -127 and 2^n becomes 0
        let (shifted, p) = reduce(L::splat(-88.0).max(x.abs().neg()));
        let s = shifted.pow2();
        let t = p.fma(s, s);
        x.select_lt(L::splat(0.0), t, L::splat(1.0)).div(t.add(L::splat(1.0)))
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        // e^(-2|x|) - 1 without cancellation near 0
        let (shifted, p) = reduce(L::splat(-88.0).max(x.abs().mul(L::splat(-2.0))));
        let s = shifted.pow2();
        let em = p.fma(s, s.sub(L::splat(1.0)));
        em.neg().div(em.add(L::splat(2.0))).copysign(x)
    }
}

impl Function for Relu {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        // subnormals to 0 of their sign by hand: the compiler would drop a product with 1
        let flushed = x.abs().select_lt(L::splat(f32::MIN_POSITIVE), L::splat(0.0).copysign(x), x);
        x.select_lt(L::splat(0.0), L::splat(0.0), flushed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, function, what it should be, ULPs.
    type Row = (&'static str, fn(Isa, &[f32], &mut [f32]), fn(f64) -> f64, f64);

    /// The distance in units of the last place of the right answer.
    fn ulps(got: f32, want: f64) -> f64 {
        if want.is_nan() {
            return if got.is_nan() { 0.0 } else { f64::INFINITY };
        }
        let nearest = want as f32;
        if nearest.is_infinite() || got.is_infinite() {
            // half a unit past the largest number either answer is right
            return if nearest == got || want.abs() > 3.402_823e38 && nearest.signum() == got.signum() {
                0.0
            } else {
                f64::INFINITY
            };
        }
        if want.abs() < f64::from(f32::MIN_POSITIVE) * (1.0 + 1e-6) && got.abs() <= f32::MIN_POSITIVE * 1.000_001 {
            return 0.0; // the flush
        }
        let exponent = (want.abs().to_bits() >> 52) as i32 - 1023;
        let unit = 2f64.powi(exponent.max(-126) - 23);
        (f64::from(got) - want).abs() / unit
    }

    fn sweep(stride: u32) {
        let functions: [Row; 4] = [
            ("exp", map::<Exp>, f64::exp, 1.1),
            ("ln", map::<Ln>, f64::ln, 1.5),
            ("sigmoid", map::<Sigmoid>, |x| 1.0 / (1.0 + (-x).exp()), 2.5),
            ("tanh", map::<Tanh>, f64::tanh, 2.6),
        ];
        let parts = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let total = (1u64 << 32) / u64::from(stride);
        for row in functions {
            let (worst, at) = std::thread::scope(|scope| {
                let part = |i: u64| scope.spawn(move || part(row, stride, i * total / parts, (i + 1) * total / parts));
                let parts: Vec<_> = (0..parts).map(part).collect();
                let worst = parts.into_iter().map(|part| part.join().unwrap());
                worst.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
            });
            let (name, _, _, bound) = row;
            println!("{name}: {worst:.2} ULP at {at:e}");
            assert!(worst <= bound, "{name}: {worst} ULP at {at:e}");
        }
    }

    /// The largest error, and where, of every `stride`-th number from the `from`th to the `to`th.
    fn part((name, f, oracle, _): Row, stride: u32, from: u64, to: u64) -> (f64, f32) {
        const BLOCK: usize = 1 << 14;
        let (mut worst, mut at) = (0f64, 0f32);
        for start in (from..to).step_by(BLOCK) {
            let block = start..to.min(start + BLOCK as u64);
            let x: Vec<f32> = block.map(|i| f32::from_bits((i * u64::from(stride)) as u32)).collect();
            let flushed = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
            let want: Vec<f64> = x.iter().map(|&x| oracle(f64::from(flushed(x)))).collect();
            let mut first: Option<Vec<u32>> = None;
            for isa in Isa::available() {
                let mut y = vec![0f32; x.len()];
                f(isa, &x, &mut y);
                if !isa.fused() {
                    for ((&x, &y), &want) in x.iter().zip(&y).zip(&want) {
                        // unfused, p * 2^n may be flushed before it is added
                        assert!(ulps(y, want) < 8.0 || y.abs() < 1e-31, "{name}({x:e}) = {y:e} on portable");
                    }
                    continue;
                }
                let bits: Vec<u32> = y.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }).collect();
                if let Some(first) = &first {
                    assert!(*first == bits, "{name} on {}", isa.name());
                    continue;
                }
                first = Some(bits);
                for ((&x, &y), &want) in x.iter().zip(&y).zip(&want) {
                    let off = ulps(y, want);
                    if off > worst {
                        (worst, at) = (off, x);
                    }
                }
            }
        }
        (worst, at)
    }

    #[test]
    fn every_4099th_number() {
        sweep(4099);
    }

    #[test]
    #[ignore = "minutes; part of test-all"]
    fn every_number() {
        sweep(1);
    }

    #[test]
    fn relu_is_pytorchs() {
        for isa in Isa::available() {
            let x = [-1.0f32, -0.0, 0.0, 2.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40];
            let mut y = [7f32; 9];
            map::<Relu>(isa, &x, &mut y);
            assert!(y[4].is_nan());
            y[4] = 0.0;
            let want = [0.0f32, -0.0, 0.0, 2.0, 0.0, f32::INFINITY, 0.0, 0.0, -0.0];
            assert_eq!(y.map(f32::to_bits), want.map(f32::to_bits), "{}", isa.name());
        }
    }
}
