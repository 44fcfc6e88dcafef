//! `Array`: a tensor's memory as Python holds it, on either device. `seqcore.Tensor` is built on it; users meet
//! ndarrays and Tensors only.

use crate::backend::Backend;
use crate::cpu::Poll;
use crate::device::{Device, Engine, Storage};
use crate::error::{Error, Kind, Of, Result};
use crate::on_device;
use crate::python::arg::Arg;
use crate::python::call::Call;
use crate::python::transfer::{copy_as, copy_to, on_cpu};
use crate::python::{normalize, runtime};
use crate::tensor::{DType, Shape, broadcast, elements};
use numpy::PyUntypedArray;
use numpy::npyffi::flags::{NPY_ARRAY_CARRAY, NPY_ARRAY_CARRAY_RO};
use numpy::npyffi::{NPY_TYPES, PY_ARRAY_API, npy_intp};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::ffi::c_long;

/// Memory and shape. Several may share one memory (`reshape`); the version is the memory's.
#[pyclass(frozen, module = "seqcore._core")]
pub struct Array {
    storage: Storage,
    shape: Shape,
    /// of what was saved: the version that it must still have when a call reads it
    as_of: Option<u64>,
}

impl Array {
    /// `storage` has as many elements as `shape` says.
    pub fn new(storage: Storage, shape: Shape) -> Array {
        Array { storage, shape, as_of: None }
    }

    /// For an array that was saved: what says whether it has changed since.
    pub fn as_of(&self) -> Option<Saved> {
        self.as_of.map(|version| Saved::hold_at(self.storage.clone(), self.shape.clone(), version))
    }

    /// the memory
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// A writeable ndarray of this memory, which lies on the CPU and which nobody else holds.
    pub fn into_ndarray(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        view(&Bound::new(py, self)?, true)
    }

    /// sizes of the axes
    pub fn shape_ref(&self) -> &Shape {
        &self.shape
    }
}

#[pymethods]
impl Array {
    /// Sizes of the axes.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape.0)
    }

    /// NumPy's name of the element type.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.storage.dtype().name()
    }

    /// "cpu" or "gpu:N".
    #[getter]
    fn device(&self) -> String {
        self.storage.device().to_string()
    }

    /// How many times the memory was written to in place.
    #[getter]
    fn version(&self) -> u64 {
        self.storage.stamp().version()
    }

    /// A number that no other memory of this process has.
    #[getter]
    fn id(&self) -> u64 {
        self.storage.stamp().id()
    }

    /// The same memory under another shape.
    fn reshape(&self, shape: Vec<usize>) -> PyResult<Array> {
        if elements(&shape)? != self.storage.len() {
            return Err(Error::shape(
                "reshape",
                "shape",
                format_args!("a shape of {} elements", self.storage.len()),
                Shape(shape),
            )
            .into());
        }
        Ok(Array::new(self.storage.clone(), Shape(shape)))
    }

    /// An ndarray: of this memory when it lies on the CPU, else of a copy. A view that may be written to is given
    /// only if `writeable` is asked for and no backward call will read this memory.
    fn numpy<'py>(slf: &Bound<'py, Self>, writeable: bool) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.storage.device() != Device::Cpu {
            let host = this.to(py, "cpu", None)?;
            return view(&Bound::new(py, host)?, true);
        }
        view(slf, writeable && this.storage.stamp().show())
    }

    /// A copy, on `device` and of `dtype`.
    #[pyo3(signature = (device, dtype=None))]
    fn to(&self, py: Python<'_>, device: &str, dtype: Option<&str>) -> PyResult<Array> {
        let device = runtime::parse_device(device)?;
        let dtype = dtype.map(runtime::parse_dtype).transpose()?.unwrap_or(self.storage.dtype());
        let from = self.storage.clone();
        let (ns, at) = (from.len() as u64, if device == Device::Cpu { from.device() } else { device });
        let call = Call::new(py, "to").on(at, "tensor");
        let storage = call.run(ns, false, move |poll| copy_as(device, dtype, &from, poll))?;
        Ok(Array::new(storage, self.shape.clone()))
    }

    /// Writes all of `other` (same shape and dtype, any device) over this memory.
    ///
    /// With a `version`, of what `other` was made from: RuntimeError where this memory is of another by now.
    #[pyo3(signature = (other, version=None))]
    fn assign(&self, py: Python<'_>, other: &Array, version: Option<u64>) -> PyResult<()> {
        assign_all(py, vec![(self.storage.clone(), other.storage.clone())], version)
    }
}

/// Writes every second array over its first: all or none, and no other call sees some of them written.
#[pyfunction]
fn assign(py: Python<'_>, pairs: Vec<(Py<Array>, Py<Array>)>) -> PyResult<()> {
    assign_all(py, pairs.iter().map(|(a, b)| (a.get().storage.clone(), b.get().storage.clone())).collect(), None)
}

