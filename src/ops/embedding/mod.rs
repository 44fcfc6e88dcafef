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
use crate::tensor::{DType, Ids, Shape, bytes};

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

impl EmbeddingSpec {
    /// Checks weight (vocabulary, features) and the ids, of shape `ids_shape`.
    pub fn forward(dtype: DType, weight: &[usize], ids: &[i64], ids_shape: &[usize]) -> Result<EmbeddingSpec> {
        let &[vocabulary, features] = weight else {
            return Err(Error::shape("embedding", "weight", "(vocabulary, features)", Shape::from(weight)));
        };
        let ids = Ids::new("embedding", "ids", ids, ids_shape, vocabulary, None)?;
        EmbeddingSpec::new("embedding", dtype, vocabulary, features, ids)
    }

    /// Checks dy, of the shape of the ids and the features, and the ids.
    pub fn backward(
        dtype: DType,
        dy: &[usize],
        ids: &[i64],
        ids_shape: &[usize],
        vocabulary: usize,
        padding: Option<usize>,
    ) -> Result<EmbeddingSpec> {
        let op = "embedding_backward";
        let features = match dy.split_last() {
            Some((&features, lead)) if lead == ids_shape => features,
            _ => {
                let lead = Shape::from(ids_shape);
                return Err(Error::shape(op, "dy", format_args!("ids' shape {lead} and features"), Shape::from(dy)));
            }
        };
        if let Some(padding) = padding.filter(|&p| p >= vocabulary) {
            return Err(Error::value(op, "padding_idx", format_args!("0 <= padding_idx < {vocabulary}"), padding));
        }
        let skip = padding.and_then(|p| i64::try_from(p).ok());
        let ids = Ids::new(op, "ids", ids, ids_shape, vocabulary, skip)?;
        EmbeddingSpec::new(op, dtype, vocabulary, features, ids)
    }

    fn new(op: &str, dtype: DType, vocabulary: usize, features: usize, ids: Ids) -> Result<EmbeddingSpec> {
        dtype.check_float(op, "weight")?;
        bytes(&[vocabulary, features], dtype)?;
        bytes(&[ids.len(), features], dtype)?;
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

#[cfg(test)]
mod tests;
