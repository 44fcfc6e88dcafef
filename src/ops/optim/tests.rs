//! Optimizer steps against numbers worked by hand and the f64 reference; what stays untouched stays untouched.

use super::{AdamItem, AdamSpec, Checked, ClipSpec, Optim, PIECE, SgdItem, SgdSpec, distinct, reference};
use crate::backend::Buffer;
use crate::cpu::testing::{bits, buffer, values};
use crate::cpu::{Cpu, CpuBuffer, Isa};
use crate::error::Kind;
use crate::tensor::{DType, Real, noise};

pub(super) const SGD: SgdSpec =
    SgdSpec { lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false };
pub(super) const ADAM: AdamSpec =
    AdamSpec { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-3, weight_decay: 0.0, decoupled: false, maximize: false };

fn sgd(spec: SgdSpec, p: &CpuBuffer, g: &CpuBuffer, b: &CpuBuffer, first: bool) {
    let spec = spec.new().unwrap();
    let item = SgdItem { param: p.clone(), grad: g.clone(), buffer: Some(b.clone()), first };
    Cpu::quiet().sgd_step(&spec, &Checked::sgd(&spec, vec![item]).unwrap()).unwrap();
}

#[test]
fn sgd_worked_by_hand() {
    // p = 1, g = 2, then g = 3; S-144: the first buffer takes g undampened
    let run = |spec: SgdSpec| {
        let (p, b) = (buffer(&[1f64]), buffer(&[f64::NAN]));
        sgd(spec, &p, &buffer(&[2f64]), &b, true);
        let after_one = values::<f64>(&p)[0];
        sgd(spec, &p, &buffer(&[3f64]), &b, false);
        (after_one, values::<f64>(&p)[0])
    };
    let close = |(a, b): (f64, f64), (x, y): (f64, f64)| assert!((a - x).abs() + (b - y).abs() < 1e-14, "{a} {b}");
    close(run(SGD), (0.8, 0.5));
    close(run(SgdSpec { maximize: true, ..SGD }), (1.2, 1.5));
    close(run(SgdSpec { momentum: 0.5, dampening: 0.25, ..SGD }), (0.8, 0.8 - 0.1 * (0.5 * 2.0 + 0.75 * 3.0)));
    // Nesterov: g + μ b, b = g, then b = μ b + g
    close(run(SgdSpec { momentum: 0.5, nesterov: true, ..SGD }), (0.7, 0.7 - 0.1 * (3.0 + 0.5 * 4.0)));
    // decay: g = 2 + 0.5 * 1, then 3 + 0.5 * 0.75
    close(run(SgdSpec { weight_decay: 0.5, ..SGD }), (0.75, 0.75 - 0.1 * 3.375));
}

fn adam(spec: AdamSpec, grads: &[f64], amsgrad: bool) -> f64 {
    let (p, m, v, largest) = (buffer(&[1f64]), buffer(&[0f64]), buffer(&[0f64]), buffer(&[0f64]));
    for (t, &g) in grads.iter().enumerate() {
        let item = AdamItem {
            param: p.clone(),
            grad: buffer(&[g]),
            mean: m.clone(),
            square: v.clone(),
            largest: amsgrad.then(|| largest.clone()),
            step: t as u64 + 1,
        };
        Cpu::quiet().adam_step(&spec.new().unwrap(), &Checked::adam(vec![item]).unwrap()).unwrap();
    }
    values::<f64>(&p)[0]
}

