//! The thread team: one per process, made when first needed.
//!
//! A job is a number of units, in one or more phases; a phase begins when all units of the one before are done.
//! Any thread may take any unit: it claims it, does it, counts it. Nobody waits for a thread that has claimed
//! nothing, so a descheduled thread delays its own unit only, and a helper that arrives late (or never) costs
//! nothing. The caller is thread 0 and always works itself. Waiting spins a little, then yields, then sleeps.
//!
//! A second caller meanwhile begins alone on its own thread and goes on with the team once it is free; a call from
//! inside a unit runs alone. Nobody waits, so nobody waits for ever. After a fork the child forgets the team (its threads
//! are gone, its locks may be held for ever) and makes its own.

use crate::error::{Error, Result, panic_text};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic;
use std::time::{Duration, Instant};
use sync::{Arc, AtomicBool, AtomicU32, AtomicUsize, Condvar, Mutex, Ordering, spin};

/// The parts that a model checker replaces (`team_models.rs`).
mod sync {
    #[cfg(all(test, loom))]
    pub use loom::{
        sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
        sync::{Arc, Condvar, Mutex},
        thread::yield_now as spin,
    };
    #[cfg(not(all(test, loom)))]
    pub use std::{
        hint::spin_loop as spin,
        sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
        sync::{Arc, Condvar, Mutex},
    };
}

/// How often the caller's `poll` is asked.
const POLL: Duration = Duration::from_millis(5);
/// More threads than this are never made: beyond the largest machines, so whoever asks for more has made a mistake.
const MOST: usize = 1024;

/// What a thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// which thread, below what `Cpu::run_phases` was given: index of its scratch
    pub thread: usize,
    /// which phase
    pub phase: usize,
    /// which unit of it
    pub unit: usize,
}

type Work<'a> = &'a (dyn Fn(At) + Sync + 'a);

static WANTED: atomic::AtomicUsize = atomic::AtomicUsize::new(0);

/// How many threads calls use: what was set, else `OMP_NUM_THREADS`, else what affinity and quota allow. The last two
/// are not the caller's own words, and are cut to what is possible.
pub fn num_threads() -> usize {
    match WANTED.load(Ordering::Relaxed) {
        0 => {
            let n = std::env::var("OMP_NUM_THREADS")
                .ok()
                .and_then(|text| text.split(',').next().and_then(|n| n.trim().parse().ok()))
                .filter(|&n: &usize| n > 0)
                .or_else(|| std::thread::available_parallelism().ok().map(|n| n.get()))
                .unwrap_or(1)
                .min(MOST);
            match WANTED.compare_exchange(0, n, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => n,
                Err(set) => set,
            }
        }
        n => n,
    }
}

/// Says how many threads calls may use from now on.
pub fn set_num_threads(n: usize) -> Result<()> {
    if !(1..=MOST).contains(&n) {
        return Err(wrong_num_threads(n));
    }
    WANTED.store(n, Ordering::Relaxed);
    Ok(())
}

/// The error of a number of threads that cannot be.
pub fn wrong_num_threads(n: impl std::fmt::Display) -> Error {
    Error::value("set_num_threads", "n", format_args!("at least 1 and at most {MOST}"), n)
}

/// Does all units of all phases with up to `threads` threads. `Err` is what `poll` said (units not begun are
/// then left out), or a panic of a unit.
pub(super) fn run(
    threads: usize,
    phases: usize,
    units: usize,
    poll: &(dyn Fn() -> Result<()> + Sync),
    work: Work<'_>,
) -> Result<()> {
    if threads > 1 && units > 1 {
        team().queue(threads, phases, units, poll, work)
    } else {
        alone(phases, units, poll, work)
    }
}

fn alone(phases: usize, units: usize, poll: &(dyn Fn() -> Result<()> + Sync), work: Work<'_>) -> Result<()> {
    let job = Job::new(1, phases, units, work);
    job.join_in(0, &Asked::new(poll, &job));
    job.outcome()
}

std::thread_local! {
    /// When this thread was last asked, over all jobs: a long call may be made of many short ones.
    static ASKED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// How often it is to be asked: tests count every time that it could be.
    pub(super) static EVERY: Cell<Duration> = const { Cell::new(POLL) };
}

/// How often a thread's calls ask.
pub(super) fn every() -> Duration {
    EVERY.get()
}

/// Asks `poll` now and then, on the caller's thread.
struct Asked<'a> {
    poll: Option<&'a (dyn Fn() -> Result<()> + Sync)>,
    job: &'a Job,
}

impl<'a> Asked<'a> {
    fn new(poll: &'a (dyn Fn() -> Result<()> + Sync), job: &'a Job) -> Asked<'a> {
        Asked { poll: Some(poll), job }
    }

    fn ask(&self) {
        let Some(poll) = self.poll else { return };
        if cfg!(loom) || ASKED.get().is_none_or(|last| last.elapsed() >= every()) {
            match catch_unwind(AssertUnwindSafe(poll)) {
                Ok(Ok(())) => {}
                Ok(Err(stop)) => self.job.fail(stop),
                Err(panic) => self.job.fail(Error::panicked(panic_text(panic.as_ref()))),
            }
            ASKED.set(Some(Instant::now()));
        }
    }
}

