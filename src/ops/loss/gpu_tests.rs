//! The shader against the CPU's kernel, in f64 and where numbers are not finite.

use super::gpu::Cut;
use super::tests::{numbers, run};
use super::{CrossEntropySizes, Loss, Reduction};
use crate::cpu::Cpu;
use crate::cpu::testing::bits;
use crate::gpu::testing::{down, gpu, gpu_with, up};
use crate::gpu::{Gpu, Options};
use crate::tensor::DType;

fn on_gpu(
    gpu: &Gpu,
    logits: &[f32],
    classes: usize,
    targets: &[i64],
    ignore: i64,
    reduction: Reduction,
) -> (Vec<f32>, Vec<f32>) {
    on_gpu_by(gpu, logits, classes, targets, ignore, reduction, None)
}

/// The same, cut as given.
fn on_gpu_by(
    gpu: &Gpu,
    logits: &[f32],
    classes: usize,
    targets: &[i64],
    ignore: i64,
    reduction: Reduction,
    cut: Option<Cut>,
) -> (Vec<f32>, Vec<f32>) {
    let n = targets.len();
    let spec = |gradient| {
        CrossEntropySizes::new(DType::F32, &[n, classes], &[n])
            .and_then(|s| s.with(targets, ignore, reduction, gradient, &|| Ok(())))
            .unwrap()
    };
    let logits = up(gpu, logits);
    let run = |gradient| match cut {
        Some(cut) => gpu.cross_entropy_by(&spec(gradient), &logits, cut).unwrap(),
        None => gpu.cross_entropy(&spec(gradient), &logits).unwrap(),
    };
    let (both, alone) = (run(true), run(false));
    assert!(alone.gradient.is_none());
    let loss = down(gpu, &both.loss);
    assert_eq!(bits(&loss), bits(&down(gpu, &alone.loss)));
    (loss, down(gpu, &both.gradient.unwrap()))
}

fn close(got: &(Vec<f32>, Vec<f32>), right: &(Vec<f64>, Vec<f64>), what: &str) {
    for (got, right) in [(&got.0, &right.0), (&got.1, &right.1)] {
        let scale = right.iter().fold(1e-3f64, |m, r| m.max(r.abs()));
        assert_eq!(got.len(), right.len());
        for (g, r) in got.iter().zip(right) {
            let ok = (f64::from(*g) - r).abs() <= 2e-6 * scale || (g.is_nan() && r.is_nan());
            assert!(ok, "{what}: {g} {r}");
        }
    }
}

#[test]
fn kernels_against_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (n, classes) in [(1, 1), (3, 2), (7, 63), (5, 64), (9, 65), (2, 1000), (130, 7)] {
        let logits = numbers(n * classes, n);
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let targets: Vec<i64> = (0..n).map(|r| (r * 5 % classes) as i64).collect();
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for ignore in [-100, 0] {
                let right = run(&Cpu::quiet(), &wide, classes, &targets, ignore, reduction);
                let got = on_gpu(&gpu, &logits, classes, &targets, ignore, reduction);
                close(&got, &right, &format!("{n} {classes} {reduction:?}"));
            }
        }
        // a row alone is the row in a batch
        let all = on_gpu(&gpu, &logits, classes, &targets, -100, Reduction::None);
        let alone = on_gpu(&gpu, &logits[..classes], classes, &targets[..1], -100, Reduction::None);
        assert_eq!((bits(&alone.0), bits(&alone.1)), (bits(&all.0[..1]), bits(&all.1[..classes])));
    }
}

// Rows and sums that several workgroups share.
#[test]
fn long_rows_and_many_rows() {
    let Some(gpu) = gpu() else { return };
    for (n, classes, part) in [(1, 65, 64), (3, 130, 7), (5, 1000, 300), (130, 66, 1), (200, 70, 65)] {
        let cut = Some(Cut { classes: 64, part: part.max(2) });
        let logits = numbers(n * classes, n);
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let targets: Vec<i64> = (0..n).map(|r| (r * 29 % classes) as i64).collect();
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for ignore in [-100, 0] {
                let right = run(&Cpu::quiet(), &wide, classes, &targets, ignore, reduction);
                let got = on_gpu_by(&gpu, &logits, classes, &targets, ignore, reduction, cut);
                close(&got, &right, &format!("{n} {classes} {part} {reduction:?}"));
            }
        }
        let all = on_gpu_by(&gpu, &logits, classes, &targets, -100, Reduction::None, cut);
        let alone = on_gpu_by(&gpu, &logits[..classes], classes, &targets[..1], -100, Reduction::None, cut);
        assert_eq!((bits(&alone.0), bits(&alone.1)), (bits(&all.0[..1]), bits(&all.1[..classes])));
    }
    // as users cut them
    let Some(gpu) = gpu_with(Options { poison: true, ..Options::default() }) else { return };
    for (n, classes) in [(1, 1_300_000), (140_000, 2)] {
        let logits = numbers(n * classes, n);
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let targets: Vec<i64> = (0..n).map(|r| ((r * 7 + 3) % classes) as i64).collect();
        let right = run(&Cpu::quiet(), &wide, classes, &targets, -100, Reduction::Mean);
        close(&on_gpu(&gpu, &logits, classes, &targets, -100, Reduction::Mean), &right, &format!("{n} {classes}"));
    }
}

#[test]
fn what_is_not_finite_or_ignored() {
    let Some(gpu) = gpu() else { return };
    let inf = f32::INFINITY;
    // S-120, S-122, S-126: as the CPU has it
    let rows: [([f32; 3], i64); 8] = [
        ([-inf, 0.0, 0.0], 0),
        ([-inf, 0.0, 0.0], 1),
        ([-inf; 3], 1),
        ([inf, 0.0, 0.0], 1),
        ([f32::NAN, 0.0, 0.0], 1),
        ([f32::NAN, inf, 0.0], 2),
        ([-1000.0, 1000.0, 0.0], 0),
        ([-3e38, 3e38, 0.0], 1),
    ];
    for (logits, target) in rows {
        for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
            let right = run(&Cpu::quiet(), &logits, 3, &[target], 2, reduction);
            for cut in [None, Some(Cut { classes: 2, part: 1 }), Some(Cut { classes: 2, part: 2 })] {
                let got = on_gpu_by(&gpu, &logits, 3, &[target], 2, reduction, cut);
                for (g, r) in got.0.iter().chain(&got.1).zip(right.0.iter().chain(&right.1)) {
                    assert!((g - r).abs() < 1e-6 || g == r || (g.is_nan() && r.is_nan()), "{logits:?}: {g} {r}");
                }
            }
        }
    }
    assert!(on_gpu(&gpu, &[], 3, &[], -100, Reduction::Mean).0[0].is_nan());
    assert_eq!(on_gpu(&gpu, &[], 3, &[], -100, Reduction::Sum).0, [0.0]);
    let (loss, gradient) = on_gpu(&gpu, &[1.0, f32::NAN, 0.0], 3, &[0], 0, Reduction::Mean);
    assert!(loss[0].is_nan() && bits(&gradient) == [0; 3]);
}
