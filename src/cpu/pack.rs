//! Packed right sides: panels of four vectors of outputs, `[panel][k][4][N]`, read from start to end by the
//! tiles. Outputs past the last are zeros, computed and never stored.

use super::lanes::{Kernel, Lanes, launch};
use super::memory::{CpuBuffer, Fresh};
use super::tile::PANEL;
use super::{Cpu, Isa};
use crate::backend::Buffer;
use crate::error::{Error, Result};
use crate::tensor::elements;
use std::sync::Arc;

/// Rows of panels that are packed at a time, 512 KiB at most; whole blocks of a transposition.
const ROWS: usize = 1 << 11;

/// A packed right side for one instruction set.
pub struct Panels {
    isa: Isa,
    k: usize,
    outputs: usize,
    data: Fresh<f32>,
}

/// Which outputs a panel holds.
#[derive(Clone, Copy)]
enum Order {
    /// 4 N outputs one after the other
    Straight,
    /// N units of each of four gates
    Gates,
}

impl Panels {
    /// The image of `weights`, of `sizes` rows and columns, that `pack` makes, kept until their next version; made at
    /// every call where somebody outside can write to the memory, which we would not see.
    pub fn kept(
        cpu: &Cpu<'_>,
        weights: &CpuBuffer,
        kind: &'static str,
        sizes: [usize; 2],
        pack: impl FnOnce() -> Result<Panels>,
    ) -> Result<Arc<Panels>> {
        if weights.is_borrowed() || weights.stamp().is_shown() {
            return pack().map(Arc::new);
        }
        weights.stamp().packed((kind, cpu.isa()?.index(), sizes), pack)
    }

    /// From `b` (k, n): output j takes column j. For products `a b`, and `dy W` where `b` is W (n_out, n_in).
    pub fn straight(cpu: &Cpu<'_>, b: &[f32], k: usize, n: usize) -> Result<Panels> {
        let mut panels = Panels::new(cpu, k, n, n, b.len())?;
        let width = panels.width();
        panels.fill(cpu, |first, rows| {
            let (mut p, mut i) = (first / k, first % k);
            for row in rows.chunks_exact_mut(width) {
                let here = width.min(n - p * width);
                row[..here].copy_from_slice(&b[i * n + p * width..][..here]);
                row[here..].fill(0.0);
                i += 1;
                if i == k {
                    (p, i) = (p + 1, 0);
                }
            }
        })?;
        Ok(panels)
    }

    /// From `w` (n, k): output j takes row j. For products `x Wᵀ`.
    pub fn transposed(cpu: &Cpu<'_>, w: &[f32], n: usize, k: usize) -> Result<Panels> {
        Panels::from_rows(cpu, w, n, k, Order::Straight)
    }

    /// From `w` (4 units, k), four gates one after the other: panel p holds, of each gate in turn, the units
    /// p N to (p + 1) N.
    pub fn gates(cpu: &Cpu<'_>, w: &[f32], units: usize, k: usize) -> Result<Panels> {
        Panels::from_rows(cpu, w, units, k, Order::Gates)
    }

    fn from_rows(cpu: &Cpu<'_>, w: &[f32], n: usize, k: usize, order: Order) -> Result<Panels> {
        let (outputs, rows) = match order {
            Order::Straight => (n, n),
            Order::Gates => (n.div_ceil(cpu.isa()?.lanes()) * cpu.isa()?.lanes() * PANEL, PANEL * n),
        };
        let mut panels = Panels::new(cpu, k, outputs, rows, w.len())?;
        let (isa, width) = (panels.isa, panels.width());
        panels.fill(cpu, |first, to| {
            let last = first + to.len() / width;
            let kernel = Transposing { from: w.as_ptr(), to: to.as_mut_ptr(), n, k, order, first, last };
            // SAFETY: reads rows below n (of each gate), `new` checked that there are so many; writes `to` alone.
            unsafe { launch(isa, &kernel) }
        })?;
        Ok(panels)
    }

    /// Calls `work` with some rows at a time, panel after panel seen as one matrix of `width` columns, and the first.
    /// A panel may be cut: one of a long chain takes longer than Ctrl-C may wait.
    fn fill(&mut self, cpu: &Cpu<'_>, work: impl Fn(usize, &mut [f32]) + Sync) -> Result<()> {
        let width = self.width();
        cpu.pieces(&mut self.data, ROWS * width, |start, rows| {
            work(start / width, rows);
            Ok(())
        })
    }

    fn new(cpu: &Cpu<'_>, k: usize, outputs: usize, rows: usize, given: usize) -> Result<Panels> {
        if elements(&[rows, k])? != given {
            return Err(Error::internal(format!("packing {rows} x {k} from {given} elements")));
        }
        let isa = cpu.isa()?;
        let width = isa.lanes() * PANEL;
        let data = Fresh::new(elements(&[outputs.div_ceil(width), k, width])?)?;
        Ok(Panels { isa, k, outputs, data })
    }

    /// What it was packed for: products with it run there.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Terms of a chain.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Outputs, without those that fill the last panel up (for gates: with them).
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Outputs of a panel.
    pub fn width(&self) -> usize {
        self.isa.lanes() * PANEL
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.outputs.div_ceil(self.width())
    }

    /// Where panel 0 starts; each has `k * width` elements.
    pub fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }
}

/// The part of `0..n` that unit `unit` of `units` takes.
pub(super) fn share(unit: usize, units: usize, n: usize) -> std::ops::Range<usize> {
    // units are few, so the products do not wrap for any n that fits memory
    unit * n / units..(unit + 1) * n / units
}

/// Something with pointers that all units read: each makes its own copy of it for its own part of the memory.
#[derive(Clone, Copy)]
pub struct Shared<T>(T);

// SAFETY: by the word of whoever called `new`.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// # Safety
    /// Units use the pointers in `value` for memory that nobody writes, or for parts that nobody else uses.
    pub unsafe fn new(value: T) -> Shared<T> {
        Shared(value)
    }

    /// The value; a method, so that a closure captures the whole.
    pub fn get(&self) -> T {
        self.0
    }
}

struct Transposing {
    from: *const f32,
    to: *mut f32,
    n: usize,
    k: usize,
    order: Order,
    /// rows of the panels, counted from the first of all
    first: usize,
    last: usize,
}

impl Kernel for Transposing {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let width = PANEL * L::N;
        let mut done = self.first;
        while done < self.last {
            let (p, start) = (done / self.k, done % self.k);
            let stop = self.k.min(start + self.last - done);
            let to = self.to.wrapping_add((done - self.first) * width);
            for z in 0..PANEL {
                let (row, end) = match self.order {
                    Order::Straight => (p * width + z * L::N, self.n),
                    Order::Gates => (z * self.n + p * L::N, (z + 1) * self.n),
                };
                // SAFETY: rows row .. row + rows lie below `end`, columns below k; the panel's memory is ours.
                unsafe {
                    let to = to.add(z * L::N);
                    let rows = end.saturating_sub(row).min(L::N);
                    let from = self.from.wrapping_add(row * self.k + start);
                    let columns = stop - start;
                    let whole = if rows == L::N { columns - columns % L::N } else { 0 };
                    let mut i = 0;
                    while i < whole {
                        L::transpose(from.add(i), self.k, to.add(i * width), width);
                        i += L::N;
                    }
                    while i < columns {
                        for j in 0..L::N {
                            *to.add(i * width + j) = if j < rows { *from.add(j * self.k + i) } else { 0.0 };
                        }
                        i += 1;
                    }
                }
            }
            done += stop - start;
        }
    }
}
