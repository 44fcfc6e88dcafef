//! Vectors of f32 as kernels see them. A kernel is written once, generic over [`Lanes`], and [`launch`] runs the
//! copy that was compiled for the instruction set at hand.
//!
//! Everything between `launch` and an intrinsic must be `#[inline(always)]`: only then is it compiled with the
//! instruction set of the function that `launch` entered. Closures do not qualify; use traits.

use super::flush::Flush;
use super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::isa::Level;

/// The number that rounds to an integer when added: the low bits of the sum are that integer.
pub const ROUND: f32 = 12_582_912.0;

/// A vector of `N` values. The implementations are private to the workshop and reach a kernel only through
/// [`launch`], which holds the proof that the processor has their instructions; so arithmetic is safe to call.
/// Every operation is IEEE's, rounded once, so results do not depend on `N`.
pub trait Lanes: Copy {
    /// values in a vector
    const N: usize;
    /// rows of a tile
    const ROWS: usize;
    /// vectors of a tile: 4, or 2 where registers are few and a panel of 4 takes two passes
    const WIDTH: usize;

    /// all lanes `x`
    fn splat(x: f32) -> Self;
    /// # Safety
    /// N values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n <= N` lanes, the others 0.
    /// # Safety
    /// `n` values can be read at `from`.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    /// # Safety
    /// N values can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// The first `n <= N` lanes.
    /// # Safety
    /// `n` values can be written at `to`.
    unsafe fn store_first(self, to: *mut f32, n: usize);
    /// self + b
    fn add(self, b: Self) -> Self;
    /// self - b
    fn sub(self, b: Self) -> Self;
    /// self * b
    fn mul(self, b: Self) -> Self;
    /// self / b
    fn div(self, b: Self) -> Self;
    /// square root
    fn sqrt(self) -> Self;
    /// self * b + c, rounded once where the instruction set can (`Isa::fused`)
    fn fma(self, b: Self, c: Self) -> Self;
    /// |self|
    fn abs(self) -> Self;
    /// -self
    fn neg(self) -> Self;
    /// |self| with the sign of `sign`
    fn copysign(self, sign: Self) -> Self;
    /// The greater; `x` where either is NaN, so write the constant as `self`.
    fn max(self, x: Self) -> Self;
    /// The smaller; `x` where either is NaN.
    fn min(self, x: Self) -> Self;
    /// `yes` where self < b, else `no` (also where either is NaN)
    fn select_lt(self, b: Self, yes: Self, no: Self) -> Self;
    /// 2^n for self = n + [`ROUND`], n from -127 (gives 0) to 128 (gives inf)
    fn pow2(self) -> Self;
    /// For positive normal numbers: (m, e), self = m * 2^e with m in [sqrt(1/2), sqrt(2)).
    fn split(self) -> (Self, Self);
    /// Writes N columns of N rows: `to[j * to_step + i] = from[i * from_step + j]`.
    /// # Safety
    /// The N pieces of N values can be read and written.
    unsafe fn transpose(from: *const f32, from_step: usize, to: *mut f32, to_step: usize);
}

/// Code that runs on vectors.
pub trait Kernel {
    /// Mark it `#[inline(always)]`.
    /// # Safety
    /// Only `launch` calls it; what the kernel's pointers must satisfy, the kernel says.
    unsafe fn run<L: Lanes>(&self);
}

/// Runs `kernel` with subnormals flushed, compiled for `isa`.
///
/// # Safety
/// The pointers in `kernel` are good for what it does with them.
pub unsafe fn launch<K: Kernel>(isa: Isa, kernel: &K) {
    let _flush = Flush::new();
    // SAFETY: an `Isa` is proof that the processor has it; the kernel's pointers are the caller's word.
    unsafe {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => super::lanes_x86::avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => super::lanes_x86::avx2(kernel),
            _ => portable(kernel),
        }
    }
}

#[inline(never)]
unsafe fn portable<K: Kernel>(kernel: &K) {
    // SAFETY: passed on.
    unsafe { kernel.run::<Portable>() }
}

/// Plain Rust. Products are fused only where the target has the instruction for certain: elsewhere `mul_add` is
/// a slow library call, and the portable path promises 2e-6, not bits.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn each(self, f: impl Fn(f32) -> f32) -> Portable {
        Portable(self.0.map(f))
    }

    #[inline(always)]
    fn with(self, b: Portable, f: impl Fn(f32, f32) -> f32) -> Portable {
        Portable(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

impl Lanes for Portable {
    const N: usize = 8;
    const ROWS: usize = 3;
    const WIDTH: usize = 2;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Portable([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: 8 readable values, by the caller's word; `read_unaligned` asks for no more.
        Portable(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut v = [0f32; 8];
        for (i, lane) in v.iter_mut().enumerate().take(n) {
            // SAFETY: i < n.
            *lane = unsafe { *from.add(i) };
        }
        Portable(v)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: 8 writable values, by the caller's word.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: i < n.
            unsafe { *to.add(i) = *lane };
        }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.with(b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.with(b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.with(b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.with(b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.each(f32::sqrt)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Portable(std::array::from_fn(|i| {
            if Isa::PORTABLE.fused() { self.0[i].mul_add(b.0[i], c.0[i]) } else { self.0[i] * b.0[i] + c.0[i] }
        }))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.each(f32::abs)
    }
    #[inline(always)]
    fn neg(self) -> Self {
        self.each(|a| -a)
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        self.with(sign, f32::copysign)
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        self.with(x, |a, x| if a > x { a } else { x })
    }
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        self.with(x, |a, x| if a < x { a } else { x })
    }
    #[inline(always)]
    fn select_lt(self, b: Self, yes: Self, no: Self) -> Self {
        Portable(std::array::from_fn(|i| if self.0[i] < b.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        self.each(|a| f32::from_bits(a.to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let i = self.0.map(|a| a.to_bits().wrapping_sub(HALF_ROOT));
        (
            Portable(i.map(|i| f32::from_bits((i & 0x7f_ffff).wrapping_add(HALF_ROOT)))),
            Portable(i.map(|i| (i as i32 >> 23) as f32)),
        )
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        for j in 0..8 {
            for i in 0..8 {
                // SAFETY: inside the pieces that the caller vouches for.
                unsafe { *to.add(j * to_step + i) = *from.add(i * from_step + j) };
            }
        }
    }
}

/// The bits of sqrt(1/2).
pub(super) const HALF_ROOT: u32 = 0x3f35_04f3;
