//! The shader against the reference.

use super::*;
use crate::gpu::testing::{down, gpu, gpu_uncut, gpu_with, noise, up};
use crate::gpu::{Gpu, Options};

const FUNCTIONS: [Function; 3] = [Function::Sigmoid, Function::Tanh, Function::Relu];

fn compare(gpu: &Gpu, x: &[f32]) {
    for function in FUNCTIONS {
        let spec = ActivationSpec::new(function, DType::F32, x.len()).unwrap();
        let dy = noise(3, x.len());
        let y = gpu.activation(&spec, &up(gpu, x)).unwrap();
        let dx = down(gpu, &gpu.activation_backward(&spec, &y, &up(gpu, &dy)).unwrap());
        let y = down(gpu, &y);
        for i in 0..x.len() {
            let want = reference::forward(function, f64::from(x[i]));
            let near = (f64::from(y[i]) - want).abs() <= 4e-7 * want.abs() + 1.2e-38 || f64::from(y[i]) == want;
            assert!(near || y[i].is_nan() && want.is_nan(), "{function:?}({}) = {}, not {want}", x[i], y[i]);
            let want = reference::backward(function, y[i], dy[i]);
            let near = (dx[i] - want).abs() <= 2e-7 * want.abs() + 1e-9;
            assert!(near || dx[i].is_nan() && want.is_nan(), "{function:?}'({}) = {}, not {want}", y[i], dx[i]);
        }
    }
}

#[test]
fn forward_and_backward() {
    let Some(gpu) = gpu() else { return };
    compare(&gpu, &[-90.0, -3.5, -0.0, 0.0, 1e-20, 0.3, 2.0, 90.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    compare(&gpu, &(0..20_000).map(|i| (i - 10_000) as f32 * 0.0021).collect::<Vec<_>>());
    compare(&gpu, &[]);
    let relu = ActivationSpec::new(Function::Relu, DType::F32, 1).unwrap();
    let y = down(&gpu, &gpu.activation(&relu, &up(&gpu, &[-0.0])).unwrap());
    assert_eq!(y[0].to_bits(), (-0.0f32).to_bits());
}

#[test]
fn pieces_of_tensors_that_are_larger_than_a_binding() {
    let Some(gpu) = gpu_with(Options { binding: Some(1 << 18), poison: true, ..Options::default() }) else { return };
    compare(&gpu, &noise(4, 150_000));
}

#[test]
fn more_than_65535_workgroups() {
    let Some(gpu) = gpu_uncut() else { return };
    let n = 65_536 * 256 + 300;
    let spec = ActivationSpec::new(Function::Relu, DType::F32, n).unwrap();
    let y = gpu.activation(&spec, &up(&gpu, &vec![0.5; n])).unwrap();
    let dx = gpu.activation_backward(&spec, &y, &y).unwrap();
    assert!(down(&gpu, &dx).iter().all(|&d| d == 0.5));
}

#[test]
fn an_element_alone_has_the_bits_it_has_among_others() {
    let Some(gpu) = gpu() else { return };
    let x = noise(5, 3000);
    for function in FUNCTIONS {
        let spec = |len| ActivationSpec::new(function, DType::F32, len).unwrap();
        let whole = down(&gpu, &gpu.activation(&spec(3000), &up(&gpu, &x)).unwrap());
        let alone = down(&gpu, &gpu.activation(&spec(1), &up(&gpu, &x[1234..1235])).unwrap());
        assert_eq!(alone[0].to_bits(), whole[1234].to_bits());
    }
}
