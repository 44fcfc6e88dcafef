//! Reading back: copy into memory that the host can map, submit, wait, copy out. The only place where a
//! result's bytes come to the host, and so the last place where a loss can be seen before they are believed.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::buffer::GpuBuffer;
use crate::gpu::context::lock;
use crate::gpu::counters::Counters;
use crate::gpu::pool::class;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes read at a time: bounds the host memory that mapping takes.
const PIECE: u64 = 64 << 20;
/// Host-readable buffers kept for later.
const KEPT: usize = 4;

impl Gpu<'_> {
    /// All of `from`, piece by piece, as the bytes that the device holds.
    pub(super) fn read(&self, from: &GpuBuffer, mut take: impl FnMut(u64, &[u8])) -> Result<()> {
        let total = from.bytes();
        let mut start = 0;
        while start < total {
            let size = (total - start).min(PIECE);
            self.read_piece(from, start, size, |bytes| take(start, bytes))?;
            start += size;
        }
        Ok(())
    }

    fn read_piece(&self, from: &GpuBuffer, start: u64, size: u64, take: impl FnOnce(&[u8])) -> Result<()> {
        let context = &*self.context;
        context.check()?;
        let block = from.block(context)?;
        let reader = self.reader(size)?;
        let submission = {
            let mut recorder = context.recorder();
            recorder.encoder(context)?.copy_buffer_to_buffer(block, from.offset() + start, &reader, 0, size);
            context.submit(&mut recorder)?
        };
        // 0: not yet, 1: mapped, 2: failed
        let state = Arc::new(AtomicU8::new(0));
        let told = state.clone();
        context.guarded("reading back", || {
            reader.map_async(wgpu::MapMode::Read, 0..size, move |outcome| {
                told.store(if outcome.is_ok() { 1 } else { 2 }, Ordering::Release);
            });
        })?;
        if let Some(submission) = submission {
            self.wait(&submission)?;
        }
        context.answered(&|| state.load(Ordering::Acquire) != 0, self.poll)?;
        if state.load(Ordering::Acquire) != 1 {
            context.fault.lose("memory could not be mapped for reading".into());
            return Err(context.check().err().unwrap_or_else(|| Error::internal("the device is not lost")));
        }
        context.guarded("reading back", || match reader.get_mapped_range(0..size) {
            Ok(view) => {
                take(&view);
                Ok(())
            }
            Err(error) => Err(Error::internal(format!("reading back: {error}"))),
        })??;
        context.guarded("reading back", || reader.unmap())?;
        Counters::add(&context.counters.bytes_back, size);
        let mut readers = lock(&context.readers);
        if readers.len() < KEPT {
            readers.push(reader);
        }
        Ok(())
    }

    fn reader(&self, size: u64) -> Result<wgpu::Buffer> {
        let context = &*self.context;
        let size = class(size);
        {
            let mut readers = lock(&context.readers);
            if let Some(at) = readers.iter().position(|r| r.size() == size) {
                return Ok(readers.swap_remove(at));
            }
            // A kept one of another size makes room.
            if readers.len() >= KEPT {
                readers.swap_remove(0);
            }
        }
        let wanted = wgpu::BufferDescriptor {
            label: Some("reader"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        context.guarded("allocating", || context.device.create_buffer(&wanted))
    }
}
