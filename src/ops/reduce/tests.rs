//! Sums: worked by hand, and the kernels against the stated tree, bit for bit.

use super::*;
use crate::cpu::Cpu;
use crate::cpu::testing::{asked, bits, buffer, engines};
use crate::error::Kind;

pub(super) fn numbers(n: usize) -> Vec<f32> {
    (0..n as u64)
        .map(|i| crate::tensor::uniform(crate::tensor::Philox { seed: 9, stream: 1 }.word(i)) * 2.0 - 0.9)
        .collect()
}

fn sum(cpu: &Cpu<'_>, spec: &SumSpec, x: &[f32]) -> Vec<f32> {
    cpu.sum(spec, &buffer(x)).unwrap().slice::<f32>().unwrap().to_vec()
}

#[test]
fn worked_by_hand() {
    let spec = |axes: Option<&[isize]>, keepdims| SumSpec::new(DType::F32, &[2, 3], axes, keepdims).unwrap();
    let x = [1f32, 2.0, 3.0, 10.0, 20.0, 30.0];
    let cpu = Cpu::quiet();
    assert_eq!(sum(&cpu, &spec(Some(&[0]), false), &x), [11.0, 22.0, 33.0]);
    assert_eq!(sum(&cpu, &spec(Some(&[-1]), false), &x), [6.0, 60.0]);
    assert_eq!(sum(&cpu, &spec(None, false), &x), [66.0]);
    assert_eq!(sum(&cpu, &spec(Some(&[]), false), &x), x);
    assert_eq!(spec(None, false).shape, Shape::from([]));
    assert_eq!(spec(Some(&[0]), true).shape, Shape::from([1, 3]));
    assert_eq!(spec(Some(&[1, 0]), true).shape, Shape::from([1, 1]));
    // the tree, in numbers that f32 cannot hold together: e0 + e16 is 2^24 + 1, rounded to 2^24, then e8 joins;
    // one chain from e0 on would lose all three ones, another order would keep them
    let mut e = [0f32; 17];
    (e[0], e[16], e[8], e[4]) = (16_777_216.0, 1.0, 1.0, 2.0);
    let one = SumSpec::new(DType::F32, &[17], None, false).unwrap();
    assert_eq!(sum(&cpu, &one, &e), [16_777_218.0]);
    assert_eq!(reference::sum(&one, &e), [16_777_218.0]);
    let f64_spec = SumSpec { dtype: DType::F64, ..one };
    let wide: Vec<f64> = e.iter().map(|&e| f64::from(e)).collect();
    assert_eq!(cpu.sum(&f64_spec, &buffer(&wide)).unwrap().slice::<f64>().unwrap(), [16_777_220.0]);
}

/// Shape and summed axes.
pub(super) const CASES: &[(&[usize], &[isize])] = &[
    (&[1], &[0]),
    (&[15], &[0]),
    (&[16], &[0]),
    (&[127], &[0]),
    (&[129], &[0]),
    (&[16 * 128 + 5], &[0]),
    (&[200_000], &[0]),
    (&[65_536 * 3 + 1], &[0]),
    (&[5, 131], &[1]),
    (&[4000, 19], &[1]),
    (&[2, 70_000], &[1]),
    (&[131, 5], &[0]),
    (&[300, 77], &[0]),
    (&[1000, 203], &[0]),
    (&[70_000, 3], &[0]),
    (&[140_000, 17], &[0]),
    (&[3, 140, 70], &[1]),
    (&[3, 1, 70], &[1]),
    (&[7, 9, 11], &[0, 1]),
    (&[7, 9, 11], &[0, 2]),
    (&[7, 9, 11], &[2, 0, 1]),
    (&[5, 1, 6], &[0, 2]),
    (&[2, 3, 4, 5], &[1, 3]),
    (&[0, 5], &[0]),
    (&[5, 0], &[0]),
    (&[4, 0, 3], &[0, 2]),
    (&[4, 0, 3], &[1]),
];

