//! Dropout on the CPU: sixteen blocks of Philox side by side, in plain loops that the compiler turns into vectors.

use super::{Dropout, DropoutSpec};
use crate::cpu::pack::Shared;
use crate::cpu::{Cpu, CpuBuffer, Fresh, Kernel, Lanes, launch};
use crate::error::Result;
use crate::tensor::{DType, Philox, Real};

/// Blocks side by side, and the elements that they decide about.
const WIDTH: usize = 16;
const GROUP: usize = 4 * WIDTH;
/// Elements of a unit of the team; a multiple of a group.
const PIECE: usize = 1 << 15;

impl Dropout for Cpu<'_> {
    fn dropout(&self, spec: &DropoutSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        let isa = self.isa()?;
        match spec.dtype {
            // SAFETY: the piece is that of the slices that `in_pieces` made it of.
            DType::F64 => in_pieces::<f64>(self, spec, x, |piece| unsafe { piece.masked() }),
            // SAFETY: as above.
            _ => in_pieces::<f32>(self, spec, x, |piece| unsafe { launch(isa, &piece) }),
        }
    }
}

fn in_pieces<R: Real>(
    cpu: &Cpu<'_>,
    spec: &DropoutSpec,
    x: &CpuBuffer,
    work: impl Fn(Piece<'_, R>) + Sync,
) -> Result<CpuBuffer> {
    let x = x.slice::<R>()?;
    let mut y = Fresh::<R>::new(x.len())?;
    if spec.is_identity() {
        y.copy_from_slice(x);
        return Ok(y.done());
    }
    // SAFETY: units write disjoint parts of `y`.
    let out = unsafe { Shared::new(y.as_mut_ptr()) };
    cpu.run(x.len().div_ceil(PIECE), |unit| {
        let start = unit * PIECE;
        let x = &x[start..x.len().min(start + PIECE)];
        work(Piece { spec, x, y: out.get().wrapping_add(start), start });
    })?;
    Ok(y.done())
}

/// Elements from `start`, a multiple of a group.
struct Piece<'a, R> {
    spec: &'a DropoutSpec,
    x: &'a [R],
    y: *mut R,
    start: usize,
}

impl Kernel for Piece<'_, f32> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        // SAFETY: passed on.
        unsafe { self.masked() }
    }
}

impl<R: Real> Piece<'_, R> {
    /// # Safety
    /// `x.len()` elements can be written at `y`.
    #[inline(always)]
    unsafe fn masked(&self) {
        // SAFETY: by the caller's word.
        let y = unsafe { std::slice::from_raw_parts_mut(self.y, self.x.len()) };
        let (scale, threshold) = (R::of(self.spec.scale), self.spec.threshold);
        let mut block = self.start as u64 / 4;
        for (y, x) in y.chunks_mut(GROUP).zip(self.x.chunks(GROUP)) {
            let words = blocks(self.spec.philox, block);
            for ((y, &x), &word) in y.iter_mut().zip(x).zip(&words) {
                let scaled = x * scale;
                *y = if word >> 8 >= threshold { scaled } else { R::ZERO };
            }
            block += WIDTH as u64;
        }
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
