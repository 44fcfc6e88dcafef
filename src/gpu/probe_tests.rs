//! Tests of the functions that shaders share, on the device, against the host.

use crate::backend::Backend;
use crate::gpu::testing::{down, gpu, up};
use crate::gpu::{Grid, Kernel};
use crate::tensor::{DType, Philox};

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::NoUninit)]
struct Probe {
    count: u32,
    function: u32,
    seed: [u32; 2],
    stream: [u32; 2],
    block: [u32; 2],
}

#[test]
fn philox_gives_the_bits_of_the_host() {
    let Some(gpu) = gpu() else { return };
    let halves = |x: u64| [x as u32, (x >> 32) as u32];
    let count = 200;
    for (seed, stream, block) in
        [(0, 0, 0), (u64::MAX, u64::MAX, u64::MAX - 100), (0x299f_31d0_a409_3822, 5, u64::from(u32::MAX) - 50)]
    {
        let words = gpu.allocate(DType::F32, 4 * count as usize).unwrap();
        let params = Probe { count, function: 0, seed: halves(seed), stream: halves(stream), block: halves(block) };
        let grid = Grid::new(u64::from(count).div_ceil(64));
        gpu.dispatch(&Kernel::new("gpu/probe", "random_words"), &[&words], &params, grid).unwrap();
        let got = down(&gpu, &words);
        let random = Philox { seed, stream };
        for i in 0..u64::from(count) {
            for (word, expected) in random.block(block.wrapping_add(i)).into_iter().enumerate() {
                assert_eq!(got[4 * i as usize + word].to_bits(), expected, "{seed} {stream} {block} + {i}");
            }
        }
    }
}

/// Distance in units of the last place of `exact`.
fn ulps(got: f32, exact: f64) -> f64 {
    let unit = (f64::from((exact as f32).abs()).log2().floor() - 23.0).max(-149.0).exp2();
    (f64::from(got) - exact).abs() / unit
}

#[test]
fn functions_are_close_and_keep_nan_and_infinity() {
    let Some(gpu) = gpu() else { return };
    let mut x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.025).collect();
    x.extend((0..2000).map(|i| (i as f32 - 1000.0) * 0.0007));
    x.extend((0..100).map(|i| 10f32.powf(-0.3 * i as f32)));
    x.extend([0.0, -0.0, 1e-30, 88.7, -87.3, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let run = |function: u32| {
        let (input, output) = (up(&gpu, &x), gpu.allocate(DType::F32, x.len()).unwrap());
        let params = Probe { count: x.len() as u32, function, ..Probe::default() };
        let grid = Grid::new(params.count.div_ceil(64).into());
        gpu.dispatch(&Kernel::new("gpu/probe", "functions"), &[&input, &output], &params, grid).unwrap();
        down(&gpu, &output)
    };
    type Exact = (&'static str, fn(f64) -> f64, f64);
    let exact: [Exact; 3] = [
        ("exp", f64::exp, 2.0),
        ("sigmoid", |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }, 4.0),
        ("tanh", f64::tanh, 4.0),
    ];
    for (function, (name, f, allowed)) in exact.into_iter().enumerate() {
        let got = run(function as u32);
        let mut worst = (0.0, 0.0);
        for (&x, &got) in x.iter().zip(&got) {
            let expected = f(f64::from(x));
            if expected.is_nan() || (expected as f32).is_infinite() {
                assert_eq!(
                    (got.is_nan(), got.is_infinite()),
                    (expected.is_nan(), !expected.is_nan()),
                    "{name}({x}) = {got}"
                );
            } else if expected.abs() < f64::from(f32::MIN_POSITIVE) {
                assert!(got.abs() < 2e-38, "{name}({x}) = {got}");
            } else if ulps(got, expected) > worst.0 {
                worst = (ulps(got, expected), x);
            }
        }
        println!("{name}: {:.2} units in the last place at {}", worst.0, worst.1);
        assert!(worst.0 <= allowed, "{name}: {} units at {}", worst.0, worst.1);
    }
}
