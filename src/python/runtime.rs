//! What the process as a whole has: its main thread, its devices, its threads.

use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::tensor::DType;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

static MAIN_THREAD: AtomicU64 = AtomicU64::new(0);

fn thread_ident(py: Python<'_>) -> PyResult<u64> {
    PyModule::import(py, "_thread")?.call_method0("get_ident")?.extract()
}

/// Whether signals can arrive on this thread: only the interpreter's main thread runs their handlers.
pub fn is_main_thread(py: Python<'_>) -> bool {
    thread_ident(py).is_ok_and(|id| id == MAIN_THREAD.load(Ordering::Relaxed))
}

/// Reads "cpu", "gpu" or "gpu:N".
pub fn parse_device(text: &str) -> Result<Device> {
    let number = match text {
        "cpu" => return Ok(Device::Cpu),
        "gpu" => Some(0),
        _ => text.strip_prefix("gpu:").and_then(|n| n.parse().ok()),
    };
    number.map(Device::Gpu).ok_or_else(|| {
        Error::value("device", "device", "\"cpu\", \"gpu\", \"gpu:N\" or \"auto\"", format_args!("{text:?}"))
    })
}

/// Reads NumPy's name of an element type.
pub fn parse_dtype(text: &str) -> Result<DType> {
    match text {
        "float32" => Ok(DType::F32),
        "float64" => Ok(DType::F64),
        "int64" => Ok(DType::I64),
        _ => Err(Error::argument(Kind::DType, "dtype", "dtype", "float32, float64 or int64", text)),
    }
}

/// Says that this thread is the main one: at import, and in the child after a fork.
#[pyfunction]
fn remember_main_thread(py: Python<'_>) -> PyResult<()> {
    let ident = PyModule::import(py, "threading")?.call_method0("main_thread")?.getattr("ident")?.extract()?;
    MAIN_THREAD.store(ident, Ordering::Relaxed);
    Ok(())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    remember_main_thread(module.py())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(remember_main_thread, module)?)
}
