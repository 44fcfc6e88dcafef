//! Moving elements without computing: strided copies (transpose, broadcast, slices), their adjoint, joining.
//!
//! * `copy_strided`: y is a view of x in C order; y[i, j, …] = x[offset + i·s₀ + j·s₁ + …]
//! * `place_strided`: zeros, and x[offset + i·s₀ + …] = v[i, j, …]: the adjoint of the former where no element of x
//!   is seen twice (a view that sees one twice is refused)
//! * `assign_strided`: the same over the elements that x has, in place
//! * `cat`: parts one after the other along an axis

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Of, Result};
use crate::tensor::{DType, Layout, Shape, elements};

/// A view to copy out of, or to place into, memory of `len` elements; checked.
#[derive(Clone, Debug)]
pub struct StridedSpec {
    /// element type
    pub dtype: DType,
    /// elements of the memory that the view looks at
    pub len: usize,
    /// the view
    pub view: Layout,
}

impl StridedSpec {
    /// A view to read: it lies within `len` elements.
    pub fn copy(dtype: DType, len: usize, shape: &[usize], strides: &[isize], offset: usize) -> Result<StridedSpec> {
        Ok(StridedSpec { dtype, len, view: Layout::new("copy_strided", shape, strides, offset, len)? })
    }

    /// A view to write: it lies within memory of shape `full`, and no element is in it twice.
    pub fn place(
        dtype: DType,
        full: &[usize],
        shape: &[usize],
        strides: &[isize],
        offset: usize,
    ) -> Result<StridedSpec> {
        let len = elements(full).of("place_strided")?;
        let view = Layout::new("place_strided", shape, strides, offset, len)?;
        if !view.is_distinct() {
            return Err(Error::internal("place_strided: a view that holds an element twice"));
        }
        Ok(StridedSpec { dtype, len, view })
    }

    /// Elements of the view.
    pub fn elements(&self) -> usize {
        self.view.shape.iter().product()
    }
}

/// Parts to join, checked.
#[derive(Clone, Debug)]
pub struct CatSpec {
    /// element type of all
    pub dtype: DType,
    /// the result's shape
    pub shape: Shape,
    /// rows before the axis
    pub outer: usize,
    /// of each part, elements in a row: its size along the axis times all sizes after it
    pub widths: Vec<usize>,
}

impl CatSpec {
    /// Checks that the shapes differ along `axis` alone (counted from the end where negative).
    pub fn new(dtype: DType, shapes: &[&Shape], axis: isize) -> Result<CatSpec> {
        let first = *shapes.first().ok_or_else(|| Error::value("cat", "arrays", "at least one", "none"))?;
        let axis = axis_of("cat", "axis", axis, first.len())?;
        let mut shape = first.clone();
        shape.0[axis] = 0;
        let mut widths = Vec::with_capacity(shapes.len());
        for (i, part) in shapes.iter().enumerate() {
            let same = part.len() == first.len()
                && part.iter().zip(first.iter()).enumerate().all(|(a, (m, n))| a == axis || m == n);
            if !same {
                let expected = format_args!("{first} but for axis {axis}, as arrays[0]").to_string();
                return Err(Error::shape("cat", &format!("arrays[{i}]"), expected, part));
            }
            shape.0[axis] =
                shape.0[axis].checked_add(part[axis]).ok_or_else(|| Error::memory("joined arrays").of("cat"))?;
            widths.push(part[axis..].iter().product());
        }
        elements(&shape).of("cat")?;
        Ok(CatSpec { dtype, outer: shape[..axis].iter().product(), shape, widths })
    }

    /// Elements of the result.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The axis that `axis` means for an array of `rank` axes.
pub fn axis_of(op: &str, name: &str, axis: isize, rank: usize) -> Result<usize> {
    let from_end = if axis < 0 { axis.checked_add_unsigned(rank) } else { Some(axis) };
    from_end.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank).ok_or_else(|| {
        let expected = match rank {
            0 => "no axis, as the array has none".to_string(),
            _ => format!("an axis from -{rank} to {}", rank - 1),
        };
        Error::value(op, name, expected, axis)
    })
}

/// An engine that moves elements.
pub trait Move: Backend {
    /// A new array of what the view of `x` shows.
    fn copy_strided(&self, spec: &StridedSpec, x: &Self::Buffer) -> Result<Self::Buffer>;
    /// Zeros with `values` written through the view.
    fn place_strided(&self, spec: &StridedSpec, values: &Self::Buffer) -> Result<Self::Buffer>;
    /// Writes `values`, broadcast to the view's shape (they are known to fit), through the view into `x`, in place,
    /// and gives `x` a new version. All or nothing is written: `poll` is asked before alone. `values` may be `x`.
    fn assign_strided(&self, spec: &StridedSpec, x: &Self::Buffer, values: &Self::Buffer, from: &Shape) -> Result<()>;
    /// The parts, joined.
    fn cat(&self, spec: &CatSpec, parts: &[Self::Buffer]) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
