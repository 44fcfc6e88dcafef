//! The border of LSTM: what is particular to it in a stack of layers, and the bare step.

use super::cpu::LstmStep as Step;
use super::{GATES, Lstm};
use crate::cpu::Poll;
use crate::device::{Device, Engine, Storage};
use crate::error::{Error, Kind, Result};
use crate::on_device;
use crate::ops::recurrent::python::{
    self as recurrent, Backward, Cell, Forward, Given, Held, How, Parameters, RecurrentLayers, RecurrentSaved, Sizes,
    expect,
};
use crate::ops::recurrent::{Between, LayerSpec, Wants, Weights};
use crate::python::{Arg, Array, Call, Out};
use crate::tensor::{DType, Shape};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

struct LstmCell;

impl Cell for LstmCell {
    fn ops(&self) -> (&'static str, &'static str) {
        ("lstm", "lstm_backward")
    }

    fn gates(&self) -> usize {
        GATES
    }

    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &[("h0", "dh_n"), ("c0", "dc_n")]
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    }

    fn shape(&self, parameter: usize, input: usize, hidden: usize) -> (Shape, &'static str) {
        match parameter {
            0 => (Shape::from([4 * hidden, input]), "(4 * hidden_size, input_size)"),
            1 => (Shape::from([4 * hidden, hidden]), "(4 * hidden_size, hidden_size)"),
            _ => (Shape::from([4 * hidden]), "(4 * hidden_size,)"),
        }
    }

    fn gradients(&self, layer: &Parameters) -> Vec<Shape> {
        // b_ih and b_hh are added, so their gradients are one (S-34)
        (0..3).map(|i| self.shape(i, layer.input, layer.hidden).0).collect()
    }

    fn check(&self, given: &[Option<Arg<'_>>], name: &dyn Fn(&str) -> String) -> Result<()> {
        match given {
            [_, _, Some(_), None] => both("bias_hh", "bias_ih", name),
            [_, _, None, Some(_)] => both("bias_ih", "bias_hh", name),
            _ => Ok(()),
        }
    }

    fn forward(&self, device: Device, poll: Poll<'_>, given: &Given, how: How) -> Result<Forward> {
        on_device!(device, poll, |engine| {
            recurrent::run_forward(&engine, given, how, |layer, sizes| on(&engine, layer, sizes))
        })
    }

    fn backward(&self, device: Device, poll: Poll<'_>, held: Held<'_>, wants: Wants) -> Result<Backward> {
        on_device!(device, poll, |engine| {
            recurrent::run_backward(&engine, held, wants, |layer, sizes| on(&engine, layer, sizes))
        })
    }
}

fn both(absent: &str, there: &str, name: &dyn Fn(&str) -> String) -> Result<()> {
    Err(Error::value("lstm", &name(absent), format_args!("an array, as {} is given", name(there)), "None"))
}

fn on<E: Engine>(engine: &E, layer: &Parameters, sizes: Sizes) -> Result<Lstm<E::Buffer>> {
    let (spec, weights) = layer.on(engine, &LstmCell, sizes)?;
    Ok(Lstm { spec, weights })
}

/// The parameters of a stack, checked once: per layer weight_ih, weight_hh, bias_ih and bias_hh, as tensors.
#[pyfunction]
fn lstm_layers(weights: &Bound<'_, PyAny>) -> PyResult<RecurrentLayers> {
    RecurrentLayers::new(&LstmCell, weights)
}

/// y, h_n, c_n and, with `save`, what `lstm_backward` needs, of a stack of layers: x (T, B, I), states (L, B, H).
/// `weights` are from `lstm_layers`, or per layer weight_ih, weight_hh, bias_ih and bias_hh.
///
/// With `own` the caller may write to every array given and returned: `saved` keeps copies, and parameters are
/// called by their names without `_l0`. `name` is what errors call x.
#[pyfunction]
#[pyo3(signature = (x, h0, c0, weights, dropout, seed, stream, save, own=false, name="x"))]
#[allow(clippy::too_many_arguments)]
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
    name: &str,
) -> PyResult<(Array, Array, Array, Option<RecurrentSaved>)> {
    let between = Between { p: dropout, seed, stream };
    let (y, mut last, saved) =
        recurrent::forward(Arc::new(LstmCell), (name, x), &[h0, c0], weights, between, (save, own))?;
    match (last.pop(), last.pop()) {
        (Some(c_n), Some(h_n)) => Ok((y, h_n, c_n, saved)),
        _ => Err(Error::internal("lstm: two states were expected").into()),
    }
}

