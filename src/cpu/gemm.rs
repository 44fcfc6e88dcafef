//! Products of matrices, with the order of every sum fixed: the bits of an output element depend on its own terms
//! alone, not on the number of rows, the threads or the instruction set (of those that fuse).
//!
//! * `y = x Wᵀ + bias`: [`product`] with [`Panels::transposed`], starting from [`Start::Row`]; chain over k ascending
//! * `dx = dy W`: [`product`] with [`Panels::straight`]; chain over n ascending. With gates: [`product_joined`]
//! * `a b`: [`product`] with [`Panels::straight`] of b
//! * `dW += dyᵀ x`, `db += Σ dy`: [`accumulate`]; chain over rows, segment by segment
//!
//! Panels may be kept for as long as their weights do not change (`Stamp::packed`).

use super::lanes::{Kernel, Lanes, launch};
use super::pack::{Panels, Shared, share};
use super::tile::{Blocks, Left, PANEL, by_rows, joined, joined_lone, lone_row, tile};
use super::{Cpu, Fresh};
use crate::error::{Error, Result};
use crate::tensor::elements;

pub use super::gradient::{Segment, accumulate};

/// Rows of the left side that are multiplied by all panels before the next are: they stay in the second level of
/// cache, and panels are read from further away once in so many rows.
const ROWS_AT_ONCE: usize = 240;

/// Below so many multiplications a team does not pay (some 20 µs of one core).
pub(super) const WORTH_A_TEAM: usize = 1 << 20;

/// Multiplications of a unit at most, where there is a choice: about two milliseconds.
pub(super) const UNIT: usize = 200_000_000;

/// Terms above which the panel of few outputs, some hundred megabytes, is read no sooner than it is made.
const THIN: usize = 1 << 20;

/// Terms that are packed at a time where outputs are few: their panel stays in the second level of cache.
const PART: usize = 1 << 12;

/// Terms of a chain that are done in one go: of the fewest rows and columns that a unit has, some 20 ms.
const TERMS: usize = 1 << 16;

/// What the chains of a product start from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// 0
    Zero,
    /// the same values in every row: a bias of n elements
    Row(&'a [f32]),
    /// what is in the output: the chain goes on
    Output,
}

/// `out` (m, n) = start + `a` (m, k) times the packed right side (k, n).
pub fn product(cpu: &Cpu<'_>, a: &[f32], m: usize, b: &Panels, start: Start<'_>, out: &mut [f32]) -> Result<()> {
    if let Start::Row(row) = start
        && row.len() != b.outputs()
    {
        return Err(Error::internal("a product with a bias of another length"));
    }
    run_product(cpu, (a, b.k()), m, b, start, 0, out)
}

/// The right side (k, n) of a product before it is packed.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a> {
    /// (k, n), or (n, k) if `transposed`
    pub data: &'a [f32],
    /// terms
    pub k: usize,
    /// outputs
    pub n: usize,
    /// see `data`
    pub transposed: bool,
}

impl Right<'_> {
    /// All of it in panels.
    pub fn packed(&self, cpu: &Cpu<'_>) -> Result<Panels> {
        let &Right { data, k, n, transposed } = self;
        if transposed { Panels::transposed(cpu, data, n, k) } else { Panels::straight(cpu, data, k, n) }
    }

    /// Whether its one panel would be mostly zeros, and so long that to keep it for a next product is no gain: a
    /// product with it is done in parts.
    pub fn is_thin(&self, cpu: &Cpu<'_>) -> Result<bool> {
        Ok(4 * self.n <= cpu.isa()?.lanes() * PANEL && self.k > THIN)
    }

    /// Its terms from `first` on, `PART` of them at most.
    fn part(&self, cpu: &Cpu<'_>, first: usize) -> Result<Panels> {
        let &Right { data, k, n, transposed } = self;
        let terms = PART.min(k - first);
        if !transposed {
            return Panels::straight(cpu, &data[first * n..][..terms * n], terms, n);
        }
        let mut rows = Fresh::<f32>::new(n * terms)?;
        for (row, from) in rows.chunks_exact_mut(terms).zip(data.chunks_exact(k)) {
            row.copy_from_slice(&from[first..][..terms]);
        }
        Panels::transposed(cpu, &rows, n, terms)
    }
}

