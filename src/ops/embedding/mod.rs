//! Embedding: rows of a table by their number.
//!
//! * y[i] = W[ids[i]]: bits are copied, also those of the padding row (S-136)
//! * dW[v] = Σ dy[i] over the positions i with ids[i] = v, ascending, from zero; the padding row's is zero
//!
//! PyTorch's `embedding`, but ids of every integer type are taken and the first one out of range is named (S-15).
//! Engines run it as `take` and `put_add` of [`pick`](super::pick).

#[cfg(feature = "python")]
pub mod python;

use super::pick::PickSpec;
use crate::error::{Error, Of, Result};
use crate::tensor::{DType, Ids, Shape, bytes, elements};

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
        bytes(&[self.vocabulary, self.features], self.dtype).of(self.op)?;
        bytes(&[elements(&self.ids).of(self.op)?, self.features], self.dtype).of(self.op)?;
        Ok(self)
    }

    /// Checks the ids, which the caller knows by `name`.
    pub fn with(self, name: &str, ids: &[i64], poll: &dyn Fn() -> Result<()>) -> Result<PickSpec> {
        let EmbeddingSizes { op, dtype, vocabulary, features, ids: shape, skip } = self;
        // in backward the padding row counts as skipped
        PickSpec::new(dtype, 1, Ids::new(op, name, ids, &shape, vocabulary, skip, poll)?, features)
    }
}

#[cfg(test)]
mod tests;
