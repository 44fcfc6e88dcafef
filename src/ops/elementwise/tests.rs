//! Elementwise arithmetic: numbers worked by hand, the kernels against the reference over broadcasts and lengths,
//! and the same bits for every instruction set and number of threads.

use super::*;
use crate::backend::Buffer;
use crate::cpu::Cpu;
use crate::cpu::testing::{bits, buffer, engines, values};
use crate::error::Kind;
use crate::tensor::noise;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

/// Arguments, and what every function of one number makes of them.
pub(super) const ONE_X: [f32; 9] = [4.0, -0.0, 0.0, -9.0, 1.0, INF, -INF, NAN, 1e-40];
pub(super) const ONE_Y: [(Unary, [f32; 9]); 6] = [
    (Unary::Neg, [-4.0, 0.0, -0.0, 9.0, -1.0, -INF, INF, NAN, -1e-40]),
    (Unary::Abs, [4.0, 0.0, 0.0, 9.0, 1.0, INF, INF, NAN, 1e-40]),
    (Unary::Sqrt, [2.0, -0.0, 0.0, NAN, 1.0, INF, NAN, NAN, 0.0]),
    (Unary::Square, [16.0, 0.0, 0.0, 81.0, 1.0, INF, INF, NAN, 0.0]),
    (Unary::Exp, [54.598_15, 1.0, 1.0, 1.234_098e-4, std::f32::consts::E, INF, 0.0, NAN, 1.0]),
    (Unary::Log, [1.386_294_4, -INF, -INF, NAN, 0.0, INF, NAN, NAN, -INF]),
];

/// Pairs of arguments, and what every function of two numbers makes of them.
pub(super) const TWO_A: [f32; 10] = [6.0, 6.0, -0.0, INF, NAN, 1.0, NAN, INF, -INF, INF];
pub(super) const TWO_B: [f32; 10] = [4.0, 0.0, 3.0, INF, 1.0, NAN, INF, NAN, NAN, -INF];
pub(super) const TWO_Y: [(Binary, [f32; 10]); 7] = [
    (Binary::Add, [10.0, 6.0, 3.0, INF, NAN, NAN, NAN, NAN, NAN, NAN]),
    (Binary::Sub, [2.0, 6.0, -3.0, NAN, NAN, NAN, NAN, NAN, NAN, INF]),
    (Binary::Mul, [24.0, 0.0, -0.0, INF, NAN, NAN, NAN, NAN, NAN, -INF]),
    (Binary::Div, [1.5, INF, -0.0, NAN, NAN, NAN, NAN, NAN, NAN, NAN]),
    (Binary::Pow, [1296.0, 1.0, -0.0, INF, NAN, 1.0, NAN, NAN, NAN, 0.0]),
    (Binary::Maximum, [6.0, 6.0, 3.0, INF, NAN, NAN, NAN, NAN, NAN, INF]),
    (Binary::Minimum, [4.0, 0.0, -0.0, INF, NAN, NAN, NAN, NAN, NAN, -INF]),
];

#[test]
fn one_operand_by_hand() {
    let (x, rows) = (ONE_X, ONE_Y);
    for cpu in engines() {
        for (function, want) in rows {
            let spec = UnarySpec::new(function, DType::F32, x.len()).unwrap();
            let y = cpu.unary(&spec, &buffer(&x)).unwrap();
            for ((&y, &want), &x) in y.slice::<f32>().unwrap().iter().zip(&want).zip(&x) {
                let near = (y - want).abs() <= 2e-7 * want.abs();
                let right =
                    if want.is_nan() { y.is_nan() } else { y.to_bits() == want.to_bits() || near && want != 0.0 };
                assert!(right, "{function:?}({x}) = {y}, not {want}");
            }
        }
    }
}

#[test]
fn two_operands_by_hand() {
    let (a, b, rows) = (TWO_A, TWO_B, TWO_Y);
    let right = |y: f32, want: f32| if want.is_nan() { y.is_nan() } else { y.to_bits() == want.to_bits() };
    for cpu in engines() {
        for (function, want) in rows {
            let spec = BinarySpec::new(function, DType::F32, &[10], &[10]).unwrap();
            let y = cpu.binary(&spec, &buffer(&a), &buffer(&b)).unwrap();
            for (i, (&y, &want)) in y.slice::<f32>().unwrap().iter().zip(&want).enumerate() {
                assert!(right(y, want), "{function:?}({}, {}) = {y}, not {want}", a[i], b[i]);
                let reference = reference::binary(function, a[i], b[i]);
                assert!(right(reference, want), "reference {function:?}({}, {}) = {reference}", a[i], b[i]);
            }
        }
    }
}

