//! Linear layers on the CPU: f32 by the workshop's products, f64 by the reference.

use super::{Linear, LinearGrads, LinearNeeds, LinearSpec, MatmulSpec, reference};
use crate::cpu::gemm::{Segment, Start, accumulate, product};
use crate::cpu::pack::{Panels, Shared};
use crate::cpu::{Cpu, CpuBuffer, Fresh, Kernel, Lanes, launch};
use crate::error::Result;
use crate::tensor::DType;
use std::sync::{Arc, Mutex, PoisonError};

/// Up to so many rows packing W for dx is a good part of the product, so the image is kept for the next call:
/// there is one where a layer is used at every step of a sequence.
const FEW_ROWS: usize = 64;
/// Multiplications between two polls of the reference: some milliseconds.
const STRIDE: usize = 1 << 20;

impl Linear for Cpu<'_> {
    fn linear(
        &self,
        spec: &LinearSpec,
        x: &CpuBuffer,
        weight: &CpuBuffer,
        bias: Option<&CpuBuffer>,
    ) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            return plain(self, spec, x, weight, bias);
        }
        let start = bias.map_or(Ok(Start::Zero), |b| b.slice::<f32>().map(Start::Row))?;
        let mut y = Fresh::<f32>::new(spec.rows * spec.output)?;
        let panels = Panels::kept(self, weight, "linear", || {
            Panels::transposed(self, weight.slice()?, spec.output, spec.input)
        })?;
        product(self, x.slice()?, spec.rows, &panels, start, &mut y)?;
        Ok(y.done())
    }

    fn linear_backward(
        &self,
        spec: &LinearSpec,
        needs: LinearNeeds,
        x: &CpuBuffer,
        weight: &CpuBuffer,
        dy: &CpuBuffer,
    ) -> Result<LinearGrads<CpuBuffer>> {
        if spec.dtype == DType::F64 {
            return plain_backward(self, spec, needs, x, weight, dy);
        }
        let &LinearSpec { rows, input, output, .. } = spec;
        let mut grads = LinearGrads { x: None, weight: None, bias: None };
        if needs.x {
            let mut dx = Fresh::<f32>::new(rows * input)?;
            let pack = || Panels::straight(self, weight.slice()?, output, input);
            let panels =
                if rows < FEW_ROWS { Panels::kept(self, weight, "linear dx", pack)? } else { pack().map(Arc::new)? };
            product(self, dy.slice()?, rows, &panels, Start::Zero, &mut dx)?;
            grads.x = Some(dx.done());
        }
        let mut db = if needs.bias { Some(Fresh::<f32>::new(output)?) } else { None };
        if needs.weight && input > 0 {
            let mut dw = Fresh::<f32>::new(output * input)?;
            let segment = Segment { dy: dy.slice()?, x: x.slice()?, steps: 1, batch: rows };
            accumulate(self, &[segment], (output, input), true, &mut dw, db.as_deref_mut())?;
            grads.weight = Some(dw.done());
        } else {
            if needs.weight {
                grads.weight = Some(Fresh::<f32>::new(0)?.done());
            }
            if let Some(db) = &mut db {
                sum_rows(self, dy.slice()?, db)?;
            }
        }
        grads.bias = db.map(Fresh::done);
        Ok(grads)
    }

    fn matmul(&self, spec: &MatmulSpec, a: &CpuBuffer, b: &CpuBuffer) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            return plain_matmul(self, spec, a, b);
        }
        let &MatmulSpec { batch, m, k, n, .. } = spec;
        let (a, b) = (a.slice::<f32>()?, b.slice::<f32>()?);
        let mut c = Fresh::<f32>::new(batch * m * n)?;
        if batch == 1 {
            one(self, spec, a, b, &mut c)?;
            return Ok(c.done());
        }
        let alone = Cpu::quiet().with_isa(self.isa()?).with_threads(1);
        let failed = Mutex::new(None);
        // SAFETY: units write disjoint blocks of `c`.
        let out = unsafe { Shared::new(c.as_mut_ptr()) };
        let work = |unit: usize| {
            // SAFETY: block `unit` of c, which no other unit touches.
            let c = unsafe { std::slice::from_raw_parts_mut(out.get().add(unit * m * n), m * n) };
            let done = one(&alone, spec, &a[unit * m * k..][..m * k], &b[unit * k * n..][..k * n], c);
            if let Err(e) = done {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        };
        // a team is worth some 20 µs of one core
        let team = if spec.products() > 1 << 20 { *self } else { self.with_threads(1) };
        team.run(batch, work)?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(c.done()), Err)
    }
}

/// One product of a batch.
fn one(cpu: &Cpu<'_>, spec: &MatmulSpec, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<()> {
    let &MatmulSpec { m, k, n, .. } = spec;
    let panels = if spec.transpose_b { Panels::transposed(cpu, b, n, k)? } else { Panels::straight(cpu, b, k, n)? };
    if !spec.transpose_a || m == 1 || k == 1 {
        return product(cpu, a, m, &panels, Start::Zero, c);
    }
    let mut turned = Fresh::<f32>::new(m * k)?;
    // squares of 16, so that every line of either side is used whole
    for (i, j) in (0..k).step_by(16).flat_map(|i| (0..m).step_by(16).map(move |j| (i, j))) {
        for row in j..m.min(j + 16) {
            for col in i..k.min(i + 16) {
                turned[row * k + col] = a[col * m + row];
            }
        }
    }
    product(cpu, &turned, m, &panels, Start::Zero, c)
}

