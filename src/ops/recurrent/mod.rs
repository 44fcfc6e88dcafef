//! What recurrent layers share: their sizes and parameters, what goes in and out of a layer, and stacking layers,
//! with dropout between.
//!
//! A layer is whatever implements [`Layer`] on an engine: one cell, one direction, over a sequence. The stack
//! feeds each layer's y to the next, through dropout where it is asked for (on the output of every layer but the
//! last, one draw per element and step, S-42), and joins the final states as (L, B, H). The final state of a lower
//! layer is not dropped.

#[cfg(feature = "python")]
pub mod python;

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Of, Result};
use crate::ops::dropout::{Dropout, DropoutSpec};
use crate::tensor::{DType, Shape, bytes, elements};

/// The sizes of a layer's call, checked: products of them do not wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpec {
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
    /// G: blocks of H rows in a weight
    pub gates: usize,
    /// whether there are b_ih and b_hh
    pub bias: bool,
}

impl LayerSpec {
    /// Checks the sizes, for `op`. Shapes are x (T, B, I), states (B, H), weights (G*H, I) and (G*H, H), biases
    /// (G*H,).
    pub fn new(
        op: &'static str,
        dtype: DType,
        (steps, batch): (usize, usize),
        (input, hidden, gates): (usize, usize, usize),
        bias: bool,
    ) -> Result<LayerSpec> {
        for (name, n) in [("input_size", input), ("hidden_size", hidden)] {
            if n == 0 {
                return Err(Error::value(op, name, "at least 1", n));
            }
        }
        dtype.check_float(op, "x")?;
        // before any product of two sizes
        elements(&[steps.max(1), batch.max(1), 2 * gates, hidden.max(input)]).of(op)?;
        elements(&[2 * gates, hidden, hidden.max(input)]).of(op)?;
        let spec = LayerSpec { dtype, steps, batch, input, hidden, gates, bias };
        for shape in [spec.x(), spec.by_gate(), spec.weight_ih(), spec.weight_hh()] {
            bytes(&shape, dtype).of(op)?;
        }
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

    /// (T, B, G, H)
    pub fn by_gate(&self) -> Shape {
        Shape::from([self.steps, self.batch, self.gates, self.hidden])
    }

    /// G*H: rows of a weight, elements of a bias
    pub fn rows(&self) -> usize {
        self.gates * self.hidden
    }

    /// (G*H, I)
    pub fn weight_ih(&self) -> Shape {
        Shape::from([self.rows(), self.input])
    }

    /// (G*H, H)
    pub fn weight_hh(&self) -> Shape {
        Shape::from([self.rows(), self.hidden])
    }

    /// Whether a sequence of such width and states have the sizes and the type of the spec.
    pub fn fits<B: Buffer>(&self, sequence: Option<&B>, width: usize, states: &[Option<B>]) -> bool {
        sequence.is_none_or(|s| is(self, s, self.steps * self.batch * width))
            && states.iter().flatten().all(|s| is(self, s, self.batch * self.hidden))
    }

    /// Multiplications and additions of a forward call; a backward call takes about twice as many.
    pub fn flops(&self) -> u64 {
        let products = 2 * self.rows() as u64 * (self.input as u64 + self.hidden as u64);
        (self.steps as u64 * self.batch as u64).saturating_mul(products)
    }
}

/// The parameters of a layer, each of the shape that its `LayerSpec` says.
#[derive(Clone, Debug)]
pub struct Weights<B> {
    /// (G*H, I)
    pub ih: B,
    /// (G*H, H)
    pub hh: B,
    /// b_ih and b_hh, each (G*H,); given exactly when `spec.bias`
    pub bias: Option<(B, B)>,
}

impl<B: Buffer> Weights<B> {
    /// Whether every buffer has the size and type that the spec says.
    pub fn fit(&self, spec: &LayerSpec) -> bool {
        let bias = self.bias.iter().flat_map(|(ih, hh)| [ih, hh]);
        let rows = spec.rows();
        is(spec, &self.ih, rows * spec.input)
            && is(spec, &self.hh, rows * spec.hidden)
            && self.bias.is_some() == spec.bias
            && bias.into_iter().all(|b| is(spec, b, rows))
    }
}

fn is<B: Buffer>(spec: &LayerSpec, buffer: &B, elements: usize) -> bool {
    buffer.dtype() == spec.dtype && buffer.len() == elements
}

/// `N` states by name: `let [h0, c0] = states(initial)`. None is zero.
pub fn states<const N: usize, B>(given: &[Option<B>]) -> [Option<&B>; N] {
    std::array::from_fn(|kind| given.get(kind).and_then(Option::as_ref))
}

/// New memory: the state as given, or zeros.
pub fn state<E: Backend>(engine: &E, spec: &LayerSpec, given: Option<&E::Buffer>) -> Result<E::Buffer> {
    match given {
        Some(given) => engine.slice(given, 0, given.len()),
        None => engine.zeros(spec.dtype, elements(&spec.state())?),
    }
}

/// New memory: the last state of `sequence`, or without steps the initial one (S-30).
pub fn last<E: Backend>(
    engine: &E,
    spec: &LayerSpec,
    sequence: &E::Buffer,
    initial: Option<&E::Buffer>,
) -> Result<E::Buffer> {
    if spec.steps == 0 {
        return state(engine, spec, initial);
    }
    let size = elements(&spec.state())?;
    engine.slice(sequence, sequence.len() - size, size)
}

/// One layer of a stack on engine `E`, with its parameters.
pub trait Layer<E: Backend> {
    /// what backward needs beside the inputs; backward may overwrite it
    type Saved: Send;

