//! What recurrent layers share: stacking them, with dropout between, and cutting states by layer.
//!
//! A layer is whatever implements [`Layer`] on an engine: one cell, one direction, over a sequence. The stack
//! feeds each layer's y to the next, through dropout where it is asked for (on the output of every layer but the
//! last, one draw per element and step, S-42), and joins the final states as (L, B, H). The final state of a lower
//! layer is not dropped.

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::ops::dropout::{Dropout, DropoutSpec};

/// One layer of a stack on engine `E`, with its parameters.
pub trait Layer<E: Backend> {
    /// what backward needs beside the inputs
    type Saved: Send;

    /// Runs the layer. `initial` has one entry per kind of state (h, c); None is zero.
    fn forward(
        &self,
        engine: &E,
        x: &E::Buffer,
        initial: &[Option<E::Buffer>],
        save: bool,
    ) -> Result<Run<E::Buffer, Self::Saved>>;

    /// The gradients that `wants` names. `dlast` has one entry per kind of state.
    fn backward(
        &self,
        engine: &E,
        x: &E::Buffer,
        initial: &[Option<E::Buffer>],
        saved: Self::Saved,
        dy: Option<E::Buffer>,
        dlast: &[Option<E::Buffer>],
        wants: Wants,
    ) -> Result<LayerGrads<E::Buffer>>;
}

/// What a layer's forward gives.
pub struct Run<B, S> {
    /// (T, B, H)
    pub y: B,
    /// (B, H) for each kind of state
    pub last: Vec<B>,
    /// with `save`
    pub saved: Option<S>,
}

/// Which gradients are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// of the inputs
    pub dx: bool,
    /// of the initial states
    pub states: bool,
    /// of the parameters
    pub weights: bool,
}

/// What a layer's backward gives, as far as asked for.
pub struct LayerGrads<B> {
    /// (T, B, I)
    pub dx: Option<B>,
    /// (B, H) for each kind of state
    pub dinitial: Vec<Option<B>>,
    /// one per parameter
    pub dparameters: Vec<B>,
}

/// Dropout between layers: layer `l` draws from `stream + l`.
#[derive(Clone, Copy, Debug)]
pub struct Between {
    /// probability of a zero
    pub p: f64,
    /// the user's seed
    pub seed: u64,
    /// the call's own stream
    pub stream: u64,
}

impl Between {
    fn apply<E: Dropout>(&self, engine: &E, layer: usize, x: E::Buffer) -> Result<E::Buffer> {
        if self.p == 0.0 {
            return Ok(x);
        }
        let spec = DropoutSpec::new(x.dtype(), x.len(), self.p, self.seed, self.stream.wrapping_add(layer as u64))?;
        engine.dropout(&spec, &x)
    }
}

/// What a stack's backward needs: per layer its input, its initial states and its own.
pub struct StackSaved<B, S> {
    layers: Vec<(B, Vec<Option<B>>, S)>,
}

/// Runs the layers one after the other. `initial` has one (L, B, H) per kind of state; `state` is B·H.
#[allow(clippy::type_complexity)]
pub fn forward<E: Dropout, L: Layer<E>>(
    engine: &E,
    layers: &[L],
    between: Between,
    state: usize,
    x: E::Buffer,
    initial: &[Option<E::Buffer>],
    save: bool,
) -> Result<(E::Buffer, Vec<E::Buffer>, Option<StackSaved<E::Buffer, L::Saved>>)> {
    let kinds = initial.len();
    let mut last: Vec<Vec<E::Buffer>> = (0..kinds).map(|_| Vec::with_capacity(layers.len())).collect();
    let mut saved = Vec::with_capacity(layers.len());
    let mut x = x;
    for (l, layer) in layers.iter().enumerate() {
        let initial = cut(engine, initial, l, layers.len(), state)?;
        let run = layer.forward(engine, &x, &initial, save)?;
        for (kind, state) in last.iter_mut().zip(run.last) {
            kind.push(state);
        }
        let y = if l + 1 < layers.len() { between.apply(engine, l, run.y)? } else { run.y };
        let input = std::mem::replace(&mut x, y);
        if let Some(own) = run.saved {
            saved.push((input, initial, own));
        }
    }
    let last = last.iter().map(|parts| join(engine, parts)).collect::<Result<_>>()?;
    Ok((x, last, save.then_some(StackSaved { layers: saved })))
}

/// Walks the layers back. Gives dx, the (L, B, H) gradients of the initial states, and each layer's parameters'.
#[allow(clippy::type_complexity)]
pub fn backward<E: Dropout, L: Layer<E>>(
    engine: &E,
    layers: &[L],
    between: Between,
    state: usize,
    saved: StackSaved<E::Buffer, L::Saved>,
    dy: Option<E::Buffer>,
    dlast: &[Option<E::Buffer>],
    wants: Wants,
) -> Result<(Option<E::Buffer>, Vec<Option<E::Buffer>>, Vec<Vec<E::Buffer>>)> {
    if saved.layers.len() != layers.len() {
        return Err(Error::internal("recurrent: a stack of another height was saved"));
    }
    let mut dinitial: Vec<Vec<E::Buffer>> = dlast.iter().map(|_| Vec::new()).collect();
    let mut dparameters = Vec::with_capacity(layers.len());
    let mut dy = dy;
    for (l, (x, initial, own)) in saved.layers.into_iter().enumerate().rev() {
        let dlast = cut(engine, dlast, l, layers.len(), state)?;
        let wants = Wants { dx: wants.dx || l > 0, ..wants };
        let grads = layers[l].backward(engine, &x, &initial, own, dy.take(), &dlast, wants)?;
        for (kind, state) in dinitial.iter_mut().zip(grads.dinitial) {
            kind.extend(state);
        }
        dparameters.push(grads.dparameters);
        dy = match grads.dx {
            Some(dx) if l > 0 => Some(between.apply(engine, l - 1, dx)?),
            dx => dx,
        };
    }
    dparameters.reverse();
    let dinitial = dinitial
        .into_iter()
        .map(|mut parts| {
            parts.reverse();
            wants.states.then(|| join(engine, &parts)).transpose()
        })
        .collect::<Result<_>>()?;
    Ok((dy, dinitial, dparameters))
}

/// Layer `l`'s (B, H) of each (L, B, H).
fn cut<E: Backend>(
    engine: &E,
    states: &[Option<E::Buffer>],
    l: usize,
    layers: usize,
    state: usize,
) -> Result<Vec<Option<E::Buffer>>> {
    let one = |s: &E::Buffer| if layers == 1 { Ok(s.clone()) } else { engine.slice(s, l * state, state) };
    states.iter().map(|s| s.as_ref().map(one).transpose()).collect()
}

fn join<E: Backend>(engine: &E, parts: &[E::Buffer]) -> Result<E::Buffer> {
    match parts {
        [only] => Ok(only.clone()),
        _ => engine.concat(&parts.iter().collect::<Vec<_>>()),
    }
}
