//! One call from Python: its arguments, the device they lie on, and how the work is run: with the interpreter
//! lock released where it is long, beside other calls unless it mutates, interruptible, and with a panic of the work
//! caught before the lock and the gate are given back (those of the rest of a call: `errors.rs`).

use crate::cpu::CpuBuffer;
use crate::device::{Device, Storage};
use crate::error::{Error, Kind, Of, Result, panic_text};
use crate::python::arg::{Arg, Bools};
use crate::python::array::{Array, Saved};
use crate::python::gate::{self, Pass};
use crate::python::kept::detached;
use crate::python::transfer::{copy_to, host_ids, on_cpu};
use crate::python::{normalize, runtime};
use crate::tensor::{DType, Shape};
use pyo3::prelude::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Work estimated above this is done with the interpreter lock released: below, a release costs more than it gives.
const RELEASE_ABOVE_NS: u64 = 20_000;
/// How often a long call asks the interpreter for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(20);

thread_local! {
    /// Set while this thread is inside a call: a signal handler may call in again.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// What lets a call run: a pass of the gate or, in a call from a signal handler that interrupted a call, nothing
/// beyond what that call has.
type Right = Option<Pass>;

/// Err where a signal handler that interrupted a call wants to change tensors.
fn allowed(mutates: bool) -> Result<()> {
    if INSIDE.get() && mutates {
        let expected = "no change of tensors from a signal handler that interrupts a call";
        return Err(Error::found(Kind::State, "tensor", expected, "one")
            .hint("set a flag in the handler and act on it after the call"));
    }
    Ok(())
}

fn right_now(mutates: bool) -> Option<Right> {
    if INSIDE.get() { Some(None) } else { gate::pass_now(mutates).map(Some) }
}

fn right_waiting(mutates: bool, ask: impl Fn() -> Result<()>) -> Result<Right> {
    if INSIDE.get() { Ok(None) } else { gate::pass_waiting(mutates, ask).map(Some) }
}

/// Runs `work` without the interpreter's lock, with what asks for signals.
fn away<R: Send>(py: Python<'_>, work: impl FnOnce(crate::cpu::Poll<'_>) -> Result<R> + Send) -> PyResult<R> {
    let signal: Mutex<Option<PyErr>> = Mutex::new(None);
    let result = if runtime::is_main_thread(py) {
        let asked = Mutex::new(Instant::now());
        let poll = || {
            let mut last = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < SIGNALS_EVERY {
                return Ok(());
            }
            let answer = Python::attach(|py| py.check_signals());
            *last = Instant::now();
            answer.map_err(|e| {
                *signal.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                Error::interrupted()
            })
        };
        detached(py, || work(&poll))
    } else {
        let result = detached(py, || {
            let result = work(&|| Ok(()));
            runtime::before_return();
            result
        });
        runtime::after_return();
        result
    };
    match signal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok(result?),
    }
}

/// Runs `work` and turns a panic into an `InternalError`.
fn caught<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let nested = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(nested);
    result.unwrap_or_else(|panic| Err(Error::panicked(panic_text(panic.as_ref()))))
}

/// A call while its arguments are gathered.
pub struct Call<'py> {
    py: Python<'py>,
    op: &'static str,
    device: Option<(Device, String)>,
    /// of the first argument, with its name, and itself where it is an array of others
    dtype: Option<(DType, String, Option<Bound<'py, PyAny>>)>,
    /// arguments that were saved for this call: checked once no other call can change them
    saved: Vec<Saved>,
}

