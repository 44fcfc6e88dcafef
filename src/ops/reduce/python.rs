//! The border of sums.

use super::{Reduce, SumSpec};
use crate::device::Engine;
use crate::on_device;
use crate::python::{Array, Call};
use pyo3::prelude::*;

/// The sum over axes (all where None).
#[pyfunction]
#[pyo3(signature = (a, axes=None, keepdims=false))]
fn sum(a: &Bound<'_, PyAny>, axes: Option<Vec<isize>>, keepdims: bool) -> PyResult<Array> {
    let mut call = Call::new(a.py(), "sum");
    let a = call.float("a", a)?;
    let spec = SumSpec::new(a.dtype(), &a.shape, axes.as_deref(), keepdims)?;
    let device = call.device();
    let a = call.here(a)?;
    // half a nanosecond a term in memory order, more where it must be copied first
    let ns = spec.terms() as u64 * if spec.order.is_some() { 2 } else { 1 };
    let y = call.run(ns, false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.sum(&spec, &engine.get(&a)?)?)))
    })?;
    Ok(call.array(y, spec.shape))
}

/// Adds the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sum, module)?)
}
