//! Optimizer steps and clipping, in place over lists of tensors.
//!
//! With g the gradient, negated where the goal is to maximize:
//!
//! * SGD: g += wd p; the buffer b is g at the first step, later b = μ b + (1 - dampening) g; the direction is b, or
//!   g + μ b for Nesterov, or g without momentum; p -= lr direction (S-144)
//! * Adam (Kingma and Ba 2015) in PyTorch's form, t from 1: g += wd p, or decoupled (AdamW: Loshchilov and Hutter
//!   2019) p -= lr wd p; m += (1 - β1)(g - m), for β1 <= 0.5 as m = g - β1 (g - m); v = β2 v + (1 - β2) g²;
//!   p -= lr / (1 - β1ᵗ) · m / (√v / √(1 - β2ᵗ) + eps), with AMSGrad the largest v so far under the root, before
//!   its correction (S-145, S-146)
//! * clipping: g *= min(1, max_norm / (norm + 1e-6)), with the norm over all gradients together (S-151, S-152)
//!
//! A call changes everything or nothing: it fails before its first write or not at all, and is not interrupted.
//! Every tensor written to gets a new version.
//!
//! Orders: steps are element by element. The sum of squares:
//!
//! * CPU, in f64: per tensor in pieces of [`PIECE`] elements, in each 16 lanes (lane j over the elements j, j + 16, …
//!   ascending) joined in halves; pieces ascending, then tensors in the order of the list
//! * GPU, in f32, of numbers scaled by a power of two: per tensor (or piece of one, where a kernel does not see all of
//!   it) in at most 256 ranges of at least 4096 elements, in each 256 lanes, in runs of 128, joined in halves; the
//!   ranges of all, in the order of the list, in 256 lanes too, more than 2^16 of them every 2^16 first

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::tensor::DType;
use std::collections::HashSet;

/// Elements of one piece of a sum of squares.
pub const PIECE: usize = 1 << 16;

/// The options of SGD, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdSpec {
    /// learning rate
    pub lr: f64,
    /// μ
    pub momentum: f64,
    /// what a gradient loses on its way into the buffer, after the first
    pub dampening: f64,
    /// wd
    pub weight_decay: f64,
    /// Nesterov's direction
    pub nesterov: bool,
    /// climb instead of descend
    pub maximize: bool,
}

impl SgdSpec {
    /// Checks the options.
    pub fn new(self) -> Result<SgdSpec> {
        let op = "sgd";
        at_least_zero(op, "lr", self.lr)?;
        at_least_zero(op, "momentum", self.momentum)?;
        at_least_zero(op, "weight_decay", self.weight_decay)?;
        finite(op, "dampening", self.dampening)?;
        if self.nesterov && !(self.momentum > 0.0 && self.dampening == 0.0) {
            let got = format!("momentum={}, dampening={}", self.momentum, self.dampening);
            return Err(Error::value(op, "nesterov", "a momentum above 0 and no dampening with it", got));
        }
        Ok(self)
    }
}

/// The options of Adam and AdamW, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSpec {
    /// learning rate
    pub lr: f64,
    /// of the mean of gradients
    pub beta1: f64,
    /// of the mean of their squares
    pub beta2: f64,
    /// added to the root, after the correction
    pub eps: f64,
    /// wd
    pub weight_decay: f64,
    /// AdamW: decay the parameter, not by way of the gradient
    pub decoupled: bool,
    /// climb instead of descend
    pub maximize: bool,
}

impl AdamSpec {
    /// Checks the options.
    pub fn new(self) -> Result<AdamSpec> {
        let op = "adam";
        at_least_zero(op, "lr", self.lr)?;
        at_least_zero(op, "eps", self.eps)?;
        at_least_zero(op, "weight_decay", self.weight_decay)?;
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::value(op, name, "0 <= beta < 1", beta));
            }
        }
        Ok(self)
    }
}

fn finite(op: &str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::value(op, name, "a finite number", value)) }
}

fn at_least_zero(op: &str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(Error::value(op, name, "a number of at least 0", value))
    }
}

/// One parameter of a step of SGD. All of one length and dtype.
#[derive(Clone, Debug)]
pub struct SgdItem<B> {
    /// p
    pub param: B,
    /// g
    pub grad: B,
    /// b, if there is momentum
    pub buffer: Option<B>,
    /// whether the buffer has no value yet
    pub first: bool,
}

impl<B> SgdItem<B> {
    /// What the step writes to.
    fn written(&self, spec: &SgdSpec) -> impl Iterator<Item = &B> {
        [&self.param].into_iter().chain(self.buffer.as_ref().filter(|_| spec.momentum != 0.0))
    }
}

/// One parameter of a step of Adam. All of one length and dtype.
#[derive(Clone, Debug)]
pub struct AdamItem<B> {
    /// p
    pub param: B,
    /// g
    pub grad: B,
    /// m
    pub mean: B,
    /// v
    pub square: B,
    /// the largest v, for AMSGrad
    pub largest: Option<B>,
    /// t, from 1: this step's
    pub step: u64,
}

impl<B> AdamItem<B> {
    /// What the step writes to.
    fn written(&self) -> impl Iterator<Item = &B> {
        [&self.param, &self.mean, &self.square].into_iter().chain(&self.largest)
    }
}

