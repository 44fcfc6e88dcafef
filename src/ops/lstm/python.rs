//! The border of LSTM: a stack of layers, forward and backward.

use super::cpu::LstmStep as Step;
use super::{Lstm, LstmInputs, LstmOutputGrads, LstmSaved as LayerSaved, LstmSpec, LstmWants, LstmWeights};
use crate::backend::Buffer;
use crate::cpu::{CpuBuffer, Poll};
use crate::device::{Device, Engine, Storage};
use crate::error::{Error, Kind, Result};
use crate::on_device;
use crate::ops::dropout::Dropout;
use crate::ops::recurrent::{Above, Between, Kept, Layer, LayerGrads, Run, Stack, StackSaved, Wants};
use crate::python::{Arg, Array, Call, Saved, normalize, owned};
use crate::tensor::{DType, Shape};
use pyo3::intern;
use pyo3::prelude::*;
use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// The parameters of one layer as they come: weight_ih, weight_hh, bias_ih, bias_hh.
type Given<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

/// One layer's spec and parameters, on the device of the call.
#[derive(Clone)]
struct Parameters {
    spec: LstmSpec,
    weights: LstmWeights<Storage>,
}

/// The same as a layer of a stack on engine E.
struct OnEngine<B> {
    spec: LstmSpec,
    weights: LstmWeights<B>,
}

impl Parameters {
    fn on<E: Engine>(&self, engine: &E) -> Result<OnEngine<E::Buffer>> {
        let bias = self.weights.bias.as_ref();
        let bias = bias.map(|(i, h)| Ok((engine.get(i)?, engine.get(h)?))).transpose()?;
        let weights = LstmWeights { ih: engine.get(&self.weights.ih)?, hh: engine.get(&self.weights.hh)?, bias };
        Ok(OnEngine { spec: self.spec.clone(), weights })
    }
}

impl<B: Clone> OnEngine<B> {
    fn inputs(&self, x: &B, initial: &[Option<B>]) -> LstmInputs<B> {
        let state = |i: usize| initial.get(i).cloned().flatten();
        LstmInputs { x: x.clone(), h0: state(0), c0: state(1), weights: self.weights.clone() }
    }
}

impl<E: Lstm> Layer<E> for OnEngine<E::Buffer> {
    type Saved = LayerSaved<E::Buffer>;

    fn forward(
        &self,
        engine: &E,
        x: &E::Buffer,
        initial: &[Option<E::Buffer>],
        save: bool,
    ) -> Result<Run<E::Buffer, Self::Saved>> {
        let (out, saved) = engine.lstm_forward(&self.spec, &self.inputs(x, initial), save)?;
        Ok(Run { y: out.y, last: vec![out.h_n, out.c_n], saved })
    }

    fn backward(
        &self,
        engine: &E,
        kept: Kept<E::Buffer, Self::Saved>,
        above: Above<E::Buffer>,
        wants: Wants,
    ) -> Result<LayerGrads<E::Buffer>> {
        let state = |i: usize| above.dlast.get(i).cloned().flatten();
        let grads = LstmOutputGrads { dh_n: state(0), dc_n: state(1), dy: above.dy };
        let wants = LstmWants { dx: wants.dx, states: wants.states, weights: wants.weights };
        let out = engine.lstm_backward(&self.spec, &self.inputs(&kept.x, &kept.initial), kept.own, &grads, wants)?;
        let dparameters = out.dweights.into_iter().flat_map(|(i, h)| [i, h]).chain(out.dbias).collect();
        Ok(LayerGrads { dx: out.dx, dinitial: vec![out.dh0, out.dc0], dparameters })
    }
}

