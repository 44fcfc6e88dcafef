//! Gradients of weights: `dW += dyᵀ x` and `db += Σ dy` over many rows, one chain per element.
//!
//! The rows are taken in chunks, and partial sums go to dW and back in between, which changes no bit. Of a chunk,
//! a block of columns of x is packed to panels (they stay in the second level of cache) and meets the columns of
//! dy, which are copied line by line first: read in place, at a stride of a power of two, they would all fall
//! into the same few lines of the cache (96 against 150 GF/s).

#![allow(clippy::needless_range_loop)] // vectors are not passed through iterators: see `lanes`

use super::Cpu;
use super::gemm::{UNIT, WORTH_A_TEAM, load_columns, store_columns};
use super::lanes::{Kernel, Lanes, launch};
use super::memory::Fresh;
use super::pack::{Shared, share};
use super::tile::{Blocks, Left, PANEL, by_rows, tile};
use crate::error::{Error, Result};
use crate::tensor::elements;

/// Rows that a weight gradient sums over: `dy` (steps, batch, n) and `x` (steps, batch, k), steps descending,
/// batch ascending. A linear layer has one step.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// gradients of the outputs
    pub dy: &'a [f32],
    /// the inputs
    pub x: &'a [f32],
    /// outer axis, walked backwards
    pub steps: usize,
    /// inner axis, walked forwards
    pub batch: usize,
}

impl<'a> Segment<'a> {
    /// Where step t of `dy` meets step t - 1 of `y`, and step 0, which comes last, meets `first`: the gradient of
    /// recurrent weights.
    pub fn one_earlier(dy: &'a [f32], y: &'a [f32], first: &'a [f32], (steps, batch): (usize, usize)) -> Vec<Self> {
        let Some(later) = steps.checked_sub(1) else { return vec![] };
        let (start, rest) = dy.split_at(dy.len() / steps);
        let y = &y[..y.len() / steps * later];
        vec![Segment { dy: rest, x: y, steps: later, batch }, Segment { dy: start, x: first, steps: 1, batch }]
    }
}

/// Columns of dy that a tile's left side comes from: a cache line.
const GROUP: usize = 16;
/// Groups copied at once: neighbouring lines of a row are cheap to read together.
const GROUPS: usize = 4;
/// Rows between two visits to dW, and columns of x packed at a time: 512 KiB together.
const CHUNK: usize = 512;
const COLUMNS: usize = 256;

/// `dw` (n, k) += dyᵀ x and, if given, `db` (n) += Σ dy, each element one chain over the rows of all segments in
/// their order; from zero instead of what is there with `from_zero`.
pub fn accumulate(
    cpu: &Cpu<'_>,
    segments: &[Segment<'_>],
    (n, k): (usize, usize),
    from_zero: bool,
    dw: &mut [f32],
    mut db: Option<&mut [f32]>,
) -> Result<()> {
    let mut total = 0usize;
    for s in segments {
        let rows = elements(&[s.steps, s.batch])?;
        if elements(&[rows, n])? != s.dy.len() || elements(&[rows, k])? != s.x.len() {
            return Err(Error::internal("a weight gradient over rows of another length"));
        }
        total += rows;
    }
    if k == 0 || elements(&[n, k])? != dw.len() || db.as_ref().is_some_and(|db| db.len() != n) {
        return Err(Error::internal("a weight gradient of another size"));
    }
    if total == 0 || n == 0 {
        if from_zero {
            dw.fill(0.0);
            db.iter_mut().for_each(|db| db.fill(0.0));
        }
        return Ok(());
    }
    let isa = cpu.isa()?;
    let panels = k.div_ceil(isa.lanes() * PANEL);
    let column_blocks = (panels * isa.lanes() * PANEL).div_ceil(COLUMNS);
    let widest = panels.div_ceil(column_blocks) * isa.lanes() * PANEL;
    let chunk = CHUNK.min(total);
    let groups = n.div_ceil(GROUP);
    let worth = total.saturating_mul(n).saturating_mul(k) > WORTH_A_TEAM;
    let fine = (chunk * widest).saturating_mul(n) / UNIT + 1;
    let threads = cpu.threads();
    let units = fine.max(if worth { threads } else { 1 }).min(groups);
    let size = elements(&[chunk, widest + GROUPS * GROUP])?;
    let mut scratch = Fresh::<f32>::new(elements(&[units.min(threads), size])?)?;
    let kernel = Accumulate {
        segments,
        first: 0,
        rows: 0,
        n,
        k,
        groups: (0, 0),
        panels: (0, 0),
        from_zero,
        dw: dw.as_mut_ptr(),
        db: db.map_or(std::ptr::null_mut(), |db| db.as_mut_ptr()),
        scratch: scratch.as_mut_ptr(),
    };
    // SAFETY: units write disjoint rows of `dw` and every thread has its scratch.
    let kernel = unsafe { Shared::new(kernel) };
    // a phase a chunk and block of columns, so that poll is asked in between
    cpu.run_phases(threads, total.div_ceil(chunk) * column_blocks, units, |at| {
        let (first, block) = (at.phase / column_blocks * chunk, at.phase % column_blocks);
        let (groups, panels) = (share(at.unit, units, groups), share(block, column_blocks, panels));
        let kernel = kernel.get();
        let kernel = Accumulate {
            first,
            rows: chunk.min(total - first),
            groups: (groups.start, groups.end),
            panels: (panels.start, panels.end),
            from_zero: from_zero && first == 0,
            // once, not for every block of columns
            db: if block == 0 { kernel.db } else { std::ptr::null_mut() },
            scratch: kernel.scratch.wrapping_add(at.thread * size),
            ..kernel
        };
        // SAFETY: sizes were checked above; units write disjoint rows of dw, threads have their own scratch.
        unsafe { launch(isa, &kernel) }
    })
}

/// One chunk of rows, one block of columns of x, some groups of columns of dy.
#[derive(Clone, Copy)]
struct Accumulate<'a> {
    segments: &'a [Segment<'a>],
    first: usize,
    rows: usize,
    n: usize,
    k: usize,
    groups: (usize, usize),
    panels: (usize, usize),
    from_zero: bool,
    dw: *mut f32,
    /// or null
    db: *mut f32,
    /// packed x, then packed dy
    scratch: *mut f32,
}

