//! Sums along an axis, by a tree that depends on the number of terms alone: the same bits for every instruction set,
//! number of threads, and number or place of the other sums; along the last axis or any other.
//!
//! The tree: terms go in blocks of 128. In a block, partial l of 16 is 0 + e[l] + e[l + 16] + e[l + 32] + …; the 16
//! partials are joined in halves, l with l + 8, then + 4, + 2, + 1. Block sums are joined as a binary tree in which
//! the left side of every range is the largest power of two of blocks that leaves something for the right.

use super::lanes::{Kernel, Lanes, launch};
use super::map::PIECE;
use super::math::Function;
use super::{Cpu, Fresh};
use crate::error::{Error, Result};

/// Terms of a block.
pub const BLOCK: usize = 128;
/// Partial sums of a block.
pub const PARTS: usize = 16;
/// Vectors side by side, where the summed axis is not the last.
const WIDE: usize = 4;
/// Terms above which one sum is shared between threads; a power of two of blocks, so that the tree stays the same.
const CHUNK: usize = BLOCK << 9;
/// Levels of the tree: 2^40 blocks are more than memory holds.
const DEPTH: usize = 41;

impl Cpu<'_> {
    /// `y[o, i]` = the sum of `x[o, k, i]` over k < n; x has `outer * n * inner` elements.
    pub fn sum_axis(&self, x: &[f32], outer: usize, n: usize, inner: usize) -> Result<Fresh<f32>> {
        let fits = |a: usize, b: usize| a.checked_mul(b).ok_or_else(|| Error::memory("a sum"));
        let sums = fits(outer, inner)?;
        if fits(sums, n)? != x.len() {
            return Err(Error::internal("sum: as many terms as the sizes say were expected"));
        }
        if n == 0 || sums == 0 {
            return self.cleared(sums);
        }
        if n == 1 {
            return self.map::<Lone>(x);
        }
        let chunks = n.div_ceil(CHUNK);
        let mut y = Fresh::<f32>::new(fits(sums, chunks)?)?;
        self.sum_chunks(x, n, inner, CHUNK, false, &mut y)?;
        if chunks == 1 {
            return Ok(y);
        }
        // the sums of chunks are whole subtrees: what remains are the levels above them
        let mut joined = Fresh::<f32>::new(sums)?;
        self.sum_chunks(&y, chunks, inner, chunks, true, &mut joined)?;
        Ok(joined)
    }

    /// For every row of n terms the sums of its chunks; with `tops`, every term is a block's sum.
    fn sum_chunks(&self, x: &[f32], n: usize, inner: usize, chunk: usize, tops: bool, y: &mut [f32]) -> Result<()> {
        let (isa, chunks) = (self.isa()?, n.div_ceil(chunk));
        // sums beside each other that a kernel does in one go, and sums of a piece
        let tile = inner.min(WIDE * 16);
        let size = (PIECE / chunk.min(n)).max(tile);
        let work = |start: usize, y: &mut [f32]| {
            let (mut at, mut rest) = (start, y);
            while !rest.is_empty() {
                let (row, column) = (at / inner, at % inner);
                let (from, first) = (row / chunks, row % chunks * chunk);
                let width = tile.min(inner - column).min(rest.len());
                // one below the other: all there are, if every row is one sum
                let rows = if inner == 1 && chunks == 1 { rest.len() } else { 1 };
                let terms = chunk.min(n - first);
                let x = &x[(from * n + first) * inner + column..];
                let (y, tail) = rest.split_at_mut(width * rows);
                if (rows - 1) * n + (terms - 1) * inner + width > x.len() {
                    return Err(Error::internal("sum: terms past the end"));
                }
                let (x, y) = (x.as_ptr(), y.as_mut_ptr());
                // SAFETY: `rows` times `terms` rows of `width` terms were just checked; y has `rows * width`.
                unsafe { launch(isa, &Sum { x, rows, terms, inner, width, tops, y }) };
                (at, rest) = (at + width * rows, tail);
            }
            Ok(())
        };
        self.pieces(y, size, work)
    }
}

/// The sum of one term: 0 + x, as in every tree.
struct Lone;

impl Function for Lone {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        L::splat(0.0).add(x)
    }
}

/// The sums of `terms` rows of `width` columns, rows `inner` apart; or, where `inner` is 1, of `rows` rows of `terms`.
struct Sum {
    x: *const f32,
    rows: usize,
    terms: usize,
    inner: usize,
    width: usize,
    tops: bool,
    y: *mut f32,
}

impl Kernel for Sum {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        // SAFETY: `sum_chunks` has checked that all terms lie in memory.
        unsafe {
            if self.inner == 1 {
                let mut row = 0;
                while row < self.rows {
                    *self.y.add(row) = self.row::<L>(self.x.add(row * self.terms));
                    row += 1;
                }
                return;
            }
            let mut j = 0;
            while self.width - j >= WIDE * L::N {
                self.columns::<L, WIDE>(j, L::N);
                j += WIDE * L::N;
            }
            while j < self.width {
                self.columns::<L, 1>(j, L::N.min(self.width - j));
                j += L::N;
            }
        }
    }
}

