//! Linear layers on the CPU: f32 by the workshop's products, f64 by the reference.

use super::{Linear, LinearGrads, LinearSpec, MatmulSpec, reference};
use crate::cpu::gemm::{Right, Segment, Start, accumulate, product, product_in_parts};
use crate::cpu::map::PIECE;
use crate::cpu::pack::Panels;
use crate::cpu::{Cpu, CpuBuffer, Fresh, Kernel, Lanes, launch};
use crate::error::Result;
use crate::tensor::{DType, Layout, Shape};

/// Up to so many rows packing W for dx is a good part of the product, so the image is kept for the next call:
/// there is one where a layer is used at every step of a sequence.
const FEW_ROWS: usize = 64;
/// Multiplications of one product of a batch above which the team does one after the other: about a millisecond.
const LARGE: usize = 1 << 25;
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
        let right = Right { data: weight.slice()?, k: spec.input, n: spec.output, transposed: true };
        if right.is_thin(self)? {
            product_in_parts(self, x.slice()?, spec.rows, &right, start, &mut y)?;
        } else {
            let panels = Panels::kept(self, weight, "linear", [spec.output, spec.input], || right.packed(self))?;
            product(self, x.slice()?, spec.rows, &panels, start, &mut y)?;
        }
        Ok(y.done())
    }

    fn linear_backward(
        &self,
        spec: &LinearSpec,
        x: Option<&CpuBuffer>,
        weight: Option<&CpuBuffer>,
        bias: bool,
        dy: &CpuBuffer,
    ) -> Result<LinearGrads<CpuBuffer>> {
        if spec.dtype == DType::F64 {
            return plain_backward(self, spec, x, weight, bias, dy);
        }
        let &LinearSpec { rows, input, output, .. } = spec;
        let mut grads = LinearGrads { x: None, weight: None, bias: None };
        if let Some(weight) = weight {
            let mut dx = Fresh::<f32>::new(rows * input)?;
            let right = Right { data: weight.slice()?, k: output, n: input, transposed: false };
            if rows < FEW_ROWS && !right.is_thin(self)? {
                let panels = Panels::kept(self, weight, "linear dx", [output, input], || right.packed(self))?;
                product(self, dy.slice()?, rows, &panels, Start::Zero, &mut dx)?;
            } else {
                product_of(self, dy.slice()?, rows, &right, &mut dx)?;
            }
            grads.x = Some(dx.done());
        }
        let mut db = if bias { Some(Fresh::<f32>::new(output)?) } else { None };
        if let Some(x) = x.filter(|_| input > 0) {
            let mut dw = Fresh::<f32>::new(output * input)?;
            let segment = Segment { dy: dy.slice()?, x: x.slice()?, steps: 1, batch: rows };
            accumulate(self, &[segment], (output, input), true, &mut dw, db.as_deref_mut())?;
            grads.weight = Some(dw.done());
        } else {
            if x.is_some() {
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
        let each = |cpu: &Cpu<'_>, start: usize, c: &mut [f32]| {
            let unit = start / (m * n);
            one(cpu, spec, &a[unit * m * k..][..m * k], &b[unit * k * n..][..k * n], c)
        };
        if batch == 1 || m.saturating_mul(k).saturating_mul(n) > LARGE {
            for (unit, c) in c.chunks_mut((m * n).max(1)).enumerate() {
                each(self, unit * m * n, c)?;
            }
            return Ok(c.done());
        }
        let alone = Cpu::quiet().with_isa(self.isa()?).with_threads(1);
        // a team is worth some 20 µs of one core
        let team = if spec.products() > 1 << 20 { *self } else { self.with_threads(1) };
        team.pieces(&mut c, m * n, |start, c| each(&alone, start, c))?;
        Ok(c.done())
    }
}

/// One product of a batch.
fn one(cpu: &Cpu<'_>, spec: &MatmulSpec, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<()> {
    let &MatmulSpec { m, k, n, .. } = spec;
    let right = Right { data: b, k, n, transposed: spec.transpose_b };
    if !spec.transpose_a || m == 1 || k == 1 {
        return product_of(cpu, a, m, &right, c);
    }
    let turned = Layout { shape: Shape::from([m, k]), strides: vec![1, m as isize], offset: 0 };
    product_of(cpu, &cpu.gather(a, &turned)?, m, &right, c)
}

/// `c` (m, n) = `a` (m, k) times `right`, packed for this once.
fn product_of(cpu: &Cpu<'_>, a: &[f32], m: usize, right: &Right<'_>, c: &mut [f32]) -> Result<()> {
    if right.is_thin(cpu)? {
        return product_in_parts(cpu, a, m, right, Start::Zero, c);
    }
    product(cpu, a, m, &right.packed(cpu)?, Start::Zero, c)
}