/// What `lstm_backward` needs: opaque, usable once.
#[pyclass(frozen, module = "seqcore._core")]
struct LstmSaved {
    device: Device,
    layers: Vec<Parameters>,
    between: Between,
    sizes: Sizes,
    /// the inputs, parameters and y as they were: refused when changed since
    held: Vec<Saved>,
    /// a `StackSaved` of the device's buffers
    stack: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    dtype: DType,
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

fn expect(op: &str, name: &str, arg: &Arg, what: &str, shape: &[usize]) -> Result<()> {
    if *arg.shape == *shape {
        return Ok(());
    }
    Err(Error::shape(op, name, format_args!("{} = {what}", Shape::from(shape)), &arg.shape))
}

/// The parameters of a stack, checked once: a module that is called for every step keeps one. It is good as long as
/// every tensor still has the memory it had.
#[pyclass(frozen, module = "seqcore._core")]
struct LstmLayers {
    layers: Layers,
    /// the tensors, and the arrays that they had
    owners: Vec<(Py<PyAny>, Py<PyAny>)>,
}

struct Layers {
    /// of no steps and no rows
    parameters: Vec<Parameters>,
    device: Device,
    placed: bool,
    first: String,
}

impl Layers {
    /// Checks what was given against itself. With `own`, parameters are called by their names without `_l0`.
    fn read<'py>(py: Python<'py>, weights: &[Given<'py>], own: bool) -> PyResult<Layers> {
        let mut call = Call::new(py, "lstm");
        let mut layers = Vec::with_capacity(weights.len());
        let (mut hidden, mut first) = (0, String::new());
        for (l, (ih, hh, b_ih, b_hh)) in weights.iter().enumerate() {
            let name = |n: &str| if own { n.to_string() } else { format!("{n}_l{l}") };
            let (ih_name, hh_name) = (name("weight_ih"), name("weight_hh"));
            let (ih, hh) = (call.float(&ih_name, ih)?, call.float(&hh_name, hh)?);
            if l == 0 {
                hidden = match *hh.shape.0 {
                    [rows, h] if h > 0 && Some(rows) == h.checked_mul(4) => h,
                    _ => return Err(Error::shape("lstm", &hh_name, "(4 * hidden_size, hidden_size)", &hh.shape).into()),
                };
            }
            let width = match *ih.shape.0 {
                [_, width] if l == 0 => width,
                _ => hidden,
            };
            expect("lstm", &ih_name, &ih, "(4 * hidden_size, input_size)", &[4 * hidden, width])?;
            expect("lstm", &hh_name, &hh, "(4 * hidden_size, hidden_size)", &[4 * hidden, hidden])?;
            let (bi_name, bh_name) = (name("bias_ih"), name("bias_hh"));
            let bias = match (call.optional(&bi_name, b_ih.as_ref())?, call.optional(&bh_name, b_hh.as_ref())?) {
                (Some(bi), Some(bh)) => {
                    expect("lstm", &bi_name, &bi, "(4 * hidden_size,)", &[4 * hidden])?;
                    expect("lstm", &bh_name, &bh, "(4 * hidden_size,)", &[4 * hidden])?;
                    Some((bi, bh))
                }
                (None, None) => None,
                (given, _) => {
                    let (absent, there) = if given.is_some() { (bh_name, bi_name) } else { (bi_name, bh_name) };
                    let expected = format!("an array, as {there} is given");
                    return Err(Error::value("lstm", &absent, expected, "None").into());
                }
            };
            layers.push((LstmSpec::new(ih.dtype(), 0, 0, width, hidden, bias.is_some())?, ih, hh, bias));
            first = if l == 0 { ih_name } else { first };
        }
        if layers.is_empty() {
            return Err(Error::value("lstm", "weights", "at least one layer", "none").into());
        }
        let mut parameters = Vec::with_capacity(layers.len());
        for (spec, ih, hh, bias) in layers {
            let bias = bias.map(|(bi, bh)| PyResult::Ok((call.here(bi)?, call.here(bh)?))).transpose()?;
            parameters.push(Parameters { spec, weights: LstmWeights { ih: call.here(ih)?, hh: call.here(hh)?, bias } });
        }
        Ok(Layers { parameters, device: call.device(), placed: call.is_placed(), first })
    }
}

#[pymethods]
impl LstmLayers {
    /// `weights` has per layer weight_ih, weight_hh, bias_ih and bias_hh, as tensors.
    #[new]
    fn new<'py>(py: Python<'py>, weights: Vec<Given<'py>>) -> PyResult<LstmLayers> {
        let mut owners = Vec::new();
        for (ih, hh, b_ih, b_hh) in &weights {
            for tensor in [Some(ih), Some(hh), b_ih.as_ref(), b_hh.as_ref()].into_iter().flatten() {
                if let Some(array) = tensor.getattr_opt(intern!(py, "_array"))? {
                    owners.push((tensor.clone().unbind(), array.unbind()));
                }
            }
        }
        Ok(LstmLayers { layers: Layers::read(py, &weights, false)?, owners })
    }

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

/// y, h_n, c_n and, with `save`, what `lstm_backward` needs, of a stack of layers: x (T, B, I), states (L, B, H).
/// `weights` are `LstmLayers`, or per layer weight_ih, weight_hh, bias_ih and bias_hh.
///
/// With `own` the caller may write to every array given and returned: `saved` keeps copies, and parameters are
/// called by their names without `_l0`.
#[pyfunction]
#[pyo3(signature = (x, h0, c0, weights, dropout, seed, stream, save, own=false))]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn lstm<'py>(
    x: &Bound<'py, PyAny>,
    h0: Option<&Bound<'py, PyAny>>,
    c0: Option<&Bound<'py, PyAny>>,
    weights: &Bound<'py, PyAny>,
    dropout: f64,
    seed: u64,
    stream: u64,
    save: bool,
    own: bool,
) -> PyResult<(Array, Array, Array, Option<LstmSaved>)> {
    let read;
    let layers = match weights.cast_exact::<LstmLayers>() {
        Ok(kept) => &kept.get().layers,
        Err(_) => {
            read = Layers::read(x.py(), &weights.extract::<Vec<Given<'py>>>()?, own)?;
            &read
        }
    };
    let bottom = &layers.parameters[0].spec;
    let mut call = Call::new(x.py(), "lstm").of(bottom.dtype, &layers.first);
    if layers.placed {
        call = call.on(layers.device, &layers.first);
    }
    let x = call.float("x", x)?;
    let (steps, batch, input, hidden) = match *x.shape.0 {
        [steps, batch, input] if input == bottom.input => (steps, batch, input, bottom.hidden),
        _ => {
            return Err(Error::shape("lstm", "x", format_args!("(T, B, {})", bottom.input), &x.shape)
                .hint(format!("the last axis is the feature axis; this layer has input_size={}", bottom.input))
                .into());
        }
    };
    let sizes = Sizes { steps, batch, input, hidden, layers: layers.parameters.len(), dtype: x.dtype() };
    let mut state = |name: &str, value: Option<&Bound<'py, PyAny>>| -> PyResult<Option<Arg>> {
        let arg = call.optional(name, value)?;
        if let Some(arg) = &arg {
            expect("lstm", name, arg, "(num_layers, B, hidden_size)", &sizes.states())?;
        }
        Ok(arg)
    };
    let (h0, c0) = (state("h0", h0)?, state("c0", c0)?);

    let device = call.device();
    let here = |arg: Option<Arg>| arg.map(|arg| call.here(arg)).transpose();
    let (x, initial) = (call.here(x)?, [here(h0)?, here(c0)?]);
    let mut parameters = Vec::with_capacity(layers.parameters.len());
    for Parameters { spec, weights } in &layers.parameters {
        let spec = LstmSpec::new(spec.dtype, steps, batch, spec.input, spec.hidden, spec.bias)?;
        let mut weights = weights.clone();
        if !layers.placed {
            let here = |s: Storage| call.here(Arg { shape: Shape::from([s.len()]), storage: s });
            let bias = weights.bias.map(|(bi, bh)| PyResult::Ok((here(bi)?, here(bh)?))).transpose()?;
            weights = LstmWeights { ih: here(weights.ih)?, hh: here(weights.hh)?, bias };
        }
        parameters.push(Parameters { spec, weights });
    }
    let between = Between { p: dropout, seed, stream };
    let ns = parameters.iter().map(|p| p.spec.flops()).fold(0u64, u64::saturating_add) / 30;
    let (y, last, kept, versions) = call.run(ns, false, |poll| {
        let mut given = Inputs { x, initial, parameters };
        if save {
            given = given.owned(poll)?;
        }
        let (y, last, stack) = on_device!(device, poll, |engine| forward(&engine, &given, between, sizes, save, own))?;
        // as this call has read them: another may change them as soon as it is done
        let versions: Vec<u64> = given.storages().map(|s| s.stamp().version()).collect();
        Ok((y, last, stack.map(|stack| (given, stack)), versions))
    })?;
    let saved = kept.map(|(given, stack)| {
        let held = given.storages().zip(versions);
        let held = held.map(|(s, version)| Saved::hold_at(s.clone(), Shape::from([s.len()]), version));
        let mut held: Vec<Saved> = held.collect();
        if !own {
            held.push(Saved::hold(y.clone(), sizes.y()));
        }
        let Inputs { parameters: layers, .. } = given;
        LstmSaved { device, layers, between, sizes, held, stack: Mutex::new(Some(stack)) }
    });
    let [h_n, c_n] = last;
    let array = |storage, shape| Array::new(storage, shape);
    Ok((array(y, sizes.y()), array(h_n, sizes.states()), array(c_n, sizes.states()), saved))
}

