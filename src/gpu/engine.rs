//! The GPU as an engine: memory. Elements are 4 bytes on the device; int64 is kept as i32 there, float64 does
//! not exist.

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Kind, Result};
use crate::gpu::Gpu;
use crate::gpu::buffer::GpuBuffer;
use crate::tensor::DType;

impl Gpu<'_> {
    fn memory(&self, dtype: DType, len: usize, for_host: bool) -> Result<GpuBuffer> {
        if dtype == DType::F64 {
            return Err(Error::found(Kind::DType, "dtype", "float32, on a GPU", "float64")
                .hint("compute on the CPU, or convert to float32"));
        }
        let bytes = u64::try_from(len).ok().and_then(|n| n.checked_mul(4));
        let bytes = bytes.ok_or_else(|| Error::memory(format_args!("{len} elements of {dtype}")))?;
        // 16 bytes more than the elements: a binding is a multiple of 16.
        let block = self.context.block(bytes.saturating_add(15) & !15, for_host)?;
        Ok(GpuBuffer::new(self.context.clone(), block, dtype, len))
    }

    /// Fills new memory with NaN bits, where the tests want that.
    fn poisoned(&self, buffer: GpuBuffer) -> Result<GpuBuffer> {
        if !self.context.is_poisoned() || buffer.is_empty() {
            return Ok(buffer);
        }
        let piece = vec![0xff_u8; (buffer.bytes() as usize).min(1 << 20)];
        let source = self.memory(DType::F32, piece.len() / 4, true)?;
        self.context.write(source.block(&self.context)?, &piece)?;
        let mut start = 0;
        while start < buffer.bytes() {
            let size = source.bytes().min(buffer.bytes() - start);
            self.copy(&source, 0, &buffer, start, size)?;
            start += size;
        }
        Ok(buffer)
    }

    /// Records a copy of `size` bytes.
    fn copy(&self, from: &GpuBuffer, at: u64, into: &GpuBuffer, to: u64, size: u64) -> Result<()> {
        let context = &*self.context;
        context.check()?;
        if size == 0 {
            return Ok(());
        }
        let end = |start: u64| start.checked_add(size);
        if end(at).is_none_or(|e| e > from.bytes()) || end(to).is_none_or(|e| e > into.bytes()) || from.is_same(into) {
            return Err(Error::internal("a copy past the end of GPU memory"));
        }
        let (source, target) = (from.block(context)?, into.block(context)?);
        context.recorder().encoder(context)?.copy_buffer_to_buffer(
            source,
            from.offset() + at,
            target,
            into.offset() + to,
            size,
        );
        self.moved(size)
    }

    /// Records a copy of `len` elements of `from`, from number `at`, over those of `into` from number `to`.
    pub fn copy_elements(&self, from: &GpuBuffer, at: usize, into: &GpuBuffer, to: usize, len: usize) -> Result<()> {
        let bytes = |n: usize| u64::try_from(n).ok().and_then(|n| n.checked_mul(4));
        match (bytes(at), bytes(to), bytes(len)) {
            (Some(at), Some(to), Some(len)) => self.copy(from, at, into, to, len),
            _ => Err(Error::internal("a copy past the end of GPU memory")),
        }
    }
}

impl Backend for Gpu<'_> {
    type Buffer = GpuBuffer;

    fn allocate(&self, dtype: DType, len: usize) -> Result<GpuBuffer> {
        self.poisoned(self.memory(dtype, len, false)?)
    }

    fn zeros(&self, dtype: DType, len: usize) -> Result<GpuBuffer> {
        let buffer = self.memory(dtype, len, false)?;
        if !buffer.is_empty() {
            let block = buffer.block(&self.context)?;
            self.context.recorder().encoder(&self.context)?.clear_buffer(block, buffer.offset(), Some(buffer.bytes()));
            self.moved(buffer.bytes())?;
        }
        Ok(buffer)
    }

    fn upload(&self, dtype: DType, data: &[u8]) -> Result<GpuBuffer> {
        let buffer = self.memory(dtype, data.len() / dtype.size(), true)?;
        let block = buffer.block(&self.context)?;
        if dtype == DType::I64 {
            let mut narrow = Vec::new();
            narrow
                .try_reserve_exact(buffer.len() * 4)
                .map_err(|_| Error::memory(format_args!("{} ids", buffer.len())))?;
            for id in data.chunks_exact(8) {
                // Little-endian hosts only, as every GPU: the low half comes first. Callers have checked the range.
                narrow.extend_from_slice(&id[..4]);
            }
            self.context.write(block, &narrow)?;
        } else {
            self.context.write(block, data)?;
        }
        self.throttle()?;
        Ok(buffer)
    }

    fn download(&self, from: &GpuBuffer, into: &mut [u8]) -> Result<()> {
        if into.len() != from.len() * from.dtype().size() {
            return Err(Error::internal("a download of a wrong size"));
        }
        self.context.check()?;
        if from.dtype() == DType::I64 {
            return self.read(from, |start, bytes| {
                let target = into.chunks_exact_mut(8).skip(start as usize / 4);
                for (wide, narrow) in target.zip(bytes.chunks_exact(4)) {
                    let sign = if narrow[3] & 0x80 == 0 { 0 } else { 0xff };
                    wide[..4].copy_from_slice(narrow);
                    wide[4..].fill(sign);
                }
            });
        }
        self.read(from, |start, bytes| {
            if let Some(target) = into.get_mut(start as usize..start as usize + bytes.len()) {
                target.copy_from_slice(bytes);
            }
        })
    }

    fn slice(&self, from: &GpuBuffer, start: usize, len: usize) -> Result<GpuBuffer> {
        if start.checked_add(len).is_none_or(|end| end > from.len()) {
            return Err(Error::internal("slice past the end of a buffer"));
        }
        let buffer = self.memory(from.dtype(), len, false)?;
        self.copy_elements(from, start, &buffer, 0, len)?;
        Ok(buffer)
    }

    fn concat(&self, parts: &[&GpuBuffer]) -> Result<GpuBuffer> {
        let dtype = parts.first().ok_or_else(|| Error::internal("concat of nothing"))?.dtype();
        let mut len = 0usize;
        for part in parts {
            len = len.checked_add(part.len()).ok_or_else(|| Error::memory("joined buffers"))?;
        }
        let buffer = self.memory(dtype, len, false)?;
        let mut start = 0;
        for part in parts {
            self.copy_elements(part, 0, &buffer, start, part.len())?;
            start += part.len();
        }
        Ok(buffer)
    }

    fn assign(&self, into: &GpuBuffer, from: &GpuBuffer) -> Result<()> {
        if into.dtype() != from.dtype() || into.len() != from.len() {
            return Err(Error::internal("assign between unequal buffers"));
        }
        if !into.is_same(from) {
            self.quietly()?.copy_elements(from, 0, into, 0, from.len())?;
        }
        into.stamp().bump();
        Ok(())
    }
}
