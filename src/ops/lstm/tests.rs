//! The reference against numbers worked by hand and finite differences; every instruction set against the
//! reference in f64; and the identities of the numerical contract, bit by bit.

use super::cpu::LstmStep;
use super::reference;
use super::*;
use crate::backend::{Backend, Buffer};
use crate::cpu::testing::{bits, buffer, engines, values};
use crate::cpu::{Cpu, CpuBuffer, Isa};
use crate::error::Error;
use crate::ops::recurrent::{Above, Kept, Layer, Wants};
use crate::tensor::DType;
use std::cell::Cell;

/// Multiples of 2^-22 in [-scale, scale), by a linear congruence: the same on every machine.
fn numbers(n: usize, seed: u32, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            scale * (((state >> 9) as f32 / 4_194_304.0) - 1.0)
        })
        .collect()
}

#[derive(Clone)]
struct Case {
    spec: LayerSpec,
    x: Vec<f32>,
    h0: Vec<f32>,
    c0: Vec<f32>,
    ih: Vec<f32>,
    hh: Vec<f32>,
    b_ih: Vec<f32>,
    b_hh: Vec<f32>,
    dy: Vec<f32>,
    dh: Vec<f32>,
    dc: Vec<f32>,
}

/// Sizes of a call: steps, batch, input, hidden.
type Sizes = (usize, usize, usize, usize);

fn spec(dtype: DType, (t, b, i, h): Sizes) -> LayerSpec {
    LayerSpec::new("lstm", dtype, (t, b), (i, h, GATES), true).unwrap()
}

/// Every gradient.
const ALL: Wants = Wants { dx: true, states: true, weights: true };

fn case(sizes: Sizes) -> Case {
    let (spec, (t, b, i, h)) = (spec(DType::F32, sizes), sizes);
    let scale = 1.0 / (h as f32).sqrt();
    Case {
        x: numbers(t * b * i, 1, 1.0),
        h0: numbers(b * h, 2, 0.5),
        c0: numbers(b * h, 3, 1.0),
        ih: numbers(4 * h * i, 4, scale),
        hh: numbers(4 * h * h, 5, scale),
        b_ih: numbers(4 * h, 6, scale),
        b_hh: numbers(4 * h, 7, scale),
        dy: numbers(t * b * h, 8, 1.0),
        dh: numbers(b * h, 9, 1.0),
        dc: numbers(b * h, 10, 1.0),
        spec,
    }
}