/// `out` (m, n) = start + `a` (m, k) times `b`, packed part by part: the chains go on in `out`, which changes no bit.
pub fn product_in_parts(
    cpu: &Cpu<'_>,
    a: &[f32],
    m: usize,
    b: &Right<'_>,
    mut start: Start<'_>,
    out: &mut [f32],
) -> Result<()> {
    for first in (0..b.k).step_by(PART) {
        run_product(cpu, (a.get(first..).unwrap_or_default(), b.k), m, &b.part(cpu, first)?, start, 0, out)?;
        start = Start::Output;
    }
    Ok(())
}

/// `out` (m, n) = `a` (m, k) times the packed right side (k, n), where k is cut into `chains` (1 to 4) equal
/// chains, each from zero, joined in pairs: (c0 + c1) + (c2 + c3), or (c0 + c1) + c2.
pub fn product_joined(cpu: &Cpu<'_>, a: &[f32], m: usize, b: &Panels, chains: usize, out: &mut [f32]) -> Result<()> {
    if !(1..=4).contains(&chains) || !b.k().is_multiple_of(chains) {
        return Err(Error::internal(format!("{chains} chains over {} terms", b.k())));
    }
    run_product(cpu, (a, b.k()), m, b, Start::Zero, chains, out)
}

/// Rows of `a` are `step` apart.
fn run_product(
    cpu: &Cpu<'_>,
    (a, step): (&[f32], usize),
    m: usize,
    b: &Panels,
    start: Start<'_>,
    chains: usize,
    out: &mut [f32],
) -> Result<()> {
    let (k, n) = (b.k(), b.outputs());
    if elements(&[m, step])?.saturating_sub(step) + k.min(k * m) > a.len() || elements(&[m, n])? != out.len() {
        let sizes = (a.len(), out.len());
        return Err(Error::internal(format!("a product ({m}, {k}) by ({k}, {n}) with {sizes:?} elements")));
    }
    let (start, start_step) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Row(row) => (row.as_ptr(), 0),
        Start::Output => (out.as_ptr(), n),
    };
    let kernel = Product {
        a: a.as_ptr(),
        step,
        k,
        n,
        panels: b.as_ptr(),
        panel_size: k * b.width(),
        start,
        start_step,
        chains,
        out: out.as_mut_ptr(),
        rows: (0, m),
        columns: (0, b.count()),
    };
    // pieces of rows, and of panels where rows are few; enough that `poll` is asked every few milliseconds
    let (threads, work) = (cpu.threads(), m.saturating_mul(n).saturating_mul(k));
    let worth = work > WORTH_A_TEAM && threads > 1;
    let units = (work / UNIT + 1).max(if worth { 4 * threads } else { 1 });
    let row_units = units.min(m.div_ceil(if worth { 48 } else { ROWS_AT_ONCE })).max(1);
    let column_units = units.div_ceil(row_units).min(b.count()).max(1);
    // SAFETY: units write disjoint blocks of `out`.
    let kernel = unsafe { Shared::new(kernel) };
    // a phase some terms, after which the chains go on in `out`
    let terms = if chains == 0 { TERMS } else { k.max(1) };
    cpu.run_phases(threads, k.div_ceil(terms).max(1), row_units * column_units, |at| {
        let kernel = kernel.get();
        let first = at.phase * terms;
        let (start, start_step) =
            if at.phase == 0 { (kernel.start, kernel.start_step) } else { (kernel.out.cast_const(), n) };
        let rows = share(at.unit / column_units, row_units, m);
        let columns = share(at.unit % column_units, column_units, b.count());
        let kernel = Product {
            a: kernel.a.wrapping_add(first),
            k: terms.min(k - first),
            panels: kernel.panels.wrapping_add(first * b.width()),
            start,
            start_step,
            rows: (rows.start, rows.end),
            columns: (columns.start, columns.end),
            ..kernel
        };
        // SAFETY: sizes were checked above; units write disjoint blocks of `out`.
        unsafe { launch(b.isa(), &kernel) }
    })
}

#[derive(Clone, Copy)]
struct Product {
    a: *const f32,
    step: usize,
    k: usize,
    n: usize,
    panels: *const f32,
    /// from one to the next
    panel_size: usize,
    /// null for zero
    start: *const f32,
    start_step: usize,
    /// 0: one chain from `start`; else so many joined from zero
    chains: usize,
    out: *mut f32,
    rows: (usize, usize),
    columns: (usize, usize),
}

