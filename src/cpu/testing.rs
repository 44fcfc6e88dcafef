//! What the tests of kernels start from: memory with numbers in it, and every engine that this machine has.

use super::{Cpu, CpuBuffer, Fresh, Isa};
use crate::error::Result;
use crate::tensor::Element;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) fn buffer<T: Element>(values: &[T]) -> CpuBuffer {
    let mut fresh = Fresh::<T>::new(values.len()).unwrap();
    fresh.copy_from_slice(values);
    fresh.done()
}

pub(crate) fn values<T: Element>(buffer: &CpuBuffer) -> Vec<T> {
    buffer.slice::<T>().unwrap().to_vec()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Every instruction set, alone and on a team.
pub(crate) fn engines() -> Vec<Cpu<'static>> {
    Isa::available().into_iter().flat_map(|isa| [1, 3].map(|t| Cpu::quiet().with_isa(isa).with_threads(t))).collect()
}

/// From now on calls of this thread ask `poll` as often as they can, not every few milliseconds.
pub(crate) fn ask_always() {
    super::team::EVERY.set(Duration::ZERO);
}

/// How often `poll` could be asked in `work`, on one thread.
pub(crate) fn asked(work: impl FnOnce(&Cpu<'_>) -> Result<()>) -> usize {
    let count = AtomicUsize::new(0);
    let poll = || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    ask_always();
    work(&Cpu::new(&poll).with_threads(1)).unwrap();
    count.into_inner()
}
