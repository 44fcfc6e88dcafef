//! Dropout on the GPU: the same mask as on the CPU, bit for bit.

use super::{Dropout, DropoutSpec};
use crate::backend::{Backend, Buffer};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel};
use crate::tensor::DType;

/// `Mask` of mask.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Mask {
    count: u32,
    threshold: u32,
    scale: f32,
    block_low: u32,
    block_high: u32,
    seed_low: u32,
    seed_high: u32,
    stream_low: u32,
    stream_high: u32,
    cut: [u32; 3],
}

impl Dropout for Gpu<'_> {
    fn dropout(&self, spec: &DropoutSpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        if spec.is_identity() {
            return self.slice(x, 0, x.len());
        }
        let y = self.allocate(DType::F32, x.len())?;
        self.dispatch_pieces(&Kernel::new("dropout/mask", "dropout"), &[x, &y], |first, count| {
            // pieces begin at multiples of 64 elements, which are whole blocks
            let block = first as u64 / 4;
            let params = Mask {
                count: count as u32,
                threshold: spec.threshold,
                scale: spec.scale as f32,
                block_low: block as u32,
                block_high: (block >> 32) as u32,
                seed_low: spec.philox.seed as u32,
                seed_high: (spec.philox.seed >> 32) as u32,
                stream_low: spec.philox.stream as u32,
                stream_high: (spec.philox.stream >> 32) as u32,
                cut: [0; 3],
            };
            // some 300 operations a block
            (params, Grid::elements(count).work(count as u64 * 75))
        })?;
        Ok(y)
    }
}
