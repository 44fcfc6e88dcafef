//! Linear layers against numbers worked by hand, finite differences, the reference, and themselves.

use super::{Linear, LinearGrads, LinearSpec, MatmulSpec, reference};
use crate::backend::{Backend, Buffer};
use crate::cpu::pack::Panels;
use crate::cpu::testing::{asked, buffer, engines, values};
use crate::cpu::{Cpu, Isa};
use crate::tensor::{DType, Real, noise};

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

pub(super) fn spec(dtype: DType, rows: usize, input: usize, output: usize) -> LinearSpec {
    LinearSpec::new("linear", dtype, ("x", &[rows, input]), &[output, input], Some(&[output])).unwrap()
}

#[test]
fn worked_by_hand() {
    // x = (1, 2), (3, 4); W = (1, 0), (2, 1), (0, -1); b = 1, 2, 3
    let spec = spec(DType::F64, 2, 2, 3);
    let (x, w, b) = ([1., 2., 3., 4.], [1., 0., 2., 1., 0., -1.], [1., 2., 3.]);
    let mut y = [0f64; 6];
    reference::forward(&spec, &x, &w, Some(&b), &mut y);
    assert_eq!(y, [2., 6., 1., 4., 12., -1.]);
    let dy = [1., 0., 2., 0., 1., -1.];
    let (mut dx, mut dw, mut db) = ([0f64; 4], [0f64; 6], [0f64; 3]);
    reference::backward_x(&spec, &w, &dy, &mut dx);
    reference::backward_weight(&spec, &x, &dy, &mut dw);
    reference::backward_bias(&spec, &dy, &mut db);
    assert_eq!(dx, [1., -2., 2., 2.]);
    assert_eq!(dw, [1., 2., 3., 4., -1., 0.]);
    assert_eq!(db, [1., 1., 1.]);
    // (1 2; 3 4) (0 1; 1 1), and with both sides transposed
    for (transpose_a, transpose_b, right) in
        [(false, false, [2., 3., 4., 7.]), (true, false, [3., 4., 4., 6.]), (false, true, [2., 3., 4., 7.])]
    {
        let spec = MatmulSpec::new(DType::F64, &[2, 2], &[2, 2], transpose_a, transpose_b).unwrap();
        let mut c = [0f64; 4];
        reference::matmul(&spec, (0..2, 0..2), &x, &[0., 1., 1., 1.], &mut c);
        assert_eq!(c, right);
    }
}

#[test]
fn gradients_are_finite_differences() {
    // S-160
    let spec = spec(DType::F64, 5, 3, 7);
    let (x, w, b, dy) = (wide(&noise(1, 15)), wide(&noise(2, 21)), wide(&noise(3, 7)), wide(&noise(4, 35)));
    let loss = |x: &[f64], w: &[f64], b: &[f64]| {
        let mut y = vec![0f64; 35];
        reference::forward(&spec, x, w, Some(b), &mut y);
        y.iter().zip(&dy).map(|(y, d)| y * d).sum::<f64>()
    };
    let grads = Cpu::quiet().linear_backward(&spec, Some(&buffer(&x)), Some(&buffer(&w)), true, &buffer(&dy)).unwrap();
    let parts = [(&x, grads.x, 0), (&w, grads.weight, 1), (&b, grads.bias, 2)];
    for (at, grad, which) in parts {
        let grad = grad.unwrap().slice::<f64>().unwrap().to_vec();
        let scale = grad.iter().fold(0f64, |m, g| m.max(g.abs()));
        for i in 0..at.len() {
            let moved = |h: f64| {
                let mut all = [x.clone(), w.clone(), b.clone()];
                all[which][i] += h;
                loss(&all[0], &all[1], &all[2])
            };
            let right = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!((grad[i] - right).abs() <= 1e-6 * scale, "{which} {i}: {} not {right}", grad[i]);
        }
    }
}

fn same(isa: Isa, got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let ok = if isa.fused() { g.to_bits() == w.to_bits() } else { (g - w).abs() <= 2e-6 * scale };
        assert!(ok, "{what} on {}: element {i}: {g:e}, not {w:e}", isa.name());
    }
}

fn run_all(cpu: &Cpu<'_>, spec: &LinearSpec, seed: u64) -> (Vec<f32>, LinearGrads<Vec<f32>>) {
    let x = buffer(&noise(seed, spec.rows * spec.input));
    let (w, b) = (buffer(&noise(2, spec.output * spec.input)), buffer(&noise(3, spec.output)));
    let dy = buffer(&noise(seed + 1, spec.rows * spec.output));
    let y = cpu.linear(spec, &x, &w, Some(&b)).unwrap();
    let grads = cpu.linear_backward(spec, Some(&x), Some(&w), true, &dy).unwrap();
    let grads = LinearGrads {
        x: grads.x.map(|g| values::<f32>(&g)),
        weight: grads.weight.map(|g| values::<f32>(&g)),
        bias: grads.bias.map(|g| values::<f32>(&g)),
    };
    (values::<f32>(&y), grads)
}

