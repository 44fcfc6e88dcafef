//! Which engine a call goes to: the one place that knows both. A tensor's memory is a [`Storage`]; the macro
//! [`on_device!`](crate::on_device) runs one generic body on whichever engine it lies on.

use crate::backend::{Backend, Buffer, Stamp};
use crate::cpu::{Cpu, CpuBuffer};
use crate::error::{Error, Kind, Result};
#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, GpuBuffer};
use crate::tensor::DType;
use std::fmt;

/// Where tensors live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// this machine's processor
    Cpu,
    /// an adapter, by its place in the list of adapters
    Gpu(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu(index) => write!(f, "gpu:{index}"),
        }
    }
}

/// A tensor's memory, on either engine.
#[derive(Clone)]
pub enum Storage {
    /// CPU memory
    Cpu(CpuBuffer),
    /// GPU memory
    #[cfg(feature = "gpu")]
    Gpu(GpuBuffer),
}

impl Storage {
    /// where it lies
    pub fn device(&self) -> Device {
        match self {
            Storage::Cpu(_) => Device::Cpu,
            #[cfg(feature = "gpu")]
            Storage::Gpu(buffer) => Device::Gpu(buffer.context().index()),
        }
    }

    /// element type
    pub fn dtype(&self) -> DType {
        match self {
            Storage::Cpu(buffer) => buffer.dtype(),
            #[cfg(feature = "gpu")]
            Storage::Gpu(buffer) => buffer.dtype(),
        }
    }

    /// number of elements
    pub fn len(&self) -> usize {
        match self {
            Storage::Cpu(buffer) => buffer.len(),
            #[cfg(feature = "gpu")]
            Storage::Gpu(buffer) => buffer.len(),
        }
    }

    /// true when there are no elements
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// identity and version
    pub fn stamp(&self) -> &Stamp {
        match self {
            Storage::Cpu(buffer) => buffer.stamp(),
            #[cfg(feature = "gpu")]
            Storage::Gpu(buffer) => buffer.stamp(),
        }
    }
}

/// A backend whose buffers can be found in, and put into, a [`Storage`].
pub trait Engine: Backend {
    /// The buffer; one of another engine is a `DeviceError` (the border checks before, with the argument's name).
    fn get(&self, storage: &Storage) -> Result<Self::Buffer>;
    /// The buffer as storage.
    fn put(&self, buffer: Self::Buffer) -> Storage;
}

impl Engine for Cpu<'_> {
    fn get(&self, storage: &Storage) -> Result<CpuBuffer> {
        match storage {
            Storage::Cpu(buffer) => Ok(buffer.clone()),
            #[cfg(feature = "gpu")]
            Storage::Gpu(_) => Err(elsewhere(Device::Cpu, storage.device())),
        }
    }

    fn put(&self, buffer: CpuBuffer) -> Storage {
        Storage::Cpu(buffer)
    }
}

#[cfg(feature = "gpu")]
impl Engine for Gpu<'_> {
    fn get(&self, storage: &Storage) -> Result<GpuBuffer> {
        match storage {
            Storage::Gpu(buffer) if buffer.context().index() == self.context().index() => Ok(buffer.clone()),
            _ => Err(elsewhere(Device::Gpu(self.context().index()), storage.device())),
        }
    }

    fn put(&self, buffer: GpuBuffer) -> Storage {
        Storage::Gpu(buffer)
    }
}

#[cfg(feature = "gpu")]
fn elsewhere(expected: Device, got: Device) -> Error {
    Error::found(Kind::Device, "device", format_args!("a tensor on {expected}"), format_args!("one on {got}"))
}

/// What is said where the crate was built without its GPU engine.
pub fn built_without_gpu() -> Error {
    let expected = "the CPU: this build of seqcore has no GPU engine";
    Error::found(Kind::Device, "device", expected, "a GPU").hint("use device=\"cpu\"")
}

/// Runs `body` with `engine` bound to the engine of `device`: one body, compiled once for each.
#[macro_export]
macro_rules! on_device {
    ($device:expr, $poll:expr, |$engine:ident| $body:expr) => {
        match $device {
            $crate::device::Device::Cpu => {
                let $engine = $crate::cpu::Cpu::new($poll);
                $body
            }
            #[cfg(feature = "gpu")]
            $crate::device::Device::Gpu(index) => {
                let $engine = $crate::gpu::Gpu::open(index, $poll)?;
                $body
            }
            #[cfg(not(feature = "gpu"))]
            $crate::device::Device::Gpu(_) => Err($crate::device::built_without_gpu()),
        }
    };
}
