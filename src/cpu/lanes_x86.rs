//! AVX2 with FMA (8 lanes) and AVX-512 (16 lanes).

use super::lanes::{HALF_ROOT, Kernel, Lanes};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct V8(__m256);

#[derive(Clone, Copy)]
pub(super) struct V16(__m512);

/// # Safety
/// The processor has AVX2 and FMA; the kernel's pointers are good.
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
#[inline(never)]
pub(super) unsafe fn avx2<K: Kernel>(kernel: &K) {
    // SAFETY: passed on.
    unsafe { kernel.run::<V8>() }
}

/// # Safety
/// The processor has AVX-512 F, BW, DQ, VL, with AVX2 and FMA; the kernel's pointers are good.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
#[inline(never)]
pub(super) unsafe fn avx512<K: Kernel>(kernel: &K) {
    // SAFETY: passed on.
    unsafe { kernel.run::<V16>() }
}

/// Lanes before `n` set: `MASK[8 - n..]`.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
fn first8(n: usize) -> __m256i {
    // SAFETY: the start is at most 8, and 8 values follow it; AVX2 as for all of this file.
    unsafe { _mm256_loadu_si256(MASK.as_ptr().add(8 - n.min(8)).cast()) }
}

#[inline(always)]
fn first16(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

// SAFETY (every block of both implementations): values of these types are made only in kernels that `launch`
// entered through `avx2` or `avx512` above, so the processor has the instructions; pointers are as the trait says.

impl Lanes for V8 {
    const N: usize = 8;
    const ROWS: usize = 6;
    const WIDTH: usize = 2;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        V8(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        V8(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        V8(unsafe { _mm256_maskload_ps(from, first8(n)) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        unsafe { _mm256_maskstore_ps(to, first8(n), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        V8(unsafe { _mm256_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        V8(unsafe { _mm256_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        V8(unsafe { _mm256_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        V8(unsafe { _mm256_div_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        V8(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        V8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        V8(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn neg(self) -> Self {
        V8(unsafe { _mm256_xor_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        V8(unsafe { _mm256_or_ps(self.abs().0, _mm256_and_ps(_mm256_set1_ps(-0.0), sign.0)) })
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        V8(unsafe { _mm256_max_ps(self.0, x.0) })
    }
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        V8(unsafe { _mm256_min_ps(self.0, x.0) })
    }
    #[inline(always)]
    fn select_lt(self, b: Self, yes: Self, no: Self) -> Self {
        V8(unsafe { _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0)) })
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        let n = unsafe { _mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(127)) };
        V8(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n)) })
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        unsafe {
            let root = _mm256_set1_epi32(HALF_ROOT as i32);
            let i = _mm256_sub_epi32(_mm256_castps_si256(self.0), root);
            let m = _mm256_add_epi32(_mm256_and_si256(i, _mm256_set1_epi32(0x7f_ffff)), root);
            (V8(_mm256_castsi256_ps(m)), V8(_mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(i))))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        unsafe {
            let r: [__m256; 8] = std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * from_step)));
            let mut t = [r[0]; 8];
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut u = [r[0]; 8];
            for h in 0..2 {
                u[4 * h] = _mm256_shuffle_ps::<0x44>(t[4 * h], t[4 * h + 2]);
                u[4 * h + 1] = _mm256_shuffle_ps::<0xee>(t[4 * h], t[4 * h + 2]);
                u[4 * h + 2] = _mm256_shuffle_ps::<0x44>(t[4 * h + 1], t[4 * h + 3]);
                u[4 * h + 3] = _mm256_shuffle_ps::<0xee>(t[4 * h + 1], t[4 * h + 3]);
            }
            for i in 0..4 {
                _mm256_storeu_ps(to.add(i * to_step), _mm256_permute2f128_ps::<0x20>(u[i], u[i + 4]));
                _mm256_storeu_ps(to.add((i + 4) * to_step), _mm256_permute2f128_ps::<0x31>(u[i], u[i + 4]));
            }
        }
    }
}

impl Lanes for V16 {
    const N: usize = 16;
    const ROWS: usize = 6;
    const WIDTH: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        V16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        V16(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        V16(unsafe { _mm512_maskz_loadu_ps(first16(n), from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first16(n), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        V16(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        V16(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        V16(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        V16(unsafe { _mm512_div_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        V16(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        V16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        V16(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    fn neg(self) -> Self {
        V16(unsafe { _mm512_xor_ps(_mm512_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        V16(unsafe { _mm512_or_ps(self.abs().0, _mm512_and_ps(_mm512_set1_ps(-0.0), sign.0)) })
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        V16(unsafe { _mm512_max_ps(self.0, x.0) })
    }
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        V16(unsafe { _mm512_min_ps(self.0, x.0) })
    }
    #[inline(always)]
    fn select_lt(self, b: Self, yes: Self, no: Self) -> Self {
        V16(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0), no.0, yes.0) })
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        let n = unsafe { _mm512_add_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(127)) };
        V16(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n)) })
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        unsafe {
            let root = _mm512_set1_epi32(HALF_ROOT as i32);
            let i = _mm512_sub_epi32(_mm512_castps_si512(self.0), root);
            let m = _mm512_add_epi32(_mm512_and_si512(i, _mm512_set1_epi32(0x7f_ffff)), root);
            (V16(_mm512_castsi512_ps(m)), V16(_mm512_cvtepi32_ps(_mm512_srai_epi32::<23>(i))))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        unsafe {
            // pairs of rows, then fours (within 128-bit lanes), then lanes by two rounds of shuffles
            let r: [__m512; 16] = std::array::from_fn(|i| _mm512_loadu_ps(from.add(i * from_step)));
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut u = t;
            for h in 0..4 {
                u[4 * h] = _mm512_shuffle_ps::<0x44>(t[4 * h], t[4 * h + 2]);
                u[4 * h + 1] = _mm512_shuffle_ps::<0xee>(t[4 * h], t[4 * h + 2]);
                u[4 * h + 2] = _mm512_shuffle_ps::<0x44>(t[4 * h + 1], t[4 * h + 3]);
                u[4 * h + 3] = _mm512_shuffle_ps::<0xee>(t[4 * h + 1], t[4 * h + 3]);
            }
            // u[4h + j]: columns j, 4+j, 8+j, 12+j (one a lane) of rows 4h..4h+4
            for j in 0..4 {
                let a = _mm512_shuffle_f32x4::<0x88>(u[j], u[4 + j]);
                let b = _mm512_shuffle_f32x4::<0x88>(u[8 + j], u[12 + j]);
                let c = _mm512_shuffle_f32x4::<0xdd>(u[j], u[4 + j]);
                let d = _mm512_shuffle_f32x4::<0xdd>(u[8 + j], u[12 + j]);
                _mm512_storeu_ps(to.add(j * to_step), _mm512_shuffle_f32x4::<0x88>(a, b));
                _mm512_storeu_ps(to.add((8 + j) * to_step), _mm512_shuffle_f32x4::<0xdd>(a, b));
                _mm512_storeu_ps(to.add((4 + j) * to_step), _mm512_shuffle_f32x4::<0x88>(c, d));
                _mm512_storeu_ps(to.add((12 + j) * to_step), _mm512_shuffle_f32x4::<0xdd>(c, d));
            }
        }
    }
}
