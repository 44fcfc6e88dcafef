//! Picking in plain loops: what the kernels are tested against.

use super::PickSpec;
use crate::tensor::{Element, Real};

/// Calls `each` with where a block begins among the picked and where in x, for all ids that are not skipped.
fn blocks(spec: &PickSpec, mut each: impl FnMut(usize, usize)) {
    for front in 0..spec.front {
        for (i, id) in spec.ids.iter().enumerate() {
            let Some(id) = id else { continue };
            each((front * spec.ids.len() + i) * spec.width, (front * spec.ids.bound() + id) * spec.width);
        }
    }
}

/// y (front, ids, width) from x (front, bound, width)
pub fn take<T: Element>(spec: &PickSpec, x: &[T]) -> Vec<T> {
    let mut y = vec![T::default(); spec.picked()];
    blocks(spec, |i, at| y[i..][..spec.width].copy_from_slice(&x[at..][..spec.width]));
    y
}

/// x (front, bound, width) from v (front, ids, width)
pub fn put_add<R: Real>(spec: &PickSpec, values: &[R]) -> Vec<R> {
    let mut x = vec![R::ZERO; spec.whole()];
    blocks(spec, |i, at| (0..spec.width).for_each(|w| x[at + w] += values[i + w]));
    x
}

/// x with v (front, ids, width), or one number, written into it
pub fn assign_at<T: Element>(spec: &PickSpec, x: &[T], values: &[T]) -> Vec<T> {
    let (mut x, step) = (x.to_vec(), usize::from(values.len() != 1));
    blocks(spec, |i, at| (0..spec.width).for_each(|w| x[at + w] = values[(i + w) * step]));
    x
}