/// What a stack's forward reads.
struct Inputs {
    x: Storage,
    initial: [Option<Storage>; 2],
    parameters: Vec<Parameters>,
}

impl Inputs {
    /// The same, where what somebody outside could still write to is copied.
    fn owned(self, poll: Poll<'_>) -> Result<Inputs> {
        let own = |s: Storage| owned(s, poll);
        let [h0, c0] = self.initial;
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for Parameters { spec, weights } in self.parameters {
            let bias = weights.bias.map(|(i, h)| Result::Ok((own(i)?, own(h)?))).transpose()?;
            parameters
                .push(Parameters { spec, weights: LstmWeights { ih: own(weights.ih)?, hh: own(weights.hh)?, bias } });
        }
        Ok(Inputs { x: own(self.x)?, initial: [h0.map(own).transpose()?, c0.map(own).transpose()?], parameters })
    }

    /// All but the biases, which backward does not read.
    fn storages(&self) -> impl Iterator<Item = &Storage> {
        let weights = self.parameters.iter().flat_map(|p| [&p.weights.ih, &p.weights.hh]);
        std::iter::once(&self.x).chain(self.initial.iter().flatten()).chain(weights)
    }
}

type Forward = (Storage, [Storage; 2], Option<Box<dyn Any + Send>>);

