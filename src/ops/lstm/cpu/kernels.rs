//! The time loop, forward and backward: a tile of pre-activations (or of dh) and, from its registers, the gate
//! arithmetic. One panel is N units of all four gates, so that nothing leaves the tile between.

#![allow(clippy::needless_range_loop)] // vectors are not passed through iterators: see `cpu::lanes`

use crate::cpu::gemm::load_columns;
use crate::cpu::math::{Function, Sigmoid, Tanh};
use crate::cpu::tile::{Blocks, Left, PANEL, by_rows, joined, joined_lone, lone_row, tile};
use crate::cpu::{Kernel, Lanes};

/// Elements of two panels that fit the first level of cache.
const PAIR: usize = 10 << 10;

/// Steps `steps` of forward, for some rows and some panels. All pointers are to whole tensors.
#[derive(Clone, Copy)]
pub struct Forward {
    pub steps: (usize, usize),
    /// 1 to walk the panels of even steps backwards instead
    pub turn: usize,
    pub rows: (usize, usize),
    pub panels: (usize, usize),
    pub batch: usize,
    pub input: usize,
    pub hidden: usize,
    /// (T, B, I); null where the pre-activations begin with what is in `projected`
    pub x: *const f32,
    /// `[row][panel][4][N]` from step `projected_from` on: bias and inputs, summed
    pub projected: *const f32,
    pub projected_from: usize,
    /// panels
    pub ih: *const f32,
    pub hh: *const f32,
    /// `[panel][4][N]`
    pub bias: *const f32,
    pub all_panels: usize,
    pub h0: *const f32,
    pub c0: *const f32,
    /// (T, B, H)
    pub y: *mut f32,
    /// (T, B, H), or (B, H) when `c_step` is 0
    pub c: *mut f32,
    pub c_step: usize,
    /// (T, B, 4, H) or null
    pub gates: *mut f32,
}

/// Where one step finds its things.
#[derive(Clone, Copy)]
struct Now {
    x: *const f32,
    projected: *const f32,
    h: *const f32,
    c_before: *const f32,
    c: *mut f32,
    y: *mut f32,
    gates: *mut f32,
}

impl Kernel for Forward {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let (rows, panels) = (self.rows.1 - self.rows.0, self.panels.1 - self.panels.0);
        let blocks = Blocks::new(rows, L::ROWS);
        // two panels of a lone row hide latency, but only where both fit the first level of cache: beyond it one
        // at a time is as fast as the second level, and what the first still holds is used (140 against 153 us
        // at H = 128, 33 against 31 at 64)
        let pairs = rows == 1 && 2 * self.hidden * PANEL * L::N <= PAIR;
        for t in self.steps.0..self.steps.1 {
            let now = self.at::<L>(t);
            // odd steps walk the panels backwards: what the last step left in the cache comes first
            let backwards = (t + self.turn) % 2 == 1;
            let mut done = 0;
            while done < panels {
                let several = if pairs && done + 1 < panels { 2 } else { 1 };
                let p = if backwards { self.panels.1 - done - several } else { self.panels.0 + done };
                // SAFETY: rows and panels of this unit; the tensors have the sizes of the spec.
                unsafe {
                    if several == 2 {
                        self.lone::<L, 2>(&now, self.rows.0, p);
                    } else {
                        for i in 0..blocks.count() {
                            let (row, r) = blocks.get(i);
                            by_rows!(r, self.block::<L>(&now, self.rows.0 + row, p));
                        }
                    }
                }
                done += several;
            }
        }
    }
}

impl Forward {
    #[inline(always)]
    fn at<L: Lanes>(&self, t: usize) -> Now {
        let state = self.batch * self.hidden;
        let projected = (t - self.projected_from) * self.batch * self.all_panels * PANEL * L::N;
        let first = t == 0;
        Now {
            x: self.x.wrapping_add(t * self.batch * self.input),
            projected: self.projected.wrapping_add(projected),
            h: if first { self.h0 } else { self.y.wrapping_add((t - 1) * state) },
            c_before: if first { self.c0 } else { self.c.wrapping_add((t - 1) * self.c_step) },
            c: self.c.wrapping_add(t * self.c_step),
            y: self.y.wrapping_add(t * state),
            gates: self.gates.wrapping_add(t * 4 * state),
        }
    }