/// What is written to in one parameter's part of a call, and what is only read.
fn check_item<'a, B: Buffer>(
    op: &str,
    read: &B,
    written: impl Iterator<Item = &'a B>,
    seen: &mut HashSet<u64>,
) -> Result<()> {
    let (dtype, len) = (read.dtype(), read.len());
    dtype.check_float(op, "grads")?;
    for buffer in written {
        if buffer.dtype() != dtype || buffer.len() != len {
            let got = format!("{} of {}", buffer.len(), buffer.dtype());
            return Err(Error::shape(op, "grads", format_args!("{len} elements of {dtype}, as its parameter"), got));
        }
        seen.try_reserve(1).map_err(|_| Error::memory("the numbers of an optimizer's tensors"))?;
        if !seen.insert(buffer.stamp().id()) {
            return Err(Error::value(op, "params", "each tensor once", "one twice")
                .hint("tied parameters are one parameter: pass it once"));
        }
    }
    Ok(())
}

/// Steps that may run: sizes fit, and nothing that is written to is written twice or read as a gradient.
#[derive(Clone, Debug)]
pub struct Checked<T>(Vec<T>);

impl<T> std::ops::Deref for Checked<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// `seen` is what is written to.
fn check_read<'a, B: Buffer>(op: &str, mut read: impl Iterator<Item = &'a B>, seen: &HashSet<u64>) -> Result<()> {
    if read.any(|buffer| seen.contains(&buffer.stamp().id())) {
        return Err(Error::value(op, "grads", "tensors that are no parameters or buffers", "one that is both"));
    }
    Ok(())
}

impl<B: Buffer> Checked<SgdItem<B>> {
    /// Checks the items against each other and the options.
    pub fn sgd(spec: &SgdSpec, items: Vec<SgdItem<B>>) -> Result<Checked<SgdItem<B>>> {
        if spec.momentum != 0.0 && items.iter().any(|item| item.buffer.is_none()) {
            return Err(Error::value("sgd", "buffers", "a buffer for each parameter, for there is momentum", "None"));
        }
        let mut seen = HashSet::new();
        items.iter().try_for_each(|item| check_item("sgd", &item.grad, item.written(spec), &mut seen))?;
        check_read("sgd", items.iter().map(|item| &item.grad), &seen)?;
        Ok(Checked(items))
    }
}

impl<B: Buffer> Checked<AdamItem<B>> {
    /// Checks the items against each other.
    pub fn adam(items: Vec<AdamItem<B>>) -> Result<Checked<AdamItem<B>>> {
        if items.iter().any(|item| item.step == 0) {
            return Err(Error::value("adam", "steps", "at least 1", 0));
        }
        let mut seen = HashSet::new();
        items.iter().try_for_each(|item| check_item("adam", &item.grad, item.written(), &mut seen))?;
        check_read("adam", items.iter().map(|item| &item.grad), &seen)?;
        Ok(Checked(items))
    }
}

/// Clipping, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipSpec {
    /// what the norm shall not exceed
    pub max_norm: f64,
    /// refuse a norm that is inf or NaN
    pub error_if_nonfinite: bool,
    /// element type of the norm that is returned
    pub dtype: DType,
}

impl ClipSpec {
    /// Checks the limit; gradients of f64 among them make the norm f64.
    pub fn new<B: Buffer>(max_norm: f64, error_if_nonfinite: bool, grads: &[B]) -> Result<ClipSpec> {
        let op = "clip_grad_norm";
        if max_norm.is_nan() || max_norm < 0.0 {
            return Err(Error::value(op, "max_norm", "a number of at least 0", max_norm));
        }
        grads.iter().try_for_each(|g| g.dtype().check_float(op, "grads"))?;
        let dtype = if grads.iter().any(|g| g.dtype() == DType::F64) { DType::F64 } else { DType::F32 };
        Ok(ClipSpec { max_norm, error_if_nonfinite, dtype })
    }

    /// What gradients of that norm are multiplied by; None below the limit, where not a bit changes.
    pub fn coefficient(&self, norm: f64) -> Option<f64> {
        let coefficient = self.max_norm / (norm + 1e-6);
        // NaN is no reason to leave them: PyTorch makes all of them NaN
        if coefficient >= 1.0 { None } else { Some(coefficient) }
    }

    /// What is said of a norm that is inf or NaN.
    pub fn nonfinite(norm: f64) -> Error {
        use crate::error::Kind;
        Error::argument(Kind::State, "clip_grad_norm", "grads", "a finite norm", norm)
            .hint("some gradient is inf or NaN; error_if_nonfinite=False clips all the same")
    }
}

/// Each memory once, in the order of the list (S-150).
pub fn distinct<B: Buffer>(grads: Vec<B>) -> Vec<B> {
    let mut seen = HashSet::new();
    grads.into_iter().filter(|g| seen.insert(g.stamp().id())).collect()
}

/// An engine that runs optimizer steps.
pub trait Optim: Backend {
    /// One step of SGD over all items.
    fn sgd_step(&self, spec: &SgdSpec, items: &Checked<SgdItem<Self::Buffer>>) -> Result<()>;
    /// One step of Adam or AdamW over all items.
    fn adam_step(&self, spec: &AdamSpec, items: &Checked<AdamItem<Self::Buffer>>) -> Result<()>;
    /// The norm of all `grads` (each memory once) together, one number of `spec.dtype`; scales them.
    fn clip_grad_norm(&self, spec: &ClipSpec, grads: &[Self::Buffer]) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
