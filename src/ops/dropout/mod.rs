//! Dropout (Srivastava et al. 2014, in the inverted form that every framework uses).
//!
//! Element i is kept where u_i >= p, with u_i the uniform number of word i of Philox (seed, stream): so the mask is
//! a function of these and of the element's place, not of threads or devices (S-27). Kept elements are multiplied
//! by 1/(1-p), rounded once; dropped ones are 0 by selection, also where x is NaN or inf (S-28). p = 0 copies, p = 1
//! gives zeros.
//!
//! It is linear in x, so its backward is the same call on dy.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::{DType, Philox};

/// One call, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutSpec {
    /// element type of x and y
    pub dtype: DType,
    /// number of elements
    pub len: usize,
    /// a word is kept when its upper 24 bits are at least this: 0 to 2^24
    pub threshold: u32,
    /// 1/(1-p)
    pub scale: f64,
    /// the random numbers
    pub philox: Philox,
}

impl DropoutSpec {
    /// Checks p and the type; `len` is that of a buffer.
    pub fn new(dtype: DType, len: usize, p: f64, seed: u64, stream: u64) -> Result<DropoutSpec> {
        dtype.check_float("dropout", "x")?;
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::value("dropout", "p", "0 <= p <= 1", p));
        }
        // u_i is a multiple of 2^-24, and p * 2^24 is exact: u_i >= p is a comparison of integers
        let threshold = (p * 16_777_216.0).ceil() as u32;
        Ok(DropoutSpec { dtype, len, threshold, scale: 1.0 / (1.0 - p), philox: Philox { seed, stream } })
    }

    /// Whether the element of that word is kept.
    pub fn keeps(&self, word: u32) -> bool {
        word >> 8 >= self.threshold
    }

    /// Nothing is dropped and nothing scaled.
    pub fn is_identity(&self) -> bool {
        self.threshold == 0
    }
}

/// An engine that drops out.
pub trait Dropout: Backend {
    /// y_i = x_i / (1-p) where kept, else 0
    fn dropout(&self, spec: &DropoutSpec, x: &Self::Buffer) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
