//! Optimizer steps on the GPU: a dispatch a tensor; clipping in two a tensor and one for the norm. Nothing is read
//! back, unless a norm that is not finite is to be refused.

use super::reference::{Adam, Sgd};
use super::{AdamItem, AdamSpec, Checked, ClipSpec, Optim, SgdItem, SgdSpec};
use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel, Ready};
use crate::tensor::{DType, list};

/// `Step` of step.wgsl
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::NoUninit)]
struct Step {
    count: u32,
    flags: u32,
    weight_decay: f32,
    size: f32,
    momentum: f32,
    rest: f32,
    new_1: f32,
    beta_2: f32,
    new_2: f32,
    root: f32,
    eps: f32,
    keep: f32,
    cut: [u32; 4],
}

const NESTEROV: u32 = 1;
const MAXIMIZE: u32 = 2;
const FIRST: u32 = 4;

/// `Clip` of clip.wgsl
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::NoUninit)]
struct Clip {
    count: u32,
    range: u32,
    first: u32,
    unlimited: u32,
    limit: f32,
    limit_64: f32,
    cut: [u32; 2],
}

/// Most workgroups that sum the squares of one tensor, and the fewest elements of one.
const GROUPS: usize = 256;
const FEWEST: usize = 4096;
/// Most partial sums that one workgroup joins.
const JOINED: usize = 1 << 16;

impl Optim for Gpu<'_> {
    fn sgd_step(&self, spec: &SgdSpec, items: &Checked<SgdItem<GpuBuffer>>) -> Result<()> {
        let sgd = Sgd::<f32>::new(spec);
        let mut steps = Vec::new();
        for item in items.iter() {
            let flag = |set: bool, flag: u32| if set { flag } else { 0 };
            let params = Step {
                flags: flag(sgd.nesterov, NESTEROV) | flag(sgd.maximize, MAXIMIZE) | flag(item.first, FIRST),
                weight_decay: sgd.weight_decay,
                size: sgd.lr,
                momentum: sgd.momentum,
                rest: sgd.rest,
                ..Step::default()
            };
            match item.buffer.as_ref().filter(|_| spec.momentum != 0.0) {
                Some(buffer) => {
                    step(self, "sgd_momentum", &[&item.param, &item.grad, buffer], params, &mut steps)?;
                }
                None => step(self, "sgd", &[&item.param, &item.grad], params, &mut steps)?,
            }
        }
        self.record_all(&steps)?;
        items.iter().flat_map(|item| item.written(spec)).for_each(|b| b.stamp().bump());
        Ok(())
    }

    fn adam_step(&self, spec: &AdamSpec, items: &Checked<AdamItem<GpuBuffer>>) -> Result<()> {
        let mut steps = Vec::new();
        for item in items.iter() {
            let adam = Adam::<f32>::new(spec, item.step);
            let params = Step {
                flags: if adam.maximize { MAXIMIZE } else { 0 },
                weight_decay: adam.weight_decay,
                size: adam.size,
                new_1: adam.new1,
                beta_2: adam.beta2,
                new_2: adam.new2,
                root: adam.root,
                eps: adam.eps,
                keep: adam.keep,
                ..Step::default()
            };
            let AdamItem { param, grad, mean, square, .. } = item;
            match &item.largest {
                Some(largest) => {
                    step(self, "adam_largest", &[param, grad, mean, square, largest], params, &mut steps)?;
                }
                None => step(self, "adam", &[param, grad, mean, square], params, &mut steps)?,
            }
        }
        self.record_all(&steps)?;
        items.iter().flat_map(AdamItem::written).for_each(|b| b.stamp().bump());
        Ok(())
    }

    fn clip_grad_norm(&self, spec: &ClipSpec, grads: &[GpuBuffer]) -> Result<GpuBuffer> {
        self.clip_grad_norm_by(spec, grads, JOINED)
    }
}

