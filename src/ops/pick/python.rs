//! The border of picking by ids.

use super::{Pick, PickSpec};
use crate::backend::Buffer;
use crate::cpu::Cpu;
use crate::device::{Engine, Storage};
use crate::error::{Error, Result};
use crate::on_device;
use crate::python::{Array, Call};
use crate::tensor::{DType, Ids, Layout, Shape, elements};
use pyo3::prelude::*;

/// Of a (rows, bound, width) in each row the blocks that the ids name: (rows, ids, width). -1 gives zeros.
#[pyfunction]
fn take(a: &Bound<'_, PyAny>, ids: &Bound<'_, PyAny>) -> PyResult<Array> {
    let mut call = Call::new(a.py(), "index");
    let (a, ids) = (call.any("a", a)?, call.ids("ids", ids)?);
    let sizes = Sizes::of("take", "a", &a.shape)?;
    let (device, dtype, shape) = (call.device(), a.dtype(), Shape::from([sizes.front, ids.len(), sizes.width]));
    let (a, ids) = (call.here(a)?, call.own_ids(ids)?);
    let y = call.run(sizes.ns(ids.len()), false, |poll| {
        let spec = sizes.spec(dtype, ids.slice()?, poll)?;
        drop(ids);
        on_device!(device, poll, |engine| Ok(engine.put(engine.take(&spec, &engine.get(&a)?)?)))
    })?;
    Ok(call.array(y, shape))
}

/// Zeros (rows, bound, width) with the values (rows, ids, width) added at the ids of every row, in their order; -1 adds
/// none.
#[pyfunction]
fn put_add(values: &Bound<'_, PyAny>, ids: &Bound<'_, PyAny>, bound: usize) -> PyResult<Array> {
    let mut call = Call::new(values.py(), "index");
    let (values, ids) = (call.float("values", values)?, call.ids("ids", ids)?);
    let Sizes { front, bound: picked, width, .. } = Sizes::of("put_add", "values", &values.shape)?;
    if picked != ids.len() {
        let expected = format!("a value for each of {} ids", ids.len());
        return Err(Error::shape("put_add", "values", expected, &values.shape).into());
    }
    let sizes = Sizes { op: "put_add", front, bound, width };
    let (device, dtype, shape) = (call.device(), values.dtype(), Shape::from([front, bound, width]));
    let (values, ids) = (call.here(values)?, call.own_ids(ids)?);
    let x = call.run(sizes.ns(ids.len()).saturating_add(sizes.ns(bound) / 2), false, |poll| {
        let spec = sizes.spec(dtype, ids.slice()?, poll)?;
        drop(ids);
        on_device!(device, poll, |engine| Ok(engine.put(engine.put_add(&spec, &engine.get(&values)?)?)))
    })?;
    Ok(call.array(x, shape))
}

/// Writes the values (rows, ids, width), or a single one, at the ids of every row of into (rows, bound, width), in
/// place: all of them or none. No id comes twice but -1, where nothing is written, unless there is one value.
#[pyfunction]
fn assign_at(into: &Bound<'_, Array>, ids: &Bound<'_, PyAny>, values: &Bound<'_, Array>) -> PyResult<()> {
    let mut call = Call::new(into.py(), "assign");
    let (into, values, ids) = (call.any("into", into)?, call.any("values", values)?, call.ids("ids", ids)?);
    let sizes = Sizes::of("assign_at", "into", &into.shape)?;
    let shape = Shape::from([sizes.front, ids.len(), sizes.width]);
    if values.len() != 1 && values.shape != shape {
        return Err(Error::shape("assign_at", "values", format_args!("{shape}, or one value"), &values.shape).into());
    }
    let (device, dtype) = (call.device(), into.dtype());
    let (into, values, ids) = (call.here(into)?, call.here(values)?, call.own_ids(ids)?);
    call.run(sizes.ns(ids.len()), true, |poll| {
        let spec = sizes.spec(dtype, ids.slice()?, poll)?;
        drop(ids);
        on_device!(device, poll, |engine| engine.assign_at(&spec, &engine.get(&into)?, &engine.get(&values)?))
    })
}

