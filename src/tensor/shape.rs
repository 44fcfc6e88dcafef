//! Shape arithmetic, checked: no product of sizes wraps, whatever the caller passes.

use crate::error::{Error, Result};
use crate::tensor::DType;
use std::fmt;

/// Sizes of the axes, outermost first; printed as Python prints a tuple.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(pub Vec<usize>);

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Shape {
        Shape(sizes.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Shape {
        Shape(sizes.to_vec())
    }
}

impl std::ops::Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl Shape {
    /// Whether NumPy would repeat an array of this shape to fill one of `shape`.
    pub fn broadcasts_to(&self, shape: &[usize]) -> bool {
        self.len() <= shape.len() && self.iter().rev().zip(shape.iter().rev()).all(|(&m, &n)| m == n || m == 1)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, n) in self.0.iter().enumerate() {
            write!(f, "{}{n}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

/// The number of elements; more than memory can address is a `MemoryError`.
///
/// A zero anywhere makes it 0, but the other sizes must still multiply to an addressable number, so that
/// strides and partial products computed later cannot wrap either.
pub fn elements(sizes: &[usize]) -> Result<usize> {
    let product = sizes
        .iter()
        .filter(|&&n| n != 0)
        .try_fold(1usize, |product, &n| product.checked_mul(n))
        .filter(|&n| n <= isize::MAX as usize)
        .ok_or_else(|| Error::memory(format_args!("a tensor of shape {}", Shape::from(sizes))))?;
    Ok(if sizes.contains(&0) { 0 } else { product })
}

/// The number of bytes of such a tensor.
pub fn bytes(sizes: &[usize], dtype: DType) -> Result<usize> {
    elements(sizes)?
        .checked_mul(dtype.size())
        .filter(|&n| n <= isize::MAX as usize)
        .ok_or_else(|| Error::memory(format_args!("a tensor of shape {} of {dtype}", Shape::from(sizes))))
}

/// The shape that two operands take together by NumPy's rule; `name` is the second one's.
pub fn broadcast(op: &str, name: &str, a: &[usize], b: &[usize]) -> Result<Shape> {
    let rank = a.len().max(b.len());
    let size = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    let mut out = Vec::with_capacity(rank);
    for axis in 0..rank {
        match (size(a, axis), size(b, axis)) {
            (m, n) if m == n => out.push(m),
            (1, n) => out.push(n),
            (m, 1) => out.push(m),
            _ => {
                return Err(Error::shape(
                    op,
                    name,
                    format_args!("a shape that broadcasts with {}", Shape::from(a)),
                    Shape::from(b),
                )
                .hint("sizes must be equal or 1, counted from the last axis"));
            }
        }
    }
    elements(&out)?;
    Ok(Shape(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    // S-17
    #[test]
    fn products_never_wrap() {
        assert_eq!(elements(&[3, 0, 5]).unwrap(), 0);
        assert_eq!(elements(&[]).unwrap(), 1);
        assert!(elements(&[1 << 32, 1 << 32]).is_err());
        assert!(elements(&[1 << 32, 1 << 32, 0]).is_err());
        assert!(bytes(&[1 << 62], DType::F32).is_err());
    }

    #[test]
    fn broadcasting() {
        assert_eq!(broadcast("add", "b", &[3, 1], &[4]).unwrap(), Shape::from([3, 4]));
        assert_eq!(broadcast("add", "b", &[], &[2, 0]).unwrap(), Shape::from([2, 0]));
        let e = broadcast("add", "b", &[3, 2], &[4]).unwrap_err().to_string();
        assert!(e.contains("(3, 2)") && e.contains("(4,)"), "{e}");
    }
}
