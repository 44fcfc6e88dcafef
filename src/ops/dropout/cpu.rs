//! Dropout on the CPU: sixteen blocks of Philox side by side, in plain loops that the compiler turns into vectors.

use super::{Dropout, DropoutSpec};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh, Kernel, Lanes, launch};
use crate::error::Result;
use crate::tensor::{DType, Philox, Real};

/// Blocks side by side, and the elements that they decide about.
const WIDTH: usize = 16;
const GROUP: usize = 4 * WIDTH;

impl Dropout for Cpu<'_> {
    fn dropout(&self, spec: &DropoutSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        let isa = self.isa()?;
        match spec.dtype {
            DType::F64 => in_pieces::<f64>(self, x, |start, x, y| masked(spec, start, x, y)),
            _ => in_pieces::<f32>(self, x, |start, x, y| {
                let piece = Piece { spec, start, x, y: y.as_mut_ptr() };
                // SAFETY: y is as long as x.
                unsafe { launch(isa, &piece) }
            }),
        }
    }
}

/// `work(start, x, y)` for pieces of x and of the result, equally long, from `start`, a multiple of a group.
fn in_pieces<R: Real>(cpu: &Cpu<'_>, x: &CpuBuffer, work: impl Fn(usize, &[R], &mut [R]) + Sync) -> Result<CpuBuffer> {
    const { assert!(PIECE.is_multiple_of(GROUP)) }
    let x = x.slice::<R>()?;
    let mut y = Fresh::<R>::new(x.len())?;
    cpu.pieces(&mut y, PIECE, |start, y| {
        work(start, &x[start..][..y.len()], y);
        Ok(())
    })?;
    Ok(y.done())
}

struct Piece<'a> {
    spec: &'a DropoutSpec,
    start: usize,
    x: &'a [f32],
    y: *mut f32,
}

impl Kernel for Piece<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        // SAFETY: by the word of whoever launches it.
        let y = unsafe { std::slice::from_raw_parts_mut(self.y, self.x.len()) };
        masked(self.spec, self.start, self.x, y);
    }
}

#[inline(always)]
fn masked<R: Real>(spec: &DropoutSpec, start: usize, x: &[R], y: &mut [R]) {
    if spec.is_identity() {
        return y.copy_from_slice(x);
    }
    let (scale, threshold) = (R::of(spec.scale), spec.threshold);
    let mut block = start as u64 / 4;
    for (y, x) in y.chunks_mut(GROUP).zip(x.chunks(GROUP)) {
        let words = blocks(spec.philox, block);
        for ((y, &x), &word) in y.iter_mut().zip(x).zip(&words) {
            let scaled = x * scale;
            *y = if word >> 8 >= threshold { scaled } else { R::ZERO };
        }
        block += WIDTH as u64;
    }
}

/// The words of `WIDTH` blocks from `first`: `Philox::block` with its steps side by side.
#[inline(always)]
fn blocks(philox: Philox, first: u64) -> [u32; GROUP] {
    let mut x0: [u32; WIDTH] = std::array::from_fn(|j| first.wrapping_add(j as u64) as u32);
    let mut x1: [u32; WIDTH] = std::array::from_fn(|j| (first.wrapping_add(j as u64) >> 32) as u32);
    let mut x2 = [philox.stream as u32; WIDTH];
    let mut x3 = [(philox.stream >> 32) as u32; WIDTH];
    let mut key = [philox.seed as u32, (philox.seed >> 32) as u32];
    for _ in 0..Philox::ROUNDS {
        for j in 0..WIDTH {
            let p0 = u64::from(Philox::MULTIPLIERS[0]) * u64::from(x0[j]);
            let p1 = u64::from(Philox::MULTIPLIERS[1]) * u64::from(x2[j]);
            x0[j] = (p1 >> 32) as u32 ^ x1[j] ^ key[0];
            x1[j] = p1 as u32;
            x2[j] = (p0 >> 32) as u32 ^ x3[j] ^ key[1];
            x3[j] = p0 as u32;
        }
        key = [key[0].wrapping_add(Philox::WEYL[0]), key[1].wrapping_add(Philox::WEYL[1])];
    }
    let mut words = [0; GROUP];
    for j in 0..WIDTH {
        words[4 * j] = x0[j];
        words[4 * j + 1] = x1[j];
        words[4 * j + 2] = x2[j];
        words[4 * j + 3] = x3[j];
    }
    words
}
