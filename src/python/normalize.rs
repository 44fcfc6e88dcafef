//! What counts as an array, and as which: the only place that decides about dtype, strides, alignment, byte order,
//! masks, subclasses and foreign producers. The common case, a plain C-ordered native array, is borrowed; of everything
//! else NumPy will be asked for a plain copy, once the sizes of the call are known to be good.

use crate::backend::Buffer;
use crate::cpu::CpuBuffer;
use crate::error::{Error, Kind};
use crate::python::arg::{Arg, Bools};
use crate::python::array::Array;
use crate::python::kept::Kept;
use crate::tensor::{DType, Shape, elements};
use numpy::npyffi::flags::{NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS};
use numpy::npyffi::{NPY_TYPES, PyArrayObject, PyDataType_ELSIZE};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyBufferError, PyException, PyMemoryError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PySlice, PyTuple, PyType};
use std::cell::Cell;
use std::ptr::NonNull;

/// NumPy's own limit is 64, the numpy crate's is 32; no operation takes more than a handful.
const MAX_RANK: usize = 32;

/// Elements of a list that NumPy converts at once: under a millisecond, and what stays in the cache.
const LISTED: usize = 1 << 15;

thread_local! {
    /// Set while NumPy makes an array of a list: Tensors in it are asked for their values, and nobody for a gradient.
    static IN_LIST: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread makes an array of a list, which a Tensor that requires grad must refuse.
#[pyfunction]
pub fn in_list() -> bool {
    IN_LIST.get()
}

/// What NumPy calls by this name.
pub fn numpy_attr<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static NUMPY: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = NUMPY.get_or_try_init(py, || PyModule::import(py, "numpy").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// A float argument.
pub fn float<'py>(op: &str, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Arg<'py>> {
    if let Some(array) = given_array(value)? {
        if array.storage().dtype() == DType::I64 {
            let how = conversion(name, value, "float32")?;
            return Err(Error::dtype(op, name, FLOATS, "int64").hint(format!("{how} converts it")).into());
        }
        return Ok(Arg::ours(&array));
    }
    if let Some(arg) = plain_floats(value)? {
        return Ok(arg);
    }
    let (array, is_list) = plain(op, name, value)?;
    float_of(op, name, value, array, is_list.then_some(DType::F32), FLOATS)
}

/// The common case.
#[inline]
fn plain_floats<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Arg<'py>>> {
    if let Ok(array) = value.cast_exact::<PyUntypedArray>()
        && let Some((memory, shape)) = borrow(array)?
        && memory.dtype() != DType::I64
    {
        return Ok(Some(Arg::borrowed(memory, shape)));
    }
    Ok(None)
}

/// What `plain` gave, as floats, those of a list as `listed`; `expected` is for the message.
fn float_of<'py>(
    op: &str,
    name: &str,
    value: &Bound<'py, PyAny>,
    array: Bound<'py, PyUntypedArray>,
    listed: Option<DType>,
    expected: &str,
) -> PyResult<Arg<'py>> {
    let kind = array.dtype().kind();
    let size = array.dtype().itemsize();
    if kind != b'f' || !(size == 4 || size == 8) {
        let error = Error::dtype(op, name, expected, dtype_name(&array)?);
        return Err(match kind {
            b'b' | b'i' | b'u' | b'f' => error.hint(format!("{} converts it", conversion(name, value, "float32")?)),
            b'c' => error.hint(format!("take its real part: {name}.real")),
            _ => error,
        }
        .into());
    }
    Arg::floats(name, array, if size == 4 { DType::F32 } else { listed.unwrap_or(DType::F64) })
}

/// What converts a value of real numbers, in the words of what it is: of ours, a NumPy array, another library's.
pub fn conversion(name: &str, value: &Bound<'_, PyAny>, dtype: &str) -> PyResult<String> {
    let py = value.py();
    let method = match dtype {
        "float32" => "float",
        "float64" => "double",
        _ => "long",
    };
    Ok(if given_array(value)?.is_some() {
        format!("{name}.to(dtype=\"{dtype}\")")
    } else if value.hasattr(intern!(py, "astype"))? {
        format!("{name}.astype(\"{dtype}\")")
    } else if value.hasattr(intern!(py, "__dlpack__"))? && value.hasattr(method)? {
        format!("{name}.{method}()")
    } else {
        format!("numpy.asarray({name}, \"{dtype}\")")
    })
}