/// The ids, but -1 where the same one comes again: those whose values `assign_at` is to write.
#[pyfunction]
fn last_ids(ids: &Bound<'_, PyAny>, bound: usize) -> PyResult<Array> {
    let call = Call::new(ids.py(), "assign");
    let ids = call.own_ids(call.ids("ids", ids)?)?;
    let shape = Shape::from([ids.len()]);
    let last = call.run(30 * ids.len() as u64, false, |poll| {
        let ids = Ids::new("last_ids", "ids", ids.slice()?, &shape, bound, Some(-1), poll)?;
        let (order, ids) = (ids.by_id(poll)?, ids.as_slice());
        let mut last = Cpu::new(poll).cleared::<i64>(ids.len())?;
        last.copy_from_slice(ids);
        for pair in order.windows(2).filter(|pair| ids[pair[0] as usize] == ids[pair[1] as usize]) {
            last[pair[0] as usize] = -1;
        }
        Ok(Storage::Cpu(last.done()))
    })?;
    Ok(call.array(last, shape))
}

/// Of what ids pick from the axes from .. to of a view (shape, strides, offset) of len elements, seen as one axis: the
/// blocks of `width` elements that lie side by side, as ids of all such blocks of the memory, and width.
#[pyfunction]
fn ids_through(
    ids: &Bound<'_, PyAny>,
    view: (Vec<usize>, Vec<isize>, usize),
    axes: (usize, usize),
    len: usize,
) -> PyResult<(Array, usize)> {
    let call = Call::new(ids.py(), "index");
    let ((shape, strides, offset), (first, last)) = (view, axes);
    let view = Layout::new("ids_through", &shape, &strides, offset, len)?;
    if first >= last || last > shape.len() {
        return Err(Error::internal("ids_through: axes that the view does not have").into());
    }
    let (ids, picked) = (call.own_ids(call.ids("ids", ids)?)?, elements(&shape[first..last])?);
    let ns = (ids.len() as u64).saturating_mul((elements(&shape)? / picked.max(1)) as u64);
    let (made, width) = call.run(ns, false, |poll| {
        let given = Ids::new("ids_through", "ids", ids.slice()?, &[ids.len()], picked, Some(-1), poll)?;
        let (made, width) = Cpu::new(poll).ids_through(&given, &view, first..last, len)?;
        Ok((Storage::Cpu(made.done()), width))
    })?;
    let shape = Shape::from([made.len()]);
    Ok((call.array(made, shape), width))
}

struct Sizes {
    op: &'static str,
    front: usize,
    bound: usize,
    width: usize,
}

impl Sizes {
    fn of(op: &'static str, name: &str, shape: &Shape) -> Result<Sizes> {
        let &[front, bound, width] = &shape[..] else {
            return Err(Error::shape(op, name, "three axes", shape));
        };
        Ok(Sizes { op, front, bound, width })
    }

    /// A guess for `picked` ids.
    fn ns(&self, picked: usize) -> u64 {
        (self.front as u64).saturating_mul(picked as u64).saturating_mul(self.width as u64)
    }

    fn spec(self, dtype: DType, ids: &[i64], poll: crate::cpu::Poll<'_>) -> Result<PickSpec> {
        let ids = Ids::new(self.op, "ids", ids, &[ids.len()], self.bound, Some(-1), poll)?;
        PickSpec::new(dtype, self.front, ids, self.width)
    }
}

/// Adds the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(take, module)?)?;
    module.add_function(wrap_pyfunction!(put_add, module)?)?;
    module.add_function(wrap_pyfunction!(assign_at, module)?)?;
    module.add_function(wrap_pyfunction!(last_ids, module)?)?;
    module.add_function(wrap_pyfunction!(ids_through, module)?)
}