impl Gpu<'_> {
    /// Clips; a workgroup joins at most `range` partial sums.
    pub(super) fn clip_grad_norm_by(&self, spec: &ClipSpec, grads: &[GpuBuffer], range: usize) -> Result<GpuBuffer> {
        let mut partials = 0;
        let mut places = list(grads.iter().map(|grad| self.pieces(grad.len()).count()).sum(), "pieces of gradients")?;
        for grad in grads {
            for (first, len) in self.pieces(grad.len()) {
                // fixed by the length alone
                let range = len.div_ceil(GROUPS).max(FEWEST);
                places.push((grad.window(first, len)?.0, range, partials));
                partials += len.div_ceil(range);
            }
        }
        let trips = |count: usize| 2 * count.div_ceil(256) as u64 + 20;
        // all that is allocated is allocated before the first write
        let (norm, action) = (self.allocate(DType::F32, 1)?, self.allocate(DType::F32, 4)?);
        let mut partial = self.allocate(DType::F32, 3 * partials.max(1))?;
        for (window, range, first) in &places {
            let len = window.len();
            let params = Clip { count: len as u32, range: *range as u32, first: *first as u32, ..Clip::default() };
            let trips = range.div_ceil(256) + 130 * range.div_ceil(32_768) + 20;
            let grid = Grid::new(len.div_ceil(*range) as u64).trips(trips as u64).work(10 * len as u64);
            self.dispatch(&Kernel::new("optim/clip", "squares"), &[window, &partial], &params, grid)?;
        }
        while partials > range {
            let params = Clip { count: partials as u32, range: range as u32, ..Clip::default() };
            let grid = Grid::new(partials.div_ceil(range) as u64).trips(trips(range)).work(10 * partials as u64);
            partials = partials.div_ceil(range);
            let joined = self.allocate(DType::F32, 3 * partials)?;
            self.dispatch(&Kernel::new("optim/clip", "join"), &[&partial, &joined], &params, grid)?;
            partial = joined;
        }
        let finite = |limit: f64| limit.min(f64::from(f32::MAX)) as f32;
        let params = Clip {
            count: partials as u32,
            unlimited: u32::from(spec.max_norm.is_infinite()),
            limit: finite(spec.max_norm),
            limit_64: finite(spec.max_norm / 18_446_744_073_709_551_616.0),
            ..Clip::default()
        };
        let grid = Grid::new(1).trips(trips(partials));
        self.dispatch(&Kernel::new("optim/clip", "finish"), &[&partial, &norm, &action], &params, grid)?;
        if spec.error_if_nonfinite {
            let mut bytes = [0; 4];
            self.download(&norm, &mut bytes)?;
            let norm = f32::from_ne_bytes(bytes);
            if !norm.is_finite() {
                return Err(ClipSpec::nonfinite(f64::from(norm)));
            }
        }
        let mut scales = list(places.len(), "gradients to be scaled")?;
        for (window, ..) in &places {
            let params = Clip { count: window.len() as u32, ..Clip::default() };
            let kernel = Kernel::new("optim/clip", "scale");
            let ready = self.ready::<Clip>(&kernel, &[window, &action], Grid::elements(window.len()))?;
            scales.push((ready, params));
        }
        self.record_all(&scales)?;
        // whether they were scaled is known on the device only
        grads.iter().for_each(|g| g.stamp().bump());
        Ok(norm)
    }
}

/// Adds the step of one tensor to those that are ready.
fn step(
    gpu: &Gpu,
    entry: &'static str,
    buffers: &[&GpuBuffer],
    params: Step,
    steps: &mut Vec<(Ready, Step)>,
) -> Result<()> {
    for (first, count) in gpu.pieces(buffers.first().map_or(0, |b| b.len())) {
        let windows = buffers.iter().map(|b| Ok(b.window(first, count)?.0)).collect::<Result<Vec<_>>>()?;
        let grid = Grid::new(count.div_ceil(64) as u64).work(20 * count as u64);
        let ready = gpu.ready::<Step>(&Kernel::new("optim/step", entry), &windows.iter().collect::<Vec<_>>(), grid)?;
        steps.try_reserve(1).map_err(|_| Error::memory("the steps of an optimizer"))?;
        steps.push((ready, Step { count: count as u32, ..params }));
    }
    Ok(())
}
