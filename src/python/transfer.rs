//! Moving memory: from device to device, and from one element type to another.

use crate::backend::{Backend, Buffer};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh, Poll};
use crate::device::{Device, Engine, Storage};
use crate::error::{Error, Result};
use crate::on_device;
use crate::tensor::DType;

/// A copy on another device, through this machine's memory where it must be.
pub fn copy_to(device: Device, storage: &Storage, poll: Poll<'_>) -> Result<Storage> {
    let host = match storage {
        Storage::Cpu(buffer) => buffer.clone(),
        #[cfg(feature = "gpu")]
        Storage::Gpu(buffer) => {
            let host = CpuBuffer::allocate(storage.dtype(), storage.len())?;
            let engine = crate::gpu::Gpu::on(buffer.context().clone(), poll);
            // SAFETY: nobody else has a handle on the new memory.
            engine.download(buffer, unsafe { host.bytes_mut() })?;
            if device == Device::Cpu {
                return Ok(Storage::Cpu(host));
            }
            host
        }
    };
    if device != Device::Cpu && host.dtype() == DType::I64 {
        ids_fit(host.slice::<i64>()?)?;
    }
    on_device!(device, poll, |engine| Ok(engine.put(engine.upload(host.dtype(), host.bytes())?)))
}

/// A copy on another device, or the same one, with elements of another type.
pub fn copy_as(device: Device, dtype: DType, storage: &Storage, poll: Poll<'_>) -> Result<Storage> {
    if dtype == storage.dtype() {
        return copy_to(device, storage, poll);
    }
    let host = if storage.device() == Device::Cpu { storage.clone() } else { copy_to(Device::Cpu, storage, poll)? };
    let cast = Storage::Cpu(cast(on_cpu(&host)?, dtype, poll)?);
    if device == Device::Cpu { Ok(cast) } else { copy_to(device, &cast, poll) }
}

fn cast(host: &CpuBuffer, dtype: DType, poll: Poll<'_>) -> Result<CpuBuffer> {
    macro_rules! convert {
        ($from:ty, $to:ty) => {{
            let from = host.slice::<$from>()?;
            let mut to = Fresh::<$to>::new(from.len())?;
            Cpu::new(poll).pieces(&mut to, PIECE, |start, to| {
                to.iter_mut().zip(&from[start..]).for_each(|(t, &f)| *t = f as $to);
                Ok(())
            })?;
            to.done()
        }};
    }
    Ok(match (host.dtype(), dtype) {
        (DType::F32, DType::F64) => convert!(f32, f64),
        (DType::F64, DType::F32) => convert!(f64, f32),
        (DType::F32, DType::I64) => convert!(f32, i64),
        (DType::F64, DType::I64) => convert!(f64, i64),
        (DType::I64, DType::F32) => convert!(i64, f32),
        (DType::I64, DType::F64) => convert!(i64, f64),
        (DType::F32, DType::F32) | (DType::F64, DType::F64) | (DType::I64, DType::I64) => host.clone(),
    })
}

/// Integers have 32 bits on a GPU.
fn ids_fit(ids: &[i64]) -> Result<()> {
    match ids.iter().find(|&&id| i32::try_from(id).is_err()) {
        Some(id) => Err(Error::value("to", "data", "integers from -2^31 to 2^31 - 1, on a GPU", id)),
        None => Ok(()),
    }
}

/// The buffer of memory that is known to lie on the CPU.
pub fn on_cpu(storage: &Storage) -> Result<&CpuBuffer> {
    match storage {
        Storage::Cpu(buffer) => Ok(buffer),
        #[cfg(feature = "gpu")]
        Storage::Gpu(_) => Err(Error::internal("CPU memory was expected")),
    }
}