/// Shapes of operands.
pub(super) const SHAPES: &[(&[usize], &[usize])] = &[
    (&[], &[]),
    (&[7], &[7]),
    (&[7], &[]),
    (&[], &[7]),
    (&[5, 19], &[19]),
    (&[5, 19], &[5, 1]),
    (&[5, 1], &[1, 19]),
    (&[3, 1, 4], &[2, 1]),
    (&[2, 3, 5, 7], &[3, 1, 7]),
    (&[1, 3, 1, 7], &[2, 1, 5, 1]),
    (&[0, 4], &[4]),
    (&[4, 0], &[4, 1]),
    (&[70_001], &[70_001]),
    (&[70_001], &[1]),
    (&[300, 301], &[301]),
    (&[300, 301], &[300, 1]),
    (&[70, 1, 31], &[70, 40, 1]),
];

#[test]
fn broadcasts() {
    for (a_shape, b_shape) in SHAPES {
        let (a, b) = (noise(1, elements(a_shape).unwrap()), noise(2, elements(b_shape).unwrap()));
        for (_, function) in Binary::ALL {
            let spec = BinarySpec::new(function, DType::F32, a_shape, b_shape).unwrap();
            let mut first: Option<Vec<u32>> = None;
            for cpu in engines() {
                let y = cpu.binary(&spec, &buffer(&a), &buffer(&b)).unwrap();
                assert_eq!(y.len(), spec.len());
                // every bit, between engines; NaN (of pow) has one pattern per operation
                assert_eq!(*first.get_or_insert_with(|| bits(&values(&y))), bits(&values(&y)));
                for (i, &y) in y.slice::<f32>().unwrap().iter().enumerate() {
                    // NumPy's rule, spelled out: the index along an axis of size 1 is 0
                    let mut rest = i;
                    let (mut at_a, mut at_b, mut step_a, mut step_b) = (0, 0, 1, 1);
                    for (axis, &n) in spec.shape.iter().enumerate().rev() {
                        let index = rest % n;
                        rest /= n;
                        let size = |s: &[usize]| (axis + s.len()).checked_sub(spec.shape.len()).map_or(1, |i| s[i]);
                        let (m, n) = (size(a_shape), size(b_shape));
                        (at_a, step_a) = (at_a + if m == 1 { 0 } else { index * step_a }, step_a * m);
                        (at_b, step_b) = (at_b + if n == 1 { 0 } else { index * step_b }, step_b * n);
                    }
                    assert_eq!(spec.walk.offsets(i), [at_a as isize, at_b as isize]);
                    // every one of these rounds once from the right answer
                    let want = reference::binary(function, f64::from(a[at_a]), f64::from(b[at_b])) as f32;
                    assert!(y == want || y.is_nan() && want.is_nan(), "{function:?} {a_shape:?} {b_shape:?}");
                }
            }
        }
    }
}

#[test]
fn numbers_with_arrays() {
    let x = noise(3, 40_000);
    for (_, function) in Binary::ALL {
        for value in [2.0, -0.7] {
            for reversed in [false, true] {
                let spec = ScalarSpec::new(function, DType::F32, x.len(), value, reversed).unwrap();
                let (a, b): (&[usize], &[usize]) = if reversed { (&[1], &[40_000]) } else { (&[40_000], &[1]) };
                let pair = BinarySpec::new(function, DType::F32, a, b).unwrap();
                let (x, v) = (buffer(&x), buffer(&[value as f32]));
                for cpu in engines() {
                    let y = cpu.binary_scalar(&spec, &x).unwrap();
                    let (a, b) = if reversed { (&v, &x) } else { (&x, &v) };
                    assert_eq!(
                        bits(&values(&y)),
                        bits(&values(&cpu.binary(&pair, a, b).unwrap())),
                        "{function:?} {value} {reversed}"
                    );
                }
            }
        }
    }
}

