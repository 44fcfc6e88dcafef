//! CPU memory: 64-byte aligned, fallible to get, shared by handle, or borrowed from an owner outside (a NumPy
//! array).
//!
//! Who may write: memory that has just been made belongs to whoever made it, until the first clone of its
//! handle leaves that function. After that only operations that say they mutate may write, and their caller
//! (the Python border's gate) sees to it that no other operation runs meanwhile. Memory borrowed from outside
//! is never written. Outsiders may still write to memory they own while we read it: numbers may then be mixed,
//! so nothing read from such memory twice may decide a bound (S-10).

use super::pool::Block;
use crate::backend::{Buffer, Stamp};
use crate::error::{Error, Result};
use crate::tensor::{DType, Element, bytes};
use std::any::Any;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// A handle on CPU memory.
#[derive(Clone)]
pub struct CpuBuffer(Arc<Memory>);

struct Memory {
    start: NonNull<u8>,
    dtype: DType,
    len: usize,
    owner: Owner,
    stamp: Stamp,
}

enum Owner {
    Ours(Option<Block>),
    Outside { _keep: Box<dyn Any + Send + Sync> },
}

// SAFETY: the memory is plain numbers; who may write is said in the module's comment.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Owner::Ours(block) = &mut self.owner
            && let Some(block) = block.take()
        {
            block.free();
        }
    }
}

impl CpuBuffer {
    /// New memory, contents unspecified.
    pub fn allocate(dtype: DType, len: usize) -> Result<CpuBuffer> {
        let size = bytes(&[len], dtype)?;
        let block =
            Block::new(size).ok_or_else(|| Error::memory(format_args!("{len} elements of {dtype} ({size} bytes)")))?;
        let (start, owner) = (block.as_ptr(), Owner::Ours(Some(block)));
        Ok(CpuBuffer(Arc::new(Memory { start, dtype, len, owner, stamp: Stamp::default() })))
    }

    /// Memory that `keep` owns and keeps alive.
    ///
    /// # Safety
    /// `start` is aligned for `dtype` and valid for reads of `len` elements as long as `keep` lives.
    pub unsafe fn borrowed(
        start: NonNull<u8>,
        dtype: DType,
        len: usize,
        keep: Box<dyn Any + Send + Sync>,
    ) -> CpuBuffer {
        let owner = Owner::Outside { _keep: keep };
        CpuBuffer(Arc::new(Memory { start, dtype, len, owner, stamp: Stamp::default() }))
    }

    /// Whether the memory belongs to someone outside, who may write to it at any time.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.0.owner, Owner::Outside { .. })
    }

    /// Where it starts.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.start.as_ptr()
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` elements are there; `bytes` of this len did not overflow when it was made.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.0.len * self.0.dtype.size()) }
    }

    /// All elements; the dtype is checked.
    pub fn slice<T: Element>(&self) -> Result<&[T]> {
        if T::DTYPE != self.0.dtype {
            return Err(Error::internal(format!("a buffer of {} read as {}", self.0.dtype, T::DTYPE)));
        }
        // SAFETY: aligned, in bounds, and every bit pattern is an element.
        Ok(unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.0.len) })
    }

    /// All bytes, to write.
    ///
    /// # Safety
    /// By the rule in the module's comment nobody else reads or writes the memory meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn bytes_mut(&self) -> &mut [u8] {
        // SAFETY: in bounds; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.0.len * self.0.dtype.size()) }
    }

    /// All elements, to write; the dtype is checked.
    ///
    /// # Safety
    /// As `bytes_mut`.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice_mut<T: Element>(&self) -> Result<&mut [T]> {
        if T::DTYPE != self.0.dtype || self.is_borrowed() {
            return Err(Error::internal(format!("a buffer of {} written as {}", self.0.dtype, T::DTYPE)));
        }
        // SAFETY: aligned, in bounds; exclusive by the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.as_ptr().cast(), self.0.len) })
    }
}

impl std::fmt::Debug for CpuBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuBuffer({} x {})", self.0.len, self.0.dtype)
    }
}

impl Buffer for CpuBuffer {
    fn dtype(&self) -> DType {
        self.0.dtype
    }

    fn len(&self) -> usize {
        self.0.len
    }

    fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }
}

/// New memory while it is being filled: a slice to write to, and a buffer when done.
pub struct Fresh<T> {
    buffer: CpuBuffer,
    element: PhantomData<T>,
}

impl<T: Element> Fresh<T> {
    /// Contents unspecified: write every element.
    pub fn new(len: usize) -> Result<Fresh<T>> {
        Ok(Fresh { buffer: CpuBuffer::allocate(T::DTYPE, len)?, element: PhantomData })
    }

    /// The finished buffer.
    pub fn done(self) -> CpuBuffer {
        self.buffer
    }
}

impl<T: Element> Deref for Fresh<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: aligned, in bounds, of dtype T.
        unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().cast(), self.buffer.len()) }
    }
}

impl<T: Element> DerefMut for Fresh<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: aligned, in bounds, of dtype T; this is the only handle.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.as_ptr().cast(), self.buffer.len()) }
    }
}
