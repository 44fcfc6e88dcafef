//! Tile products: R rows by up to four vectors, one chain of fused multiply-adds per output element, k ascending.
//! Lanes lie along outputs, never along the sum, and a chain may be stored and resumed, so neither the tile's
//! shape nor blocking changes a bit.
//!
//! 6 x 4 on AVX-512 (24 accumulators of 32 registers) runs at 94 to 100 % of the peak; with 16 registers a panel
//! of four vectors is taken in two passes of 6 x 2, the first pair parked (92 %; 3 x 4 spills: 50 %).

#![allow(clippy::needless_range_loop)] // indices of constant arrays, several at a time

use super::lanes::Lanes;

/// Vectors of a panel.
pub const PANEL: usize = 4;

/// The most rows of a tile, over all instruction sets.
pub const ROWS: usize = 6;

/// A chain's terms on the left side: element (row, k) is at `at + row * row_step + k * k_step`.
#[derive(Clone, Copy)]
pub struct Left {
    /// element (0, 0)
    pub at: *const f32,
    /// between rows
    pub row_step: usize,
    /// between terms
    pub k_step: usize,
}

impl Left {
    /// The same from row `row` on.
    ///
    /// # Safety
    /// The row lies in the same memory.
    #[inline(always)]
    pub unsafe fn row(self, row: usize) -> Left {
        // SAFETY: the caller's word.
        Left { at: unsafe { self.at.add(row.wrapping_mul(self.row_step)) }, ..self }
    }
}