/// Integers of any type but bool, as i64.
pub fn ids<'py>(op: &str, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Arg<'py>> {
    if let Some(array) = given_array(value)? {
        if array.storage().dtype() == DType::I64 {
            return Ok(Arg::ours(&array));
        }
        let how = conversion(name, value, "int64")?;
        return Err(not_ids(op, name, array.storage().dtype().name(), Some(how)).into());
    }
    let (array, is_list) = plain(op, name, value)?;
    // an empty list is float64 to NumPy, and no ids at all to us
    let empty = array.is_empty() && array.dtype().kind() == b'f';
    if !(matches!(array.dtype().kind(), b'i' | b'u') || empty) {
        if is_list && let Some(id) = beyond_int64(value)? {
            return Err(Error::argument(Kind::Index, op, name, "integers of 64 bits", id).into());
        }
        let how = match array.dtype().kind() {
            b'b' | b'f' => Some(conversion(name, value, "int64")?),
            _ => None,
        };
        return Err(not_ids(op, name, &dtype_name(&array)?, how).into());
    }
    Arg::integers(name, array, Kind::Index)
}

/// Floats or ids; the floats of a list as `listed`.
pub fn any<'py>(op: &str, name: &str, value: &Bound<'py, PyAny>, listed: DType) -> PyResult<Arg<'py>> {
    if let Some(array) = given_array(value)? {
        return Ok(Arg::ours(&array));
    }
    if let Some(arg) = plain_floats(value)? {
        return Ok(arg);
    }
    let (array, is_list) = plain(op, name, value)?;
    match array.dtype().kind() {
        b'i' | b'u' => Arg::integers(name, array, Kind::DType),
        _ => float_of(op, name, value, array, is_list.then_some(listed), NUMBERS),
    }
}

/// Truth values.
pub fn bools<'py>(op: &str, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bools<'py>> {
    let (array, _) = plain(op, name, value)?;
    if array.dtype().kind() != b'b' {
        return Err(Error::dtype(op, name, "bool", dtype_name(&array)?)
            .hint("compare with something, for example x > 0, to get truth values")
            .into());
    }
    Ok(Bools::new(name, array))
}

const NO_MASK: &str = "an array without masked entries";
const FLOATS: &str = "float32 or float64";
const NUMBERS: &str = "float32, float64 or integers";

/// Of lists of integers alone the first that int64 does not hold, in words: NumPy makes objects or floats of them.
fn beyond_int64(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = value.py();
    let objects = numpy_attr(py, "asarray")?.call1((value, intern!(py, "object")))?;
    let mut beyond = None;
    for (at, item) in objects.getattr(intern!(py, "flat"))?.try_iter()?.enumerate() {
        let item = item?;
        if at % LISTED == LISTED - 1 {
            py.check_signals()?;
        }
        if !item.is_exact_instance_of::<PyInt>() {
            return Ok(None);
        }
        if beyond.is_none() && item.extract::<i64>().is_err() {
            beyond = Some(item);
        }
    }
    let words = |id: Bound<'_, PyAny>| Ok(format!("one of {} bits", id.call_method0(intern!(py, "bit_length"))?));
    beyond.map(words).transpose()
}

fn not_ids(op: &str, name: &str, got: &str, how: Option<String>) -> Error {
    let error = Error::dtype(op, name, "integers", got);
    match how {
        Some(how) => error.hint(format!("ids are counted, not measured: convert them with {how}")),
        None => error,
    }
}

/// The `Array` that the value is, or (a `Tensor`) has.
fn given_array<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<PyRef<'py, Array>>> {
    if let Ok(array) = value.cast_exact::<Array>() {
        return Ok(Some(array.try_borrow()?));
    }
    if value.cast_exact::<PyUntypedArray>().is_ok() {
        return Ok(None);
    }
    match value.getattr_opt(intern!(value.py(), "_array"))? {
        Some(inner) => Ok(inner.cast_exact::<Array>().ok().map(|a| a.try_borrow()).transpose()?),
        None => Ok(None),
    }
}

/// NumPy's name of the element type.
pub fn dtype_name(array: &Bound<'_, PyUntypedArray>) -> PyResult<String> {
    Ok(array.dtype().str()?.to_string())
}

/// Any object as a plain ndarray, whatever its dtype and order.
pub fn ndarray<'py>(op: &str, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (array, _) = plain(op, name, value)?;
    if array.is_exact_instance_of::<PyUntypedArray>() {
        return Ok(array.into_any());
    }
    array.call_method1(intern!(value.py(), "view"), (numpy_attr(value.py(), "ndarray")?,))
}