    #[inline(always)]
    unsafe fn begin<L: Lanes>(&self, now: &Now, row: usize, p: usize) -> [L; PANEL] {
        // SAFETY: a whole panel is there in both.
        unsafe {
            if self.projected.is_null() {
                load_columns(self.bias, p, self.all_panels * PANEL * L::N)
            } else {
                let width = self.all_panels * PANEL * L::N;
                load_columns(now.projected.wrapping_add(row * width), p, width)
            }
        }
    }

    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize>(&self, now: &Now, row: usize, p: usize) {
        let width = PANEL * L::N;
        // SAFETY: as `run`.
        unsafe {
            let mut acc = [[L::splat(0.0); PANEL]; R];
            for r in 0..R {
                acc[r] = self.begin::<L>(now, row + r, p);
            }
            if self.projected.is_null() {
                let x = Left { at: now.x.wrapping_add(row * self.input), row_step: self.input, k_step: 1 };
                tile::<L, R>(&mut acc, self.input, x, self.ih.wrapping_add(p * self.input * width));
            }
            let h = Left { at: now.h.wrapping_add(row * self.hidden), row_step: self.hidden, k_step: 1 };
            tile::<L, R>(&mut acc, self.hidden, h, self.hh.wrapping_add(p * self.hidden * width));
            for r in 0..R {
                self.end(now, row + r, p, &acc[r]);
            }
        }
    }

    #[inline(always)]
    unsafe fn lone<L: Lanes, const Q: usize>(&self, now: &Now, row: usize, p: usize) {
        let width = PANEL * L::N;
        // SAFETY: as `run`.
        unsafe {
            let mut acc = [[L::splat(0.0); PANEL]; Q];
            for q in 0..Q {
                acc[q] = self.begin::<L>(now, row, p + q);
            }
            if self.projected.is_null() {
                let x = Left { at: now.x.wrapping_add(row * self.input), row_step: 0, k_step: 1 };
                let size = self.input * width;
                lone_row::<L, Q>(&mut acc, self.input, x, self.ih.wrapping_add(p * size), size);
            }
            let h = Left { at: now.h.wrapping_add(row * self.hidden), row_step: 0, k_step: 1 };
            let size = self.hidden * width;
            lone_row::<L, Q>(&mut acc, self.hidden, h, self.hh.wrapping_add(p * size), size);
            for q in 0..Q {
                self.end(now, row, p + q, &acc[q]);
            }
        }
    }

    /// The gates of N units of a row.
    #[inline(always)]
    unsafe fn end<L: Lanes>(&self, now: &Now, row: usize, p: usize, acc: &[L; PANEL]) {
        let unit = p * L::N;
        let n = (self.hidden - unit).min(L::N);
        let at = row * self.hidden + unit;
        // SAFETY: n units of the row.
        unsafe {
            let (i, f, g, o) = (Sigmoid::of(acc[0]), Sigmoid::of(acc[1]), Tanh::of(acc[2]), Sigmoid::of(acc[3]));
            let c = f.fma(load(now.c_before.wrapping_add(at), n), i.mul(g));
            let h = o.mul(Tanh::of(c));
            store(c, now.c.wrapping_add(at), n);
            store(h, now.y.wrapping_add(at), n);
            if !self.gates.is_null() {
                let to = now.gates.wrapping_add(4 * row * self.hidden + unit);
                store(i, to, n);
                store(f, to.wrapping_add(self.hidden), n);
                store(g, to.wrapping_add(2 * self.hidden), n);
                store(o, to.wrapping_add(3 * self.hidden), n);
            }
        }
    }
}

/// b_ih + b_hh (4H) in the order of the forward panels, filled up with zeros.
#[derive(Clone, Copy)]
pub struct Bias {
    pub ih: *const f32,
    pub hh: *const f32,
    pub hidden: usize,
    pub to: *mut f32,
}

