//! Linear layers in plain loops, for f32 and f64: what the kernels are tested against, and what f64 runs.
//! All arrays are in C order; every element is one chain of fused multiply-adds.

use super::{LinearSpec, MatmulSpec};
use crate::tensor::Real;
use std::ops::Range;

/// y (rows, out) from x (rows, in), w (out, in), b (out,)
pub fn forward<R: Real>(spec: &LinearSpec, x: &[R], w: &[R], b: Option<&[R]>, y: &mut [R]) {
    for r in 0..spec.rows {
        for o in 0..spec.output {
            let mut sum = b.map_or(R::ZERO, |b| b[o]);
            for i in 0..spec.input {
                sum = x[r * spec.input + i].mul_add(w[o * spec.input + i], sum);
            }
            y[r * spec.output + o] = sum;
        }
    }
}

/// dx (rows, in), zero or the sum over earlier outputs before, from dy (rows, out)
pub fn backward_x<R: Real>(spec: &LinearSpec, w: &[R], dy: &[R], dx: &mut [R]) {
    for r in 0..spec.rows {
        for o in 0..spec.output {
            for i in 0..spec.input {
                let sum = &mut dx[r * spec.input + i];
                *sum = dy[r * spec.output + o].mul_add(w[o * spec.input + i], *sum);
            }
        }
    }
}

/// dw (out, in), zero or the sum over earlier rows before, from x (rows, in) and dy (rows, out)
pub fn backward_weight<R: Real>(spec: &LinearSpec, x: &[R], dy: &[R], dw: &mut [R]) {
    for r in 0..spec.rows {
        for o in 0..spec.output {
            for i in 0..spec.input {
                let sum = &mut dw[o * spec.input + i];
                *sum = dy[r * spec.output + o].mul_add(x[r * spec.input + i], *sum);
            }
        }
    }
}

/// db (out,), zero or the sum over earlier rows before, from dy (rows, out)
pub fn backward_bias<R: Real>(spec: &LinearSpec, dy: &[R], db: &mut [R]) {
    for r in 0..spec.rows {
        for o in 0..spec.output {
            db[o] += dy[r * spec.output + o];
        }
    }
}

/// `rows` and `columns` of c (m, n), which begins with those rows, one product of a batch, from a (m, k) or (k, m) and
/// b (k, n) or (n, k)
pub fn matmul<R: Real>(
    spec: &MatmulSpec,
    (rows, columns): (Range<usize>, Range<usize>),
    a: &[R],
    b: &[R],
    c: &mut [R],
) {
    let &MatmulSpec { m, k, n, .. } = spec;
    for (at, row) in rows.enumerate() {
        for col in columns.clone() {
            let mut sum = R::ZERO;
            for i in 0..k {
                let left = if spec.transpose_a { a[i * m + row] } else { a[row * k + i] };
                let right = if spec.transpose_b { b[col * k + i] } else { b[i * n + col] };
                sum = left.mul_add(right, sum);
            }
            c[at * n + col] = sum;
        }
    }
}
