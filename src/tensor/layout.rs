//! Where the elements of a strided view lie in the memory it looks at. Copies, broadcasts, transposes and
//! slices are one operation over a `Layout`, on either engine.

use crate::error::{Error, Result};
use crate::tensor::{Shape, elements};

/// `shape` with a stride per axis, both in elements, and the offset of the first element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// sizes of the axes
    pub shape: Shape,
    /// step of each axis, in elements; 0 repeats, negative walks backwards
    pub strides: Vec<isize>,
    /// position of the first element
    pub offset: usize,
}

impl Layout {
    /// C order from the start.
    pub fn contiguous(shape: &[usize]) -> Layout {
        let mut strides = vec![0isize; shape.len()];
        let mut step = 1isize;
        for (stride, &n) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            step = step.saturating_mul(n.max(1) as isize);
        }
        Layout { shape: Shape::from(shape), strides, offset: 0 }
    }

    /// A view given from outside: every element it reaches must lie inside `len` elements.
    pub fn new(op: &str, shape: &[usize], strides: &[isize], offset: usize, len: usize) -> Result<Layout> {
        let outside = || Error::internal(format!("{op}: a view reaches past its memory of {len} elements"));
        if strides.len() != shape.len() {
            return Err(Error::internal(format!("{op}: a view with as many strides as axes was expected")));
        }
        if elements(shape)? > 0 {
            let (mut low, mut high) = (offset as i128, offset as i128);
            for (&n, &stride) in shape.iter().zip(strides) {
                let reach = (n as i128 - 1) * stride as i128;
                low += reach.min(0);
                high += reach.max(0);
            }
            if low < 0 || high >= len as i128 {
                return Err(outside());
            }
        }
        Ok(Layout { shape: Shape::from(shape), strides: strides.to_vec(), offset })
    }

    /// Whether no element is in the view twice, told by its strides: every axis steps over all that the finer ones
    /// reach, which is true of all transposed slices.
    pub fn is_distinct(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let axes = self.shape.iter().zip(&self.strides).filter(|&(&n, _)| n > 1);
        let mut axes: Vec<(usize, usize)> = axes.map(|(&n, s)| (s.unsigned_abs(), n)).collect();
        axes.sort_unstable();
        let mut reach = 0usize;
        axes.iter().all(|&(step, n)| {
            let right = step > reach;
            reach = reach.saturating_add(step.saturating_mul(n - 1));
            right
        })
    }

    /// The same elements repeated over the axes that `shape` adds or widens (NumPy's rule; `shape` is known
    /// to fit).
    pub fn broadcast_to(&self, shape: &[usize]) -> Layout {
        let added = shape.len() - self.shape.len();
        let strides = (0..shape.len())
            .map(|axis| match axis.checked_sub(added) {
                Some(i) if self.shape[i] != 1 || shape[axis] == 1 => self.strides[i],
                _ => 0,
            })
            .collect();
        Layout { shape: Shape::from(shape), strides, offset: self.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_of_single_axes_say_nothing() {
        // S-7
        assert!(Layout::new("t", &[1, 4], &[-12345, 1], 0, 4).unwrap().is_distinct());
        assert!(Layout::new("t", &[2, 4], &[-4, 1], 0, 8).is_err());
        assert!(Layout::new("t", &[2, 4], &[-4, 1], 4, 8).unwrap().is_distinct());
    }

    #[test]
    fn broadcast() {
        let l = Layout::contiguous(&[3, 1]).broadcast_to(&[2, 3, 4]);
        assert_eq!(l.strides, [0, 1, 0]);
    }
}
