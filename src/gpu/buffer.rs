//! Handles on device memory: a whole block each, returned to the pool with the last handle.

use crate::backend::{Buffer, Stamp};
use crate::error::{Error, Kind, Result};
use crate::gpu::context::Context;
use crate::tensor::DType;
use std::sync::Arc;

/// Elements at a multiple of which a binding may begin: 256 bytes, the most that a device may ask for.
const ALIGN: usize = 64;

/// A handle on GPU memory, or on a window of it. Elements are 4 bytes there: f32, and i32 for ids (int64 at the
/// border).
#[derive(Clone, Debug)]
pub struct GpuBuffer {
    memory: Arc<Memory>,
    /// first element
    start: usize,
    len: usize,
}

#[derive(Debug)]
struct Memory {
    /// always there until `drop`
    block: Option<wgpu::Buffer>,
    context: Arc<Context>,
    dtype: DType,
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
        let memory = Memory { block: Some(block), context, dtype, stamp: Stamp::default() };
        GpuBuffer { memory: Arc::new(memory), start: 0, len }
    }

    /// Elements `start .. start + len` as a buffer of their own on the same memory, so that a kernel can work on a
    /// tensor that is larger than a binding; and the number at which `start` is found there, because a binding
    /// begins at a multiple of 64 elements. wgpu refuses two windows of one memory in one dispatch where one is
    /// written.
    pub fn window(&self, start: usize, len: usize) -> Result<(GpuBuffer, usize)> {
        let end = start.checked_add(len).filter(|&end| end <= self.len);
        let end = end.ok_or_else(|| Error::internal("a window past the end of GPU memory"))?;
        if len == 0 {
            // Nothing may begin at the very end of a block.
            return Ok((GpuBuffer { memory: self.memory.clone(), start: 0, len: 0 }, 0));
        }
        let rest = (self.start + start) % ALIGN;
        if start < rest {
            return Err(Error::internal("a window of a window that does not begin at a multiple of 64"));
        }
        let start = start - rest;
        Ok((GpuBuffer { memory: self.memory.clone(), start: self.start + start, len: end - start }, rest))
    }

    /// First byte in the block.
    pub(super) fn offset(&self) -> u64 {
        self.start as u64 * 4
    }

    /// The block, for `context`'s use.
    pub(super) fn block(&self, context: &Context) -> Result<&wgpu::Buffer> {
        if !std::ptr::eq(&*self.memory.context, context) {
            self.memory.context.check()?;
            return Err(Error::found(Kind::Device, "device", "tensors on one GPU", "tensors on two"));
        }
        self.memory.block.as_ref().ok_or_else(|| Error::internal("a GPU buffer without memory"))
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.len as u64 * 4
    }

    /// Whether two handles are of one piece of memory.
    pub fn is_same(&self, other: &GpuBuffer) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// The context that it lives in.
    pub fn context(&self) -> &Arc<Context> {
        &self.memory.context
    }
}

impl Buffer for GpuBuffer {
    fn dtype(&self) -> DType {
        self.memory.dtype
    }

    fn len(&self) -> usize {
        self.len
    }

    fn stamp(&self) -> &Stamp {
        &self.memory.stamp
    }
}
