//! A context manager that switches a mode. In Rust, as Python handles Ctrl-C between the instructions of a function of
//! its own: the mode would be switched and the block not entered, or left and the mode not switched back.

use crate::error::{Error, Kind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

/// For a block, gives a context variable a value and remembers what stood before: it holds (value, before). A subclass
/// says in `_switch` which: the variable's get and set, and the value. A step in a block is a few microseconds, so
/// nothing more is looked up.
#[pyclass(frozen, subclass, module = "seqcore._core")]
pub struct Switch {
    get: Py<PyAny>,
    set: Py<PyAny>,
    value: Py<PyAny>,
}

#[pymethods]
impl Switch {
    #[new]
    #[classmethod]
    #[pyo3(signature = (function=None))]
    fn new(class: &Bound<'_, PyType>, function: Option<&Bound<'_, PyAny>>) -> PyResult<Switch> {
        if function.is_some() {
            let name = class.name()?.to_string();
            return Err(Error::argument(Kind::Type, &name, "function", "none", "one")
                .hint(format!("write @{name}() with parentheses"))
                .into());
        }
        let (get, set, value) = class.getattr(intern!(class.py(), "_switch"))?.extract()?;
        Ok(Switch { get, set, value })
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let before = self.get.bind(py).call0()?;
        let now = PyTuple::new(py, [self.value.bind(py), &before])?;
        self.set.bind(py).call1((now,)).map(drop)
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
        let before = self.get.bind(py).call0()?.get_item(1)?;
        self.set.bind(py).call1((before,)).map(drop)
    }
}