/// What a call gives, named, each with its tolerance relative to its largest magnitude.
type Results = Vec<(&'static str, Vec<f32>)>;

impl Case {
    fn layer(&self) -> Lstm<CpuBuffer> {
        let bias = Some((buffer(&self.b_ih), buffer(&self.b_hh)));
        Lstm { spec: self.spec.clone(), weights: Weights { ih: buffer(&self.ih), hh: buffer(&self.hh), bias } }
    }

    fn run(&self, cpu: &Cpu<'_>) -> Results {
        let (layer, x) = (self.layer(), buffer(&self.x));
        let initial = vec![Some(buffer(&self.h0)), Some(buffer(&self.c0))];
        let plain = layer.forward(cpu, &x, &initial, false).unwrap();
        assert!(plain.saved.is_none());
        let out = layer.forward(cpu, &x, &initial, true).unwrap();
        for (a, b) in plain.last.iter().chain([&plain.y]).zip(out.last.iter().chain([&out.y])) {
            assert_eq!(a.bytes(), b.bytes(), "saving changes nothing");
        }
        let above = Above { dy: Some(buffer(&self.dy)), dlast: vec![Some(buffer(&self.dh)), Some(buffer(&self.dc))] };
        let kept = Kept { x, initial, own: out.saved.unwrap() };
        let grads = layer.backward(cpu, kept, above, ALL).unwrap();
        let names = ["y", "h_n", "c_n", "dx", "dh0", "dc0", "dW_ih", "dW_hh", "db"];
        let found = [out.y].into_iter().chain(out.last).chain(grads.dx);
        let found = found.chain(grads.dinitial.into_iter().flatten()).chain(grads.dparameters);
        let found: Results = names.into_iter().zip(found.map(|b| values(&b))).collect();
        assert_eq!(found.len(), names.len());
        found
    }

    /// The reference in f64.
    fn oracle(&self) -> Vec<Vec<f64>> {
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let spec = LayerSpec { dtype: DType::F64, ..self.spec.clone() };
        let (t, b, h) = (spec.steps, spec.batch, spec.hidden);
        let (x, h0, c0) = (wide(&self.x), wide(&self.h0), wide(&self.c0));
        let (ih, hh, b_ih, b_hh) = (wide(&self.ih), wide(&self.hh), wide(&self.b_ih), wide(&self.b_hh));
        let w = reference::Parameters { ih: &ih, hh: &hh, bias: Some((&b_ih[..], &b_hh[..])) };
        let (mut y, mut c, mut gates) = (vec![0.0; t * b * h], vec![0.0; t * b * h], vec![0.0; 4 * t * b * h]);
        reference::forward(&spec, &x, (&h0, &c0), w, (&mut y, &mut c, &mut gates), &|| Ok(())).unwrap();
        let (dy, mut dh, mut dc) = (wide(&self.dy), wide(&self.dh), wide(&self.dc));
        let (mut dx, mut d_ih, mut d_hh, mut db) =
            (vec![0.0; x.len()], vec![0.0; ih.len()], vec![0.0; hh.len()], vec![0.0; 4 * h]);
        let given = reference::Context { x: &x, state: (&h0, &c0), h: &y, c: &c, dy: Some(&dy) };
        let out =
            reference::Gradients { dx: Some(&mut dx), dweights: Some((&mut d_ih, &mut d_hh)), dbias: Some(&mut db) };
        reference::backward(&spec, &given, w, &mut gates, (&mut dh, &mut dc), out, &|| Ok(())).unwrap();
        let (h_n, c_n) = (y[(t - 1) * b * h..].to_vec(), c[(t - 1) * b * h..].to_vec());
        vec![y, h_n, c_n, dx, dh, dc, d_ih, d_hh, db]
    }

    /// Row `row` of the batch by itself.
    fn row(&self, row: usize) -> Case {
        let spec = LayerSpec { batch: 1, ..self.spec.clone() };
        let (b, i, h) = (self.spec.batch, self.spec.input, self.spec.hidden);
        let pick = |v: &[f32], n: usize| -> Vec<f32> { v.chunks(n).skip(row).step_by(b).flatten().copied().collect() };
        Case {
            x: pick(&self.x, i),
            h0: pick(&self.h0, h),
            c0: pick(&self.c0, h),
            dy: pick(&self.dy, h),
            dh: pick(&self.dh, h),
            dc: pick(&self.dc, h),
            spec,
            ..self.clone()
        }
    }
}

fn all_bits(results: &Results) -> Vec<(&'static str, Vec<u32>)> {
    results.iter().map(|(name, v)| (*name, bits(v))).collect()
}

/// Never I = H or T = B. Few rows and many, tails of panels and whole panels, one panel and several.
const GRID: [Sizes; 12] = [
    (1, 2, 3, 5),
    (3, 1, 7, 16),
    (2, 3, 1, 1),
    (7, 5, 20, 33),
    (5, 6, 9, 17),
    (4, 7, 40, 64),
    (9, 13, 70, 31),
    (12, 1, 31, 130),
    (6, 2, 64, 65),
    (3, 32, 5, 48),
    (40, 1, 3, 257),
    (2, 17, 130, 100),
];

#[test]
fn kernels_agree_with_the_reference() {
    for sizes in GRID {
        let case = case(sizes);
        let oracle = case.oracle();
        for cpu in engines() {
            let on = cpu.isa().unwrap().name();
            for ((name, got), want) in case.run(&cpu).iter().zip(&oracle) {
                let scale = want.iter().fold(0f64, |m, v| m.max(v.abs()));
                let bound = if name.starts_with("dW") || *name == "db" { 5e-6 } else { 2e-6 };
                for (i, (g, w)) in got.iter().zip(want).enumerate() {
                    let off = (f64::from(*g) - w).abs() / scale;
                    assert!(off <= bound, "{name}[{i}] on {on} at {sizes:?}: {g}, not {w}: {off:e}");
                }
            }
        }
    }
}

#[test]
fn one_unit_by_hand() {
    // a = 1 for i, f, o and 0.5 for g: sigmoid(1) = 0.7310585786, tanh(0.5) = 0.4621171573
    let spec = spec(DType::F64, (1, 1, 1, 1));
    let w = reference::Parameters {
        ih: &[0.5, 0.5, 0.25, 0.5],
        hh: &[1.0, 1.0, 0.5, 1.0],
        bias: Some((&[0.1, 0.1, 0.05, 0.1], &[0.15, 0.15, 0.075, 0.15])),
    };
    let (mut y, mut c, mut gates) = ([0.0], [0.0], [0.0; 4]);
    let out = (&mut y[..], &mut c[..], &mut gates[..]);
    reference::forward(&spec, &[1.0], (&[0.25], &[2.0]), w, out, &|| Ok(())).unwrap();
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    let (s, g) = (0.731_058_578_6, 0.462_117_157_3);
    close(gates[0], s);
    close(gates[2], g);
    close(c[0], 1.799_951_868_7); // s * 2 + s * g
    close(y[0], 0.6921670140); // s * tanh(c)
    // dy = 1, no dh_n, dc_n = 0: d = s (1 - tanh² c)
    let (mut dh, mut dc, mut dx) = ([0.0], [0.0], [0.0]);
    let given = reference::Context { x: &[1.0], state: (&[0.25], &[2.0]), h: &y, c: &c, dy: Some(&[1.0]) };
    let into = reference::Gradients { dx: Some(&mut dx), dweights: None, dbias: None };
    reference::backward(&spec, &given, w, &mut gates, (&mut dh, &mut dc), into, &|| Ok(())).unwrap();
    let tanh_c = y[0] / s;
    let d = s * (1.0 - tanh_c * tanh_c);
    close(gates[0], d * g * s * (1.0 - s));
    close(gates[1], d * 2.0 * s * (1.0 - s));
    close(gates[2], d * s * (1.0 - g * g));
    close(gates[3], tanh_c * s * (1.0 - s));
    close(dx[0], 0.5 * (gates[0] + gates[1] + gates[3]) + 0.25 * gates[2]);
    close(dh[0], 2.0 * dx[0]);
    close(dc[0], d * s);
}

#[test]
fn the_reference_is_its_own_derivative() {
    let case = case((3, 2, 4, 5));
    let grads = case.oracle();
    // the loss whose gradient the case asks for, in f64
    let loss = |case: &Case, which: usize, at: usize, shift: f64| -> f64 {
        let wide = |v: &[f32], n: usize| -> Vec<f64> {
            let mut v: Vec<f64> = v.iter().map(|&x| f64::from(x)).collect();
            if n == which {
                v[at] += shift;
            }
            v
        };
        let spec = LayerSpec { dtype: DType::F64, ..case.spec.clone() };
        let (x, h0, c0) = (wide(&case.x, 3), wide(&case.h0, 4), wide(&case.c0, 5));
        let (ih, hh, b_ih, b_hh) = (wide(&case.ih, 6), wide(&case.hh, 7), wide(&case.b_ih, 8), wide(&case.b_hh, 9));
        let w = reference::Parameters { ih: &ih, hh: &hh, bias: Some((&b_ih[..], &b_hh[..])) };
        let n = case.dy.len();
        let (mut y, mut c, mut gates) = (vec![0.0; n], vec![0.0; n], vec![0.0; 4 * n]);
        reference::forward(&spec, &x, (&h0, &c0), w, (&mut y, &mut c, &mut gates), &|| Ok(())).unwrap();
        let state = case.dh.len();
        let dot = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum::<f64>();
        dot(&y, &case.dy) + dot(&y[n - state..], &case.dh) + dot(&c[n - state..], &case.dc)
    };
    for (which, want) in grads.iter().enumerate().skip(3) {
        for (at, want) in want.iter().enumerate() {
            let e = 1e-5;
            let got = (loss(&case, which, at, e) - loss(&case, which, at, -e)) / (2.0 * e);
            assert!((got - want).abs() < 1e-8, "gradient {which}[{at}]: {want}, by differences {got}");
        }
    }
}

#[test]
fn threads_and_fused_instruction_sets_change_no_bit() {
    for sizes in GRID.into_iter().chain([(30, 1, 64, 256), (9, 25, 64, 128), (5, 50, 200, 256)]) {
        let case = case(sizes);
        let mut first = None;
        for isa in Isa::available() {
            let mut own = None;
            for threads in [1, 2, 3, 4] {
                let got = all_bits(&case.run(&Cpu::quiet().with_isa(isa).with_threads(threads)));
                assert!(own.get_or_insert_with(|| got.clone()) == &got, "{threads} threads, {sizes:?}");
                if isa.fused() {
                    assert!(first.get_or_insert_with(|| got.clone()) == &got, "{} at {sizes:?}", isa.name());
                }
            }
        }
    }
}

#[test]
fn a_row_alone_has_the_bits_it_has_in_a_batch_whatever_its_neighbours_hold() {
    for sizes in [(7, 5, 20, 33), (5, 13, 9, 70), (4, 32, 3, 16), (6, 2, 64, 65)] {
        let case = case(sizes);
        let (_, b, _, h) = sizes;
        for isa in Isa::available() {
            let cpu = Cpu::quiet().with_isa(isa).with_threads(2);
            for poison in [None, Some(f32::NAN), Some(f32::INFINITY), Some(3e38)] {
                let mut whole = case.clone();
                let bad = b / 2;
                if let Some(poison) = poison {
                    for (at, x) in whole.x.chunks_mut(sizes.2).enumerate() {
                        if at % b == bad {
                            x.fill(poison);
                        }
                    }
                    whole.h0[bad * h] = poison;
                    whole.dy[bad * h] = poison;
                }
                let whole = whole.run(&cpu);
                for row in (0..b).filter(|&row| poison.is_none() || row != bad) {
                    let alone = case.row(row).run(&cpu);
                    // y to dc0: the weights' gradients sum over rows
                    for ((name, whole), (_, alone)) in whole.iter().zip(&alone).take(6) {
                        let n = if *name == "dx" { sizes.2 } else { h };
                        let picked: Vec<f32> = whole.chunks(n).skip(row).step_by(b).flatten().copied().collect();
                        assert!(
                            bits(&picked) == bits(alone),
                            "{name} of row {row}, {sizes:?}, {poison:?}, {}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nan_reaches_every_gate_of_its_row() {
    let mut case = case((2, 3, 4, 20));
    case.x[4] = f32::NAN; // step 0, row 1
    for isa in Isa::available() {
        let got = case.run(&Cpu::quiet().with_isa(isa));
        for (t, row) in got[0].1.chunks(20).enumerate() {
            assert!(row.iter().all(|v| v.is_nan() == (t % 3 == 1)), "{}", isa.name());
        }
    }
}

#[test]
fn step_by_step_has_the_bits_of_the_whole() {
    for (t, b, i, h) in [(9, 1, 20, 64), (8, 1, 5, 33), (7, 3, 9, 40), (5, 8, 64, 17)] {
        let case = case((t, b, i, h));
        for isa in Isa::available() {
            let cpu = Cpu::quiet().with_isa(isa);
            let whole = case.run(&cpu);
            let mut stream = LstmStep::new(&cpu, &case.spec, &case.layer().weights).unwrap();
            stream.set_state(&case.h0, &case.c0).unwrap();
            let mut out = vec![0f32; b * h];
            for (x, y) in case.x.chunks(b * i).zip(whole[0].1.chunks(b * h)) {
                stream.step(x, &mut out).unwrap();
                assert_eq!(out, y, "{}", isa.name());
            }
            assert_eq!(stream.state().1, whole[2].1);
            // in two calls, the state carried
            let half = t / 2;
            let mut first = case.clone();
            first.spec.steps = half;
            first.x.truncate(half * b * i);
            first.dy.truncate(half * b * h);
            let first = first.run(&cpu);
            let mut second = case.clone();
            second.spec.steps = t - half;
            second.x.drain(..half * b * i);
            second.dy.drain(..half * b * h);
            (second.h0, second.c0) = (first[1].1.clone(), first[2].1.clone());
            let second = second.run(&cpu);
            assert_eq!([&first[0].1[..], &second[0].1].concat(), whole[0].1, "{}", isa.name());
        }
    }
}

#[test]
fn nothing_to_do_is_done() {
    for dtype in [DType::F32, DType::F64] {
        for (t, b) in [(0, 3), (4, 0), (0, 0)] {
            let (i, h) = (5, 7);
            let spec = spec(dtype, (t, b, i, h));
            let cpu = Cpu::quiet();
            let made = |n: usize| cpu.zeros(dtype, n).unwrap();
            let bias = Some((made(4 * h), made(4 * h)));
            let layer = Lstm { spec, weights: Weights { ih: made(4 * h * i), hh: made(4 * h * h), bias } };
            let (x, initial) = (made(t * b * i), vec![Some(made(b * h)), None]);
            let out = layer.forward(&cpu, &x, &initial, true).unwrap();
            assert_eq!(out.y.len(), 0);
            assert!(out.last.iter().map(Buffer::len).eq([b * h, b * h]));
            let above = Above { dy: None, dlast: vec![None, Some(made(b * h))] };
            let grads = layer.backward(&cpu, Kept { x, initial, own: out.saved.unwrap() }, above, ALL).unwrap();
            assert_eq!(grads.dparameters.len(), 3);
            assert!(grads.dparameters.iter().flat_map(|d| d.bytes()).all(|&byte| byte == 0));
            assert_eq!(grads.dx.unwrap().len(), 0);
        }
    }
}

#[test]
fn changed_weights_are_packed_anew_and_stops_are_heard() {
    let small = case((3, 2, 4, 20));
    let (cpu, layer, x) = (Cpu::quiet(), small.layer(), buffer(&small.x));
    let y = || layer.forward(&cpu, &x, &[None, None], false).unwrap().y.bytes().to_vec();
    let before = y();
    cpu.assign(&layer.weights.hh, &buffer(&vec![0f32; small.hh.len()])).unwrap();
    assert_ne!(before, y());

    let stop = || Err(Error::interrupted());
    let long = case((4000, 1, 8, 64));
    let wide = |v: &[f32]| buffer(&v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let bias = Some((wide(&long.b_ih), wide(&long.b_hh)));
    let layer = Lstm {
        spec: LayerSpec { dtype: DType::F64, ..long.spec.clone() },
        weights: Weights { ih: wide(&long.ih), hh: wide(&long.hh), bias },
    };
    let e = layer.forward(&Cpu::new(&stop), &wide(&long.x), &[None, None], false).err().unwrap();
    assert_eq!(e.kind, crate::error::Kind::Interrupted);
}

/// FNV-1a over the bits.
fn hash(values: &[f32]) -> u64 {
    values
        .iter()
        .flat_map(|v| v.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn golden() {
    let results = |isa| case((11, 7, 19, 37)).run(&Cpu::quiet().with_isa(isa));
    let want: [(&str, u64); 9] = [
        ("y", 0x152e_9456_eb96_2443),
        ("h_n", 0xa25b_7396_d060_972b),
        ("c_n", 0xae32_5285_e714_5845),
        ("dx", 0x2ad9_1599_3a16_9b40),
        ("dh0", 0x13ad_59c2_ec2a_95e4),
        ("dc0", 0x8014_169b_844d_3087),
        ("dW_ih", 0x3d80_0d21_24ee_2448),
        ("dW_hh", 0xf167_5095_f868_a432),
        ("db", 0x3625_1c8b_a314_9f96),
    ];
    for isa in Isa::available().into_iter().filter(|isa| isa.fused()) {
        let got: Vec<_> = results(isa).iter().map(|(name, v)| (*name, hash(v))).collect();
        assert_eq!(got, want, "{}: {got:#x?}", isa.name());
    }
}

#[test]
fn a_row_of_the_reference_asks_whether_to_stop() {
    let (input, hidden) = (70_000, 20);
    let spec = spec(DType::F64, (1, 1, input, hidden));
    let made = |n: usize| vec![0f64; n];
    let (x, ih, hh, state) = (made(input), made(4 * hidden * input), made(4 * hidden * hidden), made(hidden));
    let w = reference::Parameters { ih: &ih, hh: &hh, bias: None };
    let (mut y, mut c, mut gates) = (made(hidden), made(hidden), made(4 * hidden));
    let asked = Cell::new(0);
    let poll = || {
        asked.set(asked.get() + 1);
        Ok(())
    };
    reference::forward(&spec, &x, (&state, &state), w, (&mut y, &mut c, &mut gates), &poll).unwrap();
    let least = ih.len() / 70_000;
    assert!(asked.replace(0) >= least);
    let (mut dh, mut dc, mut dx, mut d_ih, mut d_hh) =
        (made(hidden), made(hidden), made(input), made(ih.len()), made(hh.len()));
    let given = reference::Context { x: &x, state: (&state, &state), h: &y, c: &c, dy: None };
    let out = reference::Gradients { dx: Some(&mut dx), dweights: Some((&mut d_ih, &mut d_hh)), dbias: None };
    reference::backward(&spec, &given, w, &mut gates, (&mut dh, &mut dc), out, &poll).unwrap();
    // zeros, dx and the gradient of W_ih
    assert!(asked.get() >= 3 * least);
}