/// db = Σ over rows of dy, ascending.
fn sum_rows(cpu: &Cpu<'_>, dy: &[f32], db: &mut [f32]) -> Result<()> {
    struct SumRows {
        dy: *const f32,
        rows: usize,
        /// from one row to the next
        step: usize,
        db: *mut f32,
        n: usize,
    }
    impl Kernel for SumRows {
        #[inline(always)]
        unsafe fn run<L: Lanes>(&self) {
            // SAFETY: `n` values of db, which nobody else touches.
            let db = unsafe { std::slice::from_raw_parts_mut(self.db, self.n) };
            for i in 0..self.rows {
                // SAFETY: `rows` rows of `n` values, `step` apart.
                let row = unsafe { std::slice::from_raw_parts(self.dy.add(i * self.step), self.n) };
                for (sum, &v) in db.iter_mut().zip(row) {
                    *sum += v;
                }
            }
        }
    }
    db.fill(0.0);
    let (isa, n, poll) = (cpu.isa()?, db.len(), cpu.paced());
    for dy in dy.chunks(rows_at_once(n) * n.max(1)) {
        poll()?;
        cpu.pieces(db, PIECE, |start, db| {
            let kernel =
                SumRows { dy: dy[start..].as_ptr(), rows: dy.len() / n, step: n, db: db.as_mut_ptr(), n: db.len() };
            // SAFETY: the rows of `dy` are as long as all of db, of which this is a part.
            unsafe { launch(isa, &kernel) };
            Ok(())
        })?;
    }
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
    in_pieces(cpu, spec, |piece, [first, output, term]| {
        let y = &mut y[first * spec.output + output..][..piece.rows * piece.output];
        // a chain that goes on has one element
        let begun = [y[0]];
        let start = if term > 0 { Some(&begun[..]) } else { bias.map(|b| &b[output..]) };
        reference::forward(piece, &x[first * spec.input + term..], &w[output * spec.input + term..], start, y);
    })?;
    Ok(y.done())
}

fn plain_backward(
    cpu: &Cpu<'_>,
    spec: &LinearSpec,
    x: Option<&CpuBuffer>,
    weight: Option<&CpuBuffer>,
    bias: bool,
    dy: &CpuBuffer,
) -> Result<LinearGrads<CpuBuffer>> {
    let x = x.map(|x| x.slice::<f64>()).transpose()?;
    let (w, dy) = (weight.map(|w| w.slice::<f64>()).transpose()?, dy.slice::<f64>()?);
    let fresh = |needed: bool, len: usize| if needed { cpu.cleared(len).map(Some) } else { Ok(None) };
    let mut dx = fresh(w.is_some(), spec.rows * spec.input)?;
    let mut dw = fresh(x.is_some(), spec.output * spec.input)?;
    let mut db = fresh(bias, spec.output)?;
    in_pieces(cpu, spec, |piece, [first, output, term]| {
        let dy = &dy[first * spec.output + output..];
        let (row, column) = (first * spec.input + term, output * spec.input + term);
        if let (Some(dx), Some(w)) = (&mut dx, w) {
            reference::backward_x(piece, &w[column..], dy, &mut dx[row..]);
        }
        if let (Some(dw), Some(x)) = (&mut dw, x) {
            reference::backward_weight(piece, &x[row..], dy, &mut dw[column..]);
        }
        if let Some(db) = db.as_mut().filter(|_| term == 0) {
            reference::backward_bias(piece, dy, &mut db[output..]);
        }
    })?;
    Ok(LinearGrads { x: dx.map(Fresh::done), weight: dw.map(Fresh::done), bias: db.map(Fresh::done) })
}

/// Calls `work` with a few rows at a time, or some outputs of one row, or some terms of one output, and the first of
/// each, asking for signals in between.
fn in_pieces(cpu: &Cpu<'_>, spec: &LinearSpec, mut work: impl FnMut(&LinearSpec, [usize; 3])) -> Result<()> {
    let step = rows_at_once(spec.input.saturating_mul(spec.output));
    let across = if step > 1 { spec.output.max(1) } else { rows_at_once(spec.input) };
    let along = if step > 1 || across > 1 { spec.input.max(1) } else { STRIDE };
    for first in (0..spec.rows).step_by(step) {
        for output in (0..spec.output).step_by(across) {
            // also where there are no terms at all
            for term in (0..spec.input.max(1)).step_by(along) {
                let (rows, outputs) = (step.min(spec.rows - first), across.min(spec.output - output));
                let terms = along.min(spec.input - term);
                work(&LinearSpec { rows, output: outputs, input: terms, ..*spec }, [first, output, term]);
                cpu.poll()?;
            }
        }
    }
    Ok(())
}

fn plain_matmul(cpu: &Cpu<'_>, spec: &MatmulSpec, a: &CpuBuffer, b: &CpuBuffer) -> Result<CpuBuffer> {
    let &MatmulSpec { batch, m, k, n, .. } = spec;
    let (a, b) = (a.slice::<f64>()?, b.slice::<f64>()?);
    let mut c = Fresh::<f64>::new(batch * m * n)?;
    let step = rows_at_once(k.saturating_mul(n));
    let across = if step > 1 { n.max(1) } else { rows_at_once(k) };
    for i in 0..batch {
        let (a, b, c) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n], &mut c[i * m * n..][..m * n]);
        for first in (0..m).step_by(step) {
            for column in (0..n).step_by(across) {
                let part = (first..m.min(first + step), column..n.min(column + across));
                reference::matmul(spec, part, a, b, &mut c[first * n..]);
                cpu.poll()?;
            }
        }
    }
    Ok(c.done())
}
