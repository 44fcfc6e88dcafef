//! Moving memory: from device to device, and from one element type to another.

use crate::backend::{Backend, Buffer, ImageKind};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh, Poll};
use crate::device::{Device, Engine, Storage};
use crate::error::{Error, Kind, Result};
#[cfg(feature = "gpu")]
use crate::gpu::GpuBuffer;
use crate::on_device;
use crate::tensor::DType;

/// Of ids on a GPU, those that they are: their range is checked here at every use, and nothing has to be read back.
const HOST_IDS: ImageKind = ("ids on the host", 0, [0; 2]);

/// A copy on another device, through this machine's memory where it must be.
pub fn copy_to(device: Device, storage: &Storage, poll: Poll<'_>) -> Result<Storage> {
    let host = match storage {
        Storage::Cpu(buffer) => buffer.clone(),
        #[cfg(feature = "gpu")]
        Storage::Gpu(buffer) => {
            let host = match buffer.stamp().image::<CpuBuffer>(HOST_IDS) {
                Some(ids) => Cpu::new(poll).upload(ids.dtype(), ids.bytes())?,
                None => download(buffer, poll)?,
            };
            if device == Device::Cpu {
                return Ok(Storage::Cpu(host));
            }
            host
        }
    };
    if device != Device::Cpu && host.dtype() == DType::I64 {
        ids_fit(host.slice::<i64>()?)?;
    }
    let made = on_device!(device, poll, |engine| Ok(engine.put(engine.upload(host.dtype(), host.bytes())?)))?;
    if made.device() != Device::Cpu && host.dtype() == DType::I64 {
        made.stamp().packed(HOST_IDS, || Cpu::new(poll).upload(host.dtype(), host.bytes()))?;
    }
    Ok(made)
}

/// Ids in CPU memory that nobody writes to; those that were made on a GPU are read back once.
pub fn host_ids(storage: &Storage, poll: Poll<'_>) -> Result<CpuBuffer> {
    match storage {
        Storage::Cpu(_) => on_cpu(&copy_to(Device::Cpu, storage, poll)?).cloned(),
        #[cfg(feature = "gpu")]
        Storage::Gpu(buffer) => Ok((*buffer.stamp().packed(HOST_IDS, || download(buffer, poll))?).clone()),
    }
}

#[cfg(feature = "gpu")]
fn download(buffer: &GpuBuffer, poll: Poll<'_>) -> Result<CpuBuffer> {
    let host = CpuBuffer::allocate(buffer.dtype(), buffer.len())?;
    let engine = crate::gpu::Gpu::on(buffer.context().clone(), poll);
    // SAFETY: nobody else has a handle on the new memory.
    engine.download(buffer, unsafe { host.bytes_mut() })?;
    Ok(host)
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
        ($from:ty, $to:ty $(, $check:expr)?) => {{
            let from = host.slice::<$from>()?;
            let mut to = Fresh::<$to>::new(from.len())?;
            Cpu::new(poll).pieces(&mut to, PIECE, |start, to| {
                for (t, &f) in to.iter_mut().zip(&from[start..]) {
                    $($check(f64::from(f))?;)?
                    *t = f as $to;
                }
                Ok(())
            })?;
            to.done()
        }};
    }
    Ok(match (host.dtype(), dtype) {
        (DType::F32, DType::F64) => convert!(f32, f64),
        (DType::F64, DType::F32) => convert!(f64, f32),
        (DType::F32, DType::I64) => convert!(f32, i64, integer),
        (DType::F64, DType::I64) => convert!(f64, i64, integer),
        (DType::I64, DType::F32) => convert!(i64, f32),
        (DType::I64, DType::F64) => convert!(i64, f64),
        (DType::F32, DType::F32) | (DType::F64, DType::F64) | (DType::I64, DType::I64) => host.clone(),
    })
}

/// A number whose whole part is an int64; `as` would make 0 of NaN and the largest one of 1e30.
#[inline]
fn integer(number: f64) -> Result<()> {
    // -2^63 is one, 2^63 is none
    if (i64::MIN as f64..-(i64::MIN as f64)).contains(&number) {
        return Ok(());
    }
    let got = if number.is_nan() { "nan".into() } else { format!("{number:e}") };
    Err(Error::found(Kind::Value, "data", "numbers that int64 holds", got))
}

/// Integers have 32 bits on a GPU.
fn ids_fit(ids: &[i64]) -> Result<()> {
    match ids.iter().find(|&&id| i32::try_from(id).is_err()) {
        Some(id) => Err(Error::found(Kind::Value, "data", "integers from -2^31 to 2^31 - 1, on a GPU", id)),
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
