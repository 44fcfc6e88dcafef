//! The shaders against the reference, over the rows that the CPU's kernels are tested with.

use super::tests::{CHOICES, ONE_X, ONE_Y, SHAPES, TWO_A, TWO_B, TWO_Y};
use super::*;
use crate::backend::Buffer;
use crate::gpu::testing::{down, gpu, gpu_uncut, gpu_with, noise, up};
use crate::gpu::{Gpu, Options};

/// Near enough for f32 without fused products; special values exactly.
fn near(y: f32, want: f64, tolerance: f64) -> bool {
    match want as f32 {
        w if w.is_nan() => y.is_nan(),
        w if w == 0.0 || w.is_infinite() => y == w,
        w if w.is_subnormal() => y.abs() <= 1.2e-38,
        _ => (f64::from(y) - want).abs() <= tolerance * want.abs(),
    }
}

#[test]
fn by_hand() {
    let Some(gpu) = gpu() else { return };
    // subnormals are left out: drivers may flush them, and ours does not
    let (x, n) = (&ONE_X[..8], 8);
    for (function, want) in ONE_Y {
        let spec = UnarySpec::new(function, DType::F32, n).unwrap();
        let y = down(&gpu, &gpu.unary(&spec, &up(&gpu, x)).unwrap());
        for ((&y, &want), x) in y.iter().zip(&want).zip(x) {
            assert!(near(y, want.into(), 3e-7), "{function:?}({x}) = {y}, not {want}");
        }
    }
    for (function, want) in TWO_Y {
        let spec = BinarySpec::new(function, DType::F32, &[10], &[10]).unwrap();
        let y = down(&gpu, &gpu.binary(&spec, &up(&gpu, &TWO_A), &up(&gpu, &TWO_B)).unwrap());
        for (i, (&y, &want)) in y.iter().zip(&want).enumerate() {
            let right =
                near(y, want.into(), 3e-7) && (want.is_nan() || y.is_sign_negative() == want.is_sign_negative());
            assert!(right, "{function:?}({}, {}) = {y}, not {want}", TWO_A[i], TWO_B[i]);
        }
    }
}

#[test]
fn functions_of_one_number_over_the_range() {
    let Some(gpu) = gpu() else { return };
    let x: Vec<f32> = (0..60_000u32).map(|i| f32::from_bits(0x0080_0000 + i * 35_000)).collect();
    let spec = |f| UnarySpec::new(f, DType::F32, x.len()).unwrap();
    for function in [Unary::Log, Unary::Sqrt, Unary::Square] {
        let y = down(&gpu, &gpu.unary(&spec(function), &up(&gpu, &x)).unwrap());
        for (&y, &x) in y.iter().zip(&x) {
            let want = reference::unary(function, f64::from(x));
            let tiny = want.abs() < 1.2e-38 && y.abs() < 1.2e-38;
            assert!(tiny || near(y, want, 3e-7), "{function:?}({x:e}) = {y:e}, not {want:e}");
        }
    }
    let z: Vec<f32> = (0..60_000).map(|i| (i - 30_000) as f32 * 0.0029).collect();
    let y = down(&gpu, &gpu.unary(&spec(Unary::Exp), &up(&gpu, &z)).unwrap());
    assert!(y.iter().zip(&z).all(|(&y, &z)| near(y, f64::from(z).exp(), 3e-7)));
}

/// Tolerance: one rounding, or what `pow` says of itself.
fn tolerance(function: Binary, a: f32, b: f32) -> f64 {
    if function == Binary::Pow { (2.0 + f64::from(b * a.abs().ln()).abs()) * 1.2e-7 } else { 1.3e-7 }
}

fn broadcasts_on(gpu: &Gpu, functions: &[Binary]) {
    for (a_shape, b_shape) in SHAPES {
        let (a, b) = (noise(1, elements(a_shape).unwrap()), noise(2, elements(b_shape).unwrap()));
        for &function in functions {
            let spec = BinarySpec::new(function, DType::F32, a_shape, b_shape).unwrap();
            let y = down(gpu, &gpu.binary(&spec, &up(gpu, &a), &up(gpu, &b)).unwrap());
            assert_eq!(y.len(), spec.len());
            for (i, &y) in y.iter().enumerate() {
                let [a, b] = [(&a, 0), (&b, 1)].map(|(x, view)| x[spec.walk.offsets(i)[view] as usize]);
                let want = reference::binary(function, f64::from(a), f64::from(b));
                assert!(
                    near(y, want, tolerance(function, a, b)),
                    "{function:?}({a}, {b}) = {y} {a_shape:?} {b_shape:?}"
                );
            }
        }
    }
}

#[test]
fn broadcasts() {
    let Some(gpu) = gpu() else { return };
    broadcasts_on(&gpu, &Binary::ALL.map(|(_, function)| function));
}

#[test]
fn pieces_of_tensors_that_are_larger_than_a_binding() {
    // 65,536 elements
    let Some(gpu) = gpu_with(Options { binding: Some(1 << 18), poison: true, ..Options::default() }) else { return };
    broadcasts_on(&gpu, &[Binary::Sub]);
    let x = noise(8, 150_000);
    let spec = UnarySpec::new(Unary::Neg, DType::F32, x.len()).unwrap();
    let y = down(&gpu, &gpu.unary(&spec, &up(&gpu, &x)).unwrap());
    assert!(y.iter().zip(&x).all(|(y, x)| *y == -x));
    let y = down(&gpu, &gpu.fill(&FillSpec::new(DType::F32, &[150_000], 2.5).unwrap()).unwrap());
    assert!(y.iter().all(|&y| y == 2.5));
}

