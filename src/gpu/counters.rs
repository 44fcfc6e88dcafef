//! What was sent to a device: counted in the few places that record, read by tests and by the curious.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// kernels started
    pub dispatches: u64,
    /// command buffers handed to the queue
    pub submits: u64,
    /// bytes from the host, uniform records included
    pub bytes_up: u64,
    /// bytes to the host
    pub bytes_back: u64,
}

/// The running counters of a device.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) dispatches: AtomicU64,
    pub(super) submits: AtomicU64,
    pub(super) bytes_up: AtomicU64,
    pub(super) bytes_back: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// The counts since the last call.
    pub(super) fn take(&self) -> Counts {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counts {
            dispatches: take(&self.dispatches),
            submits: take(&self.submits),
            bytes_up: take(&self.bytes_up),
            bytes_back: take(&self.bytes_back),
        }
    }
}
