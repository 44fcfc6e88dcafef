//! The border of optimizer steps: lists of tensors, changed in place.

use super::{AdamItem, AdamSpec, Checked, ClipSpec, Optim, SgdItem, SgdSpec, distinct};
use crate::device::{Device, Engine, Storage};
use crate::error::{Error, Kind, Result};
use crate::on_device;
use crate::python::{Array, Call};
use crate::tensor::{Shape, list};
use pyo3::prelude::*;

/// A tensor of ours, as parameters, gradients and buffers must be: an `Array`, or a `Tensor` that has one.
struct Ours {
    storage: Storage,
    shape: Shape,
}

impl Ours {
    fn take(op: &str, argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Ours> {
        let inner = value.getattr_opt("_array")?;
        let array = inner.as_ref().unwrap_or(value).cast_exact::<Array>().map_err(|_| {
            let got = value.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string());
            Error::argument(Kind::Type, op, argument, "tensors of seqcore, which can be changed in place", got)
        })?;
        Ok(Ours { storage: array.get().storage().clone(), shape: array.get().shape_ref().clone() })
    }

    /// Of the shape, dtype and device of `param`.
    fn like(op: &str, argument: &str, value: &Bound<'_, PyAny>, param: &Ours) -> PyResult<Storage> {
        let ours = Ours::take(op, argument, value)?;
        if ours.shape != param.shape {
            return Err(
                Error::shape(op, argument, format_args!("{}, as its parameter", param.shape), &ours.shape).into()
            );
        }
        let (dtype, device) = (param.storage.dtype(), param.storage.device());
        let moved =
            |error: Error| error.hint("optimizer.load_state_dict(optimizer.state_dict()) moves what it remembers");
        if ours.storage.dtype() != dtype {
            let what = format!("{dtype}, as its parameter");
            return Err(moved(Error::dtype(op, argument, what, ours.storage.dtype())).into());
        }
        if ours.storage.device() != device {
            let got = format!("one on {}", ours.storage.device());
            let what = format!("a tensor on {device}, as its parameter");
            return Err(moved(Error::argument(Kind::Device, op, argument, what, got)).into());
        }
        Ok(ours.storage)
    }
}

/// As many as there are parameters.
fn check_count(op: &str, argument: &str, params: usize, count: usize) -> Result<()> {
    if count != params {
        return Err(Error::value(op, argument, format_args!("one for each of {params} parameters"), count));
    }
    Ok(())
}

/// The one device that all are on; the CPU when there are none.
fn common_device(op: &str, argument: &str, all: &[Ours]) -> Result<Device> {
    let Some(first) = all.first() else { return Ok(Device::Cpu) };
    let device = first.storage.device();
    match all.iter().find(|ours| ours.storage.device() != device) {
        None => Ok(device),
        Some(other) => {
            let what = format!("tensors on one device, {device} as the first");
            let got = format!("one on {}", other.storage.device());
            Err(Error::argument(Kind::Device, op, argument, what, got))
        }
    }
}

fn params(op: &str, argument: &str, values: &[Bound<'_, PyAny>]) -> PyResult<(Vec<Ours>, Device)> {
    let mut all = list(values.len(), argument)?;
    for value in values {
        all.push(Ours::take(op, argument, value)?);
    }
    let device = common_device(op, argument, &all)?;
    Ok((all, device))
}

/// So many nanoseconds for four elements, and some for each tensor.
fn estimate(all: &[Ours], of_four: u64) -> u64 {
    all.iter().fold(0u64, |sum, ours| sum.saturating_add(100 + ours.storage.len() as u64 / 4 * of_four))
}

/// One step of SGD on all params, in place on them and on their momentum buffers; `first` says which buffers have no
/// value yet.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn sgd_step(
    py: Python<'_>,
    params: Vec<Bound<'_, PyAny>>,
    grads: Vec<Bound<'_, PyAny>>,
    buffers: Vec<Option<Bound<'_, PyAny>>>,
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
    maximize: bool,
    first: Vec<bool>,
) -> PyResult<()> {
    let op = "sgd";
    let spec = SgdSpec { lr, momentum, dampening, weight_decay, nesterov, maximize }.new()?;
    let (params, device) = self::params(op, "params", &params)?;
    for (argument, count) in [("grads", grads.len()), ("buffers", buffers.len()), ("first", first.len())] {
        check_count(op, argument, params.len(), count)?;
    }
    let mut items = list(params.len(), "parameters")?;
    for (((param, grad), buffer), first) in params.iter().zip(&grads).zip(&buffers).zip(first) {
        items.push(SgdItem {
            param: param.storage.clone(),
            grad: Ours::like(op, "grads", grad, param)?,
            buffer: buffer.as_ref().map(|b| Ours::like(op, "buffers", b, param)).transpose()?,
            first,
        });
    }
    // measured: 0.14 ns an element in cache, several times that from memory
    Call::new(py, op).on(device, "params").run(estimate(&params, 1), true, |poll| {
        on_device!(device, poll, |engine| {
            let mut here = list(items.len(), "parameters")?;
            for item in &items {
                here.push(SgdItem {
                    param: engine.get(&item.param)?,
                    grad: engine.get(&item.grad)?,
                    buffer: item.buffer.as_ref().map(|b| engine.get(b)).transpose()?,
                    first: item.first,
                });
            }
            engine.sgd_step(&spec, &Checked::sgd(&spec, here)?)
        })
    })
}

