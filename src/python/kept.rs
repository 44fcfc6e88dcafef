//! Arrays of Python that keep the memory a call reads. While a call has given the interpreter's lock away none may be
//! let go of: pyo3 would put it in a list behind a mutex, which the child of a fork can find locked for ever. Here they
//! wait in a list that has no lock.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

thread_local! {
    static AWAY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` without the interpreter's lock.
pub fn detached<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> R {
    let result = py.detach(|| {
        // a handler of a signal may have called in again
        let before = AWAY.replace(true);
        // it makes errors of its panics
        let result = work();
        AWAY.set(before);
        result
    });
    let_go(py);
    result
}

/// An array that is kept as long as this lives, and until the lock is there.
pub struct Kept(Option<Py<PyUntypedArray>>);

impl Kept {
    /// Keeps `array`.
    pub fn new(array: &Bound<'_, PyUntypedArray>) -> Kept {
        Kept(Some(array.clone().unbind()))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(array) = self.0.take().filter(|_| AWAY.get()) else { return };
        let node = Box::into_raw(Box::new(Node { _array: array, next: ptr::null_mut() }));
        let mut first = WAITING.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else knows the node yet.
            unsafe { (*node).next = first };
            match WAITING.compare_exchange_weak(first, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }
}

struct Node {
    _array: Py<PyUntypedArray>,
    next: *mut Node,
}

/// Those that wait, the last one first.
static WAITING: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

fn let_go(_: Python<'_>) {
    if WAITING.load(Ordering::Relaxed).is_null() {
        return;
    }
    let mut node = WAITING.swap(ptr::null_mut(), Ordering::Acquire);
    while !node.is_null() {
        // SAFETY: made by `Box::into_raw`, and taken out of the list by this swap alone.
        node = unsafe { Box::from_raw(node) }.next;
    }
}
