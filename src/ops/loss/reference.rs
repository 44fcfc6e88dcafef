//! Cross-entropy in plain loops, for f32 and f64: what the kernels are tested against, and what f64 runs.

use super::{CrossEntropySpec, Reduction};
use crate::error::Result;
use crate::tensor::{Real, SPELL, Spells, joined};

/// losses (N,) of logits (N, C), and where it is wanted their gradient (N, C), scaled by `scale`; `poll` is asked now
/// and then
pub fn rows<R: Real>(
    spec: &CrossEntropySpec,
    scale: R,
    logits: &[R],
    losses: &mut [R],
    mut gradient: Option<&mut [R]>,
    poll: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let classes = spec.classes;
    let mut spells = Spells::new(poll);
    for (r, target) in spec.targets.iter().enumerate() {
        let gradient = gradient.as_mut().map(|g| &mut g[r * classes..][..classes]);
        spells.count(1)?;
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
        for part in x.chunks(SPELL) {
            spells.count(part.len())?;
            for (c, &x) in part.iter().enumerate() {
                lanes[c % 16] += (x - largest).exp();
            }
        }
        let sum = joined(lanes);
        losses[r] = sum.ln() - (x[target] - largest);
        if let Some(gradient) = gradient {
            for (part, gradient) in x.chunks(SPELL).zip(gradient.chunks_mut(SPELL)) {
                spells.count(part.len())?;
                for (&x, gradient) in part.iter().zip(gradient) {
                    *gradient = (x - largest).exp() / sum * scale;
                }
            }
            gradient[target] = ((x[target] - largest).exp() / sum - R::ONE) * scale;
        }
    }
    Ok(())
}

/// The one number that the losses of the rows become; None where they stay.
pub fn reduced<R: Real>(spec: &CrossEntropySpec, losses: &[R], poll: &dyn Fn() -> Result<()>) -> Result<Option<R>> {
    if spec.reduction == Reduction::None {
        return Ok(None);
    }
    // from 0, as `sum` of nothing gives -0
    let mut total = 0.0;
    for part in losses.chunks(SPELL) {
        total = part.iter().fold(total, |total, loss| total + loss.f64());
        poll()?;
    }
    let kept = if spec.reduction == Reduction::Mean { spec.targets.kept() as f64 } else { 1.0 };
    Ok(Some(R::of(total / kept)))
}