pub(super) fn by_reference(spec: &LinearSpec, seed: u64) -> (Vec<f32>, LinearGrads<Vec<f32>>) {
    let x = noise(seed, spec.rows * spec.input);
    let (w, b) = (noise(2, spec.output * spec.input), noise(3, spec.output));
    let dy = noise(seed + 1, spec.rows * spec.output);
    let (mut y, mut dx) = (vec![0f32; dy.len()], vec![0f32; x.len()]);
    let (mut dw, mut db) = (vec![0f32; w.len()], vec![0f32; b.len()]);
    reference::forward(spec, &x, &w, Some(&b), &mut y);
    reference::backward_x(spec, &w, &dy, &mut dx);
    reference::backward_weight(spec, &x, &dy, &mut dw);
    reference::backward_bias(spec, &dy, &mut db);
    (y, LinearGrads { x: Some(dx), weight: Some(dw), bias: Some(db) })
}

#[test]
fn cpu() {
    for isa in Isa::available() {
        for threads in [1, 3] {
            let cpu = Cpu::quiet().with_isa(isa).with_threads(threads);
            let sizes =
                [(1, 1, 1), (7, 3, 5), (1, 65, 129), (33, 17, 64), (300, 70, 130), (0, 3, 2), (3, 0, 2), (3, 2, 0)];
            for (rows, input, output) in sizes {
                let spec = spec(DType::F32, rows, input, output);
                let (y, got) = run_all(&cpu, &spec, 10);
                let (right_y, right) = by_reference(&spec, 10);
                same(isa, &y, &right_y, "y");
                same(isa, &got.x.unwrap(), &right.x.unwrap(), "dx");
                same(isa, &got.weight.unwrap(), &right.weight.unwrap(), "dW");
                same(isa, got.bias.as_ref().unwrap(), right.bias.as_ref().unwrap(), "db");
                // the bias gradient alone is the same sum
                let dy = buffer(&noise(11, rows * output));
                let alone = cpu.linear_backward(&spec, None, None, true, &dy).unwrap();
                assert!(alone.x.is_none() && alone.weight.is_none());
                same(isa, &values::<f32>(&alone.bias.unwrap()), &right.bias.unwrap(), "db alone");
            }
        }
    }
}

#[test]
fn a_row_alone_is_the_row_in_a_batch() {
    let cpu = Cpu::quiet();
    let (rows, input, output) = (37, 65, 130);
    let all = spec(DType::F32, rows, input, output);
    let (y, grads) = run_all(&cpu, &all, 5);
    let (x, dy) = (noise(5, rows * input), noise(6, rows * output));
    let (w, b) = (buffer(&noise(2, output * input)), buffer(&noise(3, output)));
    let one = spec(DType::F32, 1, input, output);
    for r in [0, 5, 36] {
        let x = buffer(&x[r * input..][..input]);
        let alone = cpu.linear(&one, &x, &w, Some(&b)).unwrap();
        assert_eq!(values::<f32>(&alone), y[r * output..][..output]);
        let grad = cpu.linear_backward(&one, Some(&x), Some(&w), true, &buffer(&dy[r * output..][..output])).unwrap();
        assert_eq!(values::<f32>(&grad.x.unwrap()), grads.x.as_ref().unwrap()[r * input..][..input]);
    }
}

#[test]
fn a_changed_weight_is_packed_again() {
    let cpu = Cpu::quiet();
    let spec = spec(DType::F32, 1, 2, 1);
    let (x, w) = (buffer(&[1f32, 1.0]), buffer(&[1f32, 2.0]));
    assert_eq!(values::<f32>(&cpu.linear(&spec, &x, &w, None).unwrap()), [3.0]);
    cpu.assign(&w, &buffer(&[5f32, 2.0])).unwrap();
    assert_eq!(values::<f32>(&cpu.linear(&spec, &x, &w, None).unwrap()), [7.0]);
    // an image is kept while nobody outside can write to the memory, and not looked at after: here it is another's
    let kind = ("linear", cpu.isa().unwrap().index(), [1, 2]);
    w.stamp().bump();
    w.stamp().packed(kind, || Panels::transposed(&cpu, &[1.0, 1.0], 1, 2)).unwrap();
    assert_eq!(values::<f32>(&cpu.linear(&spec, &x, &w, None).unwrap()), [2.0]);
    w.stamp().show();
    assert_eq!(values::<f32>(&cpu.linear(&spec, &x, &w, None).unwrap()), [7.0]);
}

