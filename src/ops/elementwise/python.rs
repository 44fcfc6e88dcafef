//! The border of elementwise arithmetic.

use super::{Binary, BinarySpec, Elementwise, FillSpec, ScalarSpec, Unary, UnarySpec, WhereSpec};
use crate::device::Engine;
use crate::on_device;
use crate::python::{Array, Call, parse_device, parse_dtype};
use crate::tensor::Shape;
use pyo3::prelude::*;

/// Nanoseconds for `len` elements of a function of this name, on one thread.
fn cost(name: &str, len: usize) -> u64 {
    let each = match name {
        "pow" => 6,
        _ => 1,
    };
    (len as u64).saturating_mul(each)
}

/// f(x), element by element; function is one of neg, exp, log, sqrt, abs, square.
#[pyfunction]
fn unary(function: &str, x: &Bound<'_, PyAny>) -> PyResult<Array> {
    let kind = Unary::parse(function)?;
    let mut call = Call::new(x.py(), kind.name());
    let x = call.float("x", x)?;
    let spec = UnarySpec::new(kind, x.dtype(), x.len())?;
    let (device, shape) = (call.device(), x.shape.clone());
    let x = call.here(x)?;
    let y = call.run(cost(function, spec.len), false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.unary(&spec, &engine.get(&x)?)?)))
    })?;
    Ok(call.array(y, shape))
}

/// f(a, b), element by element; function is one of add, sub, mul, div, pow, maximum, minimum.
#[pyfunction]
fn binary(function: &str, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<Array> {
    let kind = Binary::parse(function)?;
    let mut call = Call::new(a.py(), kind.name());
    let (a, b) = (call.float("a", a)?, call.float("b", b)?);
    let spec = BinarySpec::new(kind, a.dtype(), &a.shape, &b.shape)?;
    let device = call.device();
    let (a, b) = (call.here(a)?, call.here(b)?);
    let y = call.run(cost(function, spec.len()), false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.binary(&spec, &engine.get(&a)?, &engine.get(&b)?)?)))
    })?;
    Ok(call.array(y, spec.shape))
}

/// f(a, value), or f(value, a) when reversed; the number takes the array's dtype.
#[pyfunction]
#[pyo3(signature = (function, a, value, reversed=false))]
fn binary_scalar(function: &str, a: &Bound<'_, PyAny>, value: f64, reversed: bool) -> PyResult<Array> {
    let kind = Binary::parse(function)?;
    let mut call = Call::new(a.py(), kind.name());
    let a = call.float("a", a)?;
    let spec = ScalarSpec::new(kind, a.dtype(), a.len(), value, reversed)?;
    let (device, shape) = (call.device(), a.shape.clone());
    let a = call.here(a)?;
    let y = call.run(cost(function, spec.len), false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.binary_scalar(&spec, &engine.get(&a)?)?)))
    })?;
    Ok(call.array(y, shape))
}

/// a where the condition (an array of bool) holds, else b.
#[pyfunction(name = "where")]
fn select(condition: &Bound<'_, PyAny>, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<Array> {
    let mut call = Call::new(a.py(), "where");
    let condition = call.bools("condition", condition)?;
    let (a, b) = (call.float("a", a)?, call.float("b", b)?);
    let spec = WhereSpec::new(a.dtype(), &condition.shape, &a.shape, &b.shape)?;
    let device = call.device();
    let (condition, a, b) = (condition.read("where")?, call.here(a)?, call.here(b)?);
    let y = call.run(spec.len() as u64, false, |poll| {
        on_device!(device, poll, |engine| {
            Ok(engine.put(engine.select(&spec, &condition, &engine.get(&a)?, &engine.get(&b)?)?))
        })
    })?;
    Ok(call.array(y, spec.shape))
}

/// An array of one value.
#[pyfunction]
fn fill(py: Python<'_>, shape: Vec<usize>, value: f64, dtype: &str, device: &str) -> PyResult<Array> {
    let spec = FillSpec::new(parse_dtype(dtype)?, &shape, value)?;
    let device = parse_device(device)?;
    let y = Call::new(py, "fill")
        .on(device, "device")
        .run(spec.len as u64, false, |poll| on_device!(device, poll, |engine| Ok(engine.put(engine.fill(&spec)?))))?;
    Ok(Array::new(y, Shape(shape)))
}

/// Adds the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(unary, module)?)?;
    module.add_function(wrap_pyfunction!(binary, module)?)?;
    module.add_function(wrap_pyfunction!(binary_scalar, module)?)?;
    module.add_function(wrap_pyfunction!(select, module)?)?;
    module.add_function(wrap_pyfunction!(fill, module)?)
}
