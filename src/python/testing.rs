//! Faults to order, for tests: in no wheel that ships (feature `testing`).

use crate::cpu::{Cpu, CpuBuffer};
use crate::error::Error;
use crate::python::Call;
use crate::tensor::DType;
use pyo3::prelude::*;

/// A panic in a call, on its own thread.
#[pyfunction]
fn panic_in_call(py: Python<'_>) -> PyResult<()> {
    Call::new(py, "panic_in_call").run(u64::MAX, false, |_| -> crate::error::Result<()> { panic!("to order") })
}

/// A panic in a short call, with the interpreter lock held.
#[pyfunction]
fn panic_in_short_call(py: Python<'_>) -> PyResult<()> {
    Call::new(py, "panic_in_short_call").run(0, true, |_| -> crate::error::Result<()> { panic!("to order") })
}

/// A panic in one unit of the thread team's work, by choice not the first.
#[pyfunction]
fn panic_in_worker(py: Python<'_>, unit: usize) -> PyResult<()> {
    Call::new(py, "panic_in_worker").run(u64::MAX, false, |poll| {
        Cpu::new(poll).run(64, |at| {
            std::thread::sleep(std::time::Duration::from_micros(200));
            assert!(at != unit, "to order, in unit {at}");
        })
    })
}

/// A panic in a phase of the team's work.
#[pyfunction]
fn panic_in_phase(py: Python<'_>, phase: usize) -> PyResult<()> {
    Call::new(py, "panic_in_phase").run(u64::MAX, false, |poll| {
        let cpu = Cpu::new(poll);
        cpu.run_phases(cpu.threads(), 8, 16, |at| assert!(at.phase != phase, "to order, in phase {phase}"))
    })
}

/// A panic outside of the work of a call.
#[pyfunction]
fn panic_in_function() {
    panic!("to order")
}

/// Panics when it is read.
struct Panics;

impl FromPyObject<'_, '_> for Panics {
    type Error = PyErr;

    fn extract(_: Borrowed<'_, '_, PyAny>) -> PyResult<Panics> {
        panic!("to order")
    }
}

/// A panic while an argument is read.
#[pyfunction]
fn panic_in_argument(_value: Panics) {}

/// A panic in every kind of method.
#[pyclass(frozen)]
struct Panicking;

#[pymethods]
impl Panicking {
    #[new]
    fn new(panics: bool) -> Panicking {
        assert!(!panics, "to order");
        Panicking
    }

    fn method(&self) {
        panic!("to order")
    }

    #[getter]
    fn getter(&self) -> usize {
        panic!("to order")
    }

    fn __len__(&self) -> usize {
        panic!("to order")
    }

    fn __iter__(&self) -> usize {
        panic!("to order")
    }
}

/// An allocation that no machine has the memory for.
#[pyfunction]
fn failing_allocation(py: Python<'_>) -> PyResult<()> {
    Call::new(py, "failing_allocation").run(u64::MAX, false, |_| {
        CpuBuffer::allocate(DType::F32, 1 << 58)?;
        Err(Error::internal("there was memory"))
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let testing = PyModule::new(py, "testing")?;
    testing.add_function(wrap_pyfunction!(panic_in_call, &testing)?)?;
    testing.add_function(wrap_pyfunction!(panic_in_short_call, &testing)?)?;
    testing.add_function(wrap_pyfunction!(panic_in_worker, &testing)?)?;
    testing.add_function(wrap_pyfunction!(panic_in_phase, &testing)?)?;
    testing.add_function(wrap_pyfunction!(failing_allocation, &testing)?)?;
    testing.add_function(wrap_pyfunction!(panic_in_function, &testing)?)?;
    testing.add_function(wrap_pyfunction!(panic_in_argument, &testing)?)?;
    testing.add_class::<Panicking>()?;
    module.add_submodule(&testing)
}