    /// Runs the layer. `initial` has one entry per kind of state (h, c); None is zero. T = 0: y is empty, the final
    /// states are copies of the initial ones (S-30). Outputs share memory with nothing, but what is saved may be the
    /// memory of `y`: the border sees to it that y is not written to while it is saved.
    fn forward(
        &self,
        engine: &E,
        x: &E::Buffer,
        initial: &[Option<E::Buffer>],
        save: bool,
    ) -> Result<Run<E::Buffer, Self::Saved>>;

    /// The gradients that `wants` names; the others are not computed.
    fn backward(
        &self,
        engine: &E,
        kept: Kept<E::Buffer, Self::Saved>,
        above: Above<E::Buffer>,
        wants: Wants,
    ) -> Result<LayerGrads<E::Buffer>>;
}

/// What a layer's backward needs: what its forward was given, and what it kept.
pub struct Kept<B, S> {
    /// (T, B, I)
    pub x: B,
    /// (B, H) for each kind of state; None is zero
    pub initial: Vec<Option<B>>,
    /// the layer's own
    pub own: S,
}

/// The gradients that come from above; None is zero.
pub struct Above<B> {
    /// (T, B, H)
    pub dy: Option<B>,
    /// for each kind of state
    pub dlast: Vec<Option<B>>,
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

/// Layers one above the other.
pub struct Stack<'a, L> {
    /// from the bottom up
    pub layers: &'a [L],
    /// dropout between them
    pub between: Between,
}

/// What a stack's forward gives.
pub struct StackRun<B, S> {
    /// (T, B, H)
    pub y: B,
    /// (L, B, H) for each kind of state
    pub last: Vec<B>,
    /// with `save`, from the bottom up
    pub saved: Option<StackSaved<B, S>>,
}

/// What a stack's backward needs.
pub type StackSaved<B, S> = Vec<Kept<B, S>>;

/// What a stack's backward gives, as far as asked for.
pub struct StackGrads<B> {
    /// (T, B, I)
    pub dx: Option<B>,
    /// (L, B, H) for each kind of state
    pub dinitial: Vec<Option<B>>,
    /// of each layer, one per parameter
    pub dparameters: Vec<Vec<B>>,
}

impl<L> Stack<'_, L> {
    /// Runs the layers one after the other. `initial` has one (L, B, H) per kind of state.
    pub fn forward<E: Dropout>(
        &self,
        engine: &E,
        x: E::Buffer,
        initial: &[Option<E::Buffer>],
        save: bool,
    ) -> Result<StackRun<E::Buffer, L::Saved>>
    where
        L: Layer<E>,
    {
        let height = self.layers.len();
        let mut last: Vec<Vec<E::Buffer>> = initial.iter().map(|_| Vec::with_capacity(height)).collect();
        let mut saved = Vec::with_capacity(if save { height } else { 0 });
        let mut x = x;
        for (l, layer) in self.layers.iter().enumerate() {
            let initial = cut(engine, initial, l, height)?;
            let run = layer.forward(engine, &x, &initial, save)?;
            for (kind, state) in last.iter_mut().zip(run.last) {
                kind.push(state);
            }
            let y = if l + 1 < height { self.between.apply(engine, l, run.y)? } else { run.y };
            let input = std::mem::replace(&mut x, y);
            if let Some(own) = run.saved {
                saved.push(Kept { x: input, initial, own });
            }
        }
        let last = last.iter().map(|parts| join(engine, parts)).collect::<Result<_>>()?;
        Ok(StackRun { y: x, last, saved: save.then_some(saved) })
    }

    /// Walks the layers back; `above.dlast` has one (L, B, H) per kind of state.
    pub fn backward<E: Dropout>(
        &self,
        engine: &E,
        saved: StackSaved<E::Buffer, L::Saved>,
        above: Above<E::Buffer>,
        wants: Wants,
    ) -> Result<StackGrads<E::Buffer>>
    where
        L: Layer<E>,
    {
        if saved.len() != self.layers.len() {
            return Err(Error::internal("recurrent: a stack of another height was saved"));
        }
        let Above { mut dy, dlast } = above;
        let mut dinitial: Vec<Vec<E::Buffer>> = dlast.iter().map(|_| Vec::new()).collect();
        let mut dparameters = Vec::with_capacity(self.layers.len());
        for (l, (layer, kept)) in self.layers.iter().zip(saved).enumerate().rev() {
            let above = Above { dy: dy.take(), dlast: cut(engine, &dlast, l, self.layers.len())? };
            let grads = layer.backward(engine, kept, above, Wants { dx: wants.dx || l > 0, ..wants })?;
            for (kind, state) in dinitial.iter_mut().zip(grads.dinitial) {
                kind.extend(state);
            }
            dparameters.push(grads.dparameters);
            dy = match grads.dx {
                Some(dx) if l > 0 => Some(self.between.apply(engine, l - 1, dx)?),
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
        Ok(StackGrads { dx: dy, dinitial, dparameters })
    }
}

/// Layer `l`'s part of each state of `height` layers.
fn cut<E: Backend>(
    engine: &E,
    states: &[Option<E::Buffer>],
    l: usize,
    height: usize,
) -> Result<Vec<Option<E::Buffer>>> {
    let one = |s: &E::Buffer| match height {
        1 => Ok(s.clone()),
        _ => engine.slice(s, l * (s.len() / height), s.len() / height),
    };
    states.iter().map(|s| s.as_ref().map(one).transpose()).collect()
}

fn join<E: Backend>(engine: &E, parts: &[E::Buffer]) -> Result<E::Buffer> {
    match parts {
        [only] => Ok(only.clone()),
        _ => engine.concat(&parts.iter().collect::<Vec<_>>()),
    }
}
