//! The shaders against the CPU's kernels: steps, clipping, versions, refusals.

use super::tests::{ADAM, SGD, clip};
use super::{AdamItem, AdamSpec, Checked, ClipSpec, Optim, SgdItem, SgdSpec};
use crate::backend::Buffer;
use crate::cpu::testing::{bits, buffer, values};
use crate::cpu::{Cpu, CpuBuffer};
use crate::error::Kind;
use crate::gpu::testing::{down, gpu, gpu_with, up};
use crate::gpu::{Gpu, GpuBuffer, Options};
use crate::tensor::noise;

fn close(got: &[f32], want: &[f32], what: &str) {
    let scale = want.iter().filter(|w| w.is_finite()).fold(1e-30f32, |m, w| m.max(w.abs()));
    for (g, w) in got.iter().zip(want) {
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= 1e-6 * scale;
        assert!(same, "{what}: {g} not {w}");
    }
}

/// three steps on both engines
fn compare_sgd(gpu: &Gpu, spec: SgdSpec, n: usize) {
    let spec = spec.new().unwrap();
    let (p0, unset) = (noise(1, n), vec![f32::NAN; n]);
    let (there, here) = ((up(gpu, &p0), up(gpu, &unset)), (buffer(&p0), buffer(&unset)));
    for t in 0..3 {
        let g = noise(5 + t, n);
        let item = SgdItem { param: here.0.clone(), grad: buffer(&g), buffer: Some(here.1.clone()), first: t == 0 };
        Cpu::quiet().sgd_step(&spec, &Checked::sgd(&spec, vec![item]).unwrap()).unwrap();
        let item = SgdItem { param: there.0.clone(), grad: up(gpu, &g), buffer: Some(there.1.clone()), first: t == 0 };
        gpu.sgd_step(&spec, &Checked::sgd(&spec, vec![item]).unwrap()).unwrap();
    }
    close(&down(gpu, &there.0), &values(&here.0), "p");
    if spec.momentum != 0.0 {
        close(&down(gpu, &there.1), &values(&here.1), "buffer");
    }
    let versions = |b: &dyn Fn(bool) -> u64| (b(true), b(false));
    assert_eq!(
        versions(&|p| if p { there.0.stamp().version() } else { there.1.stamp().version() }),
        versions(&|p| if p { here.0.stamp().version() } else { here.1.stamp().version() })
    );
}

fn compare_adam(gpu: &Gpu, spec: AdamSpec, amsgrad: bool, n: usize) {
    let zero = vec![0f32; n];
    let here: Vec<CpuBuffer> = [&noise(1, n), &zero, &zero, &zero].map(|v| buffer(v)).into();
    let there: Vec<GpuBuffer> = [&noise(1, n), &zero, &zero, &zero].map(|v| up(gpu, v)).into();
    fn item<B: Buffer>(b: &[B], grad: B, amsgrad: bool, step: u64) -> Checked<AdamItem<B>> {
        let largest = amsgrad.then(|| b[3].clone());
        let item = AdamItem { param: b[0].clone(), grad, mean: b[1].clone(), square: b[2].clone(), largest, step };
        Checked::adam(vec![item]).map_err(|e| e.to_string()).unwrap_or_else(|e| panic!("{e}"))
    }
    for t in 1..4 {
        let g = noise(5 + t, n);
        Cpu::quiet().adam_step(&spec, &item(&here, buffer(&g), amsgrad, t)).unwrap();
        gpu.adam_step(&spec, &item(&there, up(gpu, &g), amsgrad, t)).unwrap();
    }
    for (i, name) in ["p", "m", "v", "largest"].into_iter().enumerate() {
        close(&down(gpu, &there[i]), &values(&here[i]), name);
        assert_eq!(there[i].stamp().version(), here[i].stamp().version());
    }
}

#[test]
fn steps_are_the_cpus() {
    let Some(gpu) = gpu() else { return };
    for n in [1, 63, 64, 65, 1000] {
        compare_sgd(&gpu, SGD, n);
        compare_sgd(&gpu, SgdSpec { momentum: 0.9, dampening: 0.3, weight_decay: 0.1, ..SGD }, n);
        compare_sgd(&gpu, SgdSpec { momentum: 0.9, nesterov: true, maximize: true, ..SGD }, n);
        for decoupled in [false, true] {
            for amsgrad in [false, true] {
                compare_adam(&gpu, AdamSpec { weight_decay: 0.1, decoupled, maximize: amsgrad, ..ADAM }, amsgrad, n);
            }
        }
    }
    let Some(small) = gpu_with(Options { binding: Some(1 << 20), ..Options::default() }) else { return };
    compare_adam(&small, ADAM, false, 600_001);
}

fn clip_there(gpu: &Gpu, grads: &[Vec<f32>], max_norm: f64) -> (f32, Vec<Vec<f32>>) {
    let buffers: Vec<GpuBuffer> = grads.iter().map(|g| up(gpu, g)).collect();
    let spec = ClipSpec::new(max_norm, false, &buffers).unwrap();
    gpu.context().take_counts();
    let norm = gpu.clip_grad_norm(&spec, &buffers).unwrap();
    assert_eq!(gpu.context().take_counts().bytes_back, 0);
    let clipped: Vec<_> = buffers.iter().map(|b| down(gpu, b)).collect();
    // more partial sums than a workgroup joins
    let again: Vec<GpuBuffer> = grads.iter().map(|g| up(gpu, g)).collect();
    let joined = gpu.clip_grad_norm_by(&spec, &again, 2).unwrap();
    close(&down(gpu, &joined), &down(gpu, &norm), "joined norm");
    for (again, clipped) in again.iter().zip(&clipped) {
        close(&down(gpu, again), clipped, "joined");
    }
    (down(gpu, &norm)[0], clipped)
}