#[test]
fn adam_worked_by_hand() {
    // the first step is lr g / (|g| + eps), whatever β: eps is added after the correction (S-145)
    assert!((adam(ADAM, &[2.0], false) - (1.0 - 0.1 * 2.0 / 2.001)).abs() < 1e-14);
    assert!((adam(AdamSpec { maximize: true, ..ADAM }, &[2.0], false) - (1.0 + 0.1 * 2.0 / 2.001)).abs() < 1e-14);
    // S-146: decay through the gradient, and apart from it
    let coupled = AdamSpec { weight_decay: 0.5, ..ADAM };
    assert!((adam(coupled, &[2.0], false) - (1.0 - 0.1 * 2.5 / 2.501)).abs() < 1e-14);
    let apart = AdamSpec { decoupled: true, ..coupled };
    assert!((adam(apart, &[2.0], false) - (0.95 - 0.1 * 2.0 / 2.001)).abs() < 1e-14);
    // AMSGrad: v = 0.04, then 0.0396; the root takes 0.04
    let m2 = (0.9 * 0.2) / (1.0 - 0.81);
    let first = 1.0 - 0.1 * 2.0 / 2.001;
    let root = |v: f64| v.sqrt() / (1f64 - 0.9801).sqrt() + 1e-3;
    assert!((adam(ADAM, &[2.0, 0.0], true) - (first - 0.1 * m2 / root(0.04))).abs() < 1e-13);
    assert!((adam(ADAM, &[2.0, 0.0], false) - (first - 0.1 * m2 / root(0.0396))).abs() < 1e-13);
}

#[test]
fn cpu_is_the_reference_bit_for_bit() {
    for isa in Isa::available() {
        for (threads, n) in [(1, 1), (3, 7), (1, 1000), (3, 70_001)] {
            let cpu = Cpu::quiet().with_isa(isa).with_threads(threads);
            let (p0, b0) = (noise(1, n), noise(2, n));
            for (nesterov, dampening) in [(true, 0.0), (false, 0.3)] {
                let spec = SgdSpec { momentum: 0.9, weight_decay: 0.1, nesterov, dampening, ..SGD }.new().unwrap();
                let (param, grad, b) = (buffer(&p0), buffer(&noise(3, n)), buffer(&b0));
                let item = SgdItem { param: param.clone(), grad, buffer: Some(b.clone()), first: false };
                cpu.sgd_step(&spec, &Checked::sgd(&spec, vec![item]).unwrap()).unwrap();
                let (mut p, mut right_b) = (p0.clone(), b0.clone());
                reference::Sgd::new(&spec).with_momentum(&mut p, &noise(3, n), &mut right_b, false);
                assert_eq!((bits(&values(&param)), bits(&values(&b))), (bits(&p), bits(&right_b)), "{}", isa.name());
                assert_eq!((param.stamp().version(), b.stamp().version()), (1, 1));
            }
            let spec = AdamSpec { weight_decay: 0.1, ..ADAM };
            let square: Vec<f32> = b0.iter().map(|b| b * b).collect();
            let item = AdamItem {
                param: buffer(&p0),
                grad: buffer(&noise(3, n)),
                mean: buffer(&b0),
                square: buffer(&square),
                largest: None,
                step: 3,
            };
            cpu.adam_step(&spec, &Checked::adam(vec![item.clone()]).unwrap()).unwrap();
            let (mut p, mut m, mut v) = (p0.clone(), b0.clone(), square);
            reference::Adam::new(&spec, 3).step(&mut p, &noise(3, n), &mut m, &mut v);
            assert_eq!(bits(&values(&item.param)), bits(&p), "{}", isa.name());
            assert_eq!((bits(&values(&item.mean)), bits(&values(&item.square))), (bits(&m), bits(&v)));
            assert_eq!([&item.param, &item.mean, &item.square].map(|b| b.stamp().version()), [1; 3]);
            assert_eq!(item.grad.stamp().version(), 0);
        }
    }
}

#[test]
fn powers() {
    assert_eq!(reference::power(0.5, 10), 0.5f64.powi(10));
    for t in [1, 2, 3, 1000, 123_457] {
        assert!((reference::power(0.999, t) / 0.999f64.powf(t as f64) - 1.0).abs() < 1e-10);
    }
    assert_eq!(reference::power(0.9, u64::MAX), 0.0);
}

