//! The border of activations.

use super::{Activation, ActivationSpec, Function};
use crate::device::Engine;
use crate::error::{Error, Result};
use crate::on_device;
use crate::python::{Array, Call};
use pyo3::prelude::*;

/// The function, and the names that its errors have.
fn named(function: &str) -> Result<(Function, &'static str, &'static str)> {
    let function = Function::parse(function)?;
    let (forward, backward) = match function {
        Function::Sigmoid => ("sigmoid", "sigmoid_backward"),
        Function::Tanh => ("tanh", "tanh_backward"),
        Function::Relu => ("relu", "relu_backward"),
    };
    Ok((function, forward, backward))
}

/// y = f(x), element by element; function is "sigmoid", "tanh" or "relu". `name` is what errors call x.
#[pyfunction]
#[pyo3(signature = (function, x, name="x"))]
fn activation(function: &str, x: &Bound<'_, PyAny>, name: &str) -> PyResult<Array> {
    let (function, op, _) = named(function)?;
    let mut call = Call::new(x.py(), op);
    let x = call.float(name, x)?;
    let spec = ActivationSpec::new(function, x.dtype(), x.len())?;
    let (device, shape) = (call.device(), x.shape.clone());
    let x = call.here(x)?;
    let y = call.run(spec.len as u64, false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.activation(&spec, &engine.get(&x)?)?)))
    })?;
    Ok(call.array(y, shape))
}

/// dx, from y = f(x) and dy, the gradient of y.
#[pyfunction]
fn activation_backward(function: &str, y: &Bound<'_, PyAny>, dy: &Bound<'_, PyAny>) -> PyResult<Array> {
    let (function, _, name) = named(function)?;
    let mut call = Call::new(y.py(), name);
    let (y, dy) = (call.float("y", y)?, call.float("dy", dy)?);
    if y.shape != dy.shape {
        return Err(Error::shape(name, "dy", &y.shape, &dy.shape).into());
    }
    let spec = ActivationSpec::new(function, y.dtype(), y.len())?;
    let (device, shape) = (call.device(), y.shape.clone());
    let (y, dy) = (call.here(y)?, call.here(dy)?);
    let dx = call.run(spec.len as u64, false, |poll| {
        on_device!(device, poll, |engine| {
            Ok(engine.put(engine.activation_backward(&spec, &engine.get(&y)?, &engine.get(&dy)?)?))
        })
    })?;
    Ok(call.array(dx, shape))
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(activation, module)?)?;
    module.add_function(wrap_pyfunction!(activation_backward, module)?)
}
