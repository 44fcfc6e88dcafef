//! The team under a model checker: every order in which two or three threads can meet is tried, with what the
//! memory model lets each of them see. `make test-models` runs it.

use super::*;
use loom::cell::UnsafeCell;
use loom::thread;

/// What units write without a lock; loom says so where a read and a write are not ordered.
struct Slots(Vec<UnsafeCell<usize>>);

// SAFETY: the models find out whether the team orders what is done to a slot.
unsafe impl Sync for Slots {}

impl Slots {
    fn new(n: usize) -> Slots {
        Slots((0..n).map(|_| UnsafeCell::new(0)).collect())
    }

    fn add(&self, i: usize, n: usize) {
        // SAFETY: loom checks.
        self.0[i].with_mut(|slot| unsafe { *slot += n });
    }

    fn get(&self, i: usize) -> usize {
        // SAFETY: loom checks.
        self.0[i].with(|slot| unsafe { *slot })
    }
}

fn quiet() -> Result<()> {
    Ok(())
}

fn check(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

/// One job of `phases` by `units` with a helper that comes whenever it likes, or never; then what it wrote is read.
fn job(helpers: usize, phases: usize, units: usize) {
    let team = Arc::new(Team::new(0));
    let all: Vec<_> = (0..helpers)
        .map(|_| {
            let team = team.clone();
            thread::spawn(move || team.help_once(&mut 0))
        })
        .collect();
    let slots = Slots::new(units);
    let work = |at: At| {
        if at.phase > 0 {
            // another's of the phase before
            assert!(slots.get((at.unit + 1) % units) >= at.phase.min(1));
        }
        if phases == 1 || at.phase == 0 {
            slots.add(at.unit, 1);
        }
    };
    team.lead(helpers + 1, phases, units, &quiet, &work).unwrap();
    assert!((0..units).all(|i| slots.get(i) == 1), "a unit was left out or done twice");
    // a second post, with nothing to do, for helpers that slept through the first
    team.post(None);
    all.into_iter().for_each(|helper| helper.join().unwrap());
}

#[test]
fn one_phase_is_done_once_and_seen_by_the_caller() {
    check(3, || job(1, 1, 3));
    check(2, || job(2, 1, 2));
}

#[test]
fn a_phase_sees_what_the_one_before_wrote() {
    check(3, || job(1, 2, 2));
    check(1, || job(2, 2, 2));
}

#[test]
fn a_stopped_job_ends() {
    check(3, || {
        let team = Arc::new(Team::new(0));
        let helper = {
            let team = team.clone();
            thread::spawn(move || team.help_once(&mut 0))
        };
        let stop = || Err(Error::interrupted());
        // where the helper did all of it, nobody was asked
        let _ = team.lead(2, 2, 2, &stop, &|_| {});
        team.post(None);
        helper.join().unwrap();
    });
}