/// One step of Adam (AdamW with `decoupled`) on all params, in place on them, m, v and, for AMSGrad, vmax; `steps`
/// counts this step.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn adam_step(
    py: Python<'_>,
    params: Vec<Bound<'_, PyAny>>,
    grads: Vec<Bound<'_, PyAny>>,
    m: Vec<Bound<'_, PyAny>>,
    v: Vec<Bound<'_, PyAny>>,
    vmax: Option<Vec<Bound<'_, PyAny>>>,
    steps: Vec<u64>,
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    maximize: bool,
) -> PyResult<()> {
    let op = "adam";
    let spec = AdamSpec { lr, beta1, beta2, eps, weight_decay, decoupled, maximize }.new()?;
    let (params, device) = self::params(op, "params", &params)?;
    let largest = vmax.as_ref().map_or(params.len(), Vec::len);
    let counts = [("grads", grads.len()), ("m", m.len()), ("v", v.len()), ("vmax", largest), ("steps", steps.len())];
    for (argument, count) in counts {
        check_count(op, argument, params.len(), count)?;
    }
    let mut items = list(params.len(), "parameters")?;
    for (i, param) in params.iter().enumerate() {
        items.push(AdamItem {
            param: param.storage.clone(),
            grad: Ours::like(op, "grads", &grads[i], param)?,
            mean: Ours::like(op, "exp_avg", &m[i], param)?,
            square: Ours::like(op, "exp_avg_sq", &v[i], param)?,
            largest: vmax.as_ref().map(|vmax| Ours::like(op, "max_exp_avg_sq", &vmax[i], param)).transpose()?,
            step: steps[i],
        });
    }
    // measured: 0.22 ns an element in cache, several times that from memory
    Call::new(py, op).on(device, "params").run(estimate(&params, 2), true, |poll| {
        on_device!(device, poll, |engine| {
            let mut here = list(items.len(), "parameters")?;
            for item in &items {
                here.push(AdamItem {
                    param: engine.get(&item.param)?,
                    grad: engine.get(&item.grad)?,
                    mean: engine.get(&item.mean)?,
                    square: engine.get(&item.square)?,
                    largest: item.largest.as_ref().map(|b| engine.get(b)).transpose()?,
                    step: item.step,
                });
            }
            engine.adam_step(&spec, &Checked::adam(here)?)
        })
    })
}

/// The norm of all grads together before clipping, 0-d; scales them in place so that it is at most max_norm. One that
/// is given twice counts once.
#[pyfunction]
fn clip_grad_norm(
    py: Python<'_>,
    grads: Vec<Bound<'_, PyAny>>,
    max_norm: f64,
    error_if_nonfinite: bool,
) -> PyResult<Array> {
    let (grads, device) = params("clip_grad_norm", "grads", &grads)?;
    let call = Call::new(py, "clip_grad_norm").on(device, "grads");
    let norm = call.run(estimate(&grads, 1), true, |poll| {
        on_device!(device, poll, |engine| {
            let here = grads.iter().map(|g| engine.get(&g.storage)).collect::<Result<Vec<_>>>()?;
            let here = distinct(here);
            let spec = ClipSpec::new(max_norm, error_if_nonfinite, &here)?;
            Ok(engine.put(engine.clip_grad_norm(&spec, &here)?))
        })
    })?;
    Ok(call.array(norm, Shape::from([])))
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sgd_step, module)?)?;
    module.add_function(wrap_pyfunction!(adam_step, module)?)?;
    module.add_function(wrap_pyfunction!(clip_grad_norm, module)?)
}
