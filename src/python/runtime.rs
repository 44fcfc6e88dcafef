//! What the process as a whole has: its main thread, its devices, its threads.

use crate::cpu;
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::python::gate;
use crate::tensor::DType;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static MAIN_THREAD: AtomicU64 = AtomicU64::new(0);
/// The process that noted it.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Whether signals can arrive on this thread: only the interpreter's main thread runs their handlers.
pub fn is_main_thread(_py: Python<'_>) -> bool {
    // SAFETY: asks the operating system; needs nothing.
    let ident = unsafe { pyo3::ffi::PyThread_get_thread_ident() };
    ident as u64 == MAIN_THREAD.load(Ordering::Relaxed)
}

/// Set when the interpreter begins to end.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Threads that are on their way from a call back into the interpreter.
static RETURNING: AtomicUsize = AtomicUsize::new(0);

/// Before a thread that is not the main one takes the interpreter's lock again. An interpreter that ends kills
/// whoever asks for its lock, by unwinding that crosses Rust's frames and crashes: there the thread stays here, and
/// ends with the process.
pub fn before_return() {
    RETURNING.fetch_add(1, Ordering::SeqCst);
    if ENDING.load(Ordering::SeqCst) {
        RETURNING.fetch_sub(1, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }
}

/// Once it has the lock.
pub fn after_return() {
    RETURNING.fetch_sub(1, Ordering::SeqCst);
}

/// Called as the interpreter ends (by `atexit`): calls of other threads may still be running.
#[pyfunction]
fn interpreter_ends(py: Python<'_>) {
    // SAFETY: asks for the id of the interpreter that this thread is attached to.
    if unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) } != 0 {
        return; // a sub-interpreter: the process goes on
    }
    ENDING.store(true, Ordering::SeqCst);
    py.detach(|| {
        let began = Instant::now();
        while RETURNING.load(Ordering::SeqCst) > 0 && began.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_micros(100));
        }
    });
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

/// Notes which thread is the main one: at import, and in the child after a fork, where nobody is inside a call.
#[pyfunction]
fn remember_main_thread(py: Python<'_>) -> PyResult<()> {
    let process = std::process::id();
    let known = PROCESS.swap(process, Ordering::Relaxed);
    // an import into a sub-interpreter does not change which thread gets signals
    if known != process {
        let ident = PyModule::import(py, "threading")?.call_method0("main_thread")?.getattr("ident")?.extract()?;
        MAIN_THREAD.store(ident, Ordering::Relaxed);
        // threads that this process does not have are not on their way
        RETURNING.store(0, Ordering::SeqCst);
    }
    if known != process && known != 0 {
        gate::forget();
    }
    Ok(())
}

/// How many threads a call may use.
#[pyfunction]
fn num_threads() -> usize {
    cpu::num_threads()
}

/// Says how many threads a call may use.
#[pyfunction]
fn set_num_threads(n: &Bound<'_, PyAny>) -> PyResult<()> {
    // Python's integers have no end
    let n = n.extract().map_err(|_| cpu::wrong_num_threads(n))?;
    Ok(cpu::set_num_threads(n)?)
}

/// The kernel path in use, all that this CPU has, and the threads.
#[pyfunction]
fn cpu_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    // whoever asks wants to know what is wrong, too
    info.set_item("isa", cpu::isa().map_or_else(|e| e.to_string(), |isa| isa.name().into()))?;
    info.set_item("features", cpu::Isa::available().into_iter().map(cpu::Isa::name).collect::<Vec<_>>())?;
    info.set_item("threads", cpu::num_threads())?;
    Ok(info)
}

/// The devices of this machine, as dicts: the CPU, then the adapters that "gpu:0", "gpu:1", … name. None is opened.
/// In a child of the process that opened the GPU there is the CPU alone.
#[pyfunction]
fn devices(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let processor = PyDict::new(py);
    processor.set_item("device", "cpu")?;
    processor.set_item("type", "cpu")?;
    #[allow(unused_mut)]
    let mut all = vec![processor];
    #[cfg(feature = "gpu")]
    for (index, adapter) in py.detach(crate::gpu::usable_adapters).map_err(|e| e.of("devices"))?.into_iter().enumerate()
    {
        let info = PyDict::new(py);
        info.set_item("device", format!("gpu:{index}"))?;
        info.set_item("type", adapter.kind)?;
        info.set_item("hardware", !adapter.is_software)?;
        info.set_item("name", adapter.name)?;
        info.set_item("backend", adapter.backend)?;
        info.set_item("driver", adapter.driver)?;
        info.set_item("driver_info", adapter.driver_info)?;
        all.push(info);
    }
    Ok(all)
}

/// What was sent to all GPUs since the last call.
#[pyfunction]
fn gpu_counters(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    #[cfg(feature = "gpu")]
    let (dispatches, submits, bytes_up, bytes_back) = {
        let counts = crate::gpu::take_counts().map_err(|e| e.of("gpu_counters"))?;
        (counts.dispatches, counts.submits, counts.bytes_up, counts.bytes_back)
    };
    #[cfg(not(feature = "gpu"))]
    let (dispatches, submits, bytes_up, bytes_back) = (0u64, 0u64, 0u64, 0u64);
    let counts = PyDict::new(py);
    counts.set_item("dispatches", dispatches)?;
    counts.set_item("submits", submits)?;
    counts.set_item("bytes_up", bytes_up)?;
    counts.set_item("bytes_back", bytes_back)?;
    Ok(counts)
}

/// The embedded shaders: name to (source, manifest as JSON).
#[pyfunction]
fn shaders(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    #[cfg(feature = "gpu")]
    for shader in crate::gpu::shaders()? {
        all.set_item(shader.name, (shader.source, shader.manifest()))?;
    }
    Ok(all)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    remember_main_thread(module.py())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(set_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(cpu_info, module)?)?;
    module.add_function(wrap_pyfunction!(devices, module)?)?;
    module.add_function(wrap_pyfunction!(gpu_counters, module)?)?;
    module.add_function(wrap_pyfunction!(shaders, module)?)?;
    module.add_function(wrap_pyfunction!(interpreter_ends, module)?)?;
    module.add_function(wrap_pyfunction!(remember_main_thread, module)?)
}
