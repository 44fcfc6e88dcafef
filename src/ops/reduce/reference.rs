//! Sums by the stated tree, in plain recursion, for f32 and f64: what the kernels must equal in every bit, and what
//! f64 runs.

use super::SumSpec;
use crate::tensor::{Real, Walk};

/// y[o, i] = sum over k of x[o, k, i]
pub fn sum<R: Real>(spec: &SumSpec, x: &[R]) -> Vec<R> {
    let ordered: Vec<R>;
    let x = match &spec.order {
        None => x,
        Some(order) if spec.terms() == 0 => &x[order.offset..],
        Some(order) => {
            let walk = Walk::new(&order.shape, [&order.strides]);
            ordered = (0..spec.terms()).map(|index| x[walk.offsets(index)[0] as usize]).collect();
            &ordered
        }
    };
    let mut y = Vec::with_capacity(spec.outer * spec.inner);
    for o in 0..spec.outer {
        for i in 0..spec.inner {
            let term = |k: usize| x[(o * spec.n + k) * spec.inner + i];
            y.push(tree(0, spec.n, &term));
        }
    }
    y
}

/// The sum of terms `from .. to`, where `from` is a multiple of 128.
///
/// Up to 128 terms: 16 partial sums, each from 0 over every 16th term, joined in halves. More: the largest power of
/// two of blocks of 128 that is less than all, and the rest.
pub fn tree<R: Real>(from: usize, to: usize, term: &impl Fn(usize) -> R) -> R {
    let blocks = (to - from).div_ceil(128);
    if blocks > 1 {
        let middle = from + 128 * (blocks.next_power_of_two() / 2);
        return tree(from, middle, term) + tree(middle, to, term);
    }
    let mut parts = [R::ZERO; 16];
    for k in from..to {
        parts[(k - from) % 16] += term(k);
    }
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            let upper = parts[l + half];
            parts[l] += upper;
        }
    }
    parts[0]
}
