//! Sums on the GPU, f32 only: the stated tree, so in one dispatch for up to 128 terms, one more for each 16-fold of
//! them. One sum's terms must fit in a binding; many sums are worked on in pieces. Where the summed axes are not
//! neighbours the argument is copied into order first, and must fit as a whole.

use super::{Reduce, SumSpec};
use crate::backend::{Backend, Buffer};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel, position};
use crate::ops::shape::{Move, StridedSpec};

/// `Params` of sum.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
pub(super) struct Params {
    pub(super) count: u32,
    pub(super) n: u32,
    pub(super) inner: u32,
    pub(super) blocks: u32,
    pub(super) x_start: u32,
    pub(super) y_start: u32,
    pub(super) cut: [u32; 2],
}

impl Reduce for Gpu<'_> {
    fn sum(&self, spec: &SumSpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        let sums = spec.outer * spec.inner;
        if spec.n == 0 || sums == 0 {
            return self.zeros(spec.dtype, sums);
        }
        let (mut x, mut n, inner) = match &spec.order {
            None => (x.clone(), spec.n, spec.inner),
            Some(order) => {
                let view = StridedSpec { dtype: spec.dtype, len: x.len(), view: order.clone() };
                (self.copy_strided(&view, x)?, spec.n, 1)
            }
        };
        // trips as the shader's entries state them
        let first = if inner == 1 { ("rows", 128, 4, 9) } else { ("columns", 128, 64, 181) };
        let mut kind = first;
        loop {
            let (entry, width, to_group, trips) = kind;
            let blocks = n.div_ceil(width);
            let y = self.allocate(spec.dtype, sums * blocks)?;
            let kernel = Kernel::new("reduce/sum", entry);
            // as many of the outer sums as a binding holds, at least one
            let room = self.context().largest_window().saturating_sub(64);
            let most = (room / (n * inner)).clamp(1, spec.outer);
            for outer in (0..spec.outer).step_by(most) {
                let here = most.min(spec.outer - outer);
                let (count, terms) = (here * blocks * inner, here * n * inner);
                let (from, x_start) = x.window(outer * n * inner, terms)?;
                let (to, y_start) = y.window(outer * blocks * inner, count)?;
                position("sum", terms.max(count) + 64)?;
                let params = Params {
                    count: count as u32,
                    n: n as u32,
                    inner: inner as u32,
                    blocks: blocks as u32,
                    x_start: x_start as u32,
                    y_start: y_start as u32,
                    cut: [0; 2],
                };
                let grid =
                    Grid::new(count.div_ceil(to_group) as u64).trips(trips).work(10 * terms.max(25 * count) as u64);
                self.dispatch(&kernel, &[&from, &to], &params, grid)?;
            }
            (x, n) = (y, blocks);
            if n == 1 {
                return Ok(x);
            }
            kind = ("join", 16, 64, 41);
        }
    }
}
