//! The functions in plain Rust, for f32 and f64: what the kernels are tested against, and what f64 runs.

use super::{Binary, Unary};
use crate::tensor::Real;

/// f(x)
pub fn unary<R: Real>(function: Unary, x: R) -> R {
    match function {
        Unary::Neg => -x,
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Abs => x.abs(),
        Unary::Square => x * x,
    }
}

/// f(a, b)
pub fn binary<R: Real>(function: Binary, a: R, b: R) -> R {
    match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        // a sum with NaN is NaN, whichever it is
        Binary::Maximum if a > b => a,
        Binary::Minimum if a < b => a,
        Binary::Maximum | Binary::Minimum if a.is_nan() => a + b,
        Binary::Maximum | Binary::Minimum => b,
    }
}
