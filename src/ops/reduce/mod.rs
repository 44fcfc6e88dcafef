//! Sums over axes.
//!
//! Terms are taken in C order of the summed axes. They are added in a tree that depends on their number alone
//! (`reference::sum_of` spells it out): so a sum has the same bits alone or among others, along whichever axis, for any
//! number of threads and any instruction set. The error is at most (15 + log2(n / 128)) / 2^24 of the sum of the
//! terms' magnitudes, where one chain has n / 2^24. The sum of nothing is 0.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Of, Result};
use crate::ops::shape::axis_of;
use crate::tensor::{DType, Layout, Shape, elements};

/// One sum over axes, checked.
#[derive(Clone, Debug)]
pub struct SumSpec {
    /// element type
    pub dtype: DType,
    /// the result's shape
    pub shape: Shape,
    /// the argument seen as (outer, n, inner), summed over n
    pub outer: usize,
    /// terms of a sum
    pub n: usize,
    /// see `outer`
    pub inner: usize,
    /// where no such view exists: the argument must first be copied into this order, summed axes last
    pub order: Option<Layout>,
}

impl SumSpec {
    /// Sums over `axes` (counted from the end where negative; all where None), left in the shape as 1 by `keepdims`.
    pub fn new(dtype: DType, shape: &[usize], axes: Option<&[isize]>, keepdims: bool) -> Result<SumSpec> {
        dtype.check_float("sum", "a")?;
        elements(shape).of("sum")?;
        let mut summed = vec![axes.is_none(); shape.len()];
        for &axis in axes.unwrap_or(&[]) {
            let at = axis_of("sum", "axes", axis, shape.len())?;
            if std::mem::replace(&mut summed[at], true) {
                return Err(Error::value("sum", "axes", "every axis once", format_args!("axis {axis} again")));
            }
        }
        let out = shape.iter().zip(&summed).filter(|&(_, &s)| keepdims || !s).map(|(&n, &s)| if s { 1 } else { n });
        let out = Shape(out.collect());
        let product = |range: &[usize]| range.iter().product::<usize>();
        // axes of size 1 are neither summed nor kept: they do not separate the others
        let real = |axis: &usize| summed[*axis] && shape[*axis] != 1;
        let first = (0..shape.len()).find(real).unwrap_or(shape.len());
        let end = (0..shape.len()).rev().find(real).map_or(first, |last| last + 1);
        let together = (first..end).all(|axis| summed[axis] || shape[axis] == 1);
        if together {
            let (outer, n, inner) = (product(&shape[..first]), product(&shape[first..end]), product(&shape[end..]));
            return Ok(SumSpec { dtype, shape: out, outer, n, inner, order: None });
        }
        let plain = Layout::contiguous(shape);
        let (kept, last): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|&axis| !summed[axis]);
        let n = last.iter().map(|&axis| shape[axis]).product();
        let outer = kept.iter().map(|&axis| shape[axis]).product();
        let order = kept.into_iter().chain(last);
        let (sizes, strides) = order.map(|axis| (shape[axis], plain.strides[axis])).unzip();
        let order = Some(Layout { shape: Shape(sizes), strides, offset: 0 });
        Ok(SumSpec { dtype, shape: out, outer, n, inner: 1, order })
    }

    /// Elements of the argument.
    pub fn terms(&self) -> usize {
        self.outer * self.n * self.inner
    }
}

/// An engine that sums.
pub trait Reduce: Backend {
    /// The sums over n of the argument seen as (outer, n, inner).
    fn sum(&self, spec: &SumSpec, x: &Self::Buffer) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
