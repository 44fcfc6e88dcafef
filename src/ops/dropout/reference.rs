//! Dropout in a plain loop, for f32 and f64: what the kernels are tested against.

use super::DropoutSpec;
use crate::tensor::Real;

/// y from x, element by element
pub fn forward<R: Real>(spec: &DropoutSpec, x: &[R], y: &mut [R]) {
    let scale = R::of(spec.scale);
    for i in 0..spec.len {
        y[i] = match spec.keeps(spec.philox.word(i as u64)) {
            _ if spec.is_identity() => x[i],
            true => x[i] * scale,
            false => R::ZERO,
        };
    }
}
