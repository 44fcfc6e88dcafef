//! Handles on device memory: a whole block each, returned to the pool with the last handle.

use crate::backend::{Buffer, Stamp};
use crate::error::{Error, Kind, Result};
use crate::gpu::context::Context;
use crate::tensor::DType;
use std::sync::Arc;

/// A handle on GPU memory. Elements are 4 bytes there: f32, and i32 for ids (int64 at the border).
#[derive(Clone, Debug)]
pub struct GpuBuffer(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    /// always there until `drop`
    block: Option<wgpu::Buffer>,
    context: Arc<Context>,
    dtype: DType,
    len: usize,
    stamp: Stamp,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.context.give_back(block);
        }
    }
}

impl GpuBuffer {
    pub(super) fn new(context: Arc<Context>, block: wgpu::Buffer, dtype: DType, len: usize) -> GpuBuffer {
        GpuBuffer(Arc::new(Memory { block: Some(block), context, dtype, len, stamp: Stamp::default() }))
    }

    /// The block, for `context`'s use.
    pub(super) fn block(&self, context: &Context) -> Result<&wgpu::Buffer> {
        if !std::ptr::eq(&*self.0.context, context) {
            self.0.context.check()?;
            return Err(Error::plain(Kind::Device, "tensors on two different GPUs in one operation"));
        }
        self.0.block.as_ref().ok_or_else(|| Error::internal("a GPU buffer without memory"))
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.0.len as u64 * 4
    }

    /// Whether two handles are of one piece of memory.
    pub fn is_same(&self, other: &GpuBuffer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The context that it lives in.
    pub fn context(&self) -> &Arc<Context> {
        &self.0.context
    }
}

impl Buffer for GpuBuffer {
    fn dtype(&self) -> DType {
        self.0.dtype
    }

    fn len(&self) -> usize {
        self.0.len
    }

    fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }
}
