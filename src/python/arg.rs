//! An argument before anything of it is copied: its shape and dtype, which the spec checks, and where its numbers
//! will come from. Only [`Call::here`](super::Call::here) and its like, called after the spec, make it memory.

use crate::cpu::{CpuBuffer, Fresh};
use crate::device::{Device, Storage};
use crate::error::{Error, Kind, Result};
use crate::python::array::Array;
use crate::python::normalize::{borrow, numpy_attr};
use crate::tensor::{DType, Shape, elements};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyMemoryError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyEllipsis, PySlice};

/// Elements of an array that NumPy copies in one go: some 10 ms.
const COPY: usize = 1 << 21;

/// A checked argument.
pub struct Arg<'py> {
    /// sizes of the axes
    pub shape: Shape,
    dtype: DType,
    len: usize,
    source: Source<'py>,
}

enum Source<'py> {
    /// memory of ours, which lies somewhere
    Ours(Storage),
    /// a plain array's own memory
    Borrowed(CpuBuffer),
    /// an array of another layout, byte order or type: still to be copied
    Other(Box<Other<'py>>),
}

struct Other<'py> {
    array: Bound<'py, PyUntypedArray>,
    /// of the argument, for errors
    name: String,
    /// the error of integers that int64 does not hold
    beyond: Kind,
}

impl<'py> Arg<'py> {
    /// An `Array`.
    #[inline]
    pub fn ours(array: &Array) -> Arg<'py> {
        let storage = array.storage().clone();
        let (shape, dtype, len) = (array.shape_ref().clone(), storage.dtype(), storage.len());
        Arg { shape, dtype, len, source: Source::Ours(storage) }
    }

    /// A plain array, by its memory, which has as many elements as `shape` says and to which its owner may write.
    #[inline]
    pub fn borrowed(memory: CpuBuffer, shape: Shape) -> Arg<'py> {
        use crate::backend::Buffer;
        memory.stamp().show();
        Arg { shape, dtype: memory.dtype(), len: memory.len(), source: Source::Borrowed(memory) }
    }

    /// Any other array of floats, which will be copied to `dtype`.
    pub fn floats(name: &str, array: Bound<'py, PyUntypedArray>, dtype: DType) -> PyResult<Arg<'py>> {
        Arg::other(name, array, dtype, Kind::DType)
    }

    /// Any other array of integers, which will be copied to int64; `beyond` is the error of those that do not fit.
    pub fn integers(name: &str, array: Bound<'py, PyUntypedArray>, beyond: Kind) -> PyResult<Arg<'py>> {
        Arg::other(name, array, DType::I64, beyond)
    }

    fn other(name: &str, array: Bound<'py, PyUntypedArray>, dtype: DType, beyond: Kind) -> PyResult<Arg<'py>> {
        let shape = Shape::from(array.shape());
        let len = elements(&shape)?;
        Ok(Arg { shape, dtype, len, source: Source::Other(Box::new(Other { array, name: name.into(), beyond })) })
    }

    /// element type
    #[inline]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// number of elements
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The device that it came with; an array that is no tensor has none.
    #[inline]
    pub fn device(&self) -> Option<Device> {
        match &self.source {
            Source::Ours(storage) => Some(storage.device()),
            _ => None,
        }
    }

    /// Memory in C order: ours wherever it lies, the caller's own, or a copy; and whether it is such a copy, which
    /// nobody else has.
    #[inline]
    pub fn memory(self, op: &str) -> PyResult<(Storage, bool)> {
        match self.source {
            Source::Ours(storage) => Ok((storage, false)),
            Source::Borrowed(memory) => Ok((Storage::Cpu(memory), false)),
            Source::Other(other) => Ok((Storage::Cpu(other.copied(op, self.dtype, &self.shape)?), true)),
        }
    }
}

impl Other<'_> {
    /// A plain, native, C-ordered copy in `dtype`, owned by nobody else.
    fn copied(self, op: &str, dtype: DType, shape: &Shape) -> PyResult<CpuBuffer> {
        let Other { array, name, beyond } = self;
        let py = array.py();
        if array.dtype().kind() == b'u' && array.dtype().itemsize() == 8 && !array.is_empty() {
            let largest = array.call_method0(intern!(py, "max"))?;
            if largest.gt(i64::MAX)? {
                return Err(Error::argument(beyond, op, &name, "integers below 2^63", largest.str()?).into());
            }
        }
        // a list's floats: NumPy would warn of those beyond float32, which are infinite there as anywhere else
        let narrowed = dtype == DType::F32 && array.dtype().kind() == b'f' && array.dtype().itemsize() == 8;
        let wide = if narrowed { borrow(&array)? } else { None };
        let found = if wide.is_some() {
            wide
        } else {
            let made = copied_in_pieces(&array, if narrowed { DType::F64 } else { dtype }).map_err(|e| {
                if e.is_instance_of::<PyMemoryError>(py) { too_large(op, &name, shape).into() } else { e }
            })?;
            borrow(&made.cast_into_exact::<PyUntypedArray>().map_err(PyErr::from)?)?
        };
        match found {
            Some((memory, made)) if made == *shape => Ok(if narrowed { narrow(&memory)? } else { memory }),
            // to convert another argument may run the caller's code, which may change this one
            _ => {
                let expected = "an array that stays as it is while the call reads its arguments";
                Err(Error::argument(Kind::State, op, &name, expected, "one that was changed").into())
            }
        }
    }
}

/// float64 as float32, on this thread, which has the interpreter lock.
fn narrow(wide: &CpuBuffer) -> Result<CpuBuffer> {
    let wide = wide.slice::<f64>()?;
    let mut made = Fresh::<f32>::new(wide.len())?;
    made.iter_mut().zip(wide).for_each(|(to, &from)| *to = from as f32);
    Ok(made.done())
}

fn too_large(op: &str, name: &str, shape: &Shape) -> Error {
    Error::argument(Kind::Memory, op, name, "an array that fits into memory", format_args!("one of {shape}"))
}

/// A plain copy in C order.
fn copied_in_pieces<'py>(array: &Bound<'py, PyUntypedArray>, dtype: DType) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    // a view's shape stays, whatever becomes of the array's
    let from = array.call_method1(intern!(py, "view"), (numpy_attr(py, "ndarray")?,))?;
    let made = numpy_attr(py, "empty")?.call1((from.getattr(intern!(py, "shape"))?, dtype.name()))?;
    if array.len() <= COPY {
        made.set_item(PyEllipsis::get(py), from)?;
        return Ok(made);
    }
    let flat = array.is_c_contiguous();
    let into = if flat { made.call_method1(intern!(py, "reshape"), (-1,))? } else { made.clone() };
    in_pieces(from, array.len(), flat, |at, piece| into.set_item(at, piece))?;
    Ok(made)
}

