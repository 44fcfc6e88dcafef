//! The border that every recurrent layer shares: parameters that are checked once, a stack's forward, and what is
//! kept for its backward. A cell's own `python.rs` says what is particular to it by implementing [`Cell`], and its
//! functions are a few lines each.

use super::{Above, Between, Layer, LayerSpec, Stack, StackSaved, Wants, Weights};
use crate::backend::Buffer;
use crate::cpu::Poll;
use crate::device::{Device, Engine, Storage};
use crate::error::{Error, Kind, Result};
use crate::ops::dropout::Dropout;
use crate::python::{Arg, Array, Call, Saved};
use crate::tensor::{DType, Shape};
use pyo3::intern;
use pyo3::prelude::*;
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// A kind of recurrent layer, as the border sees it.
pub trait Cell: Send + Sync {
    /// its name in errors, and that of its backward
    fn ops(&self) -> (&'static str, &'static str);
    /// blocks of hidden_size rows in a weight
    fn gates(&self) -> usize;
    /// for each kind of state the names of its initial value and of the gradient of its final one
    fn states(&self) -> &'static [(&'static str, &'static str)];
    /// the parameters of a layer, in their order, without `_l0`; weight_ih and weight_hh come first
    fn parameters(&self) -> &'static [&'static str];
    /// the shape of each, also in words
    fn shape(&self, parameter: usize, input: usize, hidden: usize) -> (Shape, &'static str);
    /// the shapes of the gradients that backward gives
    fn gradients(&self, layer: &Parameters) -> Vec<Shape>;
    /// checks which parameters are there, given the name by which the caller knows each
    fn check(&self, given: &[Option<Arg<'_>>], name: &dyn Fn(&str) -> String) -> Result<()>;
    /// `run_forward` on the device
    fn forward(&self, device: Device, poll: Poll<'_>, given: &Given, how: How) -> Result<Forward>;
    /// `run_backward` on the device
    fn backward(&self, device: Device, poll: Poll<'_>, kept: Held<'_>, wants: Wants) -> Result<Backward>;
}

/// One layer's parameters, in the cell's order; None where one is absent.
#[derive(Clone)]
pub struct Parameters {
    /// I
    pub input: usize,
    /// H
    pub hidden: usize,
    /// the memory of each
    pub tensors: Vec<Option<Storage>>,
}

/// The sizes of a call.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// of everything
    pub dtype: DType,
    input: usize,
    hidden: usize,
    layers: usize,
}

impl Sizes {
    fn states(self) -> Shape {
        Shape::from([self.layers, self.batch, self.hidden])
    }

    fn y(self) -> Shape {
        Shape::from([self.steps, self.batch, self.hidden])
    }

    fn x(self) -> Shape {
        Shape::from([self.steps, self.batch, self.input])
    }
}

/// What a stack's forward reads.
pub struct Given {
    x: Storage,
    initial: Vec<Option<Storage>>,
    layers: Vec<Parameters>,
    sizes: Sizes,
}

/// How a forward runs.
#[derive(Clone, Copy)]
pub struct How {
    between: Between,
    save: bool,
    own: bool,
}

/// y, the final states, and a `StackSaved` of the device's buffers.
pub type Forward = (Storage, Vec<Storage>, Option<Box<dyn Any + Send>>);

/// dx, the gradients of the initial states, and those of each layer's parameters.
pub type Backward = (Option<Storage>, Vec<Option<Storage>>, Vec<Vec<Storage>>);

/// What a stack's backward reads.
pub struct Held<'a> {
    layers: &'a [Parameters],
    sizes: Sizes,
    between: Between,
    stack: Box<dyn Any + Send>,
    dy: Option<Storage>,
    dlast: Vec<Option<Storage>>,
}

impl Parameters {
    /// The layer's sizes.
    fn spec(&self, cell: &dyn Cell, sizes: Sizes) -> Result<LayerSpec> {
        let bias = self.tensors.get(2).is_some_and(Option::is_some);
        let (outer, inner) = ((sizes.steps, sizes.batch), (self.input, self.hidden, cell.gates()));
        LayerSpec::new(cell.ops().0, sizes.dtype, outer, inner, bias)
    }

    /// The layer's sizes, and its parameters as buffers of `engine`.
    pub fn on<E: Engine>(&self, engine: &E, cell: &dyn Cell, sizes: Sizes) -> Result<(LayerSpec, Weights<E::Buffer>)> {
        let mut tensors = self.tensors.iter().map(|s| s.as_ref().map(|s| engine.get(s)).transpose());
        let mut next = || tensors.next().transpose().map(Option::flatten);
        let (Some(ih), Some(hh)) = (next()?, next()?) else {
            return Err(Error::internal("recurrent: a layer without weights"));
        };
        Ok((self.spec(cell, sizes)?, Weights { ih, hh, bias: next()?.zip(next()?) }))
    }
}

/// Multiplications and additions of a stack's forward.
fn flops(cell: &dyn Cell, layers: &[Parameters], sizes: Sizes) -> u64 {
    let one = |layer: &Parameters| layer.spec(cell, sizes).map_or(0, |spec| spec.flops());
    layers.iter().map(one).fold(0, u64::saturating_add)
}

/// A stack's forward on one engine; `layer` makes a layer of its parameters.
pub fn run_forward<E: Engine + Dropout, L: Layer<E>>(
    engine: &E,
    given: &Given,
    how: How,
    layer: impl Fn(&Parameters, Sizes) -> Result<L>,
) -> Result<Forward>
where
    L::Saved: 'static,
{
    let layers = given.layers.iter().map(|p| layer(p, given.sizes)).collect::<Result<Vec<_>>>()?;
    let initial = given.initial.iter().map(|s| s.as_ref().map(|s| engine.get(s)).transpose());
    let initial = initial.collect::<Result<Vec<_>>>()?;
    let stack = Stack { layers: &layers, between: how.between };
    let run = stack.forward(engine, engine.get(&given.x)?, &initial, how.save)?;
    let y = if how.own && how.save { engine.slice(&run.y, 0, run.y.len())? } else { run.y };
    let saved = run.saved.map(|saved| -> Box<dyn Any + Send> { Box::new(saved) });
    Ok((engine.put(y), run.last.into_iter().map(|state| engine.put(state)).collect(), saved))
}

/// A stack's backward on one engine.
pub fn run_backward<E: Engine + Dropout, L: Layer<E>>(
    engine: &E,
    held: Held<'_>,
    wants: Wants,
    layer: impl Fn(&Parameters, Sizes) -> Result<L>,
) -> Result<Backward>
where
    L::Saved: 'static,
{
    let layers = held.layers.iter().map(|p| layer(p, held.sizes)).collect::<Result<Vec<_>>>()?;
    let saved = held.stack.downcast::<StackSaved<E::Buffer, L::Saved>>();
    let saved = saved.map_err(|_| Error::internal("a backward call on another engine than its forward call"))?;
    let get = |s: &Option<Storage>| s.as_ref().map(|s| engine.get(s)).transpose();
    let above = Above { dy: get(&held.dy)?, dlast: held.dlast.iter().map(get).collect::<Result<_>>()? };
    let stack = Stack { layers: &layers, between: held.between };
    let grads = stack.backward(engine, *saved, above, wants)?;
    let put = |layer: Vec<E::Buffer>| layer.into_iter().map(|d| engine.put(d)).collect();
    Ok((
        grads.dx.map(|d| engine.put(d)),
        grads.dinitial.into_iter().map(|d| d.map(|d| engine.put(d))).collect(),
        grads.dparameters.into_iter().map(put).collect(),
    ))
}

/// The parameters of a stack, checked once: a module that is called for every step keeps one. It is good as long as
/// every tensor still has the memory it had.
#[pyclass(frozen, module = "seqcore._core")]
pub struct RecurrentLayers {
    layers: Vec<Parameters>,
    outline: Outline,
    /// the tensors, and the arrays that they had
    owners: Vec<(Py<PyAny>, Py<PyAny>)>,
}

/// What the other arguments of a call must fit.
#[derive(Clone, Copy)]
struct Outline {
    input: usize,
    hidden: usize,
    layers: usize,
    dtype: DType,
    /// of the parameters, if one of them came with a device of its own
    device: Option<Device>,
    /// the name of the first parameter
    first: &'static str,
}

/// Parameters as a call gives them: checked against each other, and not yet copied.
struct Unread<'py> {
    outline: Outline,
    layers: Vec<UnreadLayer<'py>>,
    owners: Vec<(Py<PyAny>, Py<PyAny>)>,
}

