//! Picking by ids: of x (front, bound, width) the blocks of `width` elements whose numbers along the middle axis are
//! given, the same ones in each of the `front` rows. Embedding and indexing by arrays stand on it.
//!
//! * `take`: y[f, i, w] = x[f, ids[i], w], its bits
//! * `put_add`, its adjoint: x[f, ids[i], w] = Σ v[f, i, w] over the i that share an id, ascending, from zero
//! * `assign_at`: x[f, ids[i], w] = v[f, i, w] in place; ids differ, or all v are one number
//!
//! Ids may be skipped: `take` gives zeros for them, the others leave them out.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::Result;
use crate::tensor::{DType, Ids, bytes};

/// One call: the sizes, and ids that are in range.
#[derive(Clone, Debug)]
pub struct PickSpec {
    /// element type of x and y
    pub dtype: DType,
    /// rows that are picked from alike
    pub front: usize,
    /// elements of what an id stands for
    pub width: usize,
    /// which of `ids.bound()`
    pub ids: Ids,
}

impl PickSpec {
    /// Checks that all and what is picked can be sizes.
    pub fn new(dtype: DType, front: usize, ids: Ids, width: usize) -> Result<PickSpec> {
        bytes(&[front, ids.bound(), width], dtype)?;
        bytes(&[front, ids.len(), width], dtype)?;
        Ok(PickSpec { dtype, front, width, ids })
    }

    /// Elements of x.
    pub fn whole(&self) -> usize {
        self.front * self.ids.bound() * self.width
    }

    /// Elements of y.
    pub fn picked(&self) -> usize {
        self.front * self.ids.len() * self.width
    }
}

/// An engine that picks.
pub trait Pick: Backend {
    /// y (front, ids, width) from x (front, bound, width)
    fn take(&self, spec: &PickSpec, x: &Self::Buffer) -> Result<Self::Buffer>;
    /// x (front, bound, width) from v (front, ids, width)
    fn put_add(&self, spec: &PickSpec, values: &Self::Buffer) -> Result<Self::Buffer>;
    /// Writes values (front, ids, width), or one number for all of them, into `x` in place and gives it a new version:
    /// all or none. No id comes twice where there are several. `values` may be `x`.
    fn assign_at(&self, spec: &PickSpec, x: &Self::Buffer, values: &Self::Buffer) -> Result<()>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
