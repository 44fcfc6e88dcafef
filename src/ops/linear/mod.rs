//! Linear layers and matrix products.
//!
//! * linear: y = x Wᵀ + b, with x (..., in), W (out, in), b (out,) and y (..., out); all axes of x but the last are
//!   rows
//! * its backward: dx = dy W; dW = dyᵀ x; db = Σ over rows of dy
//! * matmul: c = a b for (m, k) and (k, n), or for batches of such with equal leading axes; either operand may be
//!   given transposed
//!
//! PyTorch's `linear` and `matmul` (S-138: a 1-D x gives a 1-D y).
//!
//! Chains (`docs/numerics.md`): y starts at the bias, then k = 0, 1, …; dx at zero, then output features ascending; dW
//! and db at zero, then rows ascending; matmul at zero, then k ascending. So no element depends on how many rows there
//! are, and dW of a batch is no other sum than that of its rows one after the other.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Of, Result};
use crate::tensor::{DType, Shape, bytes, elements};

/// The sizes of a linear layer's call, checked: products of two of them do not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// element type of everything
    pub dtype: DType,
    /// rows of x and y
    pub rows: usize,
    /// features of a row of x
    pub input: usize,
    /// features of a row of y
    pub output: usize,
}

impl LinearSpec {
    /// Checks x (..., in), which the caller knows by `name`, against weight (out, in) and bias (out,).
    pub fn new(
        op: &str,
        dtype: DType,
        (name, x): (&str, &[usize]),
        weight: &[usize],
        bias: Option<&[usize]>,
    ) -> Result<LinearSpec> {
        dtype.check_float(op, name)?;
        let &[output, input] = weight else {
            return Err(Error::shape(op, "weight", "(out, in)", Shape::from(weight)));
        };
        let rows = match x.split_last() {
            Some((&last, rows)) if last == input => elements(rows).of(op)?,
            _ => {
                return Err(Error::shape(op, name, format_args!("(..., {input})"), Shape::from(x)).hint(format!(
                    "the last axis is the feature axis; the weight of shape {} takes {input} features",
                    Shape::from(weight)
                )));
            }
        };
        if let Some(bias) = bias.filter(|&bias| bias != [output]) {
            return Err(Error::shape(op, "bias", Shape::from([output]), Shape::from(bias)));
        }
        let spec = LinearSpec { dtype, rows, input, output };
        bytes(&[rows.max(1), output.max(1)], dtype).of(op)?;
        bytes(&[rows.max(1), input.max(1)], dtype).of(op)?;
        bytes(&[output.max(1), input.max(1)], dtype).of(op)?;
        Ok(spec)
    }

    /// The shape of y for an x of that shape.
    pub fn y(&self, x: &[usize]) -> Shape {
        let mut y = Shape::from(x);
        if let Some(last) = y.0.last_mut() {
            *last = self.output;
        }
        y
    }

    /// Multiplications of one product of the three.
    pub fn products(&self) -> u64 {
        product(&[self.rows, self.input, self.output])
    }
}

/// The gradients that were wanted.
#[derive(Clone, Debug)]
pub struct LinearGrads<B> {
    /// (rows, in)
    pub x: Option<B>,
    /// (out, in)
    pub weight: Option<B>,
    /// (out,)
    pub bias: Option<B>,
}

/// The sizes of a matrix product, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatmulSpec {
    /// element type of everything
    pub dtype: DType,
    /// how many products
    pub batch: usize,
    /// rows of c
    pub m: usize,
    /// length of each sum
    pub k: usize,
    /// columns of c
    pub n: usize,
    /// a is given as (k, m)
    pub transpose_a: bool,
    /// b is given as (n, k)
    pub transpose_b: bool,
}

impl MatmulSpec {
    /// Checks a (..., m, k) against b (..., k, n), each with its last two axes swapped where it is transposed.
    pub fn new(dtype: DType, a: &[usize], b: &[usize], transpose_a: bool, transpose_b: bool) -> Result<MatmulSpec> {
        dtype.check_float("matmul", "x")?;
        let [lead_a @ .., a0, a1] = a else {
            return Err(Error::shape("matmul", "a", "at least 2 axes", Shape::from(a)));
        };
        let [lead_b @ .., b0, b1] = b else {
            return Err(Error::shape("matmul", "b", "at least 2 axes", Shape::from(b)));
        };
        let (m, k) = if transpose_a { (*a1, *a0) } else { (*a0, *a1) };
        let (inner, n) = if transpose_b { (*b1, *b0) } else { (*b0, *b1) };
        if lead_a != lead_b || inner != k {
            let mut right = lead_a.to_vec();
            right.extend(if transpose_b { [n, k] } else { [k, n] });
            let what = format!("{}, to go with a of shape {}", Shape(right), Shape::from(a));
            return Err(Error::shape("matmul", "b", what, Shape::from(b)));
        }
        let batch = elements(lead_a).of("matmul")?;
        for size in [[batch, m, k], [batch, k, n], [batch, m, n]] {
            bytes(&size.map(|n| n.max(1)), dtype).of("matmul")?;
        }
        Ok(MatmulSpec { dtype, batch, m, k, n, transpose_a, transpose_b })
    }

    /// The shape of c for an a of that shape.
    pub fn c(&self, a: &[usize]) -> Shape {
        let mut c = a.get(..a.len().saturating_sub(2)).unwrap_or_default().to_vec();
        c.extend([self.m, self.n]);
        Shape(c)
    }

    /// Multiplications.
    pub fn products(&self) -> u64 {
        product(&[self.batch, self.m, self.k, self.n])
    }
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1u64, |product, &n| product.saturating_mul(n as u64))
}

/// An engine that runs linear layers and matrix products.
pub trait Linear: Backend {
    /// y = x Wᵀ + b
    fn linear(
        &self,
        spec: &LinearSpec,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        bias: Option<&Self::Buffer>,
    ) -> Result<Self::Buffer>;

    /// From dy (rows, out): dW where x is given, dx where the weight is, db where `bias` says so
    fn linear_backward(
        &self,
        spec: &LinearSpec,
        x: Option<&Self::Buffer>,
        weight: Option<&Self::Buffer>,
        bias: bool,
        dy: &Self::Buffer,
    ) -> Result<LinearGrads<Self::Buffer>>;

    /// c = a b
    fn matmul(&self, spec: &MatmulSpec, a: &Self::Buffer, b: &Self::Buffer) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
