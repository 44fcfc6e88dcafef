//! Linear layers and matrix products on the GPU: the workshop's product with the strides of each side. Tensors larger
//! than a binding are worked on in pieces of rows, through windows; that changes no bit of y and dx, and continues the
//! chains of dW and db.

use super::{Linear, LinearGrads, LinearSpec, MatmulSpec};
use crate::backend::Backend;
use crate::error::Result;
use crate::gpu::{Batch, Begin, Gpu, GpuBuffer, Matrix, Product};
use crate::tensor::DType;

impl Linear for Gpu<'_> {
    fn linear(
        &self,
        spec: &LinearSpec,
        x: &GpuBuffer,
        weight: &GpuBuffer,
        bias: Option<&GpuBuffer>,
    ) -> Result<GpuBuffer> {
        let &LinearSpec { input, output, .. } = spec;
        let y = self.allocate(DType::F32, spec.rows * output)?;
        for_pieces(self, spec, |first, rows| {
            let (x, a_start) = x.window(first * input, rows * input)?;
            let (y, c_start) = y.window(first * output, rows * output)?;
            self.product(&Product {
                m: rows,
                n: output,
                k: input,
                block: input,
                a: Matrix { start: a_start, ..Matrix::new(&x, input, 1) },
                b: Matrix::new(weight, input, 1),
                c: &y,
                c_start,
                begin: bias.map_or(Begin::Zero, Begin::Bias),
            })
        })?;
        Ok(y)
    }

    fn linear_backward(
        &self,
        spec: &LinearSpec,
        x: Option<&GpuBuffer>,
        weight: Option<&GpuBuffer>,
        bias: bool,
        dy: &GpuBuffer,
    ) -> Result<LinearGrads<GpuBuffer>> {
        let &LinearSpec { rows, input, output, .. } = spec;
        let fresh = |needed: bool, len: usize| needed.then(|| self.allocate(DType::F32, len)).transpose();
        let dx = fresh(weight.is_some(), rows * input)?;
        // no rows, no product: sums of nothing
        let sum = |needed: bool, len: usize| match rows {
            0 => needed.then(|| self.zeros(DType::F32, len)).transpose(),
            _ => fresh(needed, len),
        };
        let (dw, db) = (sum(x.is_some(), output * input)?, sum(bias, output)?);
        let one = if db.is_some() { Some(self.upload(DType::F32, &1f32.to_ne_bytes())?) } else { None };
        for_pieces(self, spec, |first, rows| {
            let (dy, dy_start) = dy.window(first * output, rows * output)?;
            let begin = if first == 0 { Begin::Zero } else { Begin::Continue };
            // dy with its rows along the sum
            let turned = Matrix { start: dy_start, ..Matrix::new(&dy, 1, output) };
            if let (Some(dx), Some(weight)) = (&dx, weight) {
                let (dx, c_start) = dx.window(first * input, rows * input)?;
                self.product(&Product {
                    m: rows,
                    n: input,
                    k: output,
                    block: output,
                    a: Matrix { start: dy_start, ..Matrix::new(&dy, output, 1) },
                    b: Matrix::new(weight, 1, input),
                    c: &dx,
                    c_start,
                    begin: Begin::Zero,
                })?;
            }
            if let (Some(dw), Some(x)) = (&dw, x) {
                let (x, x_start) = x.window(first * input, rows * input)?;
                self.product(&Product {
                    m: output,
                    n: input,
                    k: rows,
                    block: rows,
                    a: turned,
                    b: Matrix { start: x_start, ..Matrix::new(&x, 1, input) },
                    c: dw,
                    c_start: 0,
                    begin,
                })?;
            }
            if let (Some(db), Some(one)) = (&db, &one) {
                // products with 1 are exact: a sum of rows
                self.product(&Product {
                    m: output,
                    n: 1,
                    k: rows,
                    block: rows,
                    a: turned,
                    b: Matrix::new(one, 0, 0),
                    c: db,
                    c_start: 0,
                    begin,
                })?;
            }
            Ok(())
        })?;
        Ok(LinearGrads { x: dx, weight: dw, bias: db })
    }

    fn matmul(&self, spec: &MatmulSpec, a: &GpuBuffer, b: &GpuBuffer) -> Result<GpuBuffer> {
        let &MatmulSpec { batch, m, k, n, .. } = spec;
        let c = self.allocate(DType::F32, batch * m * n)?;
        // as many products as a binding holds, at least one
        let next = Batch { count: 1, a: m * k, b: k * n, c: m * n };
        let room = self.context().largest_window().saturating_sub(64);
        let step = (room / next.a.max(next.b).max(next.c).max(1)).max(1);
        for first in (0..batch).step_by(step) {
            let count = step.min(batch - first);
            let (a, a_start) = a.window(first * next.a, count * next.a)?;
            let (b, b_start) = b.window(first * next.b, count * next.b)?;
            let (c, c_start) = c.window(first * next.c, count * next.c)?;
            let a = if spec.transpose_a { Matrix::new(&a, 1, m) } else { Matrix::new(&a, k, 1) };
            let b = if spec.transpose_b { Matrix::new(&b, k, 1) } else { Matrix::new(&b, 1, n) };
            let (a, b) = (Matrix { start: a_start, ..a }, Matrix { start: b_start, ..b });
            let product = Product { m, n, k, block: k, a, b, c: &c, c_start, begin: Begin::Zero };
            self.products(&product, Batch { count, ..next })?;
        }
        Ok(c)
    }
}

/// Calls `work` with the first row and the number of rows of each piece: mostly one.
fn for_pieces(gpu: &Gpu, spec: &LinearSpec, mut work: impl FnMut(usize, usize) -> Result<()>) -> Result<()> {
    let room = gpu.context().largest_window().saturating_sub(64);
    let step = (room / spec.input.max(spec.output).max(1)).max(1);
    (0..spec.rows).step_by(step).try_for_each(|first| work(first, step.min(spec.rows - first)))
}
