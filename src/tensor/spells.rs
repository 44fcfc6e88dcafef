//! How often long plain loops ask whether to stop.

use crate::error::Result;

/// Elements of simple work between two questions: a millisecond or less. A multiple of the sixteen partial sums.
pub const SPELL: usize = 1 << 16;

/// Asks `poll` once in so many elements, and at least once in as many calls.
pub struct Spells<'a> {
    poll: &'a dyn Fn() -> Result<()>,
    done: usize,
}

impl<'a> Spells<'a> {
    /// From the beginning.
    pub fn new(poll: &'a dyn Fn() -> Result<()>) -> Spells<'a> {
        Spells { poll, done: 0 }
    }

    /// Counts work that was done or is done next: no more than [`SPELL`] at a time.
    #[inline(always)]
    pub fn count(&mut self, elements: usize) -> Result<()> {
        self.done += elements.max(1);
        if self.done < SPELL {
            return Ok(());
        }
        self.done = 0;
        (self.poll)()
    }
}
