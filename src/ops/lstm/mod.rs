//! LSTM: one layer, one direction, over a sequence (Hochreiter and Schmidhuber 1997; forget gate by Gers et al.
//! 2000; PyTorch's weight layout, gate order i, f, g, o).
//!
//! With a = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, split into four blocks of H rows:
//!
//! * i = σ(a_i), f = σ(a_f), g = tanh(a_g), o = σ(a_o)
//! * c_t = f ⊙ c_{t-1} + i ⊙ g
//! * h_t = o ⊙ tanh(c_t)
//!
//! Backward, for t from T-1 down to 0, with dh = dy_t + W_hhᵀ da_{t+1} (the last step takes dh_n, and dc starts
//! as dc_n):
//!
//! * dc += dh ⊙ o ⊙ (1 - tanh²(c_t))
//! * da_i = dc ⊙ g ⊙ i(1-i); da_f = dc ⊙ c_{t-1} ⊙ f(1-f); da_g = dc ⊙ i ⊙ (1-g²); da_o = dh ⊙ tanh(c_t) ⊙ o(1-o)
//! * dc ← dc ⊙ f
//! * dx_t = W_ihᵀ da_t; dW_ih = Σ da_t x_tᵀ; dW_hh = Σ da_t h_{t-1}ᵀ; db_ih = db_hh = Σ da_t
//!
//! Chains (`architecture.md`, numerical contract): a pre-activation is b_ih + b_hh rounded once, then inputs
//! k = 0, 1, …, then recurrent k = 0, 1, …, in one accumulator. dx and dh: one chain per gate over the units,
//! from zero, joined as (i + f) + (g + o). Weight and bias gradients: one chain over rows, t descending and
//! b ascending.

pub mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, elements};

/// The sizes of one call, checked: products of them do not wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LstmSpec {
    /// element type of everything
    pub dtype: DType,
    /// T, may be 0
    pub steps: usize,
    /// B, may be 0
    pub batch: usize,
    /// I, at least 1
    pub input: usize,
    /// H, at least 1
    pub hidden: usize,
    /// whether there are b_ih and b_hh
    pub bias: bool,
}

impl LstmSpec {
    /// Checks the sizes. Shapes are x (T, B, I), states (B, H), weights (4H, I) and (4H, H), biases (4H,).
    pub fn new(dtype: DType, steps: usize, batch: usize, input: usize, hidden: usize, bias: bool) -> Result<LstmSpec> {
        for (name, n) in [("input_size", input), ("hidden_size", hidden)] {
            if n == 0 {
                return Err(Error::value("lstm", name, "at least 1", n));
            }
        }
        if dtype == DType::I64 {
            return Err(Error::dtype("lstm", "x", "float32 or float64", dtype));
        }
        let spec = LstmSpec { dtype, steps, batch, input, hidden, bias };
        for shape in [spec.x(), spec.gates(), spec.y(), spec.weight_ih(), spec.weight_hh()] {
            crate::tensor::bytes(&shape, dtype)?;
        }
        elements(&[steps.max(1), batch.max(1), 8, hidden.max(input)])?;
        Ok(spec)
    }

    /// (T, B, I)
    pub fn x(&self) -> Shape {
        Shape::from([self.steps, self.batch, self.input])
    }

    /// (T, B, H)
    pub fn y(&self) -> Shape {
        Shape::from([self.steps, self.batch, self.hidden])
    }

    /// (B, H)
    pub fn state(&self) -> Shape {
        Shape::from([self.batch, self.hidden])
    }

    /// (T, B, 4, H): i, f, g, o after their activations
    pub fn gates(&self) -> Shape {
        Shape::from([self.steps, self.batch, 4, self.hidden])
    }

    /// (4H, I)
    pub fn weight_ih(&self) -> Shape {
        Shape::from([4 * self.hidden, self.input])
    }

    /// (4H, H)
    pub fn weight_hh(&self) -> Shape {
        Shape::from([4 * self.hidden, self.hidden])
    }

    /// (4H,)
    pub fn bias_shape(&self) -> Shape {
        Shape::from([4 * self.hidden])
    }

    /// Multiplications and additions of a forward call; a backward call takes about twice as many.
    pub fn flops(&self) -> u64 {
        let products = 8 * self.hidden as u64 * (self.input as u64 + self.hidden as u64);
        (self.steps as u64 * self.batch as u64).saturating_mul(products)
    }
}

