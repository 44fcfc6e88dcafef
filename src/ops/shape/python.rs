//! The border of moving elements.

use super::{CatSpec, IdsSpec, Move, StridedSpec};
use crate::backend::Buffer;
use crate::device::Engine;
use crate::error::{Error, Result};
use crate::on_device;
use crate::python::{Arg, Array, Call};
use crate::tensor::{Shape, elements};
use pyo3::prelude::*;

/// A new array of what a view of a's memory shows; strides and offset in elements.
#[pyfunction]
fn copy_strided(a: &Bound<'_, PyAny>, shape: Vec<usize>, strides: Vec<isize>, offset: usize) -> PyResult<Array> {
    let mut call = Call::new(a.py(), "copy_strided");
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
    let mut call = Call::new(values.py(), "place_strided");
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
    let mut call = Call::new(into.py(), "assign_strided");
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

/// a, as so many equal rows, at the ids of every row; as many as shape has elements.
#[pyfunction]
#[pyo3(signature = (a, flat_ids, shape, rows=1))]
fn take(a: &Bound<'_, PyAny>, flat_ids: &Bound<'_, PyAny>, shape: Vec<usize>, rows: usize) -> PyResult<Array> {
    let mut call = Call::new(a.py(), "take");
    let (a, ids) = (call.any("a", a)?, call.ids("flat_ids", flat_ids)?);
    let width = row("take", a.len(), rows)?;
    if Some(elements(&shape)?) != rows.checked_mul(ids.len()) {
        let expected = format!("a shape of {rows} rows of {} elements", ids.len());
        return Err(Error::shape("take", "shape", expected, Shape(shape)).into());
    }
    let (device, dtype) = (call.device(), a.dtype());
    let (a, ids) = (call.here(a)?, call.own_ids(ids)?);
    let picked = (rows as u64).saturating_mul(ids.len() as u64);
    let y = call.run(picked.saturating_mul(2), false, |poll| {
        let spec = IdsSpec::new("take", dtype, rows, width, ids.slice()?, poll)?;
        drop(ids);
        on_device!(device, poll, |engine| Ok(engine.put(engine.take(&spec, &engine.get(&a)?)?)))
    })?;
    Ok(call.array(y, Shape(shape)))
}

/// Zeros of full_shape, as so many equal rows, with the values added at the ids of every row, in their order.
#[pyfunction]
#[pyo3(signature = (values, flat_ids, full_shape, rows=1))]
fn put_add(
    values: &Bound<'_, PyAny>,
    flat_ids: &Bound<'_, PyAny>,
    full_shape: Vec<usize>,
    rows: usize,
) -> PyResult<Array> {
    let mut call = Call::new(values.py(), "put_add");
    let (values, ids) = (call.float("values", values)?, call.ids("flat_ids", flat_ids)?);
    let width = row("put_add", elements(&full_shape)?, rows)?;
    if Some(values.len()) != rows.checked_mul(ids.len()) {
        let expected = format!("{rows} rows of {} values, one for each id", ids.len());
        return Err(Error::shape("put_add", "values", expected, &values.shape).into());
    }
    let (device, dtype) = (call.device(), values.dtype());
    let (values, ids) = (call.here(values)?, call.own_ids(ids)?);
    let ns = (values.len() as u64).saturating_mul(3).saturating_add((rows as u64).saturating_mul(width as u64));
    let y = call.run(ns, false, |poll| {
        let spec = IdsSpec::new("put_add", dtype, rows, width, ids.slice()?, poll)?;
        drop(ids);
        on_device!(device, poll, |engine| Ok(engine.put(engine.put_add(&spec, &engine.get(&values)?)?)))
    })?;
    Ok(call.array(y, Shape(full_shape)))
}

/// Elements in each of `rows` equal rows of `len` elements.
fn row(op: &str, len: usize, rows: usize) -> Result<usize> {
    let width = len.checked_div(rows).unwrap_or(0);
    if width.checked_mul(rows) != Some(len) {
        return Err(Error::value(op, "rows", format!("a divisor of {len}"), rows));
    }
    Ok(width)
}

/// Adds the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(copy_strided, module)?)?;
    module.add_function(wrap_pyfunction!(place_strided, module)?)?;
    module.add_function(wrap_pyfunction!(assign_strided, module)?)?;
    module.add_function(wrap_pyfunction!(cat, module)?)?;
    module.add_function(wrap_pyfunction!(take, module)?)?;
    module.add_function(wrap_pyfunction!(put_add, module)?)
}
