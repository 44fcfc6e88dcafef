//! Cross-entropy against numbers worked by hand, finite differences, the f64 reference, and itself.

use super::{CrossEntropySizes, Loss, Reduction};
use crate::cpu::testing::{bits, buffer};
use crate::cpu::{Cpu, Isa};
use crate::error::Kind;
use crate::tensor::{DType, Real};

pub(super) fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 31) % 1009) as f32 / 84.0 - 6.0).collect()
}

/// loss and gradient of `logits` on `cpu`
pub(super) fn run<T: Real>(
    cpu: &Cpu<'_>,
    logits: &[T],
    classes: usize,
    targets: &[i64],
    ignore: i64,
    reduction: Reduction,
) -> (Vec<T>, Vec<T>) {
    let n = targets.len();
    let mut both = Vec::new();
    for gradient in [true, false] {
        let spec = CrossEntropySizes::new(T::DTYPE, &[n, classes], &[n])
            .and_then(|s| s.with(targets, ignore, reduction, gradient, &|| Ok(())))
            .unwrap();
        let made = cpu.cross_entropy(&spec, &buffer(logits)).unwrap();
        both.push((made.loss.slice::<T>().unwrap().to_vec(), made.gradient.map(|g| g.slice::<T>().unwrap().to_vec())));
    }
    let (alone, none) = both.pop().unwrap();
    let (loss, gradient) = both.pop().unwrap();
    // the loss is the same where no gradient is wanted
    assert!(none.is_none());
    assert!(loss.iter().zip(&alone).all(|(a, b)| a.f64().to_bits() == b.f64().to_bits()));
    (loss, gradient.unwrap())
}

#[test]
fn worked_by_hand() {
    // softmax of (0, ln 2, ln 5) is (1, 2, 5) / 8
    let logits = [0f64, 2f64.ln(), 5f64.ln(), 0.0, 0.0, 0.0];
    let (loss, gradient) = run(&Cpu::quiet(), &logits, 3, &[2, 0], -100, Reduction::Mean);
    assert!((loss[0] - ((8f64 / 5.0).ln() + 3f64.ln()) / 2.0).abs() < 1e-15);
    let right = [1. / 8., 2. / 8., -3. / 8., -2. / 3., 1. / 3., 1. / 3.];
    for (g, right) in gradient.iter().zip(right) {
        assert!((g - right / 2.0).abs() < 1e-15);
    }
    let (loss, gradient) = run(&Cpu::quiet(), &logits, 3, &[2, 0], -100, Reduction::None);
    assert!((loss[0] - (8f64 / 5.0).ln()).abs() < 1e-15 && (loss[1] - 3f64.ln()).abs() < 1e-15);
    assert!((gradient[2] + 3. / 8.).abs() < 1e-15);
}

#[test]
fn gradients_are_finite_differences() {
    // S-160
    let logits: Vec<f64> = numbers(7 * 5, 1).iter().map(|&x| f64::from(x) / 3.0).collect();
    let targets = [0, 4, 2, 3, 2, 1, 1];
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let loss = |x: &[f64]| run(&Cpu::quiet(), x, 5, &targets, 3, reduction).0[0];
        let (_, gradient) = run(&Cpu::quiet(), &logits, 5, &targets, 3, reduction);
        for i in 0..logits.len() {
            let moved = |h: f64| {
                let mut x = logits.clone();
                x[i] += h;
                loss(&x)
            };
            let right = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[i] - right).abs() < 1e-8, "{i}: {} not {right}", gradient[i]);
        }
    }
}

#[test]
fn cpu() {
    for isa in Isa::available() {
        for (n, classes) in [(1, 1), (3, 2), (7, 15), (5, 16), (9, 17), (64, 65), (4, 1000), (700, 97)] {
            let logits = numbers(n * classes, n);
            let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
            let targets: Vec<i64> = (0..n).map(|r| (r * 5 % classes) as i64).collect();
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                let right = run(&Cpu::quiet(), &wide, classes, &targets, -100, reduction);
                let one = run(&Cpu::quiet().with_isa(isa).with_threads(1), &logits, classes, &targets, -100, reduction);
                let three =
                    run(&Cpu::quiet().with_isa(isa).with_threads(3), &logits, classes, &targets, -100, reduction);
                assert_eq!((bits(&one.0), bits(&one.1)), (bits(&three.0), bits(&three.1)), "threads");
                for (got, right) in [(&one.0, &right.0), (&one.1, &right.1)] {
                    let scale = right.iter().fold(1e-3f64, |m, r| m.max(r.abs()));
                    for (g, r) in got.iter().zip(right) {
                        assert!((f64::from(*g) - r).abs() <= 1e-6 * scale, "{} {n} {classes}: {g} {r}", isa.name());
                    }
                }
                // bits do not depend on the instruction set, of those that fuse
                if isa.fused() {
                    let best = run(&Cpu::quiet(), &logits, classes, &targets, -100, reduction);
                    assert_eq!((bits(&one.0), bits(&one.1)), (bits(&best.0), bits(&best.1)), "{}", isa.name());
                }
            }
        }
    }
}