fn clip_here(grads: &[Vec<f32>], max_norm: f64) -> (f32, Vec<Vec<f32>>) {
    let buffers: Vec<CpuBuffer> = grads.iter().map(|g| buffer(g)).collect();
    let norm = clip(&buffers, max_norm, false).unwrap();
    (norm as f32, buffers.iter().map(values).collect())
}

// A chain of equal terms rounds the same way at each.
#[test]
fn the_norm_of_a_large_tensor() {
    let Some(gpu) = gpu_with(Options::default()) else { return };
    let n = 1 << 25;
    let grads = [up(&gpu, &vec![1.37; n])];
    let spec = ClipSpec::new(f64::INFINITY, false, &grads).unwrap();
    let norm = down(&gpu, &gpu.clip_grad_norm(&spec, &grads).unwrap())[0];
    let right = f64::from(1.37f32) * (n as f64).sqrt();
    assert!((f64::from(norm) / right - 1.0).abs() < 1e-6, "{norm} not {right}");
}

#[test]
fn clipping_is_the_cpus() {
    let Some(gpu) = gpu() else { return };
    let sets: [Vec<Vec<f32>>; 10] = [
        vec![vec![3.0, 0.0], vec![4.0]],
        vec![noise(1, 1000), noise(2, 5), vec![], noise(3, 9000)],
        vec![vec![0.0; 7]],
        vec![],
        vec![vec![3e30, 4e30], vec![1e-30]],
        vec![vec![3e-30, 4e-30]],
        vec![vec![f32::MAX, -f32::MAX, 1e30]],
        vec![vec![f32::INFINITY, 1.0], vec![-2.0]],
        vec![vec![f32::NAN, 1.0], vec![f32::INFINITY]],
        vec![vec![1.0, -0.0, 1e-40]],
    ];
    for grads in &sets {
        for max_norm in [0.0, 0.5, 1.0, 1e3, 1e39, f64::INFINITY] {
            let (norm, got) = clip_there(&gpu, grads, max_norm);
            let (right_norm, right) = clip_here(grads, max_norm);
            let same =
                |g: f32, r: f32, scale: f32| g == r || (g.is_nan() && r.is_nan()) || (g - r).abs() <= 1e-6 * scale;
            assert!(same(norm, right_norm, right_norm), "{norm} {right_norm}");
            for (i, (got, right)) in got.iter().zip(&right).enumerate() {
                let finite = right.iter().filter(|r| r.is_finite());
                let scale = finite.fold(1e-38f32, |m, r| m.max(r.abs()));
                for (g, r) in got.iter().zip(right) {
                    assert!(same(*g, *r, scale), "{norm} clipped to {max_norm}: {g} {r}");
                }
                // below the limit not a bit changes
                if norm < max_norm as f32 {
                    assert_eq!(bits(got), bits(&grads[i]));
                }
            }
        }
    }
    let large = [vec![noise(4, 600_001)], vec![noise(4, 600_001), vec![]]];
    let (first, second) = (clip_there(&gpu, &large[0], 1.0), clip_there(&gpu, &large[1], 1.0));
    assert_eq!((first.0, bits(&first.1[0])), (second.0, bits(&second.1[0])));
    assert!((first.0 / clip_here(&large[0], 1.0).0 - 1.0).abs() < 1e-6);
    // refused before any change
    let bad = [up(&gpu, &[1.0, f32::INFINITY])];
    let spec = ClipSpec::new(1.0, true, &bad).unwrap();
    assert_eq!(gpu.clip_grad_norm(&spec, &bad).unwrap_err().kind, Kind::State);
    assert_eq!((down(&gpu, &bad[0]), bad[0].stamp().version()), (vec![1.0, f32::INFINITY], 0));
}

/// What fails at a later tensor leaves the earlier ones as they were.
#[test]
fn a_step_that_fails_changes_nothing() {
    let (Some(gpu), Some(other)) = (gpu_with(Options::default()), gpu_with(Options::default())) else { return };
    let params = [up(&gpu, &[1.0, 2.0]), up(&gpu, &[3.0, 4.0])];
    let elsewhere = up(&other, &[1.0, 1.0]);
    let item = |i: usize, grad: GpuBuffer| SgdItem { param: params[i].clone(), grad, buffer: None, first: true };
    let spec = SGD.new().unwrap();
    let items = Checked::sgd(&spec, vec![item(0, up(&gpu, &[1.0, 1.0])), item(1, elsewhere.clone())]).unwrap();
    assert_eq!(gpu.sgd_step(&spec, &items).unwrap_err().kind, Kind::Device);
    let grads = [up(&gpu, &[3.0, 4.0]), elsewhere];
    let clip = ClipSpec::new(1.0, false, &grads).unwrap();
    assert_eq!(gpu.clip_grad_norm(&clip, &grads).unwrap_err().kind, Kind::Device);
    assert_eq!((down(&gpu, &params[0]), params[0].stamp().version()), (vec![1.0, 2.0], 0));
    assert_eq!((down(&gpu, &grads[0]), grads[0].stamp().version()), (vec![3.0, 4.0], 0));
}
