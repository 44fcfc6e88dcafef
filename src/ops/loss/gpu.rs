//! Cross-entropy on the GPU: one workgroup a row gives loss and gradient; another dispatch reduces the losses. Of long
//! rows and of many losses a workgroup takes a part, and a further dispatch joins the parts. The host knows the
//! targets, so it knows how many rows are kept: nothing is read back.

use super::{CrossEntropy, CrossEntropySpec, Loss, Reduction};
use crate::backend::Backend;
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel};
use crate::tensor::DType;

/// `CrossEntropy` of cross_entropy.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Params {
    rows: u32,
    classes: u32,
    scale: f32,
    divisor: f32,
    first_group: u32,
    part: u32,
    parts: u32,
    pad: u32,
}

/// What one workgroup does of it: both far below the loop trips that are allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// most classes of a row that is not cut
    pub(super) classes: usize,
    /// classes of a part of a row, or losses of a part of their sum
    pub(super) part: usize,
}

const CUT: Cut = Cut { classes: 1 << 20, part: 1 << 16 };

impl Loss for Gpu<'_> {
    fn cross_entropy(&self, spec: &CrossEntropySpec, logits: &GpuBuffer) -> Result<CrossEntropy<GpuBuffer>> {
        self.cross_entropy_by(spec, logits, CUT)
    }
}

impl Gpu<'_> {
    pub(super) fn cross_entropy_by(
        &self,
        spec: &CrossEntropySpec,
        logits: &GpuBuffer,
        cut: Cut,
    ) -> Result<CrossEntropy<GpuBuffer>> {
        let &CrossEntropySpec { rows, classes, .. } = spec;
        let kept = spec.targets.kept();
        if kept == 0 {
            // nothing is summed, and no logit is looked at: there may be no classes
            let gradient = spec.gradient.then(|| self.zeros(DType::F32, rows * classes)).transpose()?;
            let loss = match spec.reduction {
                Reduction::Mean => self.upload(DType::F32, &f32::NAN.to_ne_bytes())?,
                Reduction::Sum => self.zeros(DType::F32, 1)?,
                Reduction::None => self.zeros(DType::F32, rows)?,
            };
            return Ok(CrossEntropy { loss, gradient });
        }
        let gradient = spec.gradient.then(|| self.allocate(DType::F32, rows * classes)).transpose()?;
        let losses = self.allocate(DType::F32, rows)?;
        let targets = self.upload(DType::I64, bytemuck::cast_slice(spec.targets.as_slice()))?;
        let parts = classes.div_ceil(cut.part);
        // a binding holds fewer than 2^32 elements, and `dispatch` checks that
        let params = Params {
            rows: rows as u32,
            classes: classes as u32,
            scale: spec.scale() as f32,
            divisor: if spec.reduction == Reduction::Mean { kept as f32 } else { 1.0 },
            first_group: 0,
            part: cut.part as u32,
            parts: parts as u32,
            pad: 0,
        };
        // loop trips over so many numbers
        let trips = |n: usize| n.div_ceil(64) as u64;
        // measured: a workgroup takes as long as a hundred of its numbers at least
        let work = (rows as u64).saturating_mul(60 * classes.max(100) as u64);
        let grid = |groups: usize| Grid::new(groups as u64).work(work);
        let run = |entry, buffers: &[&GpuBuffer], grid| {
            self.dispatch(&Kernel::new("loss/cross_entropy", entry), buffers, &params, grid)
        };
        if classes <= cut.classes {
            match &gradient {
                Some(gradient) => {
                    let grid = grid(rows).trips(3 * trips(classes) + 17);
                    run("loss_and_gradient", &[&targets, logits, &losses, gradient], grid)?;
                }
                None => run("loss", &[&targets, logits, &losses], grid(rows).trips(2 * trips(classes) + 16))?,
            }
        } else {
            let made = self.allocate(DType::F32, 3 * rows * parts)?;
            run("reduce_parts", &[&made, logits], grid(rows * parts).trips(2 * trips(cut.part) + 16))?;
            let joined = 2 * trips(parts) + 16;
            match &gradient {
                Some(gradient) => {
                    let grid = grid(rows * parts).trips(joined + trips(cut.part) + 1);
                    run("loss_and_gradient_of_parts", &[&targets, logits, &losses, gradient, &made], grid)?;
                }
                None => {
                    let grid = Grid::new(rows as u64).trips(joined).work(60 * (rows * parts) as u64);
                    run("loss_of_parts", &[&targets, logits, &losses, &made], grid)?;
                }
            }
        }
        let loss = match spec.reduction {
            Reduction::None => losses,
            _ => self.reduce_losses(losses, rows, params)?,
        };
        Ok(CrossEntropy { loss, gradient })
    }

    /// The sum of all losses over the divisor.
    fn reduce_losses(&self, mut losses: GpuBuffer, mut rows: usize, params: Params) -> Result<GpuBuffer> {
        let part = params.part as usize;
        loop {
            let totals = rows.div_ceil(part);
            let divisor = if totals == 1 { params.divisor } else { 1.0 };
            let sums = self.allocate(DType::F32, totals)?;
            let trips = 34 * rows.min(part).div_ceil(2048) as u64 + 8;
            let grid = Grid::new(totals as u64).trips(trips).work(rows as u64);
            let params = Params { rows: rows as u32, divisor, ..params };
            self.dispatch(&Kernel::new("loss/cross_entropy", "reduce_losses"), &[&losses, &sums], &params, grid)?;
            if totals == 1 {
                return Ok(sums);
            }
            (losses, rows) = (sums, totals);
        }
    }
}
