//! The loop over time of a recurrent layer: who does what of a step, and how often `poll` is asked.
//!
//! Threads take rows where each gets a tile of them and the weights fit its cache, else panels (units of the layer),
//! with a barrier a step.

use super::Cpu;
use super::pack::share;
use super::tile::ROWS;
use crate::error::Result;

/// Weights up to so many bytes leave room in the cache of a core that runs rows of its own.
const OWN_WEIGHTS: usize = 640 << 10;
/// Multiplications and additions that a thread must have in a step to be worth a barrier.
const WORTH_A_BARRIER: usize = 48 << 10;
/// And in half a share, for threads to take two halves: where another process has a core, the others then take what
/// that thread would have done in smaller pieces (29 ms became 22 for T=50, B=64, H=512 on 3 of 4 cores).
const WORTH_HALVING: usize = 256 << 10;
/// And in a whole call to be worth a team.
const WORTH_A_TEAM: u64 = 4 << 20;
/// Multiplications and additions of a phase where a thread has its own rows: some milliseconds, for `poll`.
const PHASE: usize = 400_000_000;

/// How the steps of a call are shared out.
#[derive(Clone, Copy, Debug)]
pub struct TimeLoop {
    split: Split,
    rows: usize,
    panels: usize,
    step: usize,
}

/// First and one past the last.
type Span = (usize, usize);

/// Who does what of a step.
#[derive(Clone, Copy, Debug)]
enum Split {
    /// so many threads with their own rows (one: no threads)
    Rows(usize),
    /// so many parts of the panels, one or two for each thread
    Panels(usize),
}

impl TimeLoop {
    /// For steps of so many rows and panels. `call` and `step`: multiplications and additions of the whole call and of
    /// a step; `weights`: bytes that every row needs.
    pub fn new(cpu: &Cpu<'_>, (rows, panels): (usize, usize), call: u64, step: usize, weights: usize) -> TimeLoop {
        TimeLoop { split: split(cpu, (rows, panels), call, step, weights), rows, panels, step }
    }

    /// Calls `work(steps, rows, panels)` so that all of `steps` steps is done, in the order of time.
    pub fn run(&self, cpu: &Cpu<'_>, steps: usize, work: impl Fn(Span, Span, Span) + Sync) -> Result<()> {
        let part = |unit: usize, units: usize, n: usize| {
            let part = share(unit, units, n);
            (part.start, part.end)
        };
        match self.split {
            Split::Rows(units) => {
                let length = (PHASE / (self.step / units).max(1)).clamp(1, steps.max(1));
                cpu.run_phases(cpu.threads(), steps.div_ceil(length), units, |at| {
                    let first = at.phase * length;
                    work((first, steps.min(first + length)), part(at.unit, units, self.rows), (0, self.panels));
                })
            }
            Split::Panels(units) => cpu.run_phases(cpu.threads(), steps, units, |at| {
                work((at.phase, at.phase + 1), (0, self.rows), part(at.unit, units, self.panels));
            }),
        }
    }
}

fn split(cpu: &Cpu<'_>, (rows, panels): (usize, usize), call: u64, step: usize, weights: usize) -> Split {
    let threads = cpu.threads();
    if step > 2 * PHASE {
        // so large that a step is cut for `poll`'s sake, whatever the threads
        return Split::Panels((step / PHASE).max(threads).min(panels));
    }
    if threads == 1 || call < WORTH_A_TEAM {
        return Split::Rows(1);
    }
    let by_rows = threads.min(rows / ROWS);
    let by_panels = threads.min(panels).min(step / WORTH_A_BARRIER);
    if by_rows >= 2 && (weights <= OWN_WEIGHTS || by_rows > by_panels) {
        Split::Rows(by_rows)
    } else if by_panels >= 2 {
        Split::Panels(if step / (2 * by_panels) >= WORTH_HALVING { panels.min(2 * by_panels) } else { by_panels })
    } else {
        Split::Rows(1)
    }
}