/// On a cache line of its own.
#[repr(align(128))]
struct Apart<T>(T);

struct Job {
    work: *const (dyn Fn(At) + Sync),
    threads: usize,
    phases: usize,
    units: usize,
    /// units finished, over all phases
    done: Apart<AtomicUsize>,
    /// with one phase: the next unit that nobody has claimed
    next: Apart<AtomicUsize>,
    /// with several: for each unit the phases in which it has been claimed
    claims: Vec<Apart<AtomicU32>>,
    joined: AtomicUsize,
    /// helpers leave: the machine is too busy for them
    alone: AtomicBool,
    stop: AtomicBool,
    error: Mutex<Option<Error>>,
}

// SAFETY: `work` is Sync, and is called only between a claim and its count, while `run` has not returned.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    fn new(threads: usize, phases: usize, units: usize, work: Work<'_>) -> Job {
        // SAFETY: only the lifetime changes; `run` returns after the last claimed unit was counted, and a unit
        // cannot be claimed once all are.
        let work = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        let claims = if phases > 1 && threads > 1 { units } else { 0 };
        Job {
            work,
            threads,
            phases,
            units,
            done: Apart(AtomicUsize::new(0)),
            next: Apart(AtomicUsize::new(0)),
            claims: (0..claims).map(|_| Apart(AtomicU32::new(0))).collect(),
            joined: AtomicUsize::new(1),
            alone: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    fn fail(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn outcome(&self) -> Result<()> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Claims and does units until none is left. Stopped jobs are claimed and counted to their end, not done.
    fn join_in(&self, thread: usize, asked: &Asked<'_>) {
        if self.threads == 1 {
            for phase in 0..self.phases {
                for unit in 0..self.units {
                    self.one(At { thread, phase, unit });
                    asked.ask();
                    if self.stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        } else if self.phases == 1 {
            loop {
                let unit = self.next.0.fetch_add(1, Ordering::Relaxed);
                if unit >= self.units {
                    break;
                }
                self.one(At { thread, phase: 0, unit });
                asked.ask();
            }
        } else {
            self.join_phases(thread, asked);
        }
    }

    fn join_phases(&self, thread: usize, asked: &Asked<'_>) {
        // the same units in every phase as far as possible: their weights are in this core's cache
        let own = thread * self.units / self.threads;
        for phase in 0..self.phases {
            if thread > 0 && self.alone.load(Ordering::Relaxed) {
                return;
            }
            let began = Instant::now();
            for unit in (own..self.units).chain(0..own) {
                let claim = &self.claims[unit].0;
                if claim.load(Ordering::Relaxed) == phase as u32
                    && claim
                        .compare_exchange(phase as u32, phase as u32 + 1, Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok()
                {
                    self.one(At { thread, phase, unit });
                    asked.ask();
                }
            }
            let worked = began.elapsed();
            self.wait((phase + 1) * self.units);
            // another process has our helper's core: ten times over, it is better to do without
            let waited = began.elapsed() - worked;
            if cfg!(not(loom)) && thread == 0 && waited > Duration::from_millis(1) && waited > 10 * worked {
                self.alone.store(true, Ordering::Relaxed);
            }
        }
    }

    fn one(&self, at: At) {
        if !self.stop.load(Ordering::Relaxed) {
            // SAFETY: claimed and not yet counted, so `run` is still there, and what `work` borrows with it.
            let work = unsafe { &*self.work };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(at))) {
                self.fail(Error::panicked(panic_text(panic.as_ref())));
            }
        }
        // what the unit wrote is seen by whoever reads this count
        self.done.0.fetch_add(1, Ordering::Release);
    }

    /// Until `count` units are done.
    fn wait(&self, count: usize) {
        let mut patience = Patience::new();
        while self.done.0.load(Ordering::Acquire) < count {
            patience.pass();
        }
    }
}

/// Spins, then yields, then sleeps.
struct Patience {
    turns: u32,
}

impl Patience {
    fn new() -> Patience {
        Patience { turns: 0 }
    }

    fn pass(&mut self) {
        if cfg!(loom) {
            return spin();
        }
        self.turns = self.turns.saturating_add(1);
        match self.turns {
            0..2000 => spin(),
            2000..2200 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

/// Forks since the start of this process's line: a team of another count has no threads here.
static FORKS: atomic::AtomicUsize = atomic::AtomicUsize::new(0);
static TEAM: atomic::AtomicPtr<Team> = atomic::AtomicPtr::new(ptr::null_mut());

struct Team {
    forks: usize,
    busy: AtomicBool,
    /// helpers started; touched only while `busy`
    helpers: AtomicUsize,
    board: Mutex<Board>,
    wake: Condvar,
    /// jobs posted so far: what idle helpers look at
    posted: Apart<AtomicUsize>,
}

struct Board {
    job: Option<Arc<Job>>,
    sleepers: usize,
}

/// The team of this process. Teams are never freed: helpers look at theirs as long as they live.
fn team() -> &'static Team {
    watch_forks();
    let forks = FORKS.load(Ordering::Acquire);
    let old = TEAM.load(Ordering::Acquire);
    // SAFETY: teams are leaked, so every pointer ever stored is good.
    if let Some(team) = unsafe { old.as_ref() }
        && team.forks == forks
    {
        return team;
    }
    let fresh = Box::into_raw(Box::new(Team::new(forks)));
    match TEAM.compare_exchange(old, fresh, Ordering::AcqRel, Ordering::Acquire) {
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

fn watch_forks() {
    #[cfg(unix)]
    {
        extern "C" fn child() {
            FORKS.fetch_add(1, Ordering::Release);
        }
        static WATCHED: atomic::AtomicBool = atomic::AtomicBool::new(false);
        if !WATCHED.swap(true, Ordering::AcqRel) {
            // SAFETY: the hook only adds to an atomic number, which is allowed after a fork.
            unsafe { libc::pthread_atfork(None, None, Some(child)) };
        }
    }
}

impl Team {
    fn new(forks: usize) -> Team {
        Team {
            forks,
            busy: AtomicBool::new(false),
            helpers: AtomicUsize::new(0),
            board: Mutex::new(Board { job: None, sleepers: 0 }),
            wake: Condvar::new(),
            posted: Apart(AtomicUsize::new(0)),
        }
    }

    /// Runs what the caller does not get done alone until the team is free: units of one phase, or phases.
    fn queue(
        &'static self,
        threads: usize,
        phases: usize,
        units: usize,
        poll: &(dyn Fn() -> Result<()> + Sync),
        work: Work<'_>,
    ) -> Result<()> {
        let steps = if phases == 1 { units } else { phases };
        for step in 0..steps {
            let (phase, unit) = if phases == 1 { (0, step) } else { (step, 0) };
            let rest = |at: At| work(At { phase: phase + at.phase, unit: unit + at.unit, ..at });
            if !self.busy.load(Ordering::Relaxed) && !self.busy.swap(true, Ordering::Acquire) {
                let threads = self.hire(threads.min(units - unit));
                let result = self.lead(threads, phases - phase, units - unit, poll, &rest);
                self.busy.store(false, Ordering::Release);
                return result;
            }
            alone(1, if phases == 1 { 1 } else { units }, poll, &rest)?;
        }
        Ok(())
    }

    /// The caller's part, with `threads - 1` helpers that may come.
    fn lead(
        &self,
        threads: usize,
        phases: usize,
        units: usize,
        poll: &(dyn Fn() -> Result<()> + Sync),
        work: Work<'_>,
    ) -> Result<()> {
        let job = Arc::new(Job::new(threads, phases, units, work));
        if threads > 1 {
            self.post(Some(job.clone()));
        }
        job.join_in(0, &Asked::new(poll, &job));
        if threads > 1 {
            job.wait(phases * units);
            self.board.lock().unwrap_or_else(PoisonError::into_inner).job = None;
        }
        job.outcome()
    }

    /// Starts helpers as far as the system gives them; the number of threads there are, the caller included.
    fn hire(&'static self, threads: usize) -> usize {
        let mut helpers = self.helpers.load(Ordering::Relaxed);
        while helpers + 1 < threads {
            let name = format!("seqcore-{}", helpers + 1);
            if std::thread::Builder::new().name(name).spawn(move || self.help()).is_err() {
                break;
            }
            helpers += 1;
            self.helpers.store(helpers, Ordering::Relaxed);
        }
        threads.min(helpers + 1)
    }

    fn post(&self, job: Option<Arc<Job>>) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.job = job;
        self.posted.0.fetch_add(1, Ordering::Release);
        let sleepers = board.sleepers;
        drop(board);
        if sleepers > 0 {
            self.wake.notify_all();
        }
    }

    /// The life of a helper.
    fn help(&self) {
        let mut seen = 0;
        loop {
            self.help_once(&mut seen);
        }
    }

    fn help_once(&self, seen: &mut usize) {
        if let Some(job) = self.next_job(seen) {
            let thread = job.joined.fetch_add(1, Ordering::Relaxed);
            if thread < job.threads {
                job.join_in(thread, &Asked { poll: None, job: &job });
            }
        }
    }

    fn next_job(&self, seen: &mut usize) -> Option<Arc<Job>> {
        // the next call often comes within microseconds; after that give the core away
        let turns = if cfg!(loom) { 1 } else { 4000 };
        for turn in 0..turns {
            if self.posted.0.load(Ordering::Acquire) != *seen {
                break;
            }
            if turn < 3900 { spin() } else { std::thread::yield_now() }
        }
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        while self.posted.0.load(Ordering::Acquire) == *seen {
            board.sleepers += 1;
            board = self.wake.wait(board).unwrap_or_else(PoisonError::into_inner);
            board.sleepers -= 1;
        }
        *seen = self.posted.0.load(Ordering::Acquire);
        board.job.clone()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "team_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
#[path = "team_models.rs"]
mod models;