#[test]
fn a_row_alone_is_the_row_in_a_batch() {
    let (n, classes) = (37, 65);
    let logits = numbers(n * classes, 3);
    let targets: Vec<i64> = (0..n as i64).collect();
    let (loss, gradient) = run(&Cpu::quiet(), &logits, classes, &targets, -100, Reduction::None);
    for r in [0, 20, 36] {
        let row = r * classes..(r + 1) * classes;
        let alone = run(&Cpu::quiet(), &logits[row.clone()], classes, &targets[r..=r], -100, Reduction::None);
        assert_eq!((bits(&alone.0), bits(&alone.1)), (bits(&loss[r..=r]), bits(&gradient[row])));
    }
}

#[test]
fn ignored_rows() {
    for isa in Isa::available() {
        let cpu = Cpu::quiet().with_isa(isa);
        // S-122: an ignored row counts in no mean and is not read; ignore_index may be a valid class
        let logits = [1f32, 2.0, f32::NAN, f32::NAN, 3.0, 3.0];
        let (loss, gradient) = run(&cpu, &logits, 2, &[1, 0, 1], 0, Reduction::Mean);
        let right = ((1f64 + (-1f64).exp()).ln() + 2f64.ln()) / 2.0;
        assert!((f64::from(loss[0]) - right).abs() < 1e-6, "{loss:?}");
        assert_eq!(gradient[2..4], [0.0, 0.0]);
        assert!((gradient[5] + 0.25).abs() < 1e-7);
        let (loss, _) = run(&cpu, &logits, 2, &[1, 0, 1], 0, Reduction::None);
        assert_eq!(loss[1], 0.0);
        // all ignored, and an empty batch
        let (loss, gradient) = run(&cpu, &logits, 2, &[-100; 3], -100, Reduction::Mean);
        assert!(loss[0].is_nan() && bits(&gradient) == [0; 6]);
        assert_eq!(run(&cpu, &logits, 2, &[-100; 3], -100, Reduction::Sum).0, [0.0]);
        assert!(run::<f32>(&cpu, &[], 2, &[], -100, Reduction::Mean).0[0].is_nan());
        assert_eq!(run::<f32>(&cpu, &[], 2, &[], -100, Reduction::Sum).0, [0.0]);
    }
}

#[test]
fn infinities() {
    let inf = f32::INFINITY;
    for isa in Isa::available() {
        let cpu = Cpu::quiet().with_isa(isa);
        let one = |logits: [f32; 3], target| {
            let (loss, gradient) = run(&cpu, &logits, 3, &[target], -100, Reduction::Sum);
            (loss[0], gradient)
        };
        // S-126
        let (loss, gradient) = one([-inf, 0.0, 0.0], 0);
        assert_eq!((loss, gradient), (inf, vec![-1.0, 0.5, 0.5]));
        let (loss, gradient) = one([-inf, 0.0, 0.0], 1);
        assert!((loss - 2f32.ln()).abs() < 1e-6);
        assert_eq!(gradient, [0.0, -0.5, 0.5]);
        // S-120
        for logits in [[-inf; 3], [inf, 0.0, 0.0], [f32::NAN, 0.0, 0.0]] {
            let (loss, gradient) = one(logits, 1);
            assert!(loss.is_nan() && gradient.iter().all(|g| g.is_nan()), "{logits:?}: {loss} {gradient:?}");
        }
        // no overflow (S-115)
        let (loss, _) = one([-1000.0, 1000.0, 0.0], 0);
        assert_eq!(loss, 2000.0);
    }
}

#[test]
fn bad_targets_and_sizes() {
    let new = |logits: &[usize], targets: &[i64], shape: &[usize]| {
        CrossEntropySizes::new(DType::F32, logits, shape)
            .and_then(|s| s.with(targets, -100, Reduction::Mean, true, &|| Ok(())))
            .unwrap_err()
    };
    let e = new(&[2, 3], &[1, 3], &[2]);
    assert_eq!(
        (e.kind, e.to_string().as_str()),
        (Kind::Index, "cross_entropy: target: expected 0 <= id < 3, got 3 at (1,).")
    );
    assert_eq!(new(&[2, 3], &[-1, 0], &[2]).kind, Kind::Index);
    assert_eq!(new(&[2, 3], &[0, 1, 2], &[3]).to_string(), "cross_entropy: target: expected (2,), got (3,).");
    assert_eq!(new(&[2], &[0, 1], &[2]).to_string(), "cross_entropy: input: expected (N, C), got (2,).");
    assert!(Reduction::parse("cross_entropy", "max").is_err());
}

#[test]
fn more_units_than_threads() {
    let (logits, targets): (Vec<f32>, Vec<i64>) = (numbers(300 * 3, 5), (0..300).map(|r| r % 3).collect());
    for cpu in [1, 3].map(|threads| Cpu::quiet().with_threads(threads)) {
        let (few, _) = run(&cpu, &logits, 3, &targets, -100, Reduction::None);
        let (many, gradient) = run(&cpu, &logits.repeat(1300), 3, &targets.repeat(1300), -100, Reduction::None);
        assert!(many.chunks_exact(300).all(|losses| bits(losses) == bits(&few)));
        assert!(gradient.chunks_exact(900).all(|part| bits(part) == bits(&gradient[..900])));
    }
}