fn assign_all(py: Python<'_>, pairs: Vec<(Storage, Storage)>, version: Option<u64>) -> PyResult<()> {
    for (into, from) in &pairs {
        if into.len() != from.len() || into.dtype() != from.dtype() {
            return Err(Error::internal("assign: unequal arrays").into());
        }
    }
    let ns = pairs.iter().map(|(a, _)| a.len() as u64).sum();
    let devices = pairs.iter().flat_map(|(a, b)| [a.device(), b.device()]);
    let at = devices.reduce(|a, b| if a == Device::Cpu { b } else { a }).unwrap_or(Device::Cpu);
    Call::new(py, "assign").on(at, "tensor").run(ns, true, move |poll| {
        // what must be moved is moved first: after this nothing can fail for lack of memory
        let mut moved = Vec::with_capacity(pairs.len());
        for (into, from) in pairs {
            let device = into.device();
            let from = if from.device() == device { from } else { copy_to(device, &from, poll)? };
            moved.push((into, from));
        }
        if version.is_some_and(|version| moved.iter().any(|(into, _)| into.stamp().version() != version)) {
            let expected = "what it was when it was read";
            return Err(Error::found(Kind::State, "tensor", expected, "what another thread wrote"));
        }
        // all or none
        poll()?;
        let whole: crate::cpu::Poll<'_> = &|| Ok(());
        for (into, from) in &moved {
            on_device!(into.device(), whole, |engine| engine.assign(&engine.get(into)?, &engine.get(from)?))?;
        }
        Ok(())
    })
}

/// An ndarray over the memory of `array`, which lies on the CPU and which the ndarray keeps alive.
fn view<'py>(array: &Bound<'py, Array>, writeable: bool) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let this = array.get();
    let buffer = on_cpu(&this.storage)?;
    let number = match this.storage.dtype() {
        DType::F32 => NPY_TYPES::NPY_FLOAT,
        DType::F64 => NPY_TYPES::NPY_DOUBLE,
        // NumPy has two types of 64 bits where C has, and calls the first one int64
        DType::I64 if size_of::<c_long>() == 8 => NPY_TYPES::NPY_LONG,
        DType::I64 => NPY_TYPES::NPY_LONGLONG,
    };
    let mut sizes: Vec<npy_intp> = this.shape.iter().map(|&n| n as npy_intp).collect();
    let flags = if writeable { NPY_ARRAY_CARRAY } else { NPY_ARRAY_CARRAY_RO };
    // SAFETY: NumPy's documented way to wrap memory: the sizes fit the buffer, the type is one of NumPy's own, and
    // SetBaseObject (which takes over the reference) ties the memory's life to the ndarray.
    unsafe {
        let descr = PY_ARRAY_API.PyArray_DescrFromType(py, number as i32);
        let class = py.get_type::<PyUntypedArray>().as_type_ptr();
        let made = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            class,
            descr,
            sizes.len() as i32,
            sizes.as_mut_ptr(),
            std::ptr::null_mut(),
            buffer.as_ptr().cast(),
            flags,
            std::ptr::null_mut(),
        );
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        if PY_ARRAY_API.PyArray_SetBaseObject(py, made.as_ptr().cast(), array.clone().into_any().into_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(made)
    }
}

/// An `Array` of its own memory from anything that is an array; errors call it `name` of `op`. One that does not
/// broadcast with the shape `beside` is refused before it is copied. `listed` is the dtype of floats in a list.
#[pyfunction]
#[pyo3(signature = (value, device="cpu", op="Tensor", name="data", beside=None, listed="float32"))]
fn array(
    value: &Bound<'_, PyAny>,
    device: &str,
    op: &str,
    name: &str,
    beside: Option<Vec<usize>>,
    listed: &str,
) -> PyResult<Array> {
    let device = runtime::parse_device(device)?;
    let arg = normalize::any(op, name, value, runtime::parse_dtype(listed)?)?;
    if let Some(beside) = beside {
        broadcast(op, name, &beside, &arg.shape)?;
    }
    if device != Device::Cpu && arg.dtype() == DType::F64 {
        let how = normalize::conversion(name, value, "float32")?;
        return Err(Error::dtype(op, name, "float32, on a GPU", "float64").hint(format!("{how} converts it")).into());
    }
    own(value.py(), device, op, arg)
}