struct UnreadLayer<'py> {
    input: usize,
    hidden: usize,
    args: Vec<Option<Arg<'py>>>,
}

/// The parameters of one layer as they come, in the cell's order.
type Layered<'py> = Vec<Vec<Option<Bound<'py, PyAny>>>>;

impl<'py> Unread<'py> {
    /// Checks what was given against itself. With `own`, parameters are called by their names without `_l0`.
    fn new(cell: &dyn Cell, weights: &Bound<'py, PyAny>, own: bool) -> PyResult<Unread<'py>> {
        let py = weights.py();
        let (op, _) = cell.ops();
        let (mut call, mut owners, mut layers) = (Call::new(py, op), Vec::new(), Vec::<UnreadLayer<'_>>::new());
        for (l, given) in weights.extract::<Layered<'py>>()?.iter().enumerate() {
            let name = |n: &str| if own { n.to_string() } else { format!("{n}_l{l}") };
            let names = cell.parameters();
            if given.len() != names.len() {
                return Err(Error::value(op, "weights", format_args!("{} a layer", names.len()), given.len()).into());
            }
            let mut args = Vec::with_capacity(names.len());
            for (parameter, value) in names.iter().zip(given) {
                args.push(call.optional(&name(parameter), value.as_ref())?);
                let array = value.as_ref().map(|v| v.getattr_opt(intern!(py, "_array"))).transpose()?.flatten();
                owners.extend(value.as_ref().zip(array).map(|(v, array)| (v.clone().unbind(), array.unbind())));
            }
            let absent = |i: usize| Error::value(op, &name(names[i]), "an array", "None");
            let shape = |i: usize| args[i].as_ref().map(|a: &Arg| a.shape.clone()).ok_or_else(|| absent(i));
            let (ih, hh) = (shape(0)?, shape(1)?);
            let gates = cell.gates();
            let hidden = match *hh.0 {
                [rows, h] if h > 0 && Some(rows) == h.checked_mul(gates) => h,
                _ => {
                    let least = if hh.0.last() == Some(&0) { " with a hidden_size of at least 1" } else { "" };
                    let what = format!("({gates} * hidden_size, hidden_size){least}");
                    return Err(Error::shape(op, &name(names[1]), what, hh).into());
                }
            };
            let input = match (layers.last(), &*ih.0) {
                (None, &[_, width]) => width,
                (below, _) => below.map_or(hidden, |below| below.hidden),
            };
            for (i, arg) in args.iter().enumerate() {
                let (shape, what) = cell.shape(i, input, hidden);
                arg.iter().try_for_each(|arg| expect(op, &name(names[i]), arg, what, &shape))?;
            }
            cell.check(&args, &name)?;
            layers.push(UnreadLayer { input, hidden, args });
        }
        let dtype = layers.first().and_then(|layer| layer.args[0].as_ref()).map(Arg::dtype);
        let (Some(bottom), Some(dtype)) = (layers.first(), dtype) else {
            return Err(Error::value(op, "weights", "at least one layer", "none").into());
        };
        let outline = Outline {
            input: bottom.input,
            hidden: bottom.hidden,
            layers: layers.len(),
            dtype,
            device: call.is_placed().then(|| call.device()),
            first: if own { "weight_ih" } else { "weight_ih_l0" },
        };
        Ok(Unread { outline, layers, owners })
    }

    /// The parameters on the device of `call`.
    fn here(layers: Vec<UnreadLayer<'py>>, call: &Call<'py>) -> PyResult<Vec<Parameters>> {
        let mut read = Vec::with_capacity(layers.len());
        for UnreadLayer { input, hidden, args } in layers {
            let tensors = args.into_iter().map(|arg| arg.map(|arg| call.here(arg)).transpose());
            read.push(Parameters { input, hidden, tensors: tensors.collect::<PyResult<_>>()? });
        }
        Ok(read)
    }
}

impl RecurrentLayers {
    /// Checks what was given against itself.
    pub fn new<'py>(cell: &dyn Cell, weights: &Bound<'py, PyAny>) -> PyResult<RecurrentLayers> {
        let Unread { outline, layers, owners } = Unread::new(cell, weights, false)?;
        let call = outline.call(weights.py(), cell);
        Ok(RecurrentLayers { layers: Unread::here(layers, &call)?, outline, owners })
    }
}

