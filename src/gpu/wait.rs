//! Waiting for submissions.
//!
//! wgpu 30 must not be asked to wait with a timeout while another thread polls or submits. It reads the fence, then
//! the list of running submissions; when the wait has timed out and another thread empties the list in between, an
//! assertion fails ("If the queue is empty, the current submission index ..."), and callbacks of finished mappings
//! are dropped uncalled. So whoever waits is alone; submitting and plain polling may go on side by side.

use crate::error::{Error, Result};
use crate::gpu::context::{Context, PATIENCE, lock};
use crate::gpu::record::Submission;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long one wait keeps other threads from submitting.
const TURN: Duration = Duration::from_millis(5);
/// Pause of a thread that may not wait because another does.
const PAUSE: Duration = Duration::from_micros(100);
/// How often the caller is asked whether to go on.
const ASK: Duration = Duration::from_millis(20);

/// Who may be inside wgpu's bookkeeping of submissions.
#[derive(Debug, Default)]
pub(super) struct Gate {
    inside: RwLock<()>,
    entering: AtomicUsize,
}

impl Gate {
    /// Runs `f`, which submits or polls, beside others that do, but not beside one that waits.
    pub(super) fn beside<R>(&self, f: impl FnOnce() -> R) -> R {
        self.entering.fetch_add(1, Ordering::SeqCst);
        let guard = self.inside.read().unwrap_or_else(PoisonError::into_inner);
        self.entering.fetch_sub(1, Ordering::SeqCst);
        let value = f();
        drop(guard);
        value
    }

    /// Runs `f`, which waits, alone; None when others are inside or about to be.
    fn alone<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        if self.entering.load(Ordering::SeqCst) != 0 {
            return None;
        }
        let guard = match self.inside.try_write() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        let value = f();
        drop(guard);
        Some(value)
    }
}

/// The newest submission known to be done.
#[derive(Debug, Default)]
pub(super) struct Done(Mutex<Option<u64>>);

impl Done {
    fn covers(&self, number: u64) -> bool {
        lock(&self.0).is_some_and(|done| done >= number)
    }

    fn raise(&self, number: u64) {
        let mut done = lock(&self.0);
        *done = (*done).max(Some(number));
    }
}

impl Context {
    /// Waits for one submission, and asks `poll` now and then. No lock is held while it is asked: it may wait for
    /// a lock whose holder waits for ours.
    pub(super) fn wait(&self, submission: &Submission, poll: &dyn Fn() -> Result<()>) -> Result<()> {
        poll()?;
        let mut asked = Instant::now();
        loop {
            let turn = wgpu::PollType::Wait { submission_index: Some(submission.index.clone()), timeout: Some(TURN) };
            let outcome = self.gate.alone(|| self.guarded("waiting", || self.device.poll(turn)));
            match outcome.transpose()? {
                Some(Ok(_)) => break,
                Some(Err(wgpu::PollError::Timeout)) => {}
                Some(Err(error)) => return Err(Error::internal(format!("waiting: {error}"))),
                None if self.done.covers(submission.number) => {
                    // Another thread has waited.
                    self.fault.check()?;
                    break;
                }
                None => std::thread::sleep(PAUSE),
            }
            if asked.elapsed() >= ASK {
                poll()?;
                asked = Instant::now();
            }
        }
        // The queue runs in order: all before it are done too.
        self.done.raise(submission.number);
        self.recorder().forget(submission.number);
        Ok(())
    }

    /// Waits for a callback of work that is done: `is_called` becomes true, or the device is lost. Most often it is
    /// true at once, but another thread may have been given the callback and be about to call it.
    pub(super) fn answered(&self, is_called: &dyn Fn() -> bool, poll: &dyn Fn() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        while !is_called() && start.elapsed() < PATIENCE {
            let beside = || self.gate.beside(|| self.device.poll(wgpu::PollType::Poll));
            self.guarded("waiting", beside)?.map_err(|e| Error::internal(format!("waiting: {e}")))?;
            if !is_called() {
                poll()?;
                std::thread::sleep(PAUSE);
            }
        }
        self.fault.check()
    }
}