#[test]
fn all_or_none() {
    let (p, q, g) = (buffer(&[1f32]), buffer(&[1f32]), buffer(&[1f32]));
    let item = |param: &CpuBuffer, grad: &CpuBuffer, buffer: Option<&CpuBuffer>| SgdItem {
        param: param.clone(),
        grad: grad.clone(),
        buffer: buffer.cloned(),
        first: true,
    };
    let refused = |items| Checked::sgd(&SgdSpec { momentum: 0.5, ..SGD }, items).err().map(|e| e.kind).unwrap();
    let b = buffer(&[0f32]);
    // the same tensor twice, as parameter and buffer, as parameter and gradient; no buffer; another size or type
    assert_eq!(refused(vec![item(&p, &g, Some(&b)), item(&p, &g, Some(&q))]), Kind::Value);
    assert_eq!(refused(vec![item(&p, &g, Some(&p))]), Kind::Value);
    assert_eq!(refused(vec![item(&p, &g, Some(&b)), item(&q, &p, Some(&g))]), Kind::Value);
    assert_eq!(refused(vec![item(&p, &g, None)]), Kind::Value);
    assert_eq!(refused(vec![item(&p, &g, Some(&b)), item(&q, &buffer(&[1f64]), Some(&b))]), Kind::Shape);
}

#[test]
fn bad_options() {
    for spec in [
        SgdSpec { lr: -1.0, ..SGD },
        SgdSpec { lr: f64::NAN, ..SGD },
        SgdSpec { momentum: -0.1, ..SGD },
        SgdSpec { weight_decay: f64::INFINITY, ..SGD },
        SgdSpec { nesterov: true, ..SGD },
        SgdSpec { nesterov: true, momentum: 0.5, dampening: 0.1, ..SGD },
    ] {
        assert_eq!(spec.new().unwrap_err().kind, Kind::Value, "{spec:?}");
    }
    for spec in [AdamSpec { beta1: 1.0, ..ADAM }, AdamSpec { beta2: -0.1, ..ADAM }, AdamSpec { eps: -1.0, ..ADAM }] {
        assert_eq!(spec.new().unwrap_err().kind, Kind::Value, "{spec:?}");
    }
}

pub(super) fn clip(grads: &[CpuBuffer], max_norm: f64, strict: bool) -> crate::error::Result<f64> {
    let spec = ClipSpec::new(max_norm, strict, grads)?;
    let norm = Cpu::quiet().clip_grad_norm(&spec, grads)?;
    Ok(if spec.dtype == DType::F64 { values::<f64>(&norm)[0] } else { values::<f32>(&norm)[0].f64() })
}

#[test]
fn clipping_worked_by_hand() {
    // S-151: one norm over all, the norm before is returned
    let grads = [buffer(&[3f32, 0.0]), buffer(&[4f32])];
    assert_eq!(clip(&grads, 1.0, false).unwrap(), 5.0);
    let c = 1.0 / (5.0 + 1e-6);
    assert_eq!(values::<f32>(&grads[0]), [(3.0 * c) as f32, 0.0]);
    assert_eq!(values::<f32>(&grads[1]), [(4.0 * c) as f32]);
    assert_eq!(grads[0].stamp().version(), 1);
    // below the limit not a bit changes; the limit itself scales
    let odd = [buffer(&[3f32, f32::from_bits(1), -0.0])];
    assert_eq!(clip(&odd, 3.1, false).unwrap(), 3.0);
    assert_eq!(bits(&values(&odd[0])), bits(&[3.0, f32::from_bits(1), -0.0]));
    assert_eq!(odd[0].stamp().version(), 0);
    clip(&odd, 3.0, false).unwrap();
    assert_eq!(values::<f32>(&odd[0])[0], (3.0 * (3.0 / 3.000001)) as f32);
    // nothing to clip
    assert_eq!(clip(&[], 1.0, true).unwrap(), 0.0);
    assert_eq!(clip(&[buffer(&[0f32; 3])], 1.0, true).unwrap(), 0.0);
    assert_eq!(clip(&[], -1.0, false).unwrap_err().kind, Kind::Value);
    assert_eq!(clip(&[], f64::NAN, false).unwrap_err().kind, Kind::Value);
    // S-150: the same memory twice is one gradient
    assert_eq!(distinct(vec![grads[0].clone(), grads[1].clone(), grads[0].clone()]).len(), 2);
}

