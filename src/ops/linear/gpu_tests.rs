//! The GPU against the reference, and what it promises beside closeness: a row alone, pieces of large tensors.

use super::tests::{by_reference, spec};
use super::{Linear, LinearSpec, MatmulSpec};
use crate::cpu::Cpu;
use crate::cpu::testing::{buffer, values};
use crate::gpu::testing::{down, gpu, gpu_with, up};
use crate::gpu::{Gpu, Options};
use crate::tensor::{DType, noise};

fn run(gpu: &Gpu, spec: &LinearSpec, x: &[f32], dy: &[f32]) -> [Vec<f32>; 4] {
    let (w, b) = (up(gpu, &noise(2, spec.output * spec.input)), up(gpu, &noise(3, spec.output)));
    let (x, dy) = (up(gpu, x), up(gpu, dy));
    let y = gpu.linear(spec, &x, &w, Some(&b)).unwrap();
    let grads = gpu.linear_backward(spec, Some(&x), Some(&w), true, &dy).unwrap();
    [y, grads.x.unwrap(), grads.weight.unwrap(), grads.bias.unwrap()].map(|b| down(gpu, &b))
}

fn close(got: &[f32], want: &[f32], bound: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= bound * scale, "{what}: {g} not {w}");
    }
}

#[test]
fn kernels_against_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (rows, input, output) in [(1, 1, 1), (7, 3, 5), (1, 65, 129), (33, 17, 64), (70, 70, 130), (0, 3, 2), (3, 2, 0)]
    {
        let spec = spec(DType::F32, rows, input, output);
        let (x, dy) = (noise(10, rows * input), noise(11, rows * output));
        let got = run(&gpu, &spec, &x, &dy);
        let (y, grads) = by_reference(&spec, 10);
        let right = [y, grads.x.unwrap(), grads.weight.unwrap(), grads.bias.unwrap()];
        for ((got, right), (name, bound)) in
            got.iter().zip(&right).zip([("y", 2e-6), ("dx", 2e-6), ("dW", 5e-6), ("db", 5e-6)])
        {
            close(got, right, bound, name);
        }
        // a row alone is the row in the batch, and twice is the same
        assert_eq!(run(&gpu, &spec, &x, &dy), got);
        if rows > 1 && output > 0 {
            let one = self::spec(DType::F32, 1, input, output);
            let r = rows - 1;
            let alone = run(&gpu, &one, &x[r * input..], &dy[r * output..]);
            assert_eq!(alone[0], got[0][r * output..]);
            assert_eq!(alone[1], got[1][r * input..]);
        }
    }
}

#[test]
fn pieces_change_no_bit() {
    let (Some(whole), Some(small)) =
        (gpu(), gpu_with(Options { poison: true, binding: Some(1 << 20), ..Options::default() }))
    else {
        return;
    };
    let spec = spec(DType::F32, 5000, 65, 3);
    let (x, dy) = (noise(1, 5000 * 65), noise(2, 5000 * 3));
    assert_eq!(run(&small, &spec, &x, &dy), run(&whole, &spec, &x, &dy));
}

#[test]
fn matrix_products() {
    let Some(gpu) = gpu() else { return };
    for (batch, m, k, n) in [(1, 7, 5, 3), (3, 33, 17, 65), (0, 2, 3, 4), (2, 3, 0, 4)] {
        for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
            let a_shape = if transpose_a { [batch, k, m] } else { [batch, m, k] };
            let b_shape = if transpose_b { [batch, n, k] } else { [batch, k, n] };
            let spec = MatmulSpec::new(DType::F32, &a_shape, &b_shape, transpose_a, transpose_b).unwrap();
            let (a, b) = (noise(1, batch * m * k), noise(2, batch * k * n));
            let right = Cpu::quiet().matmul(&spec, &buffer(&a), &buffer(&b)).unwrap();
            let c = gpu.matmul(&spec, &up(&gpu, &a), &up(&gpu, &b)).unwrap();
            close(&down(&gpu, &c), &values::<f32>(&right), 2e-6, "c");
        }
    }
}