impl<'py> Call<'py> {
    /// A call of `op`, the name in its errors.
    pub fn new(py: Python<'py>, op: &'static str) -> Call<'py> {
        Call { py, op, device: None, dtype: None, saved: Vec::new() }
    }

    /// A float argument: an `Array`, a `Tensor`, an ndarray or anything that NumPy takes. All float arguments of a
    /// call have one dtype (S-12), and all that have a device have the same.
    pub fn float(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Arg<'py>> {
        let arg = normalize::float(self.op, name, value)?;
        if let Ok(array) = value.cast_exact::<Array>()
            && let Some(saved) = array.get().as_of()
        {
            self.saved.push(saved);
        }
        self.checked(name, value, arg)
    }

    /// As `float`, where None stands for an absent argument.
    pub fn optional(&mut self, name: &str, value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Arg<'py>>> {
        value.filter(|v| !v.is_none()).map(|v| self.float(name, v)).transpose()
    }

    /// Numbers of any type of ours, floats or ids, for what only moves them. A first float or ids argument decides
    /// the type of the others.
    pub fn any(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Arg<'py>> {
        let arg = normalize::any(self.op, name, value, DType::F32)?;
        self.checked(name, value, arg)
    }

    /// Truth values.
    pub fn bools(&self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bools<'py>> {
        normalize::bools(self.op, name, value)
    }

    /// Ids: integers of any type but bool (S-15), of any device.
    pub fn ids(&self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Arg<'py>> {
        normalize::ids(self.op, name, value)
    }

    /// Ids that somebody gave: a Tensor of them is on the device of the call.
    pub fn given_ids(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Arg<'py>> {
        let ids = self.ids(name, value)?;
        if let Some(device) = ids.device() {
            self.place(name, device)?;
        }
        Ok(ids)
    }

    /// Of one dtype and on one device with the arguments before it.
    fn checked(&mut self, name: &str, value: &Bound<'py, PyAny>, arg: Arg<'py>) -> PyResult<Arg<'py>> {
        match &self.dtype {
            None => {
                let foreign = arg.device().is_none().then(|| value.clone());
                self.dtype = Some((arg.dtype(), name.into(), foreign));
            }
            Some((dtype, first, foreign)) if *dtype != arg.dtype() => {
                // an array beside a Tensor, a layer's weight most often, is the one to convert
                let (name, value, given, wanted, other) = match foreign {
                    Some(array) if arg.device().is_some() => (first.as_str(), array, *dtype, arg.dtype(), name),
                    _ => (name, value, arg.dtype(), *dtype, first.as_str()),
                };
                let how = normalize::conversion(name, value, wanted.name())?;
                return Err(Error::dtype(self.op, name, format_args!("{wanted}, as {other}"), given)
                    .hint(format!("convert one of them, for example {how}"))
                    .into());
            }
            Some(_) => {}
        }
        if let Some(device) = arg.device() {
            self.place(name, device)?;
        }
        Ok(arg)
    }

    fn place(&mut self, name: &str, device: Device) -> Result<()> {
        match &self.device {
            None => self.device = Some((device, name.into())),
            Some((d, first)) if *d != device => {
                return Err(Error::argument(
                    Kind::Device,
                    self.op,
                    name,
                    format_args!("a tensor on {d}, as {first}"),
                    format_args!("one on {device}"),
                )
                .hint(format!("move it with .to(\"{d}\")")));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Where the call will run: where its tensors are, else the CPU.
    pub fn device(&self) -> Device {
        self.device.as_ref().map_or(Device::Cpu, |(device, _)| *device)
    }

    /// Whether an argument said where the call will run.
    pub fn is_placed(&self) -> bool {
        self.device.is_some()
    }

    /// Says where the call will run, and by which argument.
    pub fn on(mut self, device: Device, by: &str) -> Call<'py> {
        self.device.get_or_insert_with(|| (device, by.into()));
        self
    }

    /// Says which dtype all float arguments must have, and as which argument.
    pub fn of(mut self, dtype: DType, first: &str) -> Call<'py> {
        self.dtype = Some((dtype, first.into(), None));
        self
    }

    /// The argument's memory on the device of the call, once the spec has checked its sizes: another layout is copied
    /// to C order only now. Ids stay on the device where they are.
    #[inline]
    pub fn here(&self, arg: Arg<'_>) -> PyResult<Storage> {
        let (storage, _) = arg.memory(self.op)?;
        self.moved(storage)
    }

    /// As `here`, for what is memory already.
    #[inline]
    pub fn moved(&self, storage: Storage) -> PyResult<Storage> {
        let device = self.device();
        if storage.device() == device || storage.dtype() == DType::I64 {
            return Ok(storage);
        }
        self.run(storage.len() as u64, false, move |poll| copy_to(device, &storage, poll))
    }

    /// The ids in CPU memory that nobody else can write to (S-10), whatever the device.
    pub fn own_ids(&self, ids: Arg<'_>) -> PyResult<CpuBuffer> {
        let (storage, alone) = ids.memory(self.op)?;
        if alone {
            return Ok(on_cpu(&storage)?.clone());
        }
        let call = Call::new(self.py, self.op).on(storage.device(), "ids");
        call.run(storage.len() as u64, false, |poll| host_ids(&storage, poll))
    }

    /// Runs `work`, estimated at `ns` nanoseconds of one thread. With `mutates` it runs alone.
    pub fn run<R: Send>(
        &self,
        ns: u64,
        mutates: bool,
        work: impl FnOnce(crate::cpu::Poll<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        let py = self.py;
        allowed(mutates).of(self.op)?;
        let (saved, op) = (&self.saved, self.op.trim_end_matches("_backward"));
        let work = |poll: crate::cpu::Poll<'_>| {
            saved.iter().try_for_each(|saved| saved.check(op))?;
            work(poll)
        };
        // on a GPU any call may open it, compile a kernel or wait for what was submitted
        if ns < RELEASE_ABOVE_NS
            && self.device() == Device::Cpu
            && let Some(_right) = right_now(mutates)
        {
            return Ok(caught(|| work(&|| Ok(()))).of(self.op)?);
        }
        let op = self.op;
        away(py, |poll| {
            let _right = right_waiting(mutates, poll).of(op)?;
            caught(|| work(poll)).of(op)
        })
    }

    /// Hands out a result.
    pub fn array(&self, storage: Storage, shape: Shape) -> Array {
        Array::new(storage, shape)
    }
}
