//! Embedding in plain loops, for f32 and f64: what the kernels are tested against, and what f64 runs.

use super::EmbeddingSpec;
use crate::tensor::Real;

/// y (ids, features) from w (vocabulary, features)
pub fn forward<R: Real>(spec: &EmbeddingSpec, w: &[R], y: &mut [R]) {
    let features = spec.features;
    for (position, id) in spec.ids.iter().enumerate() {
        let Some(id) = id else { continue };
        y[position * features..][..features].copy_from_slice(&w[id * features..][..features]);
    }
}

/// dw (vocabulary, features), all zero before, from dy (ids, features)
pub fn backward<R: Real>(spec: &EmbeddingSpec, dy: &[R], dw: &mut [R]) {
    add(spec.ids.as_slice(), spec.features, dy, dw);
}

/// Adds dy (ids, features) to the rows of dw that the ids name; none where one is skipped.
pub fn add<R: Real>(ids: &[i64], features: usize, dy: &[R], dw: &mut [R]) {
    for (position, &id) in ids.iter().enumerate() {
        let Ok(id) = usize::try_from(id) else { continue };
        for f in 0..features {
            dw[id * features + f] += dy[position * features + f];
        }
    }
}
