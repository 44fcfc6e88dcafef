//! Activations, element by element: σ(x) = 1/(1+e^-x), tanh, relu(x) = max(x, 0).
//!
//! Each derivative is a function of the stored output y, so backward needs nothing else: σ' = y(1-y),
//! tanh' = 1-y², relu' = 0 where y <= 0, else 1 (0 at the kink, S-116; 1 at NaN). relu(NaN) is NaN, relu(-0.0) is
//! -0.0 (S-117).

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Which activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// hyperbolic tangent
    Tanh,
    /// max(x, 0)
    Relu,
}

impl Function {
    /// The function of that name.
    pub fn parse(name: &str) -> Result<Function> {
        match name {
            "sigmoid" => Ok(Function::Sigmoid),
            "tanh" => Ok(Function::Tanh),
            "relu" => Ok(Function::Relu),
            _ => Err(Error::value("activation", "function", "sigmoid, tanh or relu", format_args!("{name:?}"))),
        }
    }
}

/// One call, checked.
#[derive(Clone, Copy, Debug)]
pub struct ActivationSpec {
    /// which
    pub function: Function,
    /// element type of x, y and gradients
    pub dtype: DType,
    /// number of elements
    pub len: usize,
}

impl ActivationSpec {
    /// Checks the type; `len` is that of a buffer, so it does not overflow.
    pub fn new(function: Function, dtype: DType, len: usize) -> Result<ActivationSpec> {
        dtype.check_float("activation", "x")?;
        Ok(ActivationSpec { function, dtype, len })
    }
}

/// An engine that runs activations.
pub trait Activation: Backend {
    /// y = f(x)
    fn activation(&self, spec: &ActivationSpec, x: &Self::Buffer) -> Result<Self::Buffer>;
    /// dx = dy · f'(x), from y = f(x)
    fn activation_backward(&self, spec: &ActivationSpec, y: &Self::Buffer, dy: &Self::Buffer) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