#[test]
fn matmul() {
    for isa in Isa::available() {
        for (batch, m, k, n) in
            [(1, 7, 5, 3), (3, 33, 17, 65), (20, 64, 40, 70), (2, 1, 3, 4), (0, 2, 3, 4), (2, 3, 0, 4)]
        {
            for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
                let a_shape = if transpose_a { [batch, k, m] } else { [batch, m, k] };
                let b_shape = if transpose_b { [batch, n, k] } else { [batch, k, n] };
                let spec = MatmulSpec::new(DType::F32, &a_shape, &b_shape, transpose_a, transpose_b).unwrap();
                assert_eq!(spec.c(&a_shape).0, [batch, m, n]);
                let (a, b) = (noise(1, batch * m * k), noise(2, batch * k * n));
                let mut right = vec![0f32; batch * m * n];
                for i in 0..batch {
                    let (a, b) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n]);
                    reference::matmul(&spec, (0..m, 0..n), a, b, &mut right[i * m * n..][..m * n]);
                }
                let cpu = Cpu::quiet().with_isa(isa).with_threads(3);
                let c = cpu.matmul(&spec, &buffer(&a), &buffer(&b)).unwrap();
                same(isa, &values::<f32>(&c), &right, "c");
                let spec = MatmulSpec { dtype: DType::F64, ..spec };
                let c = cpu.matmul(&spec, &buffer(&wide(&a)), &buffer(&wide(&b))).unwrap();
                for (c, &r) in c.slice::<f64>().unwrap().iter().zip(&right) {
                    assert!((c - r.f64()).abs() < 1e-5);
                }
            }
        }
    }
}

#[test]
fn wrong_sizes_are_named() {
    let e = LinearSpec::new("linear", DType::F32, ("x", &[4, 3]), &[5, 2], None).unwrap_err().to_string();
    assert!(e.starts_with("linear: x: expected (..., 2), got (4, 3)"), "{e}");
    let e = LinearSpec::new("linear", DType::F32, ("x", &[4, 2]), &[5, 2], Some(&[2])).unwrap_err().to_string();
    assert_eq!(e, "linear: bias: expected (5,), got (2,).");
    assert!(LinearSpec::new("linear", DType::F32, ("x", &[]), &[5, 2], None).is_err());
    assert!(LinearSpec::new("linear", DType::F32, ("x", &[1 << 40, 0]), &[1 << 40, 0], None).is_err());
    let e = MatmulSpec::new(DType::F32, &[2, 4, 3], &[2, 4, 5], false, false).unwrap_err().to_string();
    assert!(e.starts_with("matmul: b: expected (2, 3, 5)") && e.ends_with("got (2, 4, 5)."), "{e}");
    assert!(MatmulSpec::new(DType::F32, &[3], &[3, 5], false, false).is_err());
    assert!(MatmulSpec::new(DType::F32, &[2, 3, 4], &[3, 4, 5], false, false).is_err());
    // S-138: a 1-D input gives a 1-D output
    let spec = LinearSpec::new("linear", DType::F32, ("x", &[2]), &[5, 2], None).unwrap();
    assert_eq!((spec.rows, spec.y(&[2]).0), (1, vec![5]));
}

#[test]
fn float64_in_pieces_is_the_reference() {
    // rows, outputs of a row and terms of an output are cut
    for (rows, input, output) in
        [(1500, 30, 40), (2, 2000, 1000), (2, (1 << 20) + 5, 2), (3, 0, 2), (3, 2, 0), (0, 3, 2)]
    {
        let spec = spec(DType::F64, rows, input, output);
        let [x, w] = [(1, rows * input), (2, output * input)].map(|(seed, n)| wide(&noise(seed, n)));
        let [b, dy] = [(3, output), (4, rows * output)].map(|(seed, n)| wide(&noise(seed, n)));
        let (mut y, mut dx) = (vec![0f64; dy.len()], vec![0f64; x.len()]);
        let (mut dw, mut db) = (vec![0f64; w.len()], vec![0f64; b.len()]);
        reference::forward(&spec, &x, &w, Some(&b), &mut y);
        reference::backward_x(&spec, &w, &dy, &mut dx);
        reference::backward_weight(&spec, &x, &dy, &mut dw);
        reference::backward_bias(&spec, &dy, &mut db);
        let [x, w, b, dy] = [x, w, b, dy].map(|values| buffer(&values));
        let cpu = Cpu::quiet();
        assert_eq!(values::<f64>(&cpu.linear(&spec, &x, &w, Some(&b)).unwrap()), y);
        let got = cpu.linear_backward(&spec, Some(&x), Some(&w), true, &dy).unwrap();
        let got = [got.x, got.weight, got.bias].map(|gradient| values::<f64>(&gradient.unwrap()));
        assert!(got == [dx, dw, db], "{rows} {input} {output}");
    }
}

/// Where the gradient of the bias alone is wanted: many rows, and rows longer than a piece.
#[test]
fn sums_of_rows() {
    for (rows, output) in [(70_000, 33), (40, 70_000), (0, 5), (3, 0)] {
        let spec = spec(DType::F32, rows, 1, output);
        let dy = noise(7, rows * output);
        let mut want = vec![0f32; output];
        reference::backward_bias(&spec, &dy, &mut want);
        let dy = buffer(&dy);
        for cpu in engines() {
            let grads = cpu.linear_backward(&spec, None, None, true, &dy).unwrap();
            assert_eq!(values::<f32>(&grads.bias.unwrap()), want, "{rows} x {output}");
        }
    }
    let spec = spec(DType::F32, 1 << 22, 1, 1);
    let dy = buffer(&vec![1f32; 1 << 22]);
    assert!(asked(|cpu| cpu.linear_backward(&spec, None, None, true, &dy).map(drop)) > 0);
}