/// db = Σ over rows of dy, ascending.
fn sum_rows(cpu: &Cpu<'_>, dy: &[f32], db: &mut [f32]) -> Result<()> {
    struct SumRows {
        dy: *const f32,
        rows: usize,
        db: *mut f32,
        n: usize,
    }
    impl Kernel for SumRows {
        #[inline(always)]
        unsafe fn run<L: Lanes>(&self) {
            // SAFETY: `rows` rows of `n` values, and `n` values of db, which nobody else touches.
            let (dy, db) = unsafe {
                let dy = std::slice::from_raw_parts(self.dy, self.rows * self.n);
                (dy, std::slice::from_raw_parts_mut(self.db, self.n))
            };
            db.fill(0.0);
            for row in dy.chunks_exact(self.n) {
                for (sum, &v) in db.iter_mut().zip(row) {
                    *sum += v;
                }
            }
        }
    }
    let n = db.len();
    if n == 0 {
        return Ok(());
    }
    let kernel = SumRows { dy: dy.as_ptr(), rows: dy.len() / n, db: db.as_mut_ptr(), n };
    // SAFETY: the pointers are those of the two slices, the sizes theirs.
    unsafe { launch(cpu.isa()?, &kernel) }
    Ok(())
}

/// How many rows the reference does between two polls.
fn rows_at_once(row: usize) -> usize {
    (STRIDE / row.max(1)).max(1)
}

fn plain(
    cpu: &Cpu<'_>,
    spec: &LinearSpec,
    x: &CpuBuffer,
    weight: &CpuBuffer,
    bias: Option<&CpuBuffer>,
) -> Result<CpuBuffer> {
    let (x, w) = (x.slice::<f64>()?, weight.slice::<f64>()?);
    let bias = bias.map(|b| b.slice::<f64>()).transpose()?;
    let mut y = Fresh::<f64>::new(spec.rows * spec.output)?;
    in_pieces(cpu, spec, |piece, first| {
        let x = &x[first * spec.input..][..piece.rows * spec.input];
        reference::forward(piece, x, w, bias, &mut y[first * spec.output..][..piece.rows * spec.output]);
    })?;
    Ok(y.done())
}

fn plain_backward(
    cpu: &Cpu<'_>,
    spec: &LinearSpec,
    needs: LinearNeeds,
    x: &CpuBuffer,
    weight: &CpuBuffer,
    dy: &CpuBuffer,
) -> Result<LinearGrads<CpuBuffer>> {
    let (x, w, dy) = (x.slice::<f64>()?, weight.slice::<f64>()?, dy.slice::<f64>()?);
    let fresh = |needed: bool, len: usize| if needed { Fresh::<f64>::zeros(len).map(Some) } else { Ok(None) };
    let mut dx = fresh(needs.x, spec.rows * spec.input)?;
    let mut dw = fresh(needs.weight, spec.output * spec.input)?;
    let mut db = fresh(needs.bias, spec.output)?;
    in_pieces(cpu, spec, |piece, first| {
        let x = &x[first * spec.input..][..piece.rows * spec.input];
        let dy = &dy[first * spec.output..][..piece.rows * spec.output];
        if let Some(dx) = &mut dx {
            reference::backward_x(piece, w, dy, &mut dx[first * spec.input..][..piece.rows * spec.input]);
        }
        if let Some(dw) = &mut dw {
            reference::backward_weight(piece, x, dy, dw);
        }
        if let Some(db) = &mut db {
            reference::backward_bias(piece, dy, db);
        }
    })?;
    Ok(LinearGrads { x: dx.map(Fresh::done), weight: dw.map(Fresh::done), bias: db.map(Fresh::done) })
}

/// Calls `work` with a few rows at a time and the first of them, asking for signals in between.
fn in_pieces(cpu: &Cpu<'_>, spec: &LinearSpec, mut work: impl FnMut(&LinearSpec, usize)) -> Result<()> {
    let step = rows_at_once(spec.input.saturating_mul(spec.output));
    for first in (0..spec.rows).step_by(step) {
        work(&LinearSpec { rows: step.min(spec.rows - first), ..*spec }, first);
        cpu.poll()?;
    }
    Ok(())
}

fn plain_matmul(cpu: &Cpu<'_>, spec: &MatmulSpec, a: &CpuBuffer, b: &CpuBuffer) -> Result<CpuBuffer> {
    let &MatmulSpec { batch, m, k, n, .. } = spec;
    let (a, b) = (a.slice::<f64>()?, b.slice::<f64>()?);
    let mut c = Fresh::<f64>::new(batch * m * n)?;
    for i in 0..batch {
        let (a, b, c) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n], &mut c[i * m * n..][..m * n]);
        let step = rows_at_once(k.saturating_mul(n));
        for first in (0..m).step_by(step) {
            let rows = first..m.min(first + step);
            reference::matmul(spec, rows.clone(), a, b, &mut c[first * n..][..rows.len() * n]);
            cpu.poll()?;
        }
    }
    Ok(c.done())
}
