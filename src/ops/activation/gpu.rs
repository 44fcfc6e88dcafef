//! Activations on the GPU, f32 only. A thread is an element, so its bits do not depend on the others.

use super::{Activation, ActivationSpec, Function};
use crate::backend::Backend;
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel};

/// `Params` of activation.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Params {
    count: u32,
    function: u32,
    cut: [u32; 2],
}

impl Gpu<'_> {
    /// A kernel over elements in order; the last buffer is the result.
    fn activated(&self, entry: &'static str, spec: &ActivationSpec, buffers: &[&GpuBuffer]) -> Result<()> {
        let function = match spec.function {
            Function::Sigmoid => 0,
            Function::Tanh => 1,
            Function::Relu => 2,
        };
        self.dispatch_pieces(&Kernel::new("activation/activation", entry), buffers, |_, count| {
            let params = Params { count: count as u32, function, cut: [0; 2] };
            (params, Grid::elements(count))
        })
    }
}

impl Activation for Gpu<'_> {
    fn activation(&self, spec: &ActivationSpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        let y = self.allocate(spec.dtype, spec.len)?;
        self.activated("forward", spec, &[x, &y])?;
        Ok(y)
    }

    fn activation_backward(&self, spec: &ActivationSpec, y: &GpuBuffer, dy: &GpuBuffer) -> Result<GpuBuffer> {
        let dx = self.allocate(spec.dtype, spec.len)?;
        self.activated("backward", spec, &[y, dy, &dx])?;
        Ok(dx)
    }
}