/// The parameters of a layer, each of the shape that `LstmSpec` says.
#[derive(Clone, Debug)]
pub struct LstmWeights<B> {
    /// (4H, I)
    pub ih: B,
    /// (4H, H)
    pub hh: B,
    /// b_ih and b_hh, each (4H,); given exactly when `spec.bias`
    pub bias: Option<(B, B)>,
}

/// What a forward call gives.
#[derive(Clone, Debug)]
pub struct LstmOutput<B> {
    /// (T, B, H)
    pub y: B,
    /// (B, H), memory of its own
    pub h_n: B,
    /// (B, H)
    pub c_n: B,
}

/// What a backward call needs beside the inputs of the forward call.
#[derive(Clone, Debug)]
pub struct LstmSaved<B> {
    /// (T, B, 4, H), activated; owned by the backward call, which may overwrite it
    pub gates: B,
    /// (T, B, H): c_t of every step
    pub c: B,
    /// (T, B, H): h_t of every step. The engine's own copy or the y that was given out: see `lstm_forward`
    pub h: B,
}

/// The inputs of a forward call.
#[derive(Clone, Debug)]
pub struct LstmInputs<B> {
    /// (T, B, I)
    pub x: B,
    /// (B, H); None is zero
    pub h0: Option<B>,
    /// (B, H); None is zero
    pub c0: Option<B>,
    /// the parameters
    pub weights: LstmWeights<B>,
}

/// The gradients that reach a layer from above; None is zero.
#[derive(Clone, Debug)]
pub struct LstmOutputGrads<B> {
    /// (T, B, H)
    pub dy: Option<B>,
    /// (B, H)
    pub dh_n: Option<B>,
    /// (B, H)
    pub dc_n: Option<B>,
}

/// Which gradients are asked for; the others are not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LstmWants {
    /// gradient of the inputs
    pub dx: bool,
    /// gradients of h0 and c0
    pub states: bool,
    /// gradients of all parameters
    pub weights: bool,
}

/// Gradients, as far as asked for.
#[derive(Clone, Debug)]
pub struct LstmGrads<B> {
    /// (T, B, I)
    pub dx: Option<B>,
    /// (B, H)
    pub dh0: Option<B>,
    /// (B, H)
    pub dc0: Option<B>,
    /// dW_ih, dW_hh
    pub dweights: Option<(B, B)>,
    /// db: the gradient of b_ih and of b_hh, which are equal (S-34); given when there are biases
    pub dbias: Option<B>,
}

/// An engine that runs an LSTM layer.
pub trait Lstm: Backend {
    /// y, h_n, c_n, and with `save` what `lstm_backward` needs. T = 0: y is empty, the final state is a copy of
    /// the initial one (S-30). Outputs share memory with nothing, but `saved.h` may be the memory of `y`: the
    /// border sees to it that y is not written to while it is saved.
    #[allow(clippy::type_complexity)]
    fn lstm_forward(
        &self,
        spec: &LstmSpec,
        inputs: &LstmInputs<Self::Buffer>,
        save: bool,
    ) -> Result<(LstmOutput<Self::Buffer>, Option<LstmSaved<Self::Buffer>>)>;

    /// The gradients that `wants` names. Consumes `saved`.
    fn lstm_backward(
        &self,
        spec: &LstmSpec,
        inputs: &LstmInputs<Self::Buffer>,
        saved: LstmSaved<Self::Buffer>,
        grads: &LstmOutputGrads<Self::Buffer>,
        wants: LstmWants,
    ) -> Result<LstmGrads<Self::Buffer>>;
}

impl<B: Buffer> LstmInputs<B> {
    /// Debug check that every buffer has the size and type that the spec says.
    pub fn fit(&self, spec: &LstmSpec) -> bool {
        let is = |b: &B, shape: Shape| b.dtype() == spec.dtype && b.len() == shape.iter().product::<usize>();
        is(&self.x, spec.x())
            && self.h0.iter().chain(&self.c0).all(|s| is(s, spec.state()))
            && is(&self.weights.ih, spec.weight_ih())
            && is(&self.weights.hh, spec.weight_hh())
            && self.weights.bias.is_some() == spec.bias
    }
}
