//! A context manager that switches a mode. In Rust, as Python handles Ctrl-C between the instructions of a function of
//! its own: the mode would be switched and the block not entered, or left and the mode not switched back.

use pyo3::intern;
use pyo3::prelude::*;

/// Sets a context variable, which holds (value, what stood before), for a block.
#[pyclass(frozen, subclass, module = "seqcore._core")]
pub struct Switch {
    variable: Py<PyAny>,
    value: bool,
}

#[pymethods]
impl Switch {
    #[new]
    fn new(variable: Py<PyAny>, value: bool) -> Switch {
        Switch { variable, value }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let variable = self.variable.bind(py);
        let before = variable.call_method0(intern!(py, "get"))?;
        variable.call_method1(intern!(py, "set"), ((self.value, before),)).map(drop)
    }

    #[pyo3(signature = (kind, error, traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (kind, error, traceback);
        let variable = self.variable.bind(py);
        let before = variable.call_method0(intern!(py, "get"))?.get_item(1)?;
        variable.call_method1(intern!(py, "set"), (before,)).map(drop)
    }
}
