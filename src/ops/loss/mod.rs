//! Cross-entropy of class ids, from logits, with its gradient in the same pass.
//!
//! For a row x of C logits and its class t, with m = max x and s = Σ e^(x_c - m):
//!
//! * loss = ln s - (x_t - m), which is -ln softmax(x)_t without overflow
//! * dloss/dx_c = e^(x_c - m) / s - [c = t]
//!
//! PyTorch's `cross_entropy` (S-122 to S-126): rows whose target is `ignore_index` give 0 and are not read (they may
//! hold NaN, S-19); the mean divides by the number of kept rows, so with none it is 0/0 = NaN while the gradient is
//! 0. A target with logit -inf has loss inf; another class with -inf gets gradient 0; a row with +inf, or of -inf
//! only, is NaN (S-120).
//!
//! Orders, so that a row's bits do not depend on the other rows:
//!
//! * CPU: s is summed in 16 lanes, lane j over c = j, j + 16, … ascending from 0, which are then joined in halves
//!   (j + 8, then + 4, + 2, + 1); the losses of the rows are added in f64, ascending
//! * GPU, all in f32: s in 64 lanes, joined alike; a row of more than 2^20 classes is cut in parts of 2^16, each about
//!   its own maximum, and these sums are scaled and summed in 64 lanes too. The losses are summed in parts of 2^16: 64
//!   lanes, each in runs of 32; then so are the parts

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Of, Result};
use crate::tensor::{DType, Ids, Shape, bytes};

const OP: &str = "cross_entropy";

/// What becomes of the losses of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// their mean over the rows that are kept
    Mean,
    /// their sum
    Sum,
    /// one each
    None,
}

impl Reduction {
    /// The reduction of that name.
    pub fn parse(op: &str, name: &str) -> Result<Reduction> {
        match name {
            "mean" => Ok(Reduction::Mean),
            "sum" => Ok(Reduction::Sum),
            "none" => Ok(Reduction::None),
            _ => Err(Error::value(op, "reduction", "\"mean\", \"sum\" or \"none\"", format_args!("{name:?}"))),
        }
    }
}

/// One call: the sizes, and targets that are classes or ignored.
#[derive(Clone, Debug)]
pub struct CrossEntropySpec {
    /// element type of logits, loss and gradient
    pub dtype: DType,
    /// N
    pub rows: usize,
    /// C
    pub classes: usize,
    /// the class of each row; ignored rows count as skipped
    pub targets: Ids,
    /// what becomes of the losses
    pub reduction: Reduction,
    /// whether the gradient is wanted
    pub gradient: bool,
}

/// The sizes of a call, checked before its targets are read.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropySizes {
    dtype: DType,
    rows: usize,
    classes: usize,
}

impl CrossEntropySizes {
    /// Checks logits (N, C), for targets (N,).
    pub fn new(dtype: DType, logits: &[usize], targets: &[usize]) -> Result<CrossEntropySizes> {
        dtype.check_float(OP, "input")?;
        let &[rows, classes] = logits else {
            return Err(Error::shape(OP, "input", "(N, C)", Shape::from(logits)));
        };
        if targets != [rows] {
            return Err(Error::shape(OP, "target", Shape::from([rows]), Shape::from(targets)));
        }
        bytes(&[rows.max(1), classes.max(1)], dtype).of(OP)?;
        Ok(CrossEntropySizes { dtype, rows, classes })
    }

    /// Checks the targets, asking `poll` now and then.
    pub fn with(
        self,
        targets: &[i64],
        ignore_index: i64,
        reduction: Reduction,
        gradient: bool,
        poll: &dyn Fn() -> Result<()>,
    ) -> Result<CrossEntropySpec> {
        let CrossEntropySizes { dtype, rows, classes } = self;
        let targets = Ids::new(OP, "target", targets, &[rows], classes, Some(ignore_index), poll)?;
        Ok(CrossEntropySpec { dtype, rows, classes, targets, reduction, gradient })
    }
}

impl CrossEntropySpec {
    /// What the gradient of each row's loss is multiplied by.
    pub fn scale(&self) -> f64 {
        match self.reduction {
            Reduction::Mean => 1.0 / (self.targets.kept().max(1) as f64),
            _ => 1.0,
        }
    }

    /// The shape of the loss.
    pub fn loss(&self) -> Shape {
        match self.reduction {
            Reduction::None => Shape::from([self.rows]),
            _ => Shape::from([]),
        }
    }
}

/// The loss, and its gradient where it was wanted.
#[derive(Clone, Debug)]
pub struct CrossEntropy<B> {
    /// one number, or (N,)
    pub loss: B,
    /// (N, C): of the reduced loss, or of each row's own where they are not reduced
    pub gradient: Option<B>,
}

/// An engine that computes losses.
pub trait Loss: Backend {
    /// The loss of `logits` (N, C) against the targets.
    fn cross_entropy(&self, spec: &CrossEntropySpec, logits: &Self::Buffer) -> Result<CrossEntropy<Self::Buffer>>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