/// `work(slice, piece)` for pieces of an array along its first axis, or of all its elements where they lie in C order.
/// Signals are handled between them, since NumPy does not ask for them.
fn in_pieces<'py>(
    mut from: Bound<'py, PyAny>,
    len: usize,
    flat: bool,
    mut work: impl FnMut(&Bound<'py, PySlice>, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    let py = from.py();
    if flat {
        from = from.call_method1(intern!(py, "reshape"), (-1,))?;
    }
    let rows = from.len()?;
    let step = (COPY / len.checked_div(rows).unwrap_or(1).max(1)).max(1);
    for start in (0..rows).step_by(step) {
        py.check_signals()?;
        let piece = PySlice::new(py, start as isize, rows.min(start + step) as isize, 1);
        work(&piece, from.get_item(&piece)?)?;
    }
    Ok(())
}

/// Truth values, before they are copied.
pub struct Bools<'py> {
    /// sizes of the axes
    pub shape: Shape,
    array: Bound<'py, PyUntypedArray>,
    /// of the argument, for errors
    name: String,
}

impl<'py> Bools<'py> {
    /// An array of bool.
    pub fn new(name: &str, array: Bound<'py, PyUntypedArray>) -> Bools<'py> {
        Bools { shape: Shape::from(array.shape()), array, name: name.into() }
    }

    /// The values in C order.
    pub fn read(&self, op: &str) -> PyResult<Vec<bool>> {
        let (py, mut bools) = (self.array.py(), Vec::new());
        bools.try_reserve_exact(self.array.len()).map_err(|_| too_large(op, &self.name, &self.shape))?;
        // `tobytes` is C order whatever the strides, and a copy
        let mut read = |piece: Bound<'_, PyAny>| -> PyResult<()> {
            let bytes = piece.call_method0(intern!(py, "tobytes"))?;
            bools.extend(bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes().iter().map(|&b| b != 0));
            Ok(())
        };
        let array = self.array.clone().into_any();
        if self.array.len() <= COPY {
            read(array)?;
        } else {
            in_pieces(array, self.array.len(), self.array.is_c_contiguous(), |_, piece| read(piece))?;
        }
        if bools.len() != elements(&self.shape)? {
            let what = format!("NumPy gave {} bytes for truth values of shape {}", bools.len(), self.shape);
            return Err(Error::internal(what).into());
        }
        Ok(bools)
    }
}
