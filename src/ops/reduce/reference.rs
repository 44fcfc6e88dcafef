//! Sums by the stated tree, in plain recursion, for f32 and f64: what the kernels must equal in every bit, and what
//! f64 runs.

use super::SumSpec;
use crate::tensor::{Real, Walk, joined};

/// Terms of a block.
pub const BLOCK: usize = 128;

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
            y.push(sum_of(spec.n, &term));
        }
    }
    y
}

/// The sum of n terms: of blocks of 128, joined by [`tree`].
pub fn sum_of<R: Real>(n: usize, term: &impl Fn(usize) -> R) -> R {
    tree(0, n.div_ceil(BLOCK).max(1), &|i| block(i, n, term))
}

/// The sum of `count` things from `first` on: of the largest power of two of them that is less than all, and of the
/// rest. Where `first` is a multiple of a power of two, and `count` is that or all that remain, it is a whole subtree.
pub fn tree<R: Real>(first: usize, count: usize, of: &impl Fn(usize) -> R) -> R {
    if count <= 1 {
        return of(first);
    }
    let left = count.next_power_of_two() / 2;
    tree(first, left, of) + tree(first + left, count - left, of)
}

/// The sum of the i-th block of n terms: 16 partial sums, each from 0 over every 16th term, joined in halves.
pub fn block<R: Real>(i: usize, n: usize, term: &impl Fn(usize) -> R) -> R {
    let mut parts = [R::ZERO; 16];
    for k in i * BLOCK..n.min((i + 1) * BLOCK) {
        parts[k % 16] += term(k);
    }
    joined(parts)
}
