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
    /// The image of `weights` that `pack` makes, kept until their next version; made at every call where somebody
    /// outside can write to the memory, which we would not see.
    pub fn kept(
        cpu: &Cpu<'_>,
        weights: &CpuBuffer,
        kind: &'static str,
        pack: impl FnOnce() -> Result<Panels>,
    ) -> Result<Arc<Panels>> {
        if weights.is_borrowed() || weights.stamp().is_shown() {
            return pack().map(Arc::new);
        }
        weights.stamp().packed((kind, cpu.isa()?.index()), pack)
    }

    /// From `b` (k, n): output j takes column j. For products `a b`, and `dy W` where `b` is W (n_out, n_in).
    pub fn straight(cpu: &Cpu<'_>, b: &[f32], k: usize, n: usize) -> Result<Panels> {
        let mut panels = Panels::new(cpu, k, n, n, b.len())?;
        let width = panels.width();
        // SAFETY: every unit writes its own panels.
        let data = unsafe { Shared::new(panels.data.as_mut_ptr()) };
        let work = |p: usize| {
            let n_here = width.min(n - p * width);
            for i in 0..k {
                // SAFETY: row i of panel p, which no other unit writes; `new` sized the memory.
                let row = unsafe { std::slice::from_raw_parts_mut(data.get().add((p * k + i) * width), width) };
                row[..n_here].copy_from_slice(&b[i * n + p * width..][..n_here]);
                row[n_here..].fill(0.0);
            }
        };
        let (count, units) = (n.div_ceil(width), units_of(cpu, n.div_ceil(width), k * width));
        cpu.run(units, |unit| share(unit, units, count).for_each(work))?;
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
        let (isa, count, size) = (panels.isa, panels.count(), k * panels.width());
        let kernel = Transposing { from: w.as_ptr(), to: panels.data.as_mut_ptr(), n, k, order, first: 0, last: 0 };
        // SAFETY: every unit writes its own panels.
        let kernel = unsafe { Shared::new(kernel) };
        let units = units_of(cpu, count, size);
        cpu.run(units, |unit| {
            let range = share(unit, units, count);
            let kernel = Transposing { first: range.start, last: range.end, ..kernel.get() };
            // SAFETY: reads rows below n (of each gate), `new` checked that there are so many; writes the panels
            // of this unit.
            unsafe { launch(isa, &kernel) }
        })?;
        Ok(panels)
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

/// How many units `count` things of `size` elements each are worth: one below some 20 µs of copying.
fn units_of(cpu: &Cpu<'_>, count: usize, size: usize) -> usize {
    if count.saturating_mul(size) < 100_000 { 1 } else { count.min(cpu.threads()) }
}

/// The part of `0..n` that unit `unit` of `units` takes.
pub(super) fn share(unit: usize, units: usize, n: usize) -> std::ops::Range<usize> {
    // units are at most the threads of a team, so the products do not wrap for any n that fits memory
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

#[derive(Clone, Copy)]
struct Transposing {
    from: *const f32,
    to: *mut f32,
    n: usize,
    k: usize,
    order: Order,
    first: usize,
    last: usize,
}

impl Kernel for Transposing {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let width = PANEL * L::N;
        for p in self.first..self.last {
            for z in 0..PANEL {
                let (row, end) = match self.order {
                    Order::Straight => (p * width + z * L::N, self.n),
                    Order::Gates => (z * self.n + p * L::N, (z + 1) * self.n),
                };
                // SAFETY: rows row .. row + rows lie below `end`, columns below k; the panel's memory is ours.
                unsafe {
                    let to = self.to.add(p * self.k * width + z * L::N);
                    let rows = end.saturating_sub(row).min(L::N);
                    let from = self.from.wrapping_add(row * self.k);
                    let whole = if rows == L::N { self.k - self.k % L::N } else { 0 };
                    let mut i = 0;
                    while i < whole {
                        L::transpose(from.add(i), self.k, to.add(i * width), width);
                        i += L::N;
                    }
                    while i < self.k {
                        for j in 0..L::N {
                            *to.add(i * width + j) = if j < rows { *from.add(j * self.k + i) } else { 0.0 };
                        }
                        i += 1;
                    }
                }
            }
        }
    }
}
