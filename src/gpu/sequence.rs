//! Sums over all rows of a sequence, (T, B, width): what a gradient of weights is made of.

use super::{Begin, Gpu, GpuBuffer, Matrix, Product};
use crate::error::Result;

/// A (T, B, width) tensor from step `first` on.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'b> {
    /// all of it
    pub buffer: &'b GpuBuffer,
    /// the first step meant
    pub first: usize,
    /// elements of a row
    pub width: usize,
}

impl Gpu<'_> {
    /// Records `dw` (dy.width, x.width) = begin + Σ dyᵀ x over so many steps and rows of a step. Each element is one
    /// chain, t descending and b ascending, so a sequence that is cut into pieces and added from the last piece to the
    /// first gives the same bits. Pieces fit in a binding.
    pub fn sum_over_rows(
        &self,
        dy: Steps,
        x: Steps,
        (steps, batch): (usize, usize),
        dw: &GpuBuffer,
        begin: Begin,
    ) -> Result<()> {
        let (dy_window, x_window) = (dy.window(steps, batch)?, x.window(steps, batch)?);
        let (a, b) = (descending(&dy_window, steps, batch, dy.width), descending(&x_window, steps, batch, x.width));
        let (m, n, k) = (dy.width, x.width, steps * batch);
        self.product(&Product { m, n, k, block: batch, a, b, c: dw, c_start: 0, begin })
    }

    /// Records `db` (dy.width) = begin + Σ dy, in the same order; `one` holds a 1.
    pub fn sum_rows(
        &self,
        dy: Steps,
        one: &GpuBuffer,
        (steps, batch): (usize, usize),
        db: &GpuBuffer,
        begin: Begin,
    ) -> Result<()> {
        let window = dy.window(steps, batch)?;
        // one row of ones from the left: columns are what lanes lie along
        let (a, b) = (Matrix::new(one, 0, 0), descending(&window, steps, batch, dy.width));
        let (n, k) = (dy.width, steps * batch);
        self.product(&Product { m: 1, n, k, block: batch, a, b, c: db, c_start: 0, begin })
    }
}

impl Steps<'_> {
    fn window(&self, steps: usize, batch: usize) -> Result<(GpuBuffer, usize)> {
        let step = batch * self.width;
        self.buffer.window(self.first * step, steps * step)
    }
}

/// A matrix of `batch` rows a step, `width` wide, read as (k = row, outer = column) with time descending from the
/// end of `steps` steps.
fn descending<'b>((buffer, start): &'b (GpuBuffer, usize), steps: usize, batch: usize, width: usize) -> Matrix<'b> {
    let step = batch * width;
    Matrix { buffer, start: start + steps.saturating_sub(1) * step, outer: 1, k: width, k_block: -(step as isize) }
}
