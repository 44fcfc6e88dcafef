//! The CPU workshop: memory, instruction sets, SIMD lanes, tile products, packing, sigmoid/tanh/exp and the
//! thread team. It knows no operation and no Python; `ops/*/cpu.rs` builds kernels from these parts.

mod memory;

pub use memory::{CpuBuffer, Fresh};

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::tensor::{DType, bytes};

/// Asked now and then by long work: `Err` (of kind `Interrupted`) means stop.
pub type Poll<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// The CPU as an engine, for one call.
#[derive(Clone, Copy)]
pub struct Cpu<'a> {
    poll: Poll<'a>,
}

impl<'a> Cpu<'a> {
    /// An engine whose long work asks `poll` every few milliseconds, on the calling thread, outside kernels.
    pub fn new(poll: Poll<'a>) -> Cpu<'a> {
        Cpu { poll }
    }

    /// An engine that nobody interrupts.
    pub fn quiet() -> Cpu<'static> {
        Cpu { poll: &|| Ok(()) }
    }

    /// `Err` when the caller wants the call to end.
    pub fn poll(&self) -> Result<()> {
        (self.poll)()
    }
}

impl Backend for Cpu<'_> {
    type Buffer = CpuBuffer;

    fn allocate(&self, dtype: DType, len: usize) -> Result<CpuBuffer> {
        CpuBuffer::allocate(dtype, len)
    }

    fn zeros(&self, dtype: DType, len: usize) -> Result<CpuBuffer> {
        let buffer = CpuBuffer::allocate(dtype, len)?;
        // SAFETY: nobody else has a handle on the new memory.
        unsafe { buffer.bytes_mut() }.fill(0);
        Ok(buffer)
    }

    fn upload(&self, dtype: DType, data: &[u8]) -> Result<CpuBuffer> {
        let buffer = CpuBuffer::allocate(dtype, data.len() / dtype.size())?;
        // SAFETY: nobody else has a handle on the new memory.
        unsafe { buffer.bytes_mut() }.copy_from_slice(data);
        Ok(buffer)
    }

    fn download(&self, from: &CpuBuffer, into: &mut [u8]) -> Result<()> {
        into.copy_from_slice(from.bytes());
        Ok(())
    }

    fn slice(&self, from: &CpuBuffer, start: usize, len: usize) -> Result<CpuBuffer> {
        let size = from.dtype().size();
        let range = start
            .checked_add(len)
            .filter(|&end| end <= from.len())
            .map(|end| start * size..end * size)
            .ok_or_else(|| Error::internal("slice past the end of a buffer"))?;
        self.upload(from.dtype(), &from.bytes()[range])
    }

    fn concat(&self, parts: &[&CpuBuffer]) -> Result<CpuBuffer> {
        let dtype = parts.first().ok_or_else(|| Error::internal("concat of nothing"))?.dtype();
        let mut len = 0usize;
        for part in parts {
            len = len.checked_add(part.len()).ok_or_else(|| Error::memory("joined buffers"))?;
        }
        let buffer = CpuBuffer::allocate(dtype, len)?;
        // SAFETY: nobody else has a handle on the new memory.
        let mut rest = unsafe { buffer.bytes_mut() };
        for part in parts {
            let (head, tail) = rest.split_at_mut(bytes(&[part.len()], dtype)?);
            head.copy_from_slice(part.bytes());
            rest = tail;
        }
        Ok(buffer)
    }

    fn assign(&self, into: &CpuBuffer, from: &CpuBuffer) -> Result<()> {
        if into.dtype() != from.dtype() || into.len() != from.len() {
            return Err(Error::internal("assign between unequal buffers"));
        }
        // SAFETY: the caller of a mutating operation holds the only right to touch `into` (see `memory.rs`).
        unsafe { into.bytes_mut() }.copy_from_slice(from.bytes());
        into.stamp().bump();
        Ok(())
    }
}
