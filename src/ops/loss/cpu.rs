//! Cross-entropy on the CPU: f32 with the workshop's exp and ln, f64 by the reference.

use super::{CrossEntropy, CrossEntropySpec, Loss, reference};
use crate::cpu::math::{Exp, Function, Ln};
use crate::cpu::pack::Shared;
use crate::cpu::{At, Cpu, CpuBuffer, Fresh, Kernel, Lanes, launch};
use crate::error::Result;
use crate::tensor::{DType, Ids, Real, elements, joined};

/// Elements that are worth a team: some 20 µs of one core.
const WORTH_A_TEAM: usize = 1 << 15;
/// Elements of a unit at most, where rows are shorter: some milliseconds, with one class as with many.
const UNIT: usize = 1 << 18;
/// The lanes of a sum, whatever the instruction set has.
const LANES: usize = 16;

impl Loss for Cpu<'_> {
    fn cross_entropy(&self, spec: &CrossEntropySpec, logits: &CpuBuffer) -> Result<CrossEntropy<CpuBuffer>> {
        let size = spec.rows * spec.classes;
        if spec.dtype == DType::F64 {
            let mut losses = Fresh::<f64>::new(spec.rows)?;
            let mut gradient = if spec.gradient { Some(Fresh::<f64>::new(size)?) } else { None };
            reference::rows(spec, spec.scale(), logits.slice()?, &mut losses, gradient.as_deref_mut(), &|| {
                self.poll()
            })?;
            return finish(self, spec, losses, gradient);
        }
        let mut losses = Fresh::<f32>::new(spec.rows)?;
        let threads = self.threads();
        let worth = size > WORTH_A_TEAM && threads > 1;
        let units = if worth { 4 * threads } else { 1 }.max(size / UNIT).min(spec.rows).max(1);
        // e^(x - m) goes where the gradient will be, else to a row of scratch for each unit or, if they are fewer, thread
        let slots = units.min(threads);
        let rows = if spec.gradient { spec.rows } else { slots };
        let mut exps = Fresh::<f32>::new(elements(&[rows, spec.classes])?)?;
        let kernel = Rows {
            logits: logits.slice::<f32>()?.as_ptr(),
            losses: losses.as_mut_ptr(),
            exps: exps.as_mut_ptr(),
            targets: &spec.targets,
            classes: spec.classes,
            gradient: spec.gradient,
            scale: spec.scale() as f32,
            rows: (0, spec.rows),
        };
        // SAFETY: units write disjoint rows.
        let kernel = unsafe { Shared::new(kernel) };
        let isa = self.isa()?;
        self.run_phases(threads, 1, units, |At { thread, unit, .. }| {
            let kernel = kernel.get();
            let rows = (unit * spec.rows / units, (unit + 1) * spec.rows / units);
            let slot = if units > slots { thread } else { unit };
            let exps = if spec.gradient { kernel.exps } else { kernel.exps.wrapping_add(slot * spec.classes) };
            // SAFETY: logits and gradient have `rows` rows of `classes`, losses one each; scratch has a row a slot.
            unsafe { launch(isa, &Rows { rows, exps, ..kernel }) }
        })?;
        finish(self, spec, losses, spec.gradient.then_some(exps))
    }
}

fn finish<R: Real>(
    cpu: &Cpu<'_>,
    spec: &CrossEntropySpec,
    losses: Fresh<R>,
    gradient: Option<Fresh<R>>,
) -> Result<CrossEntropy<CpuBuffer>> {
    let loss = match reference::reduced(spec, &losses, &|| cpu.poll())? {
        Some(loss) => {
            let mut one = Fresh::<R>::new(1)?;
            one.fill(loss);
            one.done()
        }
        None => losses.done(),
    };
    Ok(CrossEntropy { loss, gradient: gradient.map(Fresh::done) })
}

#[derive(Clone, Copy)]
struct Rows<'a> {
    logits: *const f32,
    losses: *mut f32,
    /// the gradient, or one row of scratch
    exps: *mut f32,
    targets: &'a Ids,
    classes: usize,
    gradient: bool,
    scale: f32,
    rows: (usize, usize),
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        for r in self.rows.0..self.rows.1 {
            let at = r * self.classes;
            // SAFETY: row r is below the number of rows that the pointers were made for.
            unsafe {
                let exps = if self.gradient { self.exps.add(at) } else { self.exps };
                let loss = match self.targets.get(r) {
                    Some(target) => {
                        self.row::<L>(std::slice::from_raw_parts(self.logits.add(at), self.classes), target, exps)
                    }
                    None => {
                        if self.gradient {
                            std::slice::from_raw_parts_mut(exps, self.classes).fill(0.0);
                        }
                        0.0
                    }
                };
                *self.losses.add(r) = loss;
            }
        }
    }
}

impl Rows<'_> {
    /// The loss of row `x`; its gradient in `exps`.
    ///
    /// # Safety
    /// `x.len()` values can be written at `exps`; `target` is below.
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, x: &[f32], target: usize, exps: *mut f32) -> f32 {
        let (n, from) = (x.len(), x.as_ptr());
        let whole = n - n % L::N;
        // SAFETY: all places are below n.
        unsafe {
            let largest = largest::<L>(x);
            let m = L::splat(largest);
            let mut lanes = [L::splat(0.0); LANES];
            let vectors = LANES / L::N;
            let mut i = 0;
            while i < n {
                for (z, sum) in lanes.iter_mut().enumerate().take(vectors) {
                    let at = i + z * L::N;
                    if at < whole {
                        let e = Exp::of(L::load(from.add(at)).sub(m));
                        e.store(exps.add(at));
                        *sum = sum.add(e);
                    } else if at < n {
                        Exp::of(L::load_first(from.add(at), n - at).sub(m)).store_first(exps.add(at), n - at);
                        // zeros past the end: sums of positive numbers stay as they are
                        *sum = sum.add(L::load_first(exps.add(at), n - at));
                    }
                }
                i += LANES;
            }
            let mut stored = [0f32; LANES];
            for (z, sum) in lanes.iter().enumerate().take(vectors) {
                sum.store(stored.as_mut_ptr().add(z * L::N));
            }
            let sum = joined(stored);
            let mut ln = [0f32; LANES];
            Ln::of(L::splat(sum)).store(ln.as_mut_ptr());
            if self.gradient {
                let of_target = (*exps.add(target) / sum - 1.0) * self.scale;
                for e in std::slice::from_raw_parts_mut(exps, n) {
                    *e = *e / sum * self.scale;
                }
                *exps.add(target) = of_target;
            }
            ln[0] - (x[target] - largest)
        }
    }
}

/// The largest number; which, does not depend on the order, and where there is a NaN all of the row will be.
#[inline(always)]
fn largest<L: Lanes>(x: &[f32]) -> f32 {
    let mut vector = L::splat(f32::NEG_INFINITY);
    let mut chunks = x.chunks_exact(L::N);
    for chunk in &mut chunks {
        // SAFETY: a whole vector.
        vector = vector.max(unsafe { L::load(chunk.as_ptr()) });
    }
    let mut stored = [f32::NEG_INFINITY; LANES];
    // SAFETY: there is room for the widest vector.
    unsafe { vector.store(stored.as_mut_ptr()) };
    stored.iter().chain(chunks.remainder()).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}