impl Sum {
    /// Along the last axis: the partials of a block are the lanes.
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, x: *const f32) -> f32 {
        if self.terms <= BLOCK && !self.tops {
            // SAFETY: as `run`.
            return unsafe { row_block::<L>(x, self.terms) };
        }
        let mut tree = Tree::new(0f32);
        let mut first = 0;
        while first < self.terms {
            // SAFETY: as `run`.
            unsafe {
                if self.tops {
                    tree.push(*x.add(first));
                    first += 1;
                } else {
                    tree.push(row_block::<L>(x.add(first), BLOCK.min(self.terms - first)));
                    first += BLOCK;
                }
            }
        }
        tree.root()
    }

    /// Along another axis: W vectors of columns from j on (the last of `n` lanes), every lane a sum of its own.
    #[inline(always)]
    unsafe fn columns<L: Lanes, const W: usize>(&self, j: usize, n: usize) {
        // SAFETY: as `run`: rows below `terms`, columns below `width`.
        unsafe {
            let sum = if self.terms <= BLOCK && !self.tops {
                // most sums of a layer are this short: no tree to set up
                self.block::<L, W>(0, j, n)
            } else {
                let mut tree = Tree::new(Wide([L::splat(0.0); W]));
                let mut first = 0;
                while first < self.terms {
                    if self.tops {
                        tree.push(self.load::<L, W>(first, j, n));
                        first += 1;
                    } else {
                        tree.push(self.block::<L, W>(first, j, n));
                        first += BLOCK;
                    }
                }
                tree.root()
            };
            if n < L::N {
                return sum.0[0].store_first(self.y.add(j), n);
            }
            let mut w = 0;
            while w < W {
                sum.0[w].store(self.y.add(j + w * L::N));
                w += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn load<L: Lanes, const W: usize>(&self, row: usize, j: usize, n: usize) -> Wide<L, W> {
        let mut v = [L::splat(0.0); W];
        // SAFETY: as `run`.
        unsafe {
            let at = self.x.add(row * self.inner + j);
            if n < L::N {
                v[0] = L::load_first(at, n);
                return Wide(v);
            }
            let mut w = 0;
            while w < W {
                v[w] = L::load(at.add(w * L::N));
                w += 1;
            }
        }
        Wide(v)
    }

    /// The sums of the block of rows from `first` on.
    #[inline(always)]
    unsafe fn block<L: Lanes, const W: usize>(&self, first: usize, j: usize, n: usize) -> Wide<L, W> {
        let rows = BLOCK.min(self.terms - first);
        let mut parts = [Wide([L::splat(0.0); W]); PARTS];
        let mut l = 0;
        while l < PARTS {
            let mut sum = Wide([L::splat(0.0); W]);
            let mut k = l;
            while k < rows {
                // SAFETY: as `run`.
                sum = sum.plus(unsafe { self.load::<L, W>(first + k, j, n) });
                k += PARTS;
            }
            parts[l] = sum;
            l += 1;
        }
        halves(parts)
    }
}

/// The sum of n <= 128 terms side by side.
#[inline(always)]
unsafe fn row_block<L: Lanes>(x: *const f32, n: usize) -> f32 {
    let mut parts = [0f32; PARTS];
    let whole = n - n % PARTS;
    // SAFETY: the caller's n terms.
    unsafe {
        let mut l = 0;
        while l < PARTS && whole > 0 {
            let mut sum = L::splat(0.0);
            let mut k = l;
            while k < whole {
                sum = sum.add(L::load(x.add(k)));
                k += PARTS;
            }
            sum.store(parts.as_mut_ptr().add(l));
            l += L::N;
        }
        let mut l = 0;
        while l < n - whole {
            parts[l] += *x.add(whole + l);
            l += 1;
        }
    }
    halves(parts)
}

/// Partial l joined with l + 8, then + 4, + 2, + 1.
#[inline(always)]
fn halves<V: Plus>(mut parts: [V; PARTS]) -> V {
    let mut half = PARTS / 2;
    while half > 0 {
        let mut l = 0;
        while l < half {
            parts[l] = parts[l].plus(parts[l + half]);
            l += 1;
        }
        half /= 2;
    }
    parts[0]
}

trait Plus: Copy {
    fn plus(self, b: Self) -> Self;
}

impl Plus for f32 {
    #[inline(always)]
    fn plus(self, b: f32) -> f32 {
        self + b
    }
}

/// Vectors side by side.
#[derive(Clone, Copy)]
struct Wide<L, const W: usize>([L; W]);

impl<L: Lanes, const W: usize> Plus for Wide<L, W> {
    #[inline(always)]
    fn plus(mut self, b: Self) -> Self {
        let mut w = 0;
        while w < W {
            self.0[w] = self.0[w].add(b.0[w]);
            w += 1;
        }
        self
    }
}

/// Sums of complete subtrees, largest first: one for each 1 in the binary form of `count`.
struct Tree<V> {
    sums: [V; DEPTH],
    count: usize,
}

impl<V: Plus> Tree<V> {
    #[inline(always)]
    fn new(zero: V) -> Tree<V> {
        Tree { sums: [zero; DEPTH], count: 0 }
    }

    #[inline(always)]
    fn push(&mut self, mut sum: V) {
        let mut full = self.count.count_ones() as usize;
        let mut carry = self.count;
        while carry & 1 == 1 {
            full -= 1;
            sum = self.sums[full].plus(sum);
            carry >>= 1;
        }
        self.sums[full] = sum;
        self.count += 1;
    }

    /// The sum of all; something was pushed.
    #[inline(always)]
    fn root(&self) -> V {
        let mut full = (self.count.count_ones() as usize).saturating_sub(1);
        let mut sum = self.sums[full];
        while full > 0 {
            full -= 1;
            sum = self.sums[full].plus(sum);
        }
        sum
    }
}
