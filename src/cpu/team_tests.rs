//! The team: counts, phases, panics, stops, nesting, concurrent callers, forks.

use super::*;
use crate::error::Kind;

fn quiet() -> Result<()> {
    Ok(())
}

#[test]
fn every_unit_once_and_phases_in_order() {
    for threads in [1, 2, 4, 7] {
        for (phases, units) in [(1, 1), (1, 1000), (3, 2), (200, 5), (50, 64), (0, 4), (2, 0)] {
            let counts: Vec<AtomicUsize> = (0..phases * units).map(|_| AtomicUsize::new(0)).collect();
            let finished = AtomicUsize::new(0);
            run(threads, phases, units, &quiet, &|at| {
                assert!(at.thread < threads);
                assert!(finished.load(Ordering::SeqCst) >= at.phase * units);
                counts[at.phase * units + at.unit].fetch_add(1, Ordering::SeqCst);
                finished.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
            assert!(counts.iter().all(|n| n.load(Ordering::SeqCst) == 1), "{threads} {phases} {units}");
        }
    }
}

#[test]
fn a_panic_becomes_an_error_and_the_team_lives_on() {
    for threads in [1, 4] {
        for phases in [1, 20] {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let e = run(threads, phases, 50, &quiet, &|at| assert!(at.unit != 33, "unit {}", at.unit)).unwrap_err();
            std::panic::set_hook(hook);
            assert_eq!(e.kind, Kind::Internal);
            assert!(e.message.contains("unit 33"), "{e}");
            run(threads, phases, 50, &quiet, &|_| {}).unwrap();
        }
    }
}

#[test]
fn poll_stops_at_the_next_unit_and_runs_on_the_caller() {
    let caller = std::thread::current().id();
    for threads in [1, 3] {
        for phases in [1, 100] {
            let done = AtomicUsize::new(0);
            let poll = || {
                assert_eq!(std::thread::current().id(), caller);
                Err(Error::interrupted())
            };
            let work = |_: At| {
                std::thread::sleep(Duration::from_millis(1));
                done.fetch_add(1, Ordering::SeqCst);
            };
            let e = run(threads, phases, 1000, &poll, &work).unwrap_err();
            assert_eq!(e.kind, Kind::Interrupted);
            assert!(done.load(Ordering::SeqCst) < 200, "{}", done.load(Ordering::SeqCst));
        }
    }
}

#[test]
fn who_came_second_goes_on_with_the_team_once_it_is_free() {
    for (phases, units) in [(1, 200), (20, 10)] {
        let team: &Team = Box::leak(Box::new(Team::new(0)));
        team.busy.store(true, Ordering::Release);
        let counts: Vec<AtomicUsize> = (0..phases * units).map(|_| AtomicUsize::new(0)).collect();
        let (finished, helped) = (AtomicUsize::new(0), AtomicBool::new(false));
        team.queue(3, phases, units, &quiet, &|at| {
            let before = finished.load(Ordering::SeqCst);
            assert!(before >= 50 || at.thread == 0);
            assert!(phases == 1 || before >= at.phase * units);
            helped.fetch_or(at.thread > 0, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            counts[at.phase * units + at.unit].fetch_add(1, Ordering::SeqCst);
            if finished.fetch_add(1, Ordering::SeqCst) == 49 {
                team.busy.store(false, Ordering::Release);
            }
        })
        .unwrap();
        assert!(counts.iter().all(|n| n.load(Ordering::SeqCst) == 1));
        assert!(helped.load(Ordering::SeqCst) && !team.busy.load(Ordering::SeqCst));
    }
}

#[test]
fn nested_and_concurrent_callers_get_their_results() {
    let sum = |n: usize| {
        let total = AtomicUsize::new(0);
        run(4, 1, n, &quiet, &|at| {
            run(4, 1, 3, &quiet, &|inner| {
                total.fetch_add(at.unit * inner.unit, Ordering::Relaxed);
            })
            .unwrap();
        })
        .unwrap();
        total.into_inner()
    };
    std::thread::scope(|s| {
        let callers: Vec<_> = (0..6).map(|i| s.spawn(move || (0..50).map(|_| sum(100 + i)).max())).collect();
        for (i, caller) in callers.into_iter().enumerate() {
            let n = 100 + i;
            assert_eq!(caller.join().unwrap(), Some(3 * n * (n - 1) / 2));
        }
    });
}

#[test]
fn zero_threads_is_an_error() {
    for n in [0, MOST + 1, usize::MAX] {
        assert_eq!(set_num_threads(n).unwrap_err().kind, Kind::Value);
    }
    assert!(num_threads() >= 1);
}

#[cfg(unix)]
#[test]
fn a_forked_child_makes_its_own_team() {
    run(3, 1, 100, &quiet, &|_| {}).unwrap();
    // SAFETY: the child calls only into the team and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let total = AtomicUsize::new(0);
        let ok = (0..20).all(|_| {
            run(3, 5, 100, &quiet, &|_| {
                total.fetch_add(1, Ordering::SeqCst);
            })
            .is_ok()
        });
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!(ok && total.into_inner() == 10_000))) }
    }
    let mut status = 0;
    for _ in 0..2000 {
        // SAFETY: our own child.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == pid {
            assert_eq!(status, 0);
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: our own child, which hangs.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    panic!("the child hangs");
}