fn forward<E>(engine: &E, given: &Inputs, between: Between, sizes: Sizes, save: bool, own: bool) -> Result<Forward>
where
    E: Engine + Lstm + Dropout,
{
    let layers = given.parameters.iter().map(|p| p.on(engine)).collect::<Result<Vec<_>>>()?;
    let initial = given.initial.iter().map(|s| s.as_ref().map(|s| engine.get(s)).transpose());
    let initial = initial.collect::<Result<Vec<_>>>()?;
    let stack = Stack { layers: &layers, between, state: sizes.batch * sizes.hidden };
    let run = stack.forward(engine, engine.get(&given.x)?, &initial, save)?;
    let (mut y, mut last) = (run.y, run.last);
    if own && save {
        y = engine.slice(&y, 0, y.len())?;
    }
    let (Some(c_n), Some(h_n)) = (last.pop(), last.pop()) else {
        return Err(Error::internal("lstm: two states were expected"));
    };
    let saved = run.saved.map(|saved| -> Box<dyn Any + Send> { Box::new(saved) });
    Ok((engine.put(y), [engine.put(h_n), engine.put(c_n)], saved))
}

type Backward = (Option<Storage>, [Option<Storage>; 2], Vec<Vec<Storage>>);

fn backward<E>(
    engine: &E,
    layers: &[Parameters],
    between: Between,
    sizes: Sizes,
    saved: Box<dyn Any + Send>,
    given: &[Option<Storage>; 3],
    wants: Wants,
) -> Result<Backward>
where
    E: Engine + Lstm + Dropout,
{
    let layers = layers.iter().map(|p| p.on(engine)).collect::<Result<Vec<_>>>()?;
    let saved = saved
        .downcast::<StackSaved<E::Buffer, LayerSaved<E::Buffer>>>()
        .map_err(|_| Error::internal("lstm_backward: saved on another engine"))?;
    let get = |s: &Option<Storage>| s.as_ref().map(|s| engine.get(s)).transpose();
    let [dy, dh_n, dc_n] = given;
    let above = Above { dy: get(dy)?, dlast: vec![get(dh_n)?, get(dc_n)?] };
    let stack = Stack { layers: &layers, between, state: sizes.batch * sizes.hidden };
    let grads = stack.backward(engine, *saved, above, wants)?;
    let mut dinitial = grads.dinitial.into_iter().map(|d| d.map(|d| engine.put(d)));
    let dinitial = [dinitial.next().flatten(), dinitial.next().flatten()];
    let put = |layer: Vec<E::Buffer>| layer.into_iter().map(|d| engine.put(d)).collect();
    Ok((grads.dx.map(|d| engine.put(d)), dinitial, grads.dparameters.into_iter().map(put).collect()))
}

