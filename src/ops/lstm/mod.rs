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
//! Chains (`docs/numerics.md`): a pre-activation is b_ih + b_hh rounded once, then inputs k = 0, 1, …, then recurrent
//! k = 0, 1, …, in one accumulator. dx and dh: one chain per gate over the units, from zero, joined as
//! (i + f) + (g + o). Weight and bias gradients: one chain over rows, t descending and b ascending.

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

use crate::ops::recurrent::{LayerSpec, Weights};

/// i, f, g, o
pub const GATES: usize = 4;

/// One layer; its states are h and c. Both engines implement `recurrent::Layer` for it. b_ih and b_hh have one
/// gradient, since they are added (S-34).
#[derive(Clone, Debug)]
pub struct Lstm<B> {
    /// with `GATES` gates
    pub spec: LayerSpec,
    /// the parameters
    pub weights: Weights<B>,
}

/// What a backward call needs beside the inputs of the forward call.
#[derive(Clone, Debug)]
pub struct LstmSaved<B> {
    /// (T, B, 4, H): i, f, g, o after their activations; backward overwrites it
    pub gates: B,
    /// (T, B, H): c_t of every step
    pub c: B,
    /// (T, B, H): h_t of every step. The engine's own copy or the y that was given out: see `recurrent::Layer`
    pub h: B,
}