#[test]
fn the_bits_of_the_stated_tree() {
    for (shape, axes) in CASES {
        let x = numbers(elements(shape).unwrap());
        let spec = SumSpec::new(DType::F32, shape, Some(axes), false).unwrap();
        let want = reference::sum(&spec, &x);
        assert_eq!(want.len(), elements(&spec.shape).unwrap(), "{shape:?} {axes:?}");
        for cpu in engines() {
            let y = sum(&cpu, &spec, &x);
            assert_eq!(bits(&y), bits(&want), "{shape:?} {axes:?} {:?} {}", cpu.isa(), cpu.threads());
        }
        // and the right numbers: against f64, by the plain meaning of a sum over axes
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let mut right = vec![0f64; want.len()];
        for (i, &x) in wide.iter().enumerate() {
            let (mut rest, mut at, mut step) = (i, 0, 1);
            for (axis, &n) in shape.iter().enumerate().rev() {
                if !axes.contains(&(axis as isize)) {
                    at += rest % n * step;
                    step *= n;
                }
                rest /= n;
            }
            right[at] += x;
        }
        for (&y, &right) in want.iter().zip(&right) {
            let bound = (15.0 + (spec.n as f64 / 128.0).max(1.0).log2()) / 16_777_216.0 * spec.n as f64;
            assert!((f64::from(y) - right).abs() <= bound, "{shape:?} {axes:?}: {y} {right}");
        }
    }
}

#[test]
fn a_sum_alone_along_any_axis() {
    // the same terms as one row, as a row among rows, as a column among columns
    for n in [3, 40, 500, 66_000] {
        let x = numbers(n * 21);
        let one = |row: usize| -> Vec<f32> { (0..n).map(|k| x[k * 21 + row]).collect() };
        let columns = SumSpec::new(DType::F32, &[n, 21], Some(&[0]), false).unwrap();
        let rows = SumSpec::new(DType::F32, &[21, n], Some(&[1]), false).unwrap();
        let alone = SumSpec::new(DType::F32, &[n], None, false).unwrap();
        let transposed: Vec<f32> = (0..21).flat_map(one).collect();
        let cpu = Cpu::quiet();
        let by_columns = sum(&cpu, &columns, &x);
        assert_eq!(bits(&by_columns), bits(&sum(&cpu, &rows, &transposed)));
        for row in [0, 13, 20] {
            assert_eq!(bits(&sum(&cpu, &alone, &one(row))), bits(&by_columns[row..=row]));
        }
    }
}

#[test]
fn nan_stays_in_its_own_sum() {
    let mut x = numbers(300 * 40);
    x[7 * 40 + 3] = f32::NAN;
    x[9 * 40 + 5] = f32::INFINITY;
    let spec = SumSpec::new(DType::F32, &[300, 40], Some(&[0]), false).unwrap();
    for cpu in engines() {
        for (i, y) in sum(&cpu, &spec, &x).into_iter().enumerate() {
            assert_eq!((y.is_nan(), y.is_infinite()), (i == 3, i == 5));
        }
    }
}

#[test]
fn refusals() {
    let new = |dtype, axes: &[isize]| SumSpec::new(dtype, &[2, 3], Some(axes), false);
    assert_eq!(new(DType::F32, &[2]).unwrap_err().kind, Kind::Value);
    assert_eq!(new(DType::F32, &[1, -1]).unwrap_err().kind, Kind::Value);
    assert_eq!(new(DType::I64, &[0]).unwrap_err().kind, Kind::DType);
    let e = new(DType::F32, &[-3]).unwrap_err().to_string();
    assert_eq!(e, "sum: axes: expected an axis from -2 to 1, got -3.");
}

#[test]
fn long_sums_in_f64_are_cut_into_subtrees() {
    for (shape, axis) in [([1, 128 * 512 * 5 + 77, 1], 1), ([2, 128 * 512 * 3, 3], 1), ([128 * 512 * 2 + 1, 2, 1], 0)] {
        let x: Vec<f64> = numbers(shape.iter().product()).into_iter().map(f64::from).map(|x| x * 1.1).collect();
        let spec = SumSpec::new(DType::F64, &shape, Some(&[axis]), false).unwrap();
        let want: Vec<u64> = reference::sum(&spec, &x).iter().map(|y| y.to_bits()).collect();
        for cpu in engines() {
            let y = cpu.sum(&spec, &buffer(&x)).unwrap();
            assert_eq!(y.slice::<f64>().unwrap().iter().map(|y| y.to_bits()).collect::<Vec<_>>(), want, "{shape:?}");
        }
    }
}

#[test]
fn a_long_sum_in_f64_asks_whether_to_stop() {
    let n = 1 << 22;
    let spec = SumSpec::new(DType::F64, &[n], None, false).unwrap();
    let x = buffer(&vec![1f64; n]);
    assert!(asked(|cpu| cpu.sum(&spec, &x).map(drop)) > 0);
}