/// dx, dh0, dc0 and per layer dweight_ih, dweight_hh and, with biases, dbias, as far as asked for. None for dy, dh_n
/// or dc_n is zero. Uses `saved` up.
#[pyfunction]
#[pyo3(signature = (saved, dy, dh_n, dc_n, need_x, need_states, need_weights))]
#[allow(clippy::type_complexity)]
fn lstm_backward<'py>(
    saved: &Bound<'py, RecurrentSaved>,
    dy: Option<&Bound<'py, PyAny>>,
    dh_n: Option<&Bound<'py, PyAny>>,
    dc_n: Option<&Bound<'py, PyAny>>,
    need_x: bool,
    need_states: bool,
    need_weights: bool,
) -> PyResult<(Option<Array>, Option<Array>, Option<Array>, Option<Vec<Vec<Array>>>)> {
    let wants = Wants { dx: need_x, states: need_states, weights: need_weights };
    let (dx, mut dinitial, dparameters) = recurrent::backward(saved, "lstm_backward", dy, &[dh_n, dc_n], wants)?;
    let (dc0, dh0) = (dinitial.pop().flatten(), dinitial.pop().flatten());
    Ok((dx, dh0, dc0, dparameters))
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
                Err(Error::argument(Kind::State, "lstm step", "stream", "one thread at a time in its steps", "two")
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
        let &[rows, input] = ih.shape.0.as_slice() else {
            return Err(Error::shape(OP, "weight_ih", "(4 * hidden_size, input_size)", &ih.shape).into());
        };
        let &[_, hidden] = hh.shape.0.as_slice() else {
            return Err(Error::shape(OP, "weight_hh", "(4 * hidden_size, hidden_size)", &hh.shape).into());
        };
        let spec = LayerSpec::new("lstm", ih.dtype(), (1, batch), (input, hidden, GATES), bias_ih.is_some())?;
        expect(OP, "weight_ih", &ih, "(4 * hidden_size, input_size)", &spec.weight_ih())?;
        expect(OP, "weight_hh", &hh, "(4 * hidden_size, hidden_size)", &spec.weight_hh())?;
        let bias = match (call.optional("bias_ih", bias_ih)?, call.optional("bias_hh", bias_hh)?) {
            (Some(i), Some(h)) => {
                expect(OP, "bias_ih", &i, "(4 * hidden_size,)", &[rows])?;
                expect(OP, "bias_hh", &h, "(4 * hidden_size,)", &[rows])?;
                Some((call.here(i)?, call.here(h)?))
            }
            (None, None) => None,
            _ => return Err(Error::value(OP, "bias_hh", "both biases or none", "one").into()),
        };
        let (ih, hh) = (call.here(ih)?, call.here(hh)?);
        let inner = call.run(spec.weight_hh().iter().product::<usize>() as u64, false, |poll| {
            let cpu = crate::cpu::Cpu::new(poll);
            let bias = bias.map(|(i, h)| Result::Ok((cpu.get(&i)?, cpu.get(&h)?))).transpose()?;
            let weights = Weights { ih: cpu.get(&ih)?, hh: cpu.get(&hh)?, bias };
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
        let x = crate::cpu::Cpu::quiet().get(&call.here(x)?)?;
        let mut out = Out::new(py, OP, out, DType::F32, this.states())?;
        let y = out.apart_from::<f32>(OP, &x, "x")?;
        let mut inner = this.lock()?;
        let flops = (8 * this.batch * this.hidden * (this.input + this.hidden)) as u64;
        let (inner, x) = (&mut *inner, x.slice::<f32>()?);
        call.run(flops / 30, false, |_| inner.step(x, y))?;
        Ok(out.done())
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
        let (h, c) = (cpu.get(&call.here(h)?)?, cpu.get(&call.here(c)?)?);
        Ok(self.lock()?.set_state(h.slice()?, c.slice()?)?)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    recurrent::register(module)?;
    module.add_function(wrap_pyfunction!(lstm_layers, module)?)?;
    module.add_class::<LstmStep>()?;
    module.add_function(wrap_pyfunction!(lstm, module)?)?;
    module.add_function(wrap_pyfunction!(lstm_backward, module)?)
}
