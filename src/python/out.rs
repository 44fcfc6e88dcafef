//! Results that are written straight into an ndarray.

use crate::backend::Buffer;
use crate::cpu::CpuBuffer;
use crate::device::Storage;
use crate::error::{Error, Of, Result};
use crate::python::array::Array;
use crate::python::normalize;
use crate::tensor::{DType, Element, Shape, elements};
use numpy::npyffi::flags::NPY_ARRAY_WRITEABLE;
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// An ndarray that a call writes its result into: one that the caller gave as `out`, or a new one.
pub struct Out<'py> {
    array: Bound<'py, PyAny>,
    memory: CpuBuffer,
}

impl<'py> Out<'py> {
    /// What is given must be a plain ndarray of exactly this dtype and shape, writeable, in C order.
    #[inline]
    pub fn new(
        py: Python<'py>,
        op: &str,
        given: Option<Bound<'py, PyAny>>,
        dtype: DType,
        shape: Shape,
    ) -> PyResult<Out<'py>> {
        match given {
            Some(array) => Ok(Out { memory: writeable(op, &array, dtype, &shape)?, array }),
            None => {
                let memory = elements(&shape).and_then(|len| CpuBuffer::allocate(dtype, len)).of(op)?;
                let array = Array::new(Storage::Cpu(memory.clone()), shape).into_ndarray(py)?;
                Ok(Out { array, memory })
            }
        }
    }

    /// All elements, to write, while `x`, the argument `name`, is read.
    #[inline]
    pub fn apart_from<T: Element>(&mut self, op: &str, x: &CpuBuffer, name: &str) -> Result<&mut [T]> {
        let (own, other) = (self.memory.bytes().as_ptr_range(), x.bytes().as_ptr_range());
        if own.start < other.end && other.start < own.end {
            let got = format!("memory that overlaps {name}");
            return Err(Error::value(op, "out", format_args!("memory apart from {name}"), got));
        }
        let len = self.memory.slice::<T>()?.len();
        // SAFETY: aligned, in bounds, of dtype T, writeable, and kept by `memory`. Of ours, only this view of it is
        // there; a thread of the caller's that writes to its own array meanwhile mixes numbers, no more.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().cast(), len) })
    }

    /// The ndarray.
    pub fn done(self) -> Bound<'py, PyAny> {
        self.array
    }
}

fn writeable(op: &str, value: &Bound<'_, PyAny>, dtype: DType, shape: &Shape) -> PyResult<CpuBuffer> {
    let wrong = |got: String| {
        let what = format!("a writeable, C-ordered {dtype} ndarray of shape {shape}");
        PyErr::from(Error::value(op, "out", what, got).hint(format!("numpy.empty({shape}, \"{dtype}\") makes one")))
    };
    let array = value
        .cast_exact::<PyUntypedArray>()
        .map_err(|_| wrong(value.get_type().name().map_or_else(|_| "object".into(), |n| n.to_string())))?;
    // SAFETY: a live array object, read under the interpreter lock.
    let read_only = unsafe { (*array.as_array_ptr()).fields.flags } & NPY_ARRAY_WRITEABLE == 0;
    match normalize::borrow(array)? {
        Some((memory, given)) if memory.dtype() == dtype && given == *shape && !read_only => Ok(memory),
        _ => Err(wrong(format!(
            "a {}{} one of shape {}",
            if read_only { "read-only " } else { "" },
            normalize::dtype_name(array)?,
            Shape::from(array.shape())
        ))),
    }
}