impl Outline {
    /// A call whose other arguments fit the parameters.
    fn call<'py>(&self, py: Python<'py>, cell: &dyn Cell) -> Call<'py> {
        let call = Call::new(py, cell.ops().0).of(self.dtype, self.first);
        match self.device {
            Some(device) => call.on(device, self.first),
            None => call,
        }
    }
}

#[pymethods]
impl RecurrentLayers {
    /// Whether every tensor still has the memory it had.
    fn is_current(&self, py: Python<'_>) -> PyResult<bool> {
        for (tensor, array) in &self.owners {
            if !tensor.bind(py).getattr(intern!(py, "_array"))?.is(array) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What a stack's backward call needs: opaque, usable once.
#[pyclass(frozen, module = "seqcore._core")]
pub struct RecurrentSaved {
    cell: Arc<dyn Cell>,
    device: Device,
    layers: Vec<Parameters>,
    between: Between,
    sizes: Sizes,
    /// the inputs, parameters and y as they were: refused when changed since
    held: Vec<Saved>,
    /// a `StackSaved` of the device's buffers
    stack: Mutex<Option<Box<dyn Any + Send>>>,
}

/// y, the final states and, with `save`, what `backward` needs: x (T, B, I), states (L, B, H). `weights` are
/// `RecurrentLayers`, or per layer the cell's parameters.
///
/// With `own` the caller may write to every array given and returned: what is saved are copies. `name` is what errors
/// call x.
pub fn forward<'py>(
    cell: Arc<dyn Cell>,
    (name, x): (&str, &Bound<'py, PyAny>),
    initial: &[Option<&Bound<'py, PyAny>>],
    weights: &Bound<'py, PyAny>,
    between: Between,
    (save, own): (bool, bool),
) -> PyResult<(Array, Vec<Array>, Option<RecurrentSaved>)> {
    let (op, _) = cell.ops();
    // kept by a module, or given for this call alone
    let (outline, kept, given) = match weights.cast_exact::<RecurrentLayers>() {
        Ok(kept) => (kept.get().outline, kept.get().layers.clone(), Vec::new()),
        Err(_) => {
            let Unread { outline, layers, .. } = Unread::new(&*cell, weights, own)?;
            (outline, Vec::new(), layers)
        }
    };
    let mut call = outline.call(x.py(), &*cell);
    let x = call.float(name, x)?;
    let (steps, batch, input) = match *x.shape.0 {
        [steps, batch, input] if input == outline.input => (steps, batch, input),
        _ => {
            return Err(Error::shape(op, name, format_args!("(T, B, {})", outline.input), &x.shape)
                .hint(format!("the last axis is the feature axis; this layer has input_size={}", outline.input))
                .into());
        }
    };
    let Outline { hidden, layers, dtype, .. } = outline;
    let sizes = Sizes { steps, batch, dtype, input, hidden, layers };
    let mut states = Vec::with_capacity(initial.len());
    for ((name, _), &value) in cell.states().iter().zip(initial) {
        let arg = call.optional(name, value)?;
        arg.iter().try_for_each(|arg| match own {
            true if arg.shape != sizes.states() => {
                // the caller's own state has no axis of layers
                let (wanted, got) = (Shape::from([batch, hidden]), Shape::from(arg.shape.0.get(1..).unwrap_or(&[])));
                Err(Error::shape(op, name, format_args!("{wanted} = (B, hidden_size)"), got))
            }
            _ => expect(op, name, arg, "(num_layers, B, hidden_size)", &sizes.states()),
        })?;
        states.push(arg);
    }
    let device = call.device();
    let x = call.here(x)?;
    let initial = states.into_iter().map(|arg| arg.map(|arg| call.here(arg)).transpose()).collect::<PyResult<_>>()?;
    let mut layers = if given.is_empty() { kept } else { Unread::here(given, &call)? };
    if outline.device.is_none() {
        for tensor in layers.iter_mut().flat_map(|layer| layer.tensors.iter_mut().flatten()) {
            *tensor = call.moved(tensor.clone())?;
        }
    }
    let ns = flops(&*cell, &layers, sizes) / 30;
    let how = How { between, save, own };
    let (y, last, kept) = call.run(ns, false, |poll| {
        let mut given = Given { x, initial, layers, sizes };
        let mut held = if save { given.hold(poll)? } else { Vec::new() };
        let (y, last, stack) = cell.forward(device, poll, &given, how)?;
        if save && !own {
            held.push(Saved::hold(y.clone(), sizes.y(), poll)?);
        }
        Ok((y, last, stack.map(|stack| (given, stack, held))))
    })?;
    let saved = kept.map(|(given, stack, held)| {
        let stack = Mutex::new(Some(stack));
        RecurrentSaved { cell, device, layers: given.layers, between, sizes, held, stack }
    });
    let last = last.into_iter().map(|state| Array::new(state, sizes.states())).collect();
    Ok((Array::new(y, sizes.y()), last, saved))
}

impl Given {
    /// What backward will read, held; what somebody outside could still write to is a copy from then on.
    fn hold(&mut self, poll: Poll<'_>) -> Result<Vec<Saved>> {
        let shapes: Vec<Shape> = self.shapes().collect();
        let parameters = self.layers.iter_mut().flat_map(|layer| layer.tensors.iter_mut().flatten());
        let all = std::iter::once(&mut self.x).chain(self.initial.iter_mut().flatten()).chain(parameters);
        all.zip(shapes).map(|(storage, shape)| Saved::hold_in(storage, shape, poll)).collect()
    }

    /// The shapes of the inputs and all parameters.
    fn shapes(&self) -> impl Iterator<Item = Shape> {
        let Sizes { steps, batch, input, .. } = self.sizes;
        let parameters = self.layers.iter().flat_map(|layer| {
            let widths = [layer.input, layer.hidden];
            layer.tensors.iter().enumerate().flat_map(move |(at, tensor)| {
                let len = tensor.as_ref()?.len();
                Some(widths.get(at).map_or(Shape::from([len]), |&width| Shape::from([len / width, width])))
            })
        });
        let x = Shape::from([steps, batch, input]);
        std::iter::once(x).chain(self.initial.iter().flatten().map(|_| self.sizes.states())).chain(parameters)
    }
}

/// The gradients of x, of the initial states, and per layer of its parameters, as far as asked for.
pub type Grads = (Option<Array>, Vec<Option<Array>>, Option<Vec<Vec<Array>>>);

/// The gradients; None for dy or an entry of `dlast` is zero. Uses `saved` up.
pub fn backward<'py>(
    saved: &Bound<'py, RecurrentSaved>,
    op: &'static str,
    dy: Option<&Bound<'py, PyAny>>,
    dlast: &[Option<&Bound<'py, PyAny>>],
    wants: Wants,
) -> PyResult<Grads> {
    let this = saved.get();
    let (sizes, cell) = (this.sizes, &this.cell);
    let (forward, backward) = cell.ops();
    if op != backward {
        return Err(Error::argument(Kind::Type, op, "saved", "what its own forward gave", backward).into());
    }
    let mut call = Call::new(saved.py(), op).on(this.device, "x").of(sizes.dtype, "x");
    let mut grad = |name: &str, value: Option<&Bound<'py, PyAny>>, what: &str, shape: Shape| -> PyResult<_> {
        let arg = call.optional(name, value)?;
        arg.iter().try_for_each(|arg| expect(op, name, arg, what, &shape))?;
        Ok(arg)
    };
    let dy = grad("dy", dy, "(T, B, hidden_size)", sizes.y())?;
    let named = cell.states().iter().zip(dlast);
    let dlast = named.map(|((_, name), &d)| grad(name, d, "(num_layers, B, hidden_size)", sizes.states()));
    let dlast = dlast.collect::<PyResult<Vec<Option<Arg>>>>()?;
    let here = |arg: Option<Arg>| arg.map(|arg| call.here(arg)).transpose();
    let (dy, dlast) = (here(dy)?, dlast.into_iter().map(here).collect::<PyResult<_>>()?);
    let fresh = || this.held.iter().try_for_each(|held| held.check(forward));
    fresh()?;
    let stack = this.stack.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
        Error::argument(Kind::State, op, "saved", "what a forward call just gave", "one already used")
            .hint("run forward again")
    })?;
    let ns = flops(&**cell, &this.layers, sizes) / 15;
    let (device, between, layers) = (this.device, this.between, &this.layers);
    let (dx, dinitial, dparameters) = call.run(ns, false, |poll| {
        // once more, now that no other call can change them
        fresh()?;
        cell.backward(device, poll, Held { layers, sizes, between, stack, dy, dlast }, wants)
    })?;
    let shaped = |(layer, grads): (&Parameters, Vec<Storage>)| {
        grads.into_iter().zip(cell.gradients(layer)).map(|(grad, shape)| Array::new(grad, shape)).collect()
    };
    Ok((
        dx.map(|s| Array::new(s, sizes.x())),
        dinitial.into_iter().map(|d| d.map(|d| Array::new(d, sizes.states()))).collect(),
        wants.weights.then(|| this.layers.iter().zip(dparameters).map(shaped).collect()),
    ))
}

/// Err where the argument has another shape; `what` is the shape in words.
pub fn expect(op: &str, name: &str, arg: &Arg, what: &str, shape: &[usize]) -> Result<()> {
    if *arg.shape == *shape {
        return Ok(());
    }
    Err(Error::shape(op, name, format_args!("{} = {what}", Shape::from(shape)), &arg.shape))
}

/// Adds the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RecurrentLayers>()?;
    module.add_class::<RecurrentSaved>()
}
