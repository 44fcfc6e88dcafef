//! Embedding: rows of a table by their number.
//!
//! * y[i] = W[ids[i]]: bits are copied, also those of the padding row (S-136)
//! * dW[v] = Σ dy[i] over the positions i with ids[i] = v, ascending, from zero; the padding row's is zero
//!
//! PyTorch's `embedding`, but ids of every integer type are taken and the first one out of range is named (S-15).

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::{DType, Ids, Shape, bytes, elements};

/// One call: the sizes, and ids that are in range.
#[derive(Clone, Debug)]
pub struct EmbeddingSpec {
    /// element type of W and y
    pub dtype: DType,
    /// rows of W
    pub vocabulary: usize,
    /// features of a row
    pub features: usize,
    /// which rows; in backward the padding row counts as skipped
    pub ids: Ids,
}

/// The sizes of a call, checked before its ids are read.
#[derive(Clone, Debug)]
pub struct EmbeddingSizes {
    op: &'static str,
    dtype: DType,
    vocabulary: usize,
    features: usize,
    ids: Shape,
    skip: Option<i64>,
}

impl EmbeddingSizes {
    /// Checks weight (vocabulary, features), for ids of shape `ids`.
    pub fn forward(dtype: DType, weight: &[usize], ids: &[usize]) -> Result<EmbeddingSizes> {
        let op = "embedding";
        let &[vocabulary, features] = weight else {
            return Err(Error::shape(op, "weight", "(vocabulary, features)", Shape::from(weight)));
        };
        EmbeddingSizes { op, dtype, vocabulary, features, ids: Shape::from(ids), skip: None }.checked()
    }

    /// Checks dy, of the shape of the ids and the features.
    pub fn backward(
        dtype: DType,
        dy: &[usize],
        ids: &[usize],
        vocabulary: usize,
        padding: Option<usize>,
    ) -> Result<EmbeddingSizes> {
        let op = "embedding_backward";
        let ids = Shape::from(ids);
        let features = match dy.split_last() {
            Some((&features, lead)) if *lead == *ids => features,
            _ => return Err(Error::shape(op, "dy", format_args!("ids' shape {ids} and features"), Shape::from(dy))),
        };
        if let Some(padding) = padding.filter(|&p| p >= vocabulary) {
            return Err(Error::value(op, "padding_idx", format_args!("0 <= padding_idx < {vocabulary}"), padding));
        }
        let skip = padding.and_then(|p| i64::try_from(p).ok());
        EmbeddingSizes { op, dtype, vocabulary, features, ids, skip }.checked()
    }

    fn checked(self) -> Result<EmbeddingSizes> {
        self.dtype.check_float(self.op, "weight")?;
        bytes(&[self.vocabulary, self.features], self.dtype)?;
        bytes(&[elements(&self.ids)?, self.features], self.dtype)?;
        Ok(self)
    }

    /// Checks the ids, which the caller knows by `name`.
    pub fn with(self, name: &str, ids: &[i64], poll: &dyn Fn() -> Result<()>) -> Result<EmbeddingSpec> {
        let EmbeddingSizes { op, dtype, vocabulary, features, ids: shape, skip } = self;
        let ids = Ids::new(op, name, ids, &shape, vocabulary, skip, poll)?;
        Ok(EmbeddingSpec { dtype, vocabulary, features, ids })
    }
}

/// An engine that looks rows up.
pub trait Embedding: Backend {
    /// y (ids, features)
    fn embedding(&self, spec: &EmbeddingSpec, weight: &Self::Buffer) -> Result<Self::Buffer>;
    /// dW (vocabulary, features) from dy (ids, features)
    fn embedding_backward(&self, spec: &EmbeddingSpec, dy: &Self::Buffer) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
