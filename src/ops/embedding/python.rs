//! The border of embedding.

use super::EmbeddingSizes;
use crate::backend::Buffer;
use crate::device::Engine;
use crate::on_device;
use crate::ops::pick::Pick;
use crate::python::{Array, Call};
use crate::tensor::Shape;
use pyo3::prelude::*;

/// Rows of weight (vocabulary, features) by their number: (..., features) for ids (...). `name` is what errors call the
/// ids.
#[pyfunction]
#[pyo3(signature = (weight, ids, name="ids"))]
fn embedding(weight: &Bound<'_, PyAny>, ids: &Bound<'_, PyAny>, name: &str) -> PyResult<Array> {
    let mut call = Call::new(weight.py(), "embedding");
    let (weight, ids) = (call.float("weight", weight)?, call.ids(name, ids)?);
    let sizes = EmbeddingSizes::forward(weight.dtype(), &weight.shape, &ids.shape)?;
    let (device, mut shape) = (call.device(), ids.shape.clone());
    let (weight, ids) = (call.here(weight)?, call.own_ids(ids)?);
    shape.0.push(sizes.features);
    let ns = (ids.len() as u64).saturating_mul(5 + sizes.features as u64 / 8);
    let y = call.run(ns, false, |poll| {
        let spec = sizes.with(name, ids.slice()?, poll)?;
        drop(ids);
        on_device!(device, poll, |engine| Ok(engine.put(engine.take(&spec, &engine.get(&weight)?)?)))
    })?;
    Ok(call.array(y, shape))
}

/// dweight (num_embeddings, features) from dy (..., features), the gradient of y = embedding(weight, ids); row
/// padding_idx gets none.
#[pyfunction]
#[pyo3(signature = (dy, ids, num_embeddings, padding_idx=None))]
fn embedding_backward(
    dy: &Bound<'_, PyAny>,
    ids: &Bound<'_, PyAny>,
    num_embeddings: usize,
    padding_idx: Option<usize>,
) -> PyResult<Array> {
    let mut call = Call::new(dy.py(), "embedding_backward");
    let (dy, ids) = (call.float("dy", dy)?, call.ids("ids", ids)?);
    let sizes = EmbeddingSizes::backward(dy.dtype(), &dy.shape, &ids.shape, num_embeddings, padding_idx)?;
    let (device, dy, ids) = (call.device(), call.here(dy)?, call.own_ids(ids)?);
    let shape = Shape::from([sizes.vocabulary, sizes.features]);
    let elements = (dy.len() as u64).saturating_add((sizes.vocabulary as u64).saturating_mul(sizes.features as u64));
    let dw = call.run(elements / 4 + 5 * ids.len() as u64, false, |poll| {
        let spec = sizes.with("ids", ids.slice()?, poll)?;
        drop(ids);
        on_device!(device, poll, |engine| Ok(engine.put(engine.put_add(&spec, &engine.get(&dy)?)?)))
    })?;
    Ok(call.array(dw, shape))
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(embedding, module)?)?;
    module.add_function(wrap_pyfunction!(embedding_backward, module)?)
}
