//! The border of moving elements.

use super::{CatSpec, Move, StridedSpec};
use crate::device::Engine;
use crate::error::{Error, Result};
use crate::on_device;
use crate::python::{Arg, Array, Call};
use crate::tensor::Shape;
use pyo3::prelude::*;

/// A new array of what a view of a's memory shows; strides and offset in elements.
#[pyfunction]
fn copy_strided(a: &Bound<'_, PyAny>, shape: Vec<usize>, strides: Vec<isize>, offset: usize) -> PyResult<Array> {
    let mut call = Call::new(a.py(), "copy");
    let a = call.any("a", a)?;
    let spec = StridedSpec::copy(a.dtype(), a.len(), &shape, &strides, offset)?;
    let device = call.device();
    let a = call.here(a)?;
    let y = call.run(spec.elements() as u64, false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.copy_strided(&spec, &engine.get(&a)?)?)))
    })?;
    Ok(call.array(y, Shape(shape)))
}

/// Zeros of full_shape with values written through a view that holds no element twice.
#[pyfunction]
fn place_strided(
    values: &Bound<'_, PyAny>,
    full_shape: Vec<usize>,
    strides: Vec<isize>,
    offset: usize,
) -> PyResult<Array> {
    let mut call = Call::new(values.py(), "place");
    let values = call.any("values", values)?;
    let spec = StridedSpec::place(values.dtype(), &full_shape, &values.shape, &strides, offset)?;
    let device = call.device();
    let values = call.here(values)?;
    let y = call.run(spec.len as u64, false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.place_strided(&spec, &engine.get(&values)?)?)))
    })?;
    Ok(call.array(y, Shape(full_shape)))
}

/// Writes values, broadcast to shape, over what a view of into shows, in place: all of them or none. The view holds
/// no element twice.
#[pyfunction]
fn assign_strided(
    into: &Bound<'_, Array>,
    values: &Bound<'_, Array>,
    shape: Vec<usize>,
    strides: Vec<isize>,
    offset: usize,
) -> PyResult<()> {
    let mut call = Call::new(into.py(), "assign");
    let (into, values) = (call.any("into", into)?, call.any("values", values)?);
    if !values.shape.broadcasts_to(&shape) {
        let expected = format!("a shape that broadcasts to {}", Shape(shape));
        return Err(Error::shape("assign_strided", "values", expected, &values.shape).into());
    }
    let spec = StridedSpec::place(into.dtype(), &[into.len()], &shape, &strides, offset)?;
    let (device, from) = (call.device(), values.shape.clone());
    let (into, values) = (call.here(into)?, call.here(values)?);
    call.run(spec.elements() as u64, true, |poll| {
        on_device!(device, poll, |engine| {
            engine.assign_strided(&spec, &engine.get(&into)?, &engine.get(&values)?, &from)
        })
    })
}

/// The arrays one after the other along an axis.
#[pyfunction]
#[pyo3(signature = (arrays, axis=0))]
fn cat(py: Python<'_>, arrays: Vec<Bound<'_, PyAny>>, axis: isize) -> PyResult<Array> {
    let mut call = Call::new(py, "cat");
    let parts = arrays.iter().map(|a| call.any("arrays", a)).collect::<PyResult<Vec<Arg>>>()?;
    let shapes: Vec<&Shape> = parts.iter().map(|part| &part.shape).collect();
    let dtype = parts.first().map_or(crate::tensor::DType::F32, Arg::dtype);
    let spec = CatSpec::new(dtype, &shapes, axis)?;
    let device = call.device();
    let parts = parts.into_iter().map(|part| call.here(part)).collect::<PyResult<Vec<_>>>()?;
    let y = call.run(spec.elements() as u64, false, |poll| {
        on_device!(device, poll, |engine| {
            let parts = parts.iter().map(|part| engine.get(part)).collect::<Result<Vec<_>>>()?;
            Ok(engine.put(engine.cat(&spec, &parts)?))
        })
    })?;
    Ok(call.array(y, spec.shape))
}

/// Adds the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(copy_strided, module)?)?;
    module.add_function(wrap_pyfunction!(place_strided, module)?)?;
    module.add_function(wrap_pyfunction!(assign_strided, module)?)?;
    module.add_function(wrap_pyfunction!(cat, module)?)
}