impl Kernel for Accumulate<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let rows = self.rows;
        let (mut dy, mut x) = ([std::ptr::null::<f32>(); CHUNK], [std::ptr::null::<f32>(); CHUNK]);
        self.find_rows(&mut dy[..rows], &mut x[..rows]);
        let panel_size = rows * PANEL * L::N;
        let packed_dy = self.scratch.wrapping_add((self.panels.1 - self.panels.0) * panel_size);
        // SAFETY: `accumulate` checked sizes and gave scratch for a chunk; columns past the end are masked.
        unsafe {
            self.pack_x::<L>(&x[..rows], panel_size);
            let mut g = self.groups.0;
            while g < self.groups.1 {
                let count = (self.groups.1 - g).min(GROUPS);
                self.pack_dy::<L>(&dy[..rows], g * GROUP, count, packed_dy);
                for group in 0..count {
                    let column = (g + group) * GROUP;
                    let from = packed_dy.add(group * rows * GROUP);
                    let blocks = Blocks::new((self.n - column).min(GROUP), L::ROWS);
                    for p in self.panels.0..self.panels.1 {
                        let panel = self.scratch.add((p - self.panels.0) * panel_size);
                        for i in 0..blocks.count() {
                            let (r0, r) = blocks.get(i);
                            let left = Left { at: from.add(r0), row_step: 1, k_step: GROUP };
                            by_rows!(r, self.block::<L>(left, column + r0, p, panel));
                        }
                    }
                }
                g += count;
            }
        }
    }
}

impl Accumulate<'_> {
    /// Where the rows of this chunk are, in the order of the chain.
    fn find_rows(&self, dy: &mut [*const f32], x: &mut [*const f32]) {
        let (mut segment, mut row) = (0, self.first);
        for (dy, x) in dy.iter_mut().zip(x) {
            while row >= self.segments[segment].steps * self.segments[segment].batch {
                row -= self.segments[segment].steps * self.segments[segment].batch;
                segment += 1;
            }
            let s = &self.segments[segment];
            let at = (s.steps - 1 - row / s.batch) * s.batch + row % s.batch;
            *dy = s.dy.as_ptr().wrapping_add(at * self.n);
            *x = s.x.as_ptr().wrapping_add(at * self.k);
            row += 1;
        }
    }

    #[inline(always)]
    unsafe fn pack_x<L: Lanes>(&self, x: &[*const f32], panel_size: usize) {
        for (i, &x) in x.iter().enumerate() {
            for p in self.panels.0..self.panels.1 {
                let to = self.scratch.wrapping_add((p - self.panels.0) * panel_size + i * PANEL * L::N);
                // SAFETY: a row of k values; scratch holds the panels of this block.
                unsafe {
                    let v = load_columns::<L>(x, p, self.k);
                    for z in 0..PANEL {
                        v[z].store(to.add(z * L::N));
                    }
                }
            }
        }
    }

    /// Copies `groups` lines of every row of dy, from `column` on, to `[group][row][16]`, and sums them to db.
    #[inline(always)]
    unsafe fn pack_dy<L: Lanes>(&self, dy: &[*const f32], column: usize, groups: usize, to: *mut f32) {
        let vectors = groups * GROUP / L::N;
        let here = |v: usize| self.n.saturating_sub(column + v * L::N).min(L::N);
        let sums = !self.db.is_null();
        // the most there are: 4 groups of two vectors
        let mut sum = [L::splat(0.0); GROUPS * GROUP / 8];
        // SAFETY: columns are masked where they end; scratch holds all rows of a chunk.
        unsafe {
            if sums && !self.from_zero {
                for v in 0..vectors {
                    sum[v] = L::load_first(self.db.wrapping_add(column + v * L::N), here(v));
                }
            }
            let whole = column + vectors * L::N <= self.n;
            for (i, &row) in dy.iter().enumerate() {
                let row = row.wrapping_add(column);
                for v in 0..vectors {
                    let from = row.wrapping_add(v * L::N);
                    let value = if whole { L::load(from) } else { L::load_first(from, here(v)) };
                    let group = v * L::N / GROUP;
                    value.store(to.wrapping_add((group * self.rows + i) * GROUP + v * L::N % GROUP));
                    sum[v] = sum[v].add(value);
                }
            }
            if sums {
                for v in 0..vectors {
                    sum[v].store_first(self.db.wrapping_add(column + v * L::N), here(v));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize>(&self, left: Left, column: usize, p: usize, panel: *const f32) {
        let row = |r: usize| self.dw.wrapping_add((column + r) * self.k);
        // SAFETY: as `run`.
        unsafe {
            let mut acc = [[L::splat(0.0); PANEL]; R];
            if !self.from_zero {
                for r in 0..R {
                    acc[r] = load_columns(row(r), p, self.k);
                }
            }
            tile::<L, R>(&mut acc, self.rows, left, panel);
            for r in 0..R {
                store_columns(&acc[r], row(r), p, self.k);
            }
        }
    }
}
