//! The border of losses.

use super::{CrossEntropySizes, Loss, Reduction};
use crate::device::Engine;
use crate::on_device;
use crate::python::{Array, Call};
use pyo3::prelude::*;

/// (loss, gradient): the cross-entropy of logits (N, C) against class ids (N,), with loss 0-d or, for reduction
/// "none", (N,). The gradient (N, C), None unless it is needed, is that of the reduced loss, or of each row's own.
#[pyfunction]
fn cross_entropy(
    logits: &Bound<'_, PyAny>,
    targets: &Bound<'_, PyAny>,
    ignore_index: i64,
    reduction: &str,
    need_grad: bool,
) -> PyResult<(Array, Option<Array>)> {
    let mut call = Call::new(logits.py(), "cross_entropy");
    let (logits, targets) = (call.float("input", logits)?, call.ids("target", targets)?);
    let reduction = Reduction::parse("cross_entropy", reduction)?;
    let sizes = CrossEntropySizes::new(logits.dtype(), &logits.shape, &targets.shape)?;
    let (device, shape) = (call.device(), logits.shape.clone());
    let (logits, targets) = (call.here(logits)?, call.own_ids(targets)?);
    // measured: 0.55 ns an element of f32
    let ns = (logits.len() as u64).saturating_mul(if sizes.dtype.size() == 4 { 1 } else { 20 });
    let (loss, gradient, loss_shape) = call.run(ns, false, |poll| {
        let spec = sizes.with(targets.slice()?, ignore_index, reduction, need_grad, poll)?;
        drop(targets);
        on_device!(device, poll, |engine| {
            let made = engine.cross_entropy(&spec, &engine.get(&logits)?)?;
            Ok((engine.put(made.loss), made.gradient.map(|g| engine.put(g)), spec.loss()))
        })
    })?;
    Ok((call.array(loss, loss_shape), gradient.map(|g| call.array(g, shape))))
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cross_entropy, module)?)
}