#[test]
fn clipping_neither_overflows_nor_underflows() {
    // S-152
    let large = [buffer(&[3e30f32, 4e30])];
    assert!((clip(&large, 1.0, true).unwrap() / 5e30 - 1.0).abs() < 1e-7);
    let got = values::<f32>(&large[0]);
    assert!((got[0] - 0.6).abs() < 1e-6 && (got[1] - 0.8).abs() < 1e-6, "{got:?}");
    let small = [buffer(&[3e-30f32, 4e-30])];
    assert!((clip(&small, 1.0, true).unwrap() / 5e-30 - 1.0).abs() < 1e-7);
    // past the range of f32, and of f64's squares
    let largest = [buffer(&[f32::MAX, f32::MAX])];
    assert_eq!(clip(&largest, 1.0, true).unwrap(), f64::INFINITY);
    assert!((values::<f32>(&largest[0])[0] - 0.5f32.sqrt()).abs() < 1e-6);
    for scale in [1e200, 1e-200, 5e-324] {
        let grads = [buffer(&[3.0 * scale, 4.0 * scale]), buffer(&[12.0 * scale])];
        assert!((clip(&grads, f64::INFINITY, true).unwrap() / (13.0 * scale) - 1.0).abs() < 1e-15, "{scale}");
    }
}

#[test]
fn clipping_what_is_not_finite() {
    // S-151: inf becomes NaN in its place and 0 elsewhere; NaN makes all NaN
    let grads = [buffer(&[f32::INFINITY, 1.0])];
    let e = clip(&grads, 1.0, true).unwrap_err();
    assert_eq!(e.kind, Kind::State);
    assert_eq!(values::<f32>(&grads[0]), [f32::INFINITY, 1.0]);
    assert_eq!(clip(&grads, 1.0, false).unwrap(), f64::INFINITY);
    let got = values::<f32>(&grads[0]);
    assert!(got[0].is_nan() && got[1] == 0.0);
    let grads = [buffer(&[f32::NAN, 1.0]), buffer(&[1f32])];
    assert!(clip(&grads, 1.0, false).unwrap().is_nan());
    assert!(values::<f32>(&grads[0])[1].is_nan() && values::<f32>(&grads[1])[0].is_nan());
}

#[test]
fn norms_do_not_depend_on_threads_or_instruction_sets() {
    let run = |isa, threads| {
        let grads = [buffer(&noise(1, 200_003)), buffer(&noise(2, 17))];
        let spec = ClipSpec::new(0.5, false, &grads).unwrap();
        let cpu = Cpu::quiet().with_isa(isa).with_threads(threads);
        let norm = values::<f32>(&cpu.clip_grad_norm(&spec, &grads).unwrap());
        (bits(&norm), bits(&values(&grads[0])), bits(&values(&grads[1])))
    };
    let right = run(Isa::PORTABLE, 1);
    let exact = noise(1, 200_003).iter().chain(&noise(2, 17)).map(|g| g.f64() * g.f64()).sum::<f64>().sqrt();
    assert!((f32::from_bits(right.0[0]).f64() / exact - 1.0).abs() < 1e-7);
    for isa in Isa::available() {
        for threads in [1, 3] {
            assert_eq!(run(isa, threads), right, "{} {threads}", isa.name());
        }
    }
    // and one tensor alone is what the reference says
    let g = noise(1, 200_003);
    let pieces = |unit| Ok::<f64, ()>(g.chunks(PIECE).map(|piece| reference::squares(piece, unit)).sum());
    let norm = reference::norm(pieces, || reference::largest(&g)).unwrap();
    assert_eq!(clip(&[buffer(&g)], 1e9, false).unwrap(), (norm as f32).f64());
}
