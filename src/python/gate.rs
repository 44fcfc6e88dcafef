//! Which calls may run side by side: those that read do; one that mutates tensors runs alone. So every call sees
//! parameters as some order of the calls would leave them. Whoever waits here does not hold the interpreter lock,
//! and asks for signals while it waits.

use crate::error::Result;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a waiting call sleeps before it asks for signals.
const ASK: Duration = Duration::from_millis(20);

/// The one of this process. Gates are never freed: a call may still be in one at a fork.
static GATE: AtomicPtr<Gate> = AtomicPtr::new(ptr::null_mut());

struct Gate {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    reading: usize,
    alone: bool,
    /// calls that mutate and wait: later readers let them pass
    waiting: usize,
    /// all that wait: to wake nobody is a call of the system too, and a short step is not much longer
    asleep: usize,
}

/// The right to run. Dropping it lets others pass.
pub struct Pass {
    gate: &'static Gate,
    alone: bool,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if self.alone {
            state.alone = false;
        } else {
            state.reading -= 1;
        }
        let wake = state.reading == 0 && state.asleep > 0;
        drop(state);
        if wake {
            self.gate.freed.notify_all();
        }
    }
}

/// A pass, if nobody is in the way.
pub fn pass_now(alone: bool) -> Option<Pass> {
    let gate = gate();
    let free = gate.lock().enter(alone);
    free.then(|| Pass { gate, alone })
}

/// A pass, when nobody is in the way any more. `ask` is asked meanwhile, with nothing held: it may call in again.
pub fn pass_waiting(alone: bool, ask: impl Fn() -> Result<()>) -> Result<Pass> {
    let gate = gate();
    let mut state = gate.lock();
    loop {
        if state.enter(alone) {
            return Ok(Pass { gate, alone });
        }
        state.waiting += usize::from(alone);
        state.asleep += 1;
        let (woken, waited) = gate.freed.wait_timeout(state, ASK).unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.waiting -= usize::from(alone);
        state.asleep -= 1;
        if waited.timed_out() {
            drop(state);
            ask()?;
            state = gate.lock();
        }
    }
}

/// For the child of a fork: calls of threads that it does not have hold the old gate for ever.
pub fn forget() {
    GATE.store(ptr::null_mut(), Ordering::Release);
}

fn gate() -> &'static Gate {
    let old = GATE.load(Ordering::Acquire);
    // SAFETY: gates are leaked, so every pointer ever stored is good.
    if let Some(gate) = unsafe { old.as_ref() } {
        return gate;
    }
    let fresh = Box::into_raw(Box::new(Gate { state: Mutex::default(), freed: Condvar::new() }));
    match GATE.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just made, leaked.
        Ok(_) => unsafe { &*fresh },
        Err(other) => {
            // SAFETY: `fresh` was never shared; `other` is leaked.
            unsafe {
                drop(Box::from_raw(fresh));
                &*other
            }
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, alone: bool) -> bool {
        let free = !self.alone && if alone { self.reading == 0 } else { self.waiting == 0 };
        if free && alone {
            self.alone = true;
        } else if free {
            self.reading += 1;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_writers_pass_before_later_readers() {
        let mut state = State::default();
        assert!(state.enter(false) && state.enter(false) && !state.enter(true));
        state.waiting = 1;
        assert!(!state.enter(false));
        (state.reading, state.waiting) = (0, 0);
        assert!(state.enter(true) && !state.enter(true) && !state.enter(false));
    }
}
