//! Activations in plain Rust, for f32 and f64: what the kernels are tested against, and what f64 runs.

use super::Function;
use crate::tensor::Real;

/// y = f(x)
pub fn forward<R: Real>(function: Function, x: R) -> R {
    match function {
        Function::Sigmoid => x.sigmoid(),
        Function::Tanh => x.tanh(),
        // NaN compares false, so it passes, and so does -0.0
        Function::Relu => {
            if x < R::ZERO {
                R::ZERO
            } else {
                x
            }
        }
    }
}

/// dx, from y = f(x) and dy
pub fn backward<R: Real>(function: Function, y: R, dy: R) -> R {
    match function {
        Function::Sigmoid => dy * (y * (R::ONE - y)),
        Function::Tanh => dy * (R::ONE - y * y),
        Function::Relu => {
            // NaN compares false, so its gradient passes
            if y <= R::ZERO { R::ZERO } else { dy }
        }
    }
}