#[test]
fn squares_flush_as_pow_does() {
    // results around 2^-126, above and below, on both sides of the flush
    let x: Vec<f32> = (0..4000).map(|i| f32::from_bits(0x2000_0000 - 2000 + i)).collect();
    let spec = ScalarSpec::new(Binary::Pow, DType::F32, x.len(), 2.0, false).unwrap();
    for cpu in engines() {
        let y = cpu.binary_scalar(&spec, &buffer(&x)).unwrap();
        let plain: Vec<u32> = x.iter().map(|&x| crate::cpu::pow(x, 2.0).to_bits()).collect();
        assert_eq!(bits(&values(&y)), plain);
    }
}

/// Shapes of condition, a and b.
pub(super) const CHOICES: &[[&[usize]; 3]] = &[
    [&[], &[], &[]],
    [&[6], &[6], &[6]],
    [&[6], &[], &[6]],
    [&[6], &[6], &[]],
    [&[6], &[], &[]],
    [&[], &[6], &[]],
    [&[4, 1], &[3], &[4, 3]],
    [&[4, 3], &[3], &[4, 1]],
    [&[2, 1, 3], &[4, 1], &[2, 4, 3]],
    [&[0], &[1], &[0]],
    [&[90_000], &[90_000], &[1]],
];

#[test]
fn choices() {
    for [c, a, b] in CHOICES {
        let spec = WhereSpec::new(DType::F32, c, a, b).unwrap();
        let condition: Vec<bool> = noise(4, elements(c).unwrap()).iter().map(|&x| x > 0.0).collect();
        let (mut a, b) = (noise(5, elements(a).unwrap()), noise(6, elements(b).unwrap()));
        if let Some(first) = a.first_mut() {
            *first = f32::from_bits(0x7fc0_1234); // a NaN keeps its bits
        }
        for cpu in engines() {
            let y = cpu.select(&spec, &condition, &buffer(&a), &buffer(&b)).unwrap();
            assert_eq!(y.len(), spec.len());
            for (i, y) in bits(&values(&y)).into_iter().enumerate() {
                let [at_c, at_a, at_b] = spec.walk.offsets(i).map(|at| at as usize);
                assert_eq!(y, if condition[at_c] { a[at_a] } else { b[at_b] }.to_bits());
            }
        }
    }
}

#[test]
fn f64_and_fill() {
    let cpu = Cpu::quiet();
    let spec = BinarySpec::new(Binary::Div, DType::F64, &[2, 1], &[3]).unwrap();
    let y = cpu.binary(&spec, &buffer(&[1f64, 2.0]), &buffer(&[3f64, 4.0, 5.0])).unwrap();
    assert_eq!(y.slice::<f64>().unwrap(), [1.0 / 3.0, 0.25, 0.2, 2.0 / 3.0, 0.5, 0.4]);
    let spec = UnarySpec::new(Unary::Exp, DType::F64, 1).unwrap();
    assert_eq!(cpu.unary(&spec, &buffer(&[1f64])).unwrap().slice::<f64>().unwrap(), [1f64.exp()]);
    let y = cpu.fill(&FillSpec::new(DType::I64, &[2, 2], -3.0).unwrap()).unwrap();
    assert_eq!(y.slice::<i64>().unwrap(), [-3; 4]);
    assert_eq!(cpu.fill(&FillSpec::new(DType::F32, &[3, 0], 1.5).unwrap()).unwrap().len(), 0);
    assert_eq!(FillSpec::new(DType::I64, &[1], 0.5).unwrap_err().kind, Kind::Value);
    assert_eq!(FillSpec::new(DType::F32, &[1 << 62, 2], 0.5).unwrap_err().kind, Kind::Memory);
}

#[test]
fn refusals() {
    let e = BinarySpec::new(Binary::Add, DType::F32, &[3, 2], &[4]).unwrap_err();
    assert_eq!(e.kind, Kind::Shape);
    assert!(e.to_string().starts_with("add: other: expected a shape that broadcasts with (3, 2), got (4,)"), "{e}");
    assert_eq!(UnarySpec::new(Unary::Neg, DType::I64, 1).unwrap_err().kind, Kind::DType);
    assert_eq!(Binary::parse("plus").unwrap_err().kind, Kind::Value);
    assert_eq!(WhereSpec::new(DType::F32, &[3], &[2], &[2]).unwrap_err().kind, Kind::Shape);
}
