//! The exception classes, made here so that Rust and Python raise the same ones, and the way from
//! [`Error`](crate::error::Error) to them.

use crate::error::{Error, Kind};
use pyo3::exceptions::{
    PyException, PyIndexError, PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple, PyType};

struct Classes {
    base: Py<PyType>,
    shape: Py<PyType>,
    dtype: Py<PyType>,
    device: Py<PyType>,
    device_lost: Py<PyType>,
    checkpoint: Py<PyType>,
    internal: Py<PyType>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn class(py: Python<'_>, name: &str, doc: &str, bases: &[Bound<'_, PyAny>]) -> PyResult<Py<PyType>> {
    let body = PyDict::new(py);
    body.set_item("__module__", "seqcore.errors")?;
    body.set_item("__doc__", doc)?;
    let made = py.get_type::<PyType>().call1((name, PyTuple::new(py, bases)?, body))?;
    Ok(made.cast_into::<PyType>().map_err(PyErr::from)?.unbind())
}

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    CLASSES.get_or_try_init(py, || {
        let exception = py.get_type::<PyException>().into_any();
        let base = class(py, "SeqcoreError", "Base of every exception that is seqcore's own.", &[exception])?;
        let derive = |name: &str, doc: &str, standard: Bound<'_, PyType>| {
            class(py, name, doc, &[base.bind(py).clone().into_any(), standard.into_any()])
        };
        let device = derive("DeviceError", "A wrong, absent or failing device.", py.get_type::<PyRuntimeError>())?;
        let lost = "The device has gone; tensors on it are lost, those on the CPU are not.";
        Ok(Classes {
            shape: derive("ShapeError", "An array of the wrong rank or size.", py.get_type::<PyValueError>())?,
            dtype: derive("DTypeError", "An array of the wrong element type.", py.get_type::<PyTypeError>())?,
            device_lost: class(py, "DeviceLostError", lost, &[device.bind(py).clone().into_any()])?,
            device,
            checkpoint: derive(
                "CheckpointError",
                "A file that is no whole, known checkpoint.",
                py.get_type::<PyValueError>(),
            )?,
            internal: derive(
                "InternalError",
                "A mistake in seqcore; please report it.",
                py.get_type::<PyRuntimeError>(),
            )?,
            base,
        })
    })
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        Python::attach(|py| {
            let text = error.to_string();
            let classes = match classes(py) {
                Ok(classes) => classes,
                Err(e) => return e,
            };
            let own = |class: &Py<PyType>| PyErr::from_type(class.bind(py).clone(), text.clone());
            match error.kind {
                Kind::Shape => own(&classes.shape),
                Kind::DType => own(&classes.dtype),
                Kind::Device => own(&classes.device),
                Kind::DeviceLost => own(&classes.device_lost),
                Kind::Internal => own(&classes.internal),
                Kind::Index => PyIndexError::new_err(text),
                Kind::Value => PyValueError::new_err(text),
                Kind::Type => PyTypeError::new_err(text),
                Kind::Memory => PyMemoryError::new_err(text),
                Kind::State => PyRuntimeError::new_err(text),
                Kind::Interrupted => PyKeyboardInterrupt::new_err(text),
            }
        })
    }
}

/// Makes an `InternalError` of every panic that reaches pyo3, wherever it began: in a function, a method, or while an
/// argument is read. pyo3 would raise its PanicException, which `except Exception` does not catch; but it is Python
/// that makes the exception, by calling the class, and the class may answer with another one. So no entry has to guard
/// itself, and none can forget to.
fn guard_every_entry(py: Python<'_>) -> PyResult<()> {
    let make = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<Py<PyAny>> {
        let text = args.get_item(1).map_or_else(|_| "no message".into(), |text| text.to_string());
        Ok(PyErr::from(Error::panicked(&text)).into_value(args.py()).into_any())
    };
    py.get_type::<PanicException>().setattr("__new__", PyCFunction::new_closure(py, Some(c"__new__"), None, make)?)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let c = classes(py)?;
    guard_every_entry(py)?;
    for class in [&c.base, &c.shape, &c.dtype, &c.device, &c.device_lost, &c.checkpoint, &c.internal] {
        module.add(class.bind(py).name()?, class.bind(py))?;
    }
    Ok(())
}
