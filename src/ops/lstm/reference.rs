//! The equations of `mod.rs` in plain loops, forward directly above backward: read this first. It is what f64
//! calls run, and what every kernel is tested against; sums go in the order that the contract fixes.

use crate::error::Result;
use crate::ops::recurrent::LayerSpec;
use crate::tensor::{Real, SPELL, Spells};

/// The parameters: (4H, I), (4H, H), and b_ih, b_hh of (4H,).
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a, T> {
    /// W_ih
    pub ih: &'a [T],
    /// W_hh
    pub hh: &'a [T],
    /// b_ih, b_hh
    pub bias: Option<(&'a [T], &'a [T])>,
}

/// Fills `y` (T, B, H), `c` (T, B, H) and `gates` (T, B, 4, H) from `x` (T, B, I) and the states (B, H).
/// `poll` is asked now and then.
#[allow(clippy::too_many_arguments)]
pub fn forward<T: Real>(
    spec: &LayerSpec,
    x: &[T],
    (h0, c0): (&[T], &[T]),
    w: Parameters<'_, T>,
    (y, c, gates): (&mut [T], &mut [T], &mut [T]),
    poll: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let (batch, input, hidden) = (spec.batch, spec.input, spec.hidden);
    let mut spells = Spells::new(poll);
    for t in 0..spec.steps {
        for b in 0..batch {
            let row = t * batch + b;
            let before = row.wrapping_sub(batch);
            let (earlier_y, now_y) = y.split_at_mut(row * hidden);
            let (earlier_c, now_c) = c.split_at_mut(row * hidden);
            let h_prev = if t == 0 { &h0[b * hidden..] } else { &earlier_y[before * hidden..] };
            let c_prev = if t == 0 { &c0[b * hidden..] } else { &earlier_c[before * hidden..] };
            let gates = &mut gates[row * 4 * hidden..][..4 * hidden];
            for (n, a) in gates.iter_mut().enumerate() {
                *a = w.bias.map_or(T::ZERO, |(ih, hh)| ih[n] + hh[n]);
                let (x, ih) = (&x[row * input..][..input], &w.ih[n * input..][..input]);
                let (h, hh) = (&h_prev[..hidden], &w.hh[n * hidden..][..hidden]);
                for (x, w) in x.chunks(SPELL).zip(ih.chunks(SPELL)).chain(h.chunks(SPELL).zip(hh.chunks(SPELL))) {
                    spells.count(x.len())?;
                    *a = x.iter().zip(w).fold(*a, |sum, (&x, &w)| x.mul_add(w, sum));
                }
            }
            spells.count(hidden)?;
            for u in 0..hidden {
                let i = gates[u].sigmoid();
                let f = gates[hidden + u].sigmoid();
                let g = gates[2 * hidden + u].tanh();
                let o = gates[3 * hidden + u].sigmoid();
                now_c[u] = f.mul_add(c_prev[u], i * g);
                now_y[u] = o * now_c[u].tanh();
                (gates[u], gates[hidden + u], gates[2 * hidden + u], gates[3 * hidden + u]) = (i, f, g, o);
            }
        }
    }
    Ok(())
}

/// What backward sums from: the call's inputs, what forward saved, and the gradients from above.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a, T> {
    /// (T, B, I)
    pub x: &'a [T],
    /// h0, c0
    pub state: (&'a [T], &'a [T]),
    /// y of forward
    pub h: &'a [T],
    /// c of forward
    pub c: &'a [T],
    /// (T, B, H) or none
    pub dy: Option<&'a [T]>,
}

/// Where the gradients go; None is not computed.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// (T, B, I)
    pub dx: Option<&'a mut [T]>,
    /// dW_ih, dW_hh
    pub dweights: Option<(&'a mut [T], &'a mut [T])>,
    /// db
    pub dbias: Option<&'a mut [T]>,
}

/// Backward: `gates` becomes da, `dh` and `dc` (B, H) go in as dh_n, dc_n and come out as dh0, dc0.
pub fn backward<T: Real>(
    spec: &LayerSpec,
    given: &Context<'_, T>,
    w: Parameters<'_, T>,
    gates: &mut [T],
    (dh, dc): (&mut [T], &mut [T]),
    mut out: Gradients<'_, T>,
    poll: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let (batch, input, hidden) = (spec.batch, spec.input, spec.hidden);
    let mut spells = Spells::new(poll);
    for sum in out.dweights.iter_mut().flat_map(|(ih, hh)| [ih, hh]).chain(&mut out.dbias) {
        for part in sum.chunks_mut(SPELL) {
            spells.count(part.len())?;
            part.fill(T::ZERO);
        }
    }
    for t in (0..spec.steps).rev() {
        for b in 0..batch {
            let row = t * batch + b;
            let before = row.wrapping_sub(batch);
            let h_prev = if t == 0 { &given.state.0[b * hidden..] } else { &given.h[before * hidden..] };
            let c_prev = if t == 0 { &given.state.1[b * hidden..] } else { &given.c[before * hidden..] };
            let x = &given.x[row * input..][..input];
            let (dh, dc) = (&mut dh[b * hidden..][..hidden], &mut dc[b * hidden..][..hidden]);
            let da = &mut gates[row * 4 * hidden..][..4 * hidden];
            for u in 0..hidden {
                let (i, f, g, o) = (da[u], da[hidden + u], da[2 * hidden + u], da[3 * hidden + u]);
                let dh = given.dy.map_or(dh[u], |dy| dh[u] + dy[row * hidden + u]);
                let tanh_c = given.c[row * hidden + u].tanh();
                let d = (dh * o).mul_add((-tanh_c).mul_add(tanh_c, T::ONE), dc[u]);
                da[u] = d * g * (i * (T::ONE - i));
                da[hidden + u] = d * c_prev[u] * (f * (T::ONE - f));
                da[2 * hidden + u] = d * i * (-g).mul_add(g, T::ONE);
                da[3 * hidden + u] = dh * tanh_c * (o * (T::ONE - o));
                dc[u] = d * f;
            }
            let transposed = |weights: &[T], width: usize, k: usize| {
                let gate = |g: usize| {
                    (g * hidden..(g + 1) * hidden).fold(T::ZERO, |sum, n| da[n].mul_add(weights[n * width + k], sum))
                };
                (gate(0) + gate(1)) + (gate(2) + gate(3))
            };
            for (k, dh) in dh.iter_mut().enumerate() {
                spells.count(4 * hidden)?;
                *dh = transposed(w.hh, hidden, k);
            }
            if let Some(dx) = &mut out.dx {
                for k in 0..input {
                    spells.count(4 * hidden)?;
                    dx[row * input + k] = transposed(w.ih, input, k);
                }
            }
            if let Some((ih, hh)) = &mut out.dweights {
                for (n, &da) in da.iter().enumerate() {
                    let (ih, hh) = (&mut ih[n * input..][..input], &mut hh[n * hidden..][..hidden]);
                    for (sums, x) in [(ih, x), (hh, &h_prev[..hidden])] {
                        for (sums, x) in sums.chunks_mut(SPELL).zip(x.chunks(SPELL)) {
                            spells.count(x.len())?;
                            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum = da.mul_add(x, *sum));
                        }
                    }
                }
            }
            if let Some(db) = &mut out.dbias {
                for (db, &da) in db.iter_mut().zip(&*da) {
                    *db += da;
                }
            }
        }
    }
    Ok(())
}
