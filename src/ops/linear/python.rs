//! The border of linear layers and matrix products.

use super::{Linear, LinearSpec, MatmulSpec};
use crate::device::{Engine, Storage};
use crate::error::Error;
use crate::on_device;
use crate::python::{Arg, Array, Call, Saved};
use crate::tensor::{DType, Shape};
use pyo3::prelude::*;

/// One thread does some 30 fused multiply-adds of f32 a nanosecond; f64 runs the reference, about one in two.
fn estimate(dtype: DType, products: u64, elements: usize) -> u64 {
    match dtype {
        DType::F64 => products.saturating_mul(2),
        _ => (products / 30).saturating_add(elements as u64 / 4),
    }
}

/// y = x weightᵀ + bias, with x (..., in), weight (out, in), bias (out,) and y (..., out); and x and weight as they were
/// read, where they are to be kept for backward. `name` is what errors call x.
#[pyfunction]
#[pyo3(signature = (x, weight, bias=None, name="x", keep_x=false, keep_weight=false))]
fn linear(
    x: &Bound<'_, PyAny>,
    weight: &Bound<'_, PyAny>,
    bias: Option<&Bound<'_, PyAny>>,
    name: &str,
    keep_x: bool,
    keep_weight: bool,
) -> PyResult<(Array, Option<Saved>, Option<Saved>)> {
    let mut call = Call::new(x.py(), "linear");
    // a layer's weight is where and what it should be: what differs from it is x
    let weight = call.float("weight", weight)?;
    let x = call.float(name, x)?;
    let bias = call.optional("bias", bias)?;
    let bias_shape = bias.as_ref().map(|b| b.shape.0.as_slice());
    let spec = LinearSpec::new("linear", x.dtype(), (name, &x.shape), &weight.shape, bias_shape)?;
    let (device, shape) = (call.device(), spec.y(&x.shape));
    let shapes = (x.shape.clone(), weight.shape.clone());
    let (mut x, mut weight, bias) = (call.here(x)?, call.here(weight)?, bias.map(|b| call.here(b)).transpose()?);
    let (y, kept_x, kept_weight) = call.run(estimate(spec.dtype, spec.products(), x.len()), false, |poll| {
        let kept_x = keep_x.then(|| Saved::hold_in(&mut x, shapes.0, poll)).transpose()?;
        let kept_weight = keep_weight.then(|| Saved::hold_in(&mut weight, shapes.1, poll)).transpose()?;
        on_device!(device, poll, |engine| {
            let bias = bias.as_ref().map(|b| engine.get(b)).transpose()?;
            let y = engine.linear(&spec, &engine.get(&x)?, &engine.get(&weight)?, bias.as_ref())?;
            Ok((engine.put(y), kept_x, kept_weight))
        })
    })?;
    Ok((call.array(y, shape), kept_x, kept_weight))
}

type Gradients = (Option<Array>, Option<Array>, Option<Array>);

/// (dx, dweight, dbias) from dy, the gradient of y = linear(x, weight, bias): dx where the weight is given, dweight where
/// x is, dbias where `need_bias`; else None.
#[pyfunction]
fn linear_backward(
    x: Option<&Bound<'_, PyAny>>,
    weight: Option<&Bound<'_, PyAny>>,
    dy: &Bound<'_, PyAny>,
    need_bias: bool,
) -> PyResult<Gradients> {
    let op = "linear_backward";
    let mut call = Call::new(dy.py(), op);
    let (x, weight, dy) = (call.optional("x", x)?, call.optional("weight", weight)?, call.float("dy", dy)?);
    // what is not given has the sizes that the others leave it
    let last = |arg: &Arg<'_>| arg.shape.last().copied();
    let input = weight.as_ref().or(x.as_ref()).and_then(last).unwrap_or(0);
    let with_last = |size: usize| {
        let mut shape = dy.shape.clone();
        shape.0.last_mut().into_iter().for_each(|last| *last = size);
        shape
    };
    let dx_shape = x.as_ref().map_or_else(|| with_last(input), |x| x.shape.clone());
    let output = last(&dy).unwrap_or(0);
    let dw_shape = weight.as_ref().map_or(Shape::from([output, input]), |weight| weight.shape.clone());
    let spec = LinearSpec::new(op, dy.dtype(), ("x", &dx_shape), &dw_shape, None)?;
    if spec.y(&dx_shape) != dy.shape {
        return Err(Error::shape(op, "dy", spec.y(&dx_shape), &dy.shape).into());
    }
    let device = call.device();
    let (x, weight) = (x.map(|x| call.here(x)).transpose()?, weight.map(|w| call.here(w)).transpose()?);
    let dy = call.here(dy)?;
    let parts = u64::from(x.is_some()) + u64::from(weight.is_some());
    let ns = estimate(spec.dtype, spec.products().saturating_mul(parts), dy.len());
    let (dx, dw, db) = call.run(ns, false, |poll| {
        on_device!(device, poll, |engine| {
            let x = x.as_ref().map(|x| engine.get(x)).transpose()?;
            let weight = weight.as_ref().map(|weight| engine.get(weight)).transpose()?;
            let grads = engine.linear_backward(&spec, x.as_ref(), weight.as_ref(), need_bias, &engine.get(&dy)?)?;
            let out = |b: Option<_>| b.map(|b| engine.put(b));
            Ok((out(grads.x), out(grads.weight), out(grads.bias)))
        })
    })?;
    let array = |storage: Option<Storage>, shape: Shape| storage.map(|s| call.array(s, shape));
    Ok((array(dx, dx_shape), array(dw, dw_shape), array(db, Shape::from([spec.output]))))
}

/// c = a b for (m, k) and (k, n), or for batches of such with equal leading axes; a transposed operand is given with
/// its last two axes swapped.
#[pyfunction]
#[pyo3(signature = (a, b, transpose_a=false, transpose_b=false))]
fn matmul(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>, transpose_a: bool, transpose_b: bool) -> PyResult<Array> {
    let mut call = Call::new(a.py(), "matmul");
    let (a, b) = (call.float("a", a)?, call.float("b", b)?);
    let spec = MatmulSpec::new(a.dtype(), &a.shape, &b.shape, transpose_a, transpose_b)?;
    let (device, shape) = (call.device(), spec.c(&a.shape));
    let (a, b) = (call.here(a)?, call.here(b)?);
    let c = call.run(estimate(spec.dtype, spec.products(), a.len() + b.len()), false, |poll| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.matmul(&spec, &engine.get(&a)?, &engine.get(&b)?)?)))
    })?;
    Ok(call.array(c, shape))
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(linear, module)?)?;
    module.add_function(wrap_pyfunction!(linear_backward, module)?)?;
    module.add_function(wrap_pyfunction!(matmul, module)?)
}