/// Any object as an ndarray (not yet of our dtype or order), and whether it was a list or number of Python's.
fn plain<'py>(op: &str, name: &str, value: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyUntypedArray>, bool)> {
    let py = value.py();
    let mut is_list = false;
    let array = if let Ok(array) = value.cast::<PyUntypedArray>() {
        array.clone()
    } else {
        if let Ok(class) = value.cast::<PyType>() {
            // it has its instances' attributes, but none of their values
            return Err(Error::dtype(op, name, NUMBERS, format_args!("the class {}", class.name()?)).into());
        }
        let is_foreign = value.hasattr(intern!(py, "__dlpack__"))?;
        // PyTorch's DLPack gives the memory alone, without a sign that it keeps apart
        let resolve = intern!(py, "resolve_neg");
        let resolved = if is_foreign && value.hasattr(resolve)? { Some(value.call_method0(resolve)?) } else { None };
        let value = resolved.as_ref().unwrap_or(value);
        let made = if is_foreign {
            numpy_attr(py, "from_dlpack")?.call1((value,))
        } else {
            is_list = !value.hasattr(intern!(py, "__array__"))?;
            if is_list && holds_masked(value, 0)? {
                return Err(Error::dtype(op, name, NO_MASK, "a masked one in a list").into());
            }
            let asarray = numpy_attr(py, "asarray")?;
            let read = |value: &Bound<'py, PyAny>| {
                let outside = IN_LIST.replace(is_list);
                let made = asarray.call1((value,));
                IN_LIST.set(outside);
                made
            };
            long_list(value, read).transpose().unwrap_or_else(|| read(value))
        };
        let made = made.map_err(|e| unreadable(op, name, value, e, is_foreign, is_list))?;
        made.cast_into::<PyUntypedArray>().map_err(PyErr::from)?
    };
    // SAFETY: a live array object; only its rank is read.
    let rank = unsafe { (*array.as_array_ptr()).fields.nd } as usize;
    if rank > MAX_RANK {
        return Err(Error::shape(op, name, format_args!("at most {MAX_RANK} axes"), rank).into());
    }
    if is_masked(&array)? {
        return Err(Error::dtype(op, name, NO_MASK, "a masked array")
            .hint(format!("say what stands for them: {name}.filled(0)"))
            .into());
    }
    Ok((array, is_list))
}

fn is_masked(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    if !value.hasattr(intern!(py, "mask")).unwrap_or(false) {
        return Ok(false);
    }
    let ma = PyModule::import(py, intern!(py, "numpy.ma"))?;
    ma.call_method1(intern!(py, "is_masked"), (value,))?.is_truthy()
}

