//! Cross-entropy in plain loops, for f32 and f64: what the kernels are tested against, and what f64 runs.

use super::{CrossEntropySpec, Reduction};
use crate::tensor::Real;

/// losses (N,) of logits (N, C), and where it is wanted their gradient (N, C), scaled by `scale`
pub fn rows<R: Real>(
    spec: &CrossEntropySpec,
    scale: R,
    logits: &[R],
    losses: &mut [R],
    mut gradient: Option<&mut [R]>,
) {
    let classes = spec.classes;
    for (r, target) in spec.targets.iter().enumerate() {
        let gradient = gradient.as_mut().map(|g| &mut g[r * classes..][..classes]);
        let Some(target) = target else {
            losses[r] = R::ZERO;
            if let Some(gradient) = gradient {
                gradient.fill(R::ZERO);
            }
            continue;
        };
        let x = &logits[r * classes..][..classes];
        let mut largest = x[target];
        for &x in x {
            if x > largest {
                largest = x;
            }
        }
        let mut lanes = [R::ZERO; 16];
        for (c, &x) in x.iter().enumerate() {
            lanes[c % 16] += (x - largest).exp();
        }
        let sum = joined(lanes);
        losses[r] = sum.ln() - (x[target] - largest);
        if let Some(gradient) = gradient {
            for (c, &x) in x.iter().enumerate() {
                let p = (x - largest).exp() / sum;
                gradient[c] = (if c == target { p - R::ONE } else { p }) * scale;
            }
        }
    }
}

/// The sum of the lanes, in halves.
pub fn joined<R: Real>(mut lanes: [R; 16]) -> R {
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            let other = lanes[j + half];
            lanes[j] += other;
        }
    }
    lanes[0]
}

/// The one number that the losses of the rows become; None where they stay.
pub fn reduced<R: Real>(spec: &CrossEntropySpec, losses: &[R]) -> Option<R> {
    // from 0, as `sum` of nothing gives -0
    let total = losses.iter().fold(0.0, |total, loss| total + loss.f64());
    match spec.reduction {
        Reduction::Mean => Some(R::of(total / spec.targets.kept() as f64)),
        Reduction::Sum => Some(R::of(total)),
        Reduction::None => None,
    }
}