#[test]
fn more_than_six_axes() {
    let Some(gpu) = gpu() else { return };
    let (a, b): (Vec<usize>, Vec<usize>) = (0..9).map(|i| if i % 2 == 0 { (2, 1) } else { (1, 2) }).unzip();
    let spec = BinarySpec::new(Binary::Sub, DType::F32, &a, &b).unwrap();
    let (x, y) = (noise(1, 32), noise(2, 16));
    let z = down(&gpu, &gpu.binary(&spec, &up(&gpu, &x), &up(&gpu, &y)).unwrap());
    let at = |i: usize| spec.walk.offsets(i).map(|at| at as usize);
    assert!(z.iter().enumerate().all(|(i, &z)| z == x[at(i)[0]] - y[at(i)[1]]));
    let spec = WhereSpec::new(DType::F32, &b, &a, &b).unwrap();
    let c: Vec<bool> = (0..16).map(|i| i % 3 == 0).collect();
    let z = down(&gpu, &gpu.select(&spec, &c, &up(&gpu, &x), &up(&gpu, &y)).unwrap());
    let at = |i: usize| spec.walk.offsets(i).map(|at| at as usize);
    assert!(z.iter().enumerate().all(|(i, &z)| z == if c[at(i)[0]] { x[at(i)[1]] } else { y[at(i)[2]] }));
}

#[test]
fn numbers_with_arrays() {
    let Some(gpu) = gpu() else { return };
    let x = noise(3, 1000);
    for (_, function) in Binary::ALL {
        for (value, reversed) in [(2.0, false), (-0.7, true), (0.5, false), (-3.0, false)] {
            let spec = ScalarSpec::new(function, DType::F32, x.len(), value, reversed).unwrap();
            let y = down(&gpu, &gpu.binary_scalar(&spec, &up(&gpu, &x)).unwrap());
            for (&y, &x) in y.iter().zip(&x) {
                let (a, b) = if reversed { (value as f32, x) } else { (x, value as f32) };
                let want = reference::binary(function, f64::from(a), f64::from(b));
                assert!(near(y, want, 2.0 * tolerance(function, a, b)), "{function:?}({a}, {b}) = {y}, not {want}");
            }
        }
    }
}

#[test]
fn choices_and_fill() {
    let Some(gpu) = gpu() else { return };
    for [c, a, b] in CHOICES {
        let spec = WhereSpec::new(DType::F32, c, a, b).unwrap();
        let condition: Vec<bool> = noise(4, elements(c).unwrap()).iter().map(|&x| x > 0.0).collect();
        let (a, b) = (noise(5, elements(a).unwrap()), noise(6, elements(b).unwrap()));
        let y = down(&gpu, &gpu.select(&spec, &condition, &up(&gpu, &a), &up(&gpu, &b)).unwrap());
        assert_eq!(y.len(), spec.len());
        for (i, &y) in y.iter().enumerate() {
            let [at_c, at_a, at_b] = spec.walk.offsets(i).map(|at| at as usize);
            assert_eq!(y, if condition[at_c] { a[at_a] } else { b[at_b] });
        }
    }
    let nan = gpu.fill(&FillSpec::new(DType::F32, &[5], f64::NAN).unwrap()).unwrap();
    assert!(down(&gpu, &nan).iter().all(|y| y.is_nan()));
    let ids = gpu.fill(&FillSpec::new(DType::I64, &[3], -7.0).unwrap()).unwrap();
    let mut back = [0i64; 3];
    gpu.download(&ids, bytemuck::cast_slice_mut(&mut back)).unwrap();
    assert_eq!(back, [-7; 3]);
    assert!(gpu.fill(&FillSpec::new(DType::I64, &[3], 1e10).unwrap()).is_err());
    assert_eq!(gpu.fill(&FillSpec::new(DType::F32, &[0], 1.0).unwrap()).unwrap().len(), 0);
}

#[test]
fn more_than_65535_workgroups() {
    let Some(gpu) = gpu_uncut() else { return };
    let n = 65_536 * 256 + 300;
    let x = gpu.fill(&FillSpec::new(DType::F32, &[n], 1.5).unwrap()).unwrap();
    let y = gpu.unary(&UnarySpec::new(Unary::Square, DType::F32, n).unwrap(), &x).unwrap();
    let row = up(&gpu, &[0.25]);
    let z = gpu.binary(&BinarySpec::new(Binary::Add, DType::F32, &[n], &[1]).unwrap(), &y, &row).unwrap();
    let spec = WhereSpec::new(DType::F32, &[1], &[n], &[1]).unwrap();
    let z = gpu.select(&spec, &[true], &z, &row).unwrap();
    let z = gpu.binary_scalar(&ScalarSpec::new(Binary::Mul, DType::F32, n, 2.0, false).unwrap(), &z).unwrap();
    assert!(down(&gpu, &z).iter().all(|&z| z == 5.0));
}