/// Whether an array in nested lists has masked entries: what NumPy makes of the lists does not say so.
fn holds_masked(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<bool> {
    if !(value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()) {
        return is_masked(value);
    }
    // deeper than any array that lists can make
    if depth > MAX_RANK {
        return Ok(false);
    }
    for (at, item) in value.try_iter()?.enumerate() {
        let item = item?;
        if at % LISTED == LISTED - 1 {
            value.py().check_signals()?;
        }
        let number = item.is_exact_instance_of::<PyFloat>()
            || item.is_exact_instance_of::<PyInt>()
            || item.is_exact_instance_of::<PyBool>();
        if !number && holds_masked(&item, depth + 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What NumPy makes of a long flat list of numbers, made in pieces: it asks for no signals itself. None where pieces
/// differ in dtype or are no numbers, since what NumPy makes of a list then follows from all of it.
fn long_list<'py>(
    value: &Bound<'py, PyAny>,
    read: impl Fn(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let (py, len) = (value.py(), value.cast_exact::<PyList>().map_or(0, |list| list.len()));
    let mut made: Option<Bound<'py, PyUntypedArray>> = None;
    for start in (0..len).step_by(LISTED) {
        let end = len.min(start + LISTED);
        if end == len && made.is_none() {
            break; // a short one
        }
        let place = PySlice::new(py, start as isize, end as isize, 1);
        let piece = match value.get_item(&place).and_then(|part| read(&part)) {
            Ok(piece) => piece.cast_into::<PyUntypedArray>().map_err(PyErr::from)?,
            // NumPy says it of the whole list; Ctrl-C is no such error
            Err(error) if error.is_instance_of::<PyException>(py) => return Ok(None),
            Err(error) => return Err(error),
        };
        let dtype = piece.dtype();
        // a list that changed meanwhile may have fewer
        if piece.shape() != [end - start] || !matches!(dtype.kind(), b'b' | b'i' | b'u' | b'f') {
            return Ok(None);
        }
        let whole = match made.take() {
            Some(whole) => whole,
            None => numpy_attr(py, "empty")?.call1((len, &dtype))?.cast_into().map_err(PyErr::from)?,
        };
        if !whole.dtype().is_equiv_to(&dtype) {
            return Ok(None);
        }
        whole.set_item(place, piece)?;
        made = Some(whole);
        py.check_signals()?;
    }
    Ok(made.map(Bound::into_any))
}

/// Why NumPy made no array of the value. What a foreign array raises of itself, by `__array__`, is the best that can be
/// said; what a library says through DLPack and NumPy of lists is said again in our words.
fn unreadable(op: &str, name: &str, value: &Bound<'_, PyAny>, e: PyErr, is_foreign: bool, is_list: bool) -> PyErr {
    let py = value.py();
    let text = e.value(py).to_string();
    let said = text.lines().next().unwrap_or_default().trim_end_matches('.');
    let kind = value.get_type().name().map_or_else(|_| "object".into(), |n| n.to_string());
    let attribute = |attribute: &str| value.getattr(attribute).ok();
    let is = |class: Bound<'_, PyType>| e.is_instance(py, &class);
    let refused = is(py.get_type::<PyBufferError>()) || is(py.get_type::<PyRuntimeError>());
    let error = if is_list && is(py.get_type::<PyValueError>()) {
        let expected = "an array, or nested lists of equal lengths";
        Error::shape(op, name, expected, format_args!("a {kind} ({said})"))
    } else if is_list && said.contains("requires grad") {
        let got = format_args!("a {kind} with a Tensor that requires grad");
        Error::dtype(op, name, NUMBERS, got)
            .hint("a list keeps no gradient: join Tensors with stack or cat, or give t.detach() where none is wanted")
    } else if is(py.get_type::<PyMemoryError>()) {
        Error::argument(Kind::Memory, op, name, "an array that fits into memory", format_args!("a {kind} ({said})"))
    } else if is_list && (refused || is(py.get_type::<PyTypeError>())) {
        Error::dtype(op, name, NUMBERS, format_args!("a {kind} ({said})"))
    } else if is_foreign && said.to_ascii_lowercase().contains("dtype") {
        let got = attribute("dtype").map_or(kind, |dtype| dtype.to_string());
        let error = Error::dtype(op, name, NUMBERS, got);
        match conversion(name, value, "float32") {
            Ok(how) if !how.starts_with("numpy") => error.hint(format!("{how} converts it")),
            _ => error,
        }
    } else if is_foreign && refused {
        let device = attribute("device").map_or_else(|| "cpu".into(), |device| device.to_string());
        if attribute("requires_grad").is_some_and(|it| it.is_truthy().unwrap_or(false)) {
            let error =
                Error::value(op, name, "an array that needs no gradient", format_args!("a {kind} that requires grad"));
            error.hint(format!("{name}.detach() gives its values"))
        } else if device != "cpu" {
            let got = format!("a {kind} on {device}");
            Error::argument(Kind::Device, op, name, "an array on the CPU", got)
                .hint(format!("move it with {name}.cpu()"))
        } else {
            Error::value(op, name, "an array that gives its values", format_args!("a {kind} ({said})"))
        }
    } else if is(py.get_type::<PyValueError>()) {
        Error::value(op, name, "an array that gives its values", format_args!("a {kind} ({said})"))
    } else {
        return e;
    };
    error.into()
}

/// The array's own memory, where it is of a dtype of ours, native, aligned and in C order.
pub fn borrow(array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<(CpuBuffer, Shape)>> {
    let pointer: *mut PyArrayObject = array.as_array_ptr();
    // SAFETY: a live array object, read under the interpreter lock.
    let fields = unsafe { &(*pointer).fields };
    let (flags, rank, data, descr) = (fields.flags, fields.nd, fields.data, fields.descr);
    let needed = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
    if flags & needed != needed || rank as usize > MAX_RANK {
        return Ok(None);
    }
    // SAFETY: every array has a descriptor.
    let (number, order, size) = unsafe {
        ((*descr).fields.type_num, (*descr).fields.byteorder as u8, PyDataType_ELSIZE(array.py(), descr) as usize)
    };
    let dtype = match (number, size) {
        (n, 4) if n == NPY_TYPES::NPY_FLOAT as i32 => DType::F32,
        (n, 8) if n == NPY_TYPES::NPY_DOUBLE as i32 => DType::F64,
        (n, 8) if n == NPY_TYPES::NPY_LONG as i32 || n == NPY_TYPES::NPY_LONGLONG as i32 => DType::I64,
        _ => return Ok(None),
    };
    let foreign = if cfg!(target_endian = "little") { b'>' } else { b'<' };
    if order == foreign {
        return Ok(None);
    }
    let shape = Shape::from(array.shape());
    let len = elements(&shape)?;
    let Some(start) = NonNull::new(data.cast::<u8>()) else { return Ok(None) };
    let keep = Box::new(Kept::new(array));
    // SAFETY: aligned and C-contiguous by its flags; the array keeps its memory and is kept.
    let buffer = unsafe { CpuBuffer::borrowed(start, dtype, len, keep) };
    Ok(Some((buffer, shape)))
}
