//! Cross-entropy on the GPU: one workgroup a row gives loss and gradient; another dispatch reduces the losses. The
//! host knows the targets, so it knows how many rows are kept: nothing is read back.

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
    cut: [u32; 4],
}

impl Loss for Gpu<'_> {
    fn cross_entropy(&self, spec: &CrossEntropySpec, logits: &GpuBuffer) -> Result<CrossEntropy<GpuBuffer>> {
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
        let divisor = if spec.reduction == Reduction::Mean { kept as f32 } else { 1.0 };
        // a binding holds fewer than 2^32 elements, and `dispatch` checks that
        let params =
            Params { rows: rows as u32, classes: classes as u32, scale: spec.scale() as f32, divisor, cut: [0; 4] };
        let grid = Grid::new(rows as u64).work((rows as u64 * classes as u64).saturating_mul(60));
        let passes = classes.div_ceil(64) as u64;
        match &gradient {
            Some(gradient) => {
                let kernel = Kernel::new("loss/cross_entropy", "loss_and_gradient");
                let grid = grid.trips(3 * passes + 17);
                self.dispatch(&kernel, &[&targets, logits, &losses, gradient], &params, grid)?;
            }
            None => {
                let kernel = Kernel::new("loss/cross_entropy", "loss");
                self.dispatch(&kernel, &[&targets, logits, &losses], &params, grid.trips(2 * passes + 16))?;
            }
        }
        if spec.reduction == Reduction::None {
            return Ok(CrossEntropy { loss: losses, gradient });
        }
        let loss = self.allocate(DType::F32, 1)?;
        let grid = Grid::new(1).trips(rows.div_ceil(64) as u64 + 8).work(rows as u64);
        self.dispatch(&Kernel::new("loss/cross_entropy", "reduce_losses"), &[&losses, &loss], &params, grid)?;
        Ok(CrossEntropy { loss, gradient })
    }
}