/// `acc[r][z] += left[r][k] * panel[k][z]` for k = 0, 1, …, in this order; the panel is `[k][4][N]`.
///
/// # Safety
/// R rows of `k` terms can be read on the left, `k` rows of a panel on the right.
#[inline(always)]
pub unsafe fn tile<L: Lanes, const R: usize>(acc: &mut [[L; PANEL]; R], k: usize, left: Left, panel: *const f32) {
    // SAFETY: passed on; the second half of each row of the panel starts two vectors later.
    unsafe {
        if L::WIDTH == PANEL {
            strip::<L, R, PANEL>(acc, k, left, panel);
        } else {
            let mut half = [[L::splat(0.0); 2]; R];
            for first in [0, 2] {
                for r in 0..R {
                    half[r] = [acc[r][first], acc[r][first + 1]];
                }
                strip::<L, R, 2>(&mut half, k, left, panel.add(first * L::N));
                for r in 0..R {
                    acc[r][first] = half[r][0];
                    acc[r][first + 1] = half[r][1];
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn strip<L: Lanes, const R: usize, const Z: usize>(
    acc: &mut [[L; Z]; R],
    k: usize,
    left: Left,
    panel: *const f32,
) {
    // SAFETY: k rows and k terms, by the caller's word; the last step of a pointer goes at most one past.
    unsafe {
        // a local array of constant size stays in registers
        let mut sum = *acc;
        let mut rows = [left.at; R];
        for r in 0..R {
            rows[r] = left.at.wrapping_add(r.wrapping_mul(left.row_step));
        }
        let (mut i, mut w) = (0usize, panel);
        for _ in 0..k {
            let mut v = [L::splat(0.0); Z];
            for z in 0..Z {
                v[z] = L::load(w.wrapping_add(z * L::N));
            }
            for r in 0..R {
                let x = L::splat(*rows[r].wrapping_add(i));
                for z in 0..Z {
                    sum[r][z] = x.fma(v[z], sum[r][z]);
                }
            }
            i = i.wrapping_add(left.k_step);
            w = w.wrapping_add(PANEL * L::N);
        }
        *acc = sum;
    }
}

/// One row by Q panels at once: a lone row needs more than four chains to hide the latency of an addition.
///
/// # Safety
/// `k` terms can be read on the left; panel q starts `q * panel_step` after `panel`.
#[inline(always)]
pub unsafe fn lone_row<L: Lanes, const Q: usize>(
    acc: &mut [[L; PANEL]; Q],
    k: usize,
    left: Left,
    panel: *const f32,
    panel_step: usize,
) {
    // SAFETY: by the caller's word.
    unsafe {
        let mut sum = *acc;
        let mut panels = [panel; Q];
        for q in 0..Q {
            panels[q] = panel.wrapping_add(q.wrapping_mul(panel_step));
        }
        let (mut x, mut w) = (left.at, 0usize);
        for _ in 0..k {
            let v = L::splat(*x);
            for q in 0..Q {
                for z in 0..PANEL {
                    sum[q][z] = v.fma(L::load(panels[q].wrapping_add(w + z * L::N)), sum[q][z]);
                }
            }
            x = x.wrapping_add(left.k_step);
            w = w.wrapping_add(PANEL * L::N);
        }
        *acc = sum;
    }
}

/// `chains` chains from zero over `k` terms each, one after the other on both sides, joined in pairs:
/// c0; c0 + c1; (c0 + c1) + c2; (c0 + c1) + (c2 + c3).
///
/// # Safety
/// As `tile`, for `chains * k` terms.
#[inline(always)]
pub unsafe fn joined<L: Lanes, const R: usize>(
    chains: usize,
    k: usize,
    left: Left,
    panel: *const f32,
) -> [[L; PANEL]; R] {
    // SAFETY: as here.
    unsafe {
        let mut sum = chain::<L, R>(0, k, left, panel);
        if chains > 1 {
            add(&mut sum, &chain::<L, R>(1, k, left, panel));
        }
        if chains == 3 {
            add(&mut sum, &chain::<L, R>(2, k, left, panel));
        }
        if chains == 4 {
            let mut second = chain::<L, R>(2, k, left, panel);
            add(&mut second, &chain::<L, R>(3, k, left, panel));
            add(&mut sum, &second);
        }
        sum
    }
}

/// Chain `c` of `joined`, which starts c * k terms later on both sides.
#[inline(always)]
unsafe fn chain<L: Lanes, const R: usize>(c: usize, k: usize, left: Left, panel: *const f32) -> [[L; PANEL]; R] {
    let mut acc = [[L::splat(0.0); PANEL]; R];
    let from = c.wrapping_mul(k);
    let left = Left { at: left.at.wrapping_add(from.wrapping_mul(left.k_step)), ..left };
    // SAFETY: as `joined`.
    unsafe { tile::<L, R>(&mut acc, k, left, panel.wrapping_add(from.wrapping_mul(PANEL * L::N))) };
    acc
}

/// `joined` with four chains of a lone row: all four at once, 16 accumulators.
///
/// # Safety
/// As `joined`.
#[inline(always)]
pub unsafe fn joined_lone<L: Lanes>(k: usize, left: Left, panel: *const f32) -> [[L; PANEL]; 1] {
    let mut sum = [[L::splat(0.0); PANEL]; 4];
    // SAFETY: as `joined`.
    unsafe {
        let (mut x, mut w) = ([left.at; 4], [panel; 4]);
        for c in 0..4usize {
            let from = c.wrapping_mul(k);
            x[c] = left.at.wrapping_add(from.wrapping_mul(left.k_step));
            w[c] = panel.wrapping_add(from.wrapping_mul(PANEL * L::N));
        }
        let (mut i, mut j) = (0usize, 0usize);
        for _ in 0..k {
            for c in 0..4 {
                let v = L::splat(*x[c].wrapping_add(i));
                for z in 0..PANEL {
                    sum[c][z] = v.fma(L::load(w[c].wrapping_add(j + z * L::N)), sum[c][z]);
                }
            }
            i = i.wrapping_add(left.k_step);
            j = j.wrapping_add(PANEL * L::N);
        }
    }
    let mut out = [[L::splat(0.0); PANEL]; 1];
    for z in 0..PANEL {
        out[0][z] = sum[0][z].add(sum[1][z]).add(sum[2][z].add(sum[3][z]));
    }
    out
}

#[inline(always)]
fn add<L: Lanes, const R: usize>(a: &mut [[L; PANEL]; R], b: &[[L; PANEL]; R]) {
    for r in 0..R {
        for z in 0..PANEL {
            a[r][z] = a[r][z].add(b[r][z]);
        }
    }
}

/// Splits `rows` into blocks of at most `most` as evenly as can be (16 = 6 + 5 + 5): never a lone row left over.
#[derive(Clone, Copy)]
pub struct Blocks {
    base: usize,
    longer: usize,
    count: usize,
}

impl Blocks {
    /// The blocks of `rows`.
    #[inline(always)]
    pub fn new(rows: usize, most: usize) -> Blocks {
        let count = rows.div_ceil(most);
        match count {
            0 => Blocks { base: 0, longer: 0, count },
            _ => Blocks { base: rows / count, longer: rows % count, count },
        }
    }

    /// How many there are.
    #[inline(always)]
    pub fn count(self) -> usize {
        self.count
    }

    /// First row and number of rows of block `i`.
    #[inline(always)]
    pub fn get(self, i: usize) -> (usize, usize) {
        (i * self.base + i.min(self.longer), self.base + usize::from(i < self.longer))
    }
}

/// Calls `$f::<$lanes, R>($($arg),*)` for the R in 1..=6 that `$rows` says.
macro_rules! by_rows {
    ($rows:expr, $target:ident . $f:ident :: <$lanes:ty> ( $($arg:expr),* $(,)? )) => {
        match $rows {
            1 => $target.$f::<$lanes, 1>($($arg),*),
            2 => $target.$f::<$lanes, 2>($($arg),*),
            3 => $target.$f::<$lanes, 3>($($arg),*),
            4 => $target.$f::<$lanes, 4>($($arg),*),
            5 => $target.$f::<$lanes, 5>($($arg),*),
            _ => $target.$f::<$lanes, 6>($($arg),*),
        }
    };
}

pub(crate) use by_rows;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_even() {
        for rows in 0..200 {
            let blocks = Blocks::new(rows, 6);
            let mut next = 0;
            for i in 0..blocks.count() {
                let (first, n) = blocks.get(i);
                assert_eq!(first, next);
                assert!((1..=6).contains(&n) && (n > 1 || rows == 1));
                next += n;
            }
            assert_eq!(next, rows);
        }
        assert_eq!((0..3).map(|i| Blocks::new(16, 6).get(i).1).collect::<Vec<_>>(), [6, 5, 5]);
    }
}