impl Kernel for Bias {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        for p in 0..self.hidden.div_ceil(L::N) {
            let n = (self.hidden - p * L::N).min(L::N);
            for gate in 0..PANEL {
                let at = gate * self.hidden + p * L::N;
                // SAFETY: n units of a gate; `to` has whole panels.
                unsafe {
                    let (ih, hh): (L, L) = (load(self.ih.wrapping_add(at), n), load(self.hh.wrapping_add(at), n));
                    ih.add(hh).store(self.to.wrapping_add((p * PANEL + gate) * L::N));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn load<L: Lanes>(from: *const f32, n: usize) -> L {
    // SAFETY: the caller has n values there.
    unsafe { if n == L::N { L::load(from) } else { L::load_first(from, n) } }
}

#[inline(always)]
unsafe fn store<L: Lanes>(v: L, to: *mut f32, n: usize) {
    // SAFETY: the caller has n values there.
    unsafe { if n == L::N { v.store(to) } else { v.store_first(to, n) } }
}

/// Steps `steps.1 - 1` down to `steps.0` of backward, for some rows and some panels of units. All pointers are to
/// whole tensors.
#[derive(Clone, Copy)]
pub struct Backward {
    pub steps: (usize, usize),
    pub all_steps: usize,
    pub rows: (usize, usize),
    pub panels: (usize, usize),
    pub batch: usize,
    pub hidden: usize,
    /// W_hh (4H, H), straight panels
    pub hh: *const f32,
    /// (T, B, H)
    pub c: *const f32,
    pub c0: *const f32,
    /// (T, B, H) or null
    pub dy: *const f32,
    /// (B, H): dh_n, or null
    pub dh: *const f32,
    /// (B, H): dc_n at first, dc_0 at last
    pub dc: *mut f32,
    /// (T, B, 4, H): gates, overwritten by da
    pub gates: *mut f32,
}

impl Kernel for Backward {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let blocks = Blocks::new(self.rows.1 - self.rows.0, L::ROWS);
        for t in (self.steps.0..self.steps.1).rev() {
            for i in self.panels.0..self.panels.1 {
                let p = if t % 2 == 1 { self.panels.0 + self.panels.1 - 1 - i } else { i };
                for i in 0..blocks.count() {
                    let (row, r) = blocks.get(i);
                    // SAFETY: rows and panels of this unit; the tensors have the sizes of the spec.
                    unsafe { by_rows!(r, self.block::<L>(t, self.rows.0 + row, p)) };
                }
            }
        }
    }
}

impl Backward {
    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize>(&self, t: usize, row: usize, p: usize) {
        let state = self.batch * self.hidden;
        // SAFETY: as `run`.
        unsafe {
            let dh = if t + 1 < self.all_steps {
                let from = self.gates.wrapping_add((t + 1) * 4 * state + 4 * row * self.hidden);
                let left = Left { at: from, row_step: 4 * self.hidden, k_step: 1 };
                let panel = self.hh.wrapping_add(p * 4 * self.hidden * PANEL * L::N);
                if R == 1 {
                    [joined_lone::<L>(self.hidden, left, panel)[0]; R]
                } else {
                    joined::<L, R>(4, self.hidden, left, panel)
                }
            } else {
                let mut dh = [[L::splat(0.0); PANEL]; R];
                if !self.dh.is_null() {
                    for r in 0..R {
                        dh[r] = load_columns(self.dh.wrapping_add((row + r) * self.hidden), p, self.hidden);
                    }
                }
                dh
            };
            for r in 0..R {
                for z in 0..PANEL {
                    let unit = (p * PANEL + z) * L::N;
                    if unit < self.hidden {
                        self.unit(t, row + r, unit, dh[r][z]);
                    }
                }
            }
        }
    }

    /// da of up to N units of a row, over their gates.
    #[inline(always)]
    unsafe fn unit<L: Lanes>(&self, t: usize, row: usize, unit: usize, dh: L) {
        let state = self.batch * self.hidden;
        let n = (self.hidden - unit).min(L::N);
        let at = row * self.hidden + unit;
        let one = L::splat(1.0);
        // SAFETY: n units of the row.
        unsafe {
            let gates = self.gates.wrapping_add(t * 4 * state + 4 * row * self.hidden + unit);
            let i: L = load(gates, n);
            let f: L = load(gates.wrapping_add(self.hidden), n);
            let g: L = load(gates.wrapping_add(2 * self.hidden), n);
            let o: L = load(gates.wrapping_add(3 * self.hidden), n);
            let before = if t == 0 { self.c0 } else { self.c.wrapping_add((t - 1) * state) };
            let c_before: L = load(before.wrapping_add(at), n);
            let tanh_c = Tanh::of(load::<L>(self.c.wrapping_add(t * state + at), n));
            let dh = if self.dy.is_null() { dh } else { dh.add(load(self.dy.wrapping_add(t * state + at), n)) };
            let dc: L = load(self.dc.wrapping_add(at), n);
            let d = dh.mul(o).fma(tanh_c.neg().fma(tanh_c, one), dc);
            store(d.mul(g).mul(i.mul(one.sub(i))), gates, n);
            store(d.mul(c_before).mul(f.mul(one.sub(f))), gates.wrapping_add(self.hidden), n);
            store(d.mul(i).mul(g.neg().fma(g, one)), gates.wrapping_add(2 * self.hidden), n);
            store(dh.mul(tanh_c).mul(o.mul(one.sub(o))), gates.wrapping_add(3 * self.hidden), n);
            store(d.mul(f), self.dc.wrapping_add(at), n);
        }
    }
}
