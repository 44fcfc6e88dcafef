//! The shaders against the stated tree, over the rows that the CPU's kernels are tested with.

use super::tests::{CASES, numbers};
use super::*;
use crate::gpu::testing::{down, gpu, gpu_uncut, gpu_with, up};
use crate::gpu::{Gpu, Grid, Kernel, Options};
use crate::ops::reduce::gpu::Params;

/// The same bits as the reference: sums alone, in a stated order, leave a device no choice. Where a driver reorders
/// them after all, the tolerance is what the documentation promises between devices.
fn compare(gpu: &Gpu, shape: &[usize], axes: &[isize]) {
    let x = numbers(elements(shape).unwrap());
    let spec = SumSpec::new(DType::F32, shape, Some(axes), false).unwrap();
    let want = reference::sum(&spec, &x);
    let y = down(gpu, &gpu.sum(&spec, &up(gpu, &x)).unwrap());
    assert_eq!(y.len(), want.len(), "{shape:?} {axes:?}");
    if gpu.is_software() {
        assert_eq!(y, want, "{shape:?} {axes:?}");
    }
    let largest = want.iter().fold(0f32, |m, w| m.max(w.abs()));
    assert!(y.iter().zip(&want).all(|(y, w)| (y - w).abs() <= 2e-6 * largest), "{shape:?} {axes:?}");
}

#[test]
fn the_stated_tree() {
    let Some(gpu) = gpu() else { return };
    for (shape, axes) in CASES {
        compare(&gpu, shape, axes);
    }
}

#[test]
fn pieces_of_tensors_that_are_larger_than_a_binding() {
    // 65,536 elements
    let Some(gpu) = gpu_with(Options { binding: Some(1 << 18), poison: true, ..Options::default() }) else { return };
    compare(&gpu, &[500, 301], &[1]);
    compare(&gpu, &[7, 140, 211], &[1]);
    let x = up(&gpu, &numbers(70_000));
    let spec = SumSpec::new(DType::F32, &[70_000], None, false).unwrap();
    assert_eq!(gpu.sum(&spec, &x).unwrap_err().kind, crate::error::Kind::Memory);
}

#[test]
fn more_than_65535_workgroups() {
    let Some(gpu) = gpu_uncut() else { return };
    // rows: four sums a workgroup; columns and join: 64
    compare(&gpu, &[65_536 * 4 + 9, 3], &[1]);
    let n = 65_536 * 64 + 70;
    let x = up(&gpu, &(0..2 * n).map(|i| (i % 1000) as f32).collect::<Vec<_>>());
    let spec = SumSpec::new(DType::F32, &[2, n], Some(&[0]), false).unwrap();
    let y = down(&gpu, &gpu.sum(&spec, &x).unwrap());
    assert!(y.iter().enumerate().all(|(i, &y)| y == (i % 1000 + (i + n) % 1000) as f32));
    // so many sums of more than 128 terms would not fit in memory: their last dispatch alone
    joined(&gpu, 65_536 * 64 + 70, 3);
}

#[test]
fn a_dispatch_is_cut_at_rows_of_65535_workgroups() {
    // two rows of workgroups, then one and two more workgroups, which are two rows again
    let options = Options { poison: true, work: Some(2 * 65_535 + 10), ..Options::default() };
    let Some(gpu) = gpu_with(options) else { return };
    joined(&gpu, 3 * 65_535 * 64 + 70, 1);
}

/// The kernel that joins `parts` parts of each of `n` sums; a workgroup is a unit of work.
fn joined(gpu: &Gpu<'_>, n: usize, parts: usize) {
    let x = up(gpu, &(0..parts * n).map(|i| (i % 1000) as f32).collect::<Vec<_>>());
    let y = gpu.allocate(DType::F32, n).unwrap();
    let (count, inner, groups) = (n as u32, n as u32, n.div_ceil(64) as u64);
    let params = Params { count, n: parts as u32, inner, blocks: 1, x_start: 0, y_start: 0, cut: [0; 2] };
    let kernel = Kernel::new("reduce/sum", "join");
    gpu.dispatch(&kernel, &[&x, &y], &params, Grid::new(groups).trips(41).work(groups)).unwrap();
    let want = |i: usize| (0..parts).map(|part| (i + part * n) % 1000).sum::<usize>() as f32;
    assert!(down(gpu, &y).iter().enumerate().all(|(i, &y)| y == want(i)));
}

#[test]
fn nan_stays_in_its_own_sum() {
    let Some(gpu) = gpu() else { return };
    let mut x = numbers(300 * 40);
    (x[7 * 40 + 3], x[9 * 40 + 5]) = (f32::NAN, f32::INFINITY);
    let spec = SumSpec::new(DType::F32, &[300, 40], Some(&[0]), false).unwrap();
    for (i, y) in down(&gpu, &gpu.sum(&spec, &up(&gpu, &x)).unwrap()).into_iter().enumerate() {
        assert_eq!((y.is_nan(), y.is_infinite()), (i == 3, i == 5));
    }
}

#[test]
fn a_sum_alone_has_the_bits_it_has_among_others() {
    let Some(gpu) = gpu() else { return };
    for n in [40, 500, 5000] {
        let x = numbers(n * 21);
        let column: Vec<f32> = (0..n).map(|k| x[k * 21 + 13]).collect();
        let among = SumSpec::new(DType::F32, &[n, 21], Some(&[0]), false).unwrap();
        let alone = SumSpec::new(DType::F32, &[n], None, false).unwrap();
        let among = down(&gpu, &gpu.sum(&among, &up(&gpu, &x)).unwrap())[13];
        let alone = down(&gpu, &gpu.sum(&alone, &up(&gpu, &column)).unwrap())[0];
        assert_eq!(alone.to_bits(), among.to_bits());
    }
}