/// dx, dh0, dc0 and per layer (dweight_ih, dweight_hh, dbias or None), as far as asked for. None for dy, dh_n or
/// dc_n is zero. Uses `saved` up.
#[pyfunction]
#[pyo3(signature = (saved, dy, dh_n, dc_n, need_x, need_states, need_weights))]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn lstm_backward<'py>(
    saved: &Bound<'py, LstmSaved>,
    dy: Option<&Bound<'py, PyAny>>,
    dh_n: Option<&Bound<'py, PyAny>>,
    dc_n: Option<&Bound<'py, PyAny>>,
    need_x: bool,
    need_states: bool,
    need_weights: bool,
) -> PyResult<(Option<Array>, Option<Array>, Option<Array>, Option<Vec<(Array, Array, Option<Array>)>>)> {
    let this = saved.get();
    let sizes = this.sizes;
    let mut call = Call::new(saved.py(), "lstm_backward").on(this.device, "x").of(sizes.dtype, "x");
    let mut grad = |name: &str, value: Option<&Bound<'py, PyAny>>, what: &str, shape: Shape| -> PyResult<Option<Arg>> {
        let arg = call.optional(name, value)?;
        if let Some(arg) = &arg {
            expect("lstm_backward", name, arg, what, &shape)?;
        }
        Ok(arg)
    };
    let given = [
        grad("dy", dy, "(T, B, hidden_size)", sizes.y())?,
        grad("dh_n", dh_n, "(num_layers, B, hidden_size)", sizes.states())?,
        grad("dc_n", dc_n, "(num_layers, B, hidden_size)", sizes.states())?,
    ];
    let [dy, dh_n, dc_n] = given.map(|arg| arg.map(|arg| call.here(arg)).transpose());
    let given = [dy?, dh_n?, dc_n?];
    let fresh = || this.held.iter().try_for_each(|held| held.check("lstm"));
    fresh()?;
    let stack = this.stack.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
        Error::plain(Kind::State, "lstm_backward: saved: expected what a forward call just gave, got one already used")
            .hint("run forward again")
    })?;
    let wants = Wants { dx: need_x, states: need_states, weights: need_weights };
    let ns = this.layers.iter().map(|p| p.spec.flops()).fold(0u64, u64::saturating_add) / 15;
    let (device, between, layers) = (this.device, this.between, &this.layers);
    let (dx, [dh0, dc0], dparameters) = call.run(ns, false, |poll| {
        // once more, now that no other call can change them
        fresh()?;
        on_device!(device, poll, |engine| backward(&engine, layers, between, sizes, stack, &given, wants))
    })?;
    let states = |s: Option<Storage>| s.map(|s| Array::new(s, sizes.states()));
    let dparameters = need_weights.then(|| {
        this.layers
            .iter()
            .zip(dparameters)
            .filter_map(|(p, grads)| {
                let mut grads = grads.into_iter();
                let ih = Array::new(grads.next()?, p.spec.weight_ih());
                let hh = Array::new(grads.next()?, p.spec.weight_hh());
                Some((ih, hh, grads.next().map(|b| Array::new(b, p.spec.bias_shape()))))
            })
            .collect()
    });
    Ok((dx.map(|s| Array::new(s, sizes.x())), states(dh0), states(dc0), dparameters))
}