/// The gradient of a result of this dtype and shape: an `Array` as it is, anything else in memory of its own.
#[pyfunction]
fn gradient(value: &Bound<'_, PyAny>, dtype: &str, shape: Vec<usize>, op: &str, name: &str) -> PyResult<Array> {
    let arg = normalize::any(op, name, value, DType::F32)?;
    if arg.dtype().name() != dtype {
        let how = normalize::conversion(name, value, dtype)?;
        let error = Error::dtype(op, name, format_args!("{dtype}, as the result"), arg.dtype());
        return Err(error.hint(format!("{how} converts it")).into());
    }
    if *arg.shape != *shape {
        return Err(Error::shape(op, name, Shape(shape), &arg.shape).into());
    }
    match arg.device() {
        Some(_) => Ok(Array::new(arg.memory(op)?.0, Shape(shape))),
        None => own(value.py(), Device::Cpu, op, arg),
    }
}

/// Anything that is an array as a plain ndarray of whatever dtype; errors call it `name` of `op`.
#[pyfunction]
fn ndarray<'py>(op: &str, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    normalize::ndarray(op, name, value)
}

fn own(py: Python<'_>, device: Device, op: &str, arg: Arg<'_>) -> PyResult<Array> {
    let shape = arg.shape.clone();
    let (storage, _) = arg.memory(op)?;
    let ns = storage.len() as u64;
    let storage =
        Call::new(py, "Tensor").on(device, "device").run(ns, false, |poll| copy_to(device, &storage, poll).of(op))?;
    Ok(Array::new(storage, shape))
}

/// New memory of zeros.
#[pyfunction]
fn zeros(py: Python<'_>, shape: Vec<usize>, dtype: &str, device: &str) -> PyResult<Array> {
    let (device, dtype) = (runtime::parse_device(device)?, runtime::parse_dtype(dtype)?);
    let len = elements(&shape).of("zeros")?;
    let storage = Call::new(py, "zeros").on(device, "device").run(len as u64, false, move |poll: Poll<'_>| {
        on_device!(device, poll, |engine| Ok(engine.put(engine.zeros(dtype, len)?)))
    })?;
    Ok(Array::new(storage, Shape(shape)))
}

/// What a backward call will read: an array and its version. While it lives the memory is shown read-only; memory
/// that somebody outside may write to is copied first.
#[pyclass(frozen, module = "seqcore._core")]
pub struct Saved {
    storage: Storage,
    shape: Shape,
    version: u64,
}

impl Drop for Saved {
    fn drop(&mut self) {
        self.storage.stamp().unsave();
    }
}

impl Saved {
    /// Holds this memory, or a copy of it where somebody outside may write to it.
    pub fn hold(storage: Storage, shape: Shape, poll: Poll<'_>) -> Result<Saved> {
        let version = storage.stamp().version();
        let held = Saved::hold_at(storage, shape, version);
        if !held.storage.stamp().is_shown() {
            return Ok(held);
        }
        let copy = copy_to(held.storage.device(), &held.storage, poll)?;
        Ok(Saved::hold_at(copy, held.shape.clone(), 0))
    }

    /// As `hold`; `storage` is what is held from then on, so that what is computed from it and backward read the same.
    pub fn hold_in(storage: &mut Storage, shape: Shape, poll: Poll<'_>) -> Result<Saved> {
        let held = Saved::hold(storage.clone(), shape, poll)?;
        *storage = held.storage.clone();
        Ok(held)
    }

    /// Holds memory as of a version that a call has read.
    pub fn hold_at(storage: Storage, shape: Shape, version: u64) -> Saved {
        storage.stamp().save();
        Saved { storage, shape, version }
    }

    /// A RuntimeError if it was changed since.
    pub fn check(&self, op: &str) -> Result<()> {
        if self.storage.stamp().version() == self.version {
            return Ok(());
        }
        let got = format!("one of shape {} that was changed in place since", self.shape);
        Err(Error::argument(Kind::State, op, "backward", "the tensors that the forward call used", got)
            .hint("call backward before the optimizer step or the in-place operation, or run forward again"))
    }
}

#[pymethods]
impl Saved {
    #[new]
    fn new(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Saved> {
        let array = value.cast_exact::<Array>().map_err(PyErr::from)?.get();
        let from = array.storage.clone();
        let shape = array.shape.clone();
        Call::new(py, "save").run(from.len() as u64, false, move |poll| Saved::hold(from, shape, poll))
    }

    /// The array, if it is still what it was.
    fn get(&self, op: &str) -> PyResult<Array> {
        self.check(op)?;
        Ok(Array { storage: self.storage.clone(), shape: self.shape.clone(), as_of: Some(self.version) })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Array>()?;
    module.add_class::<Saved>()?;
    module.add_function(wrap_pyfunction!(array, module)?)?;
    module.add_function(wrap_pyfunction!(ndarray, module)?)?;
    module.add_function(wrap_pyfunction!(normalize::in_list, module)?)?;
    module.add_function(wrap_pyfunction!(gradient, module)?)?;
    module.add_function(wrap_pyfunction!(zeros, module)?)?;
    module.add_function(wrap_pyfunction!(assign, module)?)
}
