//! Moving elements in plain loops: what the kernels are tested against.

use super::{CatSpec, StridedSpec};
use crate::tensor::{Element, Layout, Walk};

/// The position in memory of each element of the view, in C order.
pub fn positions(spec: &StridedSpec) -> Vec<usize> {
    let walk = Walk::new(&spec.view.shape, [&spec.view.strides]);
    (0..spec.elements()).map(|index| (spec.view.offset as isize + walk.offsets(index)[0]) as usize).collect()
}

/// y = the view of x
pub fn copy_strided<T: Element>(spec: &StridedSpec, x: &[T]) -> Vec<T> {
    positions(spec).into_iter().map(|at| x[at]).collect()
}

/// x = zeros, with values at the view
pub fn place_strided<T: Element>(spec: &StridedSpec, values: &[T]) -> Vec<T> {
    let mut x = vec![T::default(); spec.len];
    positions(spec).into_iter().zip(values).for_each(|(at, &v)| x[at] = v);
    x
}

/// x, with the values of shape `from` repeated over the view
pub fn assign_strided<T: Element>(spec: &StridedSpec, x: &[T], values: &[T], from: &[usize]) -> Vec<T> {
    let mut x = x.to_vec();
    let from = Layout::contiguous(from).broadcast_to(&spec.view.shape);
    let from = StridedSpec { dtype: spec.dtype, len: values.len(), view: from };
    positions(spec).into_iter().zip(positions(&from)).for_each(|(at, i)| x[at] = values[i]);
    x
}

/// rows of all parts, in turn
pub fn cat<T: Element>(spec: &CatSpec, parts: &[&[T]]) -> Vec<T> {
    (0..spec.outer)
        .flat_map(|row| parts.iter().zip(&spec.widths).flat_map(move |(part, w)| &part[row * w..(row + 1) * w]))
        .copied()
        .collect()
}