/// One layer with its state, advanced a step at a time on the caller's thread: nothing is allocated when `out` is
/// given. The bits are those of the whole-sequence call.
#[pyclass(frozen, module = "seqcore._core")]
struct LstmStep {
    inner: Mutex<Step>,
    batch: usize,
    input: usize,
    hidden: usize,
}

impl LstmStep {
    /// The state, for this thread alone.
    fn lock(&self) -> Result<MutexGuard<'_, Step>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::Poisoned(e)) => Ok(e.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(Error::plain(Kind::State, "lstm step: another thread is in a step of this stream")
                    .hint("give each thread a stream of its own"))
            }
        }
    }

    fn states(&self) -> Shape {
        Shape::from([self.batch, self.hidden])
    }
}

#[pymethods]
impl LstmStep {
    /// `batch` rows from state zero; the weights as of now (float32, on the CPU).
    #[new]
    #[pyo3(signature = (weight_ih, weight_hh, bias_ih=None, bias_hh=None, batch=1))]
    fn new<'py>(
        weight_ih: &Bound<'py, PyAny>,
        weight_hh: &Bound<'py, PyAny>,
        bias_ih: Option<&Bound<'py, PyAny>>,
        bias_hh: Option<&Bound<'py, PyAny>>,
        batch: usize,
    ) -> PyResult<LstmStep> {
        const OP: &str = "lstm step";
        let mut call = Call::new(weight_ih.py(), OP);
        let (ih, hh) = (call.float("weight_ih", weight_ih)?, call.float("weight_hh", weight_hh)?);
        let (&[rows, input], &[_, hidden]) = (ih.shape.0.as_slice(), hh.shape.0.as_slice()) else {
            return Err(Error::shape(OP, "weight_ih", "(4 * hidden_size, input_size)", &ih.shape).into());
        };
        let spec = LstmSpec::new(ih.dtype(), 1, batch, input, hidden, bias_ih.is_some())?;
        expect(OP, "weight_ih", &ih, "(4 * hidden_size, input_size)", &spec.weight_ih())?;
        expect(OP, "weight_hh", &hh, "(4 * hidden_size, hidden_size)", &spec.weight_hh())?;
        let bias = match (call.optional("bias_ih", bias_ih)?, call.optional("bias_hh", bias_hh)?) {
            (Some(i), Some(h)) => {
                expect(OP, "bias_ih", &i, "(4 * hidden_size,)", &[rows])?;
                expect(OP, "bias_hh", &h, "(4 * hidden_size,)", &[rows])?;
                Some((i.storage, h.storage))
            }
            (None, None) => None,
            _ => return Err(Error::value(OP, "bias_hh", "both biases or none", "one").into()),
        };
        let inner = call.run(spec.weight_hh().iter().product::<usize>() as u64, false, |poll| {
            let cpu = crate::cpu::Cpu::new(poll);
            let bias = bias.map(|(i, h)| Result::Ok((cpu.get(&i)?, cpu.get(&h)?))).transpose()?;
            let weights = LstmWeights { ih: cpu.get(&ih.storage)?, hh: cpu.get(&hh.storage)?, bias };
            Step::new(&cpu, &spec, &weights)
        })?;
        Ok(LstmStep { inner: Mutex::new(inner), batch, input, hidden })
    }

    /// h (B, H) after x (B, I), in `out` where it is given.
    #[pyo3(signature = (x, out=None))]
    fn step<'py>(
        slf: &Bound<'py, Self>,
        x: &Bound<'py, PyAny>,
        out: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        const OP: &str = "lstm step";
        let py = slf.py();
        let this = slf.get();
        let mut call = Call::new(py, OP).of(DType::F32, "the weights");
        let x = call.float("x", x)?;
        expect(OP, "x", &x, "(B, input_size)", &[this.batch, this.input])?;
        let x = crate::cpu::Cpu::quiet().get(&x.storage)?;
        let shape = this.states();
        let (result, start) = match out {
            Some(given) => {
                let start = normalize::out(OP, &given, DType::F32, &shape)?;
                (given, start.as_ptr())
            }
            None => {
                let made = CpuBuffer::allocate(DType::F32, this.batch * this.hidden)?;
                let start = made.as_ptr();
                (Array::new(Storage::Cpu(made), shape).into_ndarray(py)?, start)
            }
        };
        let bytes = this.batch * this.hidden * 4;
        let (from, to) = (x.as_ptr() as usize, start as usize);
        if from < to + bytes && to < from + x.bytes().len() {
            return Err(Error::value(OP, "out", "memory apart from x", "memory that overlaps it").into());
        }
        let mut inner = this.lock()?;
        // SAFETY: writeable, of this size, apart from x, kept alive by `result`.
        let out = unsafe { std::slice::from_raw_parts_mut(start.cast::<f32>(), this.batch * this.hidden) };
        let flops = (8 * this.batch * this.hidden * (this.input + this.hidden)) as u64;
        let x = x.slice::<f32>()?;
        let inner = &mut *inner;
        call.run(flops / 30, false, |_| inner.step(x, out))?;
        Ok(result)
    }

    /// h and c (B, H), copies.
    fn state(&self) -> PyResult<(Array, Array)> {
        let inner = self.lock()?;
        let (h, c) = inner.state();
        let copy = |values: &[f32]| -> Result<Array> {
            let mut fresh = crate::cpu::Fresh::<f32>::new(values.len())?;
            fresh.copy_from_slice(values);
            Ok(Array::new(Storage::Cpu(fresh.done()), self.states()))
        };
        Ok((copy(h)?, copy(c)?))
    }

    /// Puts h and c (B, H) in place of what is there.
    fn set_state(&self, py: Python<'_>, h: &Bound<'_, PyAny>, c: &Bound<'_, PyAny>) -> PyResult<()> {
        const OP: &str = "lstm step";
        let mut call = Call::new(py, OP).of(DType::F32, "the weights");
        let (h, c) = (call.float("h", h)?, call.float("c", c)?);
        expect(OP, "h", &h, "(B, hidden_size)", &self.states())?;
        expect(OP, "c", &c, "(B, hidden_size)", &self.states())?;
        let cpu = crate::cpu::Cpu::quiet();
        let (h, c) = (cpu.get(&h.storage)?, cpu.get(&c.storage)?);
        Ok(self.lock()?.set_state(h.slice()?, c.slice()?)?)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LstmSaved>()?;
    module.add_class::<LstmLayers>()?;
    module.add_class::<LstmStep>()?;
    module.add_function(wrap_pyfunction!(lstm, module)?)?;
    module.add_function(wrap_pyfunction!(lstm_backward, module)?)
}