impl Kernel for Product {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let mut first = self.rows.0;
        while first < self.rows.1 {
            let rows = (self.rows.1 - first).min(ROWS_AT_ONCE);
            let blocks = Blocks::new(rows, L::ROWS);
            let mut p = self.columns.0;
            while p < self.columns.1 {
                // SAFETY: rows and panels of this unit, as `run_product` checked.
                unsafe {
                    let panel = self.panels.wrapping_add(p.wrapping_mul(self.panel_size));
                    if rows == 1 && self.chains == 0 && p + 1 < self.columns.1 {
                        self.two_panels::<L>(first, p, panel, self.panel_size);
                        p += 2;
                        continue;
                    }
                    for i in 0..blocks.count() {
                        let (row, r) = blocks.get(i);
                        by_rows!(r, self.block::<L>(first + row, p, panel));
                    }
                }
                p += 1;
            }
            first += rows;
        }
    }
}

impl Product {
    #[inline(always)]
    fn left(&self, row: usize) -> Left {
        Left { at: self.a.wrapping_add(row.wrapping_mul(self.step)), row_step: self.step, k_step: 1 }
    }

    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize>(&self, row: usize, p: usize, panel: *const f32) {
        // SAFETY: as `run`.
        unsafe {
            let left = self.left(row);
            let acc = if self.chains == 0 {
                let mut acc = [[L::splat(0.0); PANEL]; R];
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = self.begin::<L>(row + r, p);
                }
                tile::<L, R>(&mut acc, self.k, left, panel);
                acc
            } else if R == 1 && self.chains == 4 {
                let one = joined_lone::<L>(self.k / 4, left, panel);
                [one[0]; R]
            } else {
                joined::<L, R>(self.chains, self.k / self.chains, left, panel)
            };
            for (r, acc) in acc.iter().enumerate() {
                self.end(row + r, p, acc);
            }
        }
    }

    #[inline(always)]
    unsafe fn two_panels<L: Lanes>(&self, row: usize, p: usize, panel: *const f32, panel_size: usize) {
        // SAFETY: as `run`; panel p + 1 is this unit's too.
        unsafe {
            let mut acc = [self.begin::<L>(row, p), self.begin::<L>(row, p + 1)];
            lone_row::<L, 2>(&mut acc, self.k, self.left(row), panel, panel_size);
            self.end(row, p, &acc[0]);
            self.end(row, p + 1, &acc[1]);
        }
    }

    #[inline(always)]
    unsafe fn begin<L: Lanes>(&self, row: usize, p: usize) -> [L; PANEL] {
        if self.start.is_null() {
            return [L::splat(0.0); PANEL];
        }
        let from = self.start.wrapping_add(row.wrapping_mul(self.start_step));
        // SAFETY: a row of n values.
        unsafe { load_columns(from, p, self.n) }
    }

    #[inline(always)]
    unsafe fn end<L: Lanes>(&self, row: usize, p: usize, acc: &[L; PANEL]) {
        // SAFETY: a row of n values, of this unit.
        unsafe { store_columns(acc, self.out.wrapping_add(row.wrapping_mul(self.n)), p, self.n) }
    }
}

/// Columns of panel `p` of a row of `n` values, those past the end 0.
///
/// # Safety
/// `n` values can be read at `row`.
#[inline(always)]
pub unsafe fn load_columns<L: Lanes>(row: *const f32, p: usize, n: usize) -> [L; PANEL] {
    let mut v = [L::splat(0.0); PANEL];
    for (z, v) in v.iter_mut().enumerate() {
        let at = (p * PANEL + z) * L::N;
        // SAFETY: below n.
        unsafe {
            if at + L::N <= n {
                *v = L::load(row.add(at));
            } else if at < n {
                *v = L::load_first(row.add(at), n - at);
            }
        }
    }
    v
}

/// Stores what of panel `p` lies below `n`.
///
/// # Safety
/// `n` values can be written at `row`.
#[inline(always)]
pub unsafe fn store_columns<L: Lanes>(v: &[L; PANEL], row: *mut f32, p: usize, n: usize) {
    for (z, v) in v.iter().enumerate() {
        let at = (p * PANEL + z) * L::N;
        // SAFETY: below n.
        unsafe {
            if at + L::N <= n {
                v.store(row.add(at));
            } else if at < n {
                v.store_first(row.add(at), n - at);
            }
        }
    }
}

#[cfg(test)]
#[path = "gemm_tests.rs"]
mod tests;
