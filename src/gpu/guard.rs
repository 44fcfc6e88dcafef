//! Turns every way in which wgpu fails into an error of ours. wgpu reports by error scopes, by a handler for
//! errors without a scope, by a callback for a lost device (which is otherwise silent: calls go on "succeeding")
//! and, in `Device::poll`, by a panic.

use crate::error::{Error, Kind, Result, panic_text};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// What has gone wrong with a device so far.
#[derive(Debug, Default)]
pub(super) struct Fault {
    lost: AtomicBool,
    reason: Mutex<String>,
    /// the first error that no scope caught: ours to report, as a mistake of ours
    uncaught: Mutex<Option<String>>,
}

impl Fault {
    pub(super) fn lose(&self, reason: String) {
        let mut first = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.lost.swap(true, Ordering::SeqCst) {
            *first = reason;
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    pub(super) fn uncaught(&self, message: String) {
        self.uncaught.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
    }

    /// `Err` when the device is lost.
    pub(super) fn check(&self) -> Result<()> {
        if !self.is_lost() {
            return Ok(());
        }
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let got = format!("one that is lost: {reason}");
        Err(Error::found(Kind::DeviceLost, "device", "a GPU that works", got)
            .hint("tensors on it are gone; make new ones, a new device is opened for them"))
    }

    /// Runs `f`, which calls wgpu, and finds out whether it worked.
    pub(super) fn guarded<R>(&self, device: &wgpu::Device, what: &str, f: impl FnOnce() -> R) -> Result<R> {
        self.check()?;
        let (outcome, memory, validation, internal) = {
            let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
            let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
            let outcome = without_report(f);
            let internal = pollster::block_on(internal.pop());
            let validation = pollster::block_on(validation.pop());
            (outcome, pollster::block_on(memory.pop()), validation, internal)
        };
        let uncaught = self.uncaught.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.check()?;
        let value = match outcome {
            Ok(value) => value,
            Err(message) if message.contains("is lost") => {
                self.lose(format!("{what}: {message}"));
                return Err(self.check().err().unwrap_or_else(|| Error::internal(message)));
            }
            Err(message) => return Err(Error::internal(format!("{what}: wgpu panicked: {message}"))),
        };
        if memory.is_some() {
            return Err(Error::memory(format_args!("{what} on the GPU")));
        }
        match (validation.or(internal), uncaught) {
            (Some(error), _) => Err(Error::internal(format!("{what}: {error}"))),
            (None, Some(message)) => Err(Error::internal(format!("{what}: {message}"))),
            (None, None) => Ok(value),
        }
    }
}

thread_local! {
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f` with panics caught and not printed.
pub(super) fn without_report<R>(f: impl FnOnce() -> R) -> std::result::Result<R, String> {
    install_hook();
    QUIET.set(QUIET.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(QUIET.get() - 1);
    outcome.map_err(|payload| panic_text(payload.as_ref()).to_string())
}

/// One hook in front of whatever hook there is: silent only on a thread that is inside `without_report`.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.try_with(Cell::get).unwrap_or(0) == 0 {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_messages() {
        assert_eq!(without_report(|| 3).unwrap(), 3);
        assert_eq!(without_report(|| panic!("no {}", 1)).unwrap_err(), "no 1");
        assert_eq!(without_report(|| panic!("plain")).unwrap_err(), "plain");
    }

    #[test]
    fn the_first_loss_is_the_reason() {
        let fault = Fault::default();
        assert!(fault.check().is_ok());
        fault.lose("first".into());
        fault.lose("second".into());
        let error = fault.check().unwrap_err();
        assert_eq!(error.kind, Kind::DeviceLost);
        assert!(error.message.contains("first"));
    }
}
