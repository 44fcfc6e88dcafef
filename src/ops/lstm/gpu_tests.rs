//! LSTM on the GPU against the reference in f64, and what it promises beside closeness: counts of dispatches, the
//! same bits for a row alone, for pieces of the sequence and on every run, every element written.

use super::{GATES, Lstm, reference};
use crate::backend::{Backend, Buffer};
use crate::gpu::testing::{down, gpu, gpu_with, noise, up};
use crate::gpu::{Gpu, GpuBuffer, Options};
use crate::ops::recurrent::{Above, Kept, Layer as _, LayerSpec, Wants, Weights};
use crate::tensor::DType;

/// Arrays of one layer, absent ones empty.
#[derive(Clone, Debug, Default)]
struct Layer {
    x: Vec<f32>,
    h0: Vec<f32>,
    c0: Vec<f32>,
    ih: Vec<f32>,
    hh: Vec<f32>,
    b_ih: Vec<f32>,
    b_hh: Vec<f32>,
    dy: Vec<f32>,
    dh_n: Vec<f32>,
    dc_n: Vec<f32>,
}

/// Bits of `case`: h0, c0, dy, dh_n, dc_n absent.
fn layer(spec: &LayerSpec, case: u32) -> Layer {
    let given = |bit: u32, values: Vec<f32>| if case & bit == 0 { values } else { Vec::new() };
    let scale = (1.0 / spec.hidden as f32).sqrt();
    let scaled = |values: Vec<f32>| values.into_iter().map(|v| v * scale).collect::<Vec<_>>();
    let (t, b, i, h) = (spec.steps, spec.batch, spec.input, spec.hidden);
    let bias = |seed: u64| if spec.bias { scaled(noise(seed, 4 * h)) } else { Vec::new() };
    Layer {
        x: noise(1, t * b * i),
        h0: given(1, noise(2, b * h)),
        c0: given(2, noise(3, b * h)),
        ih: scaled(noise(4, 4 * h * i)),
        hh: scaled(noise(5, 4 * h * h)),
        b_ih: bias(6),
        b_hh: bias(7),
        dy: given(4, noise(8, t * b * h)),
        dh_n: given(8, noise(9, b * h)),
        dc_n: given(16, noise(10, b * h)),
    }
}

fn spec(steps: usize, batch: usize, input: usize, hidden: usize, bias: bool) -> LayerSpec {
    LayerSpec::new("lstm", DType::F32, (steps, batch), (input, hidden, GATES), bias).unwrap()
}

/// Results by name, absent ones left out.
type Named<T> = Vec<(&'static str, Vec<T>)>;

const ALL: Wants = Wants { dx: true, states: true, weights: true };

fn given(gpu: &Gpu, values: &[f32]) -> Option<GpuBuffer> {
    (!values.is_empty()).then(|| up(gpu, values))
}

/// The layer, x, and h0 and c0.
fn inputs(gpu: &Gpu, spec: &LayerSpec, l: &Layer) -> (Lstm<GpuBuffer>, GpuBuffer, Vec<Option<GpuBuffer>>) {
    let bias = given(gpu, &l.b_ih).zip(given(gpu, &l.b_hh));
    let layer = Lstm { spec: spec.clone(), weights: Weights { ih: up(gpu, &l.ih), hh: up(gpu, &l.hh), bias } };
    assert!(layer.weights.fit(spec));
    (layer, up(gpu, &l.x), vec![given(gpu, &l.h0), given(gpu, &l.c0)])
}

fn run(gpu: &Gpu, spec: &LayerSpec, l: &Layer, wants: Wants) -> Named<f32> {
    let (layer, x, initial) = inputs(gpu, spec, l);
    let out = layer.forward(gpu, &x, &initial, true).unwrap();
    let above = Above { dy: given(gpu, &l.dy), dlast: vec![given(gpu, &l.dh_n), given(gpu, &l.dc_n)] };
    let mut named: Vec<_> = ["y", "h_n", "c_n"].into_iter().zip([out.y].into_iter().chain(out.last)).collect();
    let grads = layer.backward(gpu, Kept { x, initial, own: out.saved.unwrap() }, above, wants).unwrap();
    named.extend(grads.dx.map(|dx| ("dx", dx)));
    named.extend(["dh0", "dc0"].into_iter().zip(grads.dinitial).filter_map(|(name, d)| Some((name, d?))));
    named.extend(["dW_ih", "dW_hh", "db"].into_iter().zip(grads.dparameters));
    named.into_iter().map(|(name, buffer)| (name, down(gpu, &buffer))).collect()
}

/// The reference in f64.
fn exact(spec: &LayerSpec, l: &Layer) -> Named<f64> {
    let spec = LayerSpec { dtype: DType::F64, ..spec.clone() };
    let (state, size) = (spec.batch * spec.hidden, spec.steps * spec.batch * spec.hidden);
    let wide = |v: &[f32], len: usize| -> Vec<f64> {
        if v.is_empty() { vec![0.0; len] } else { v.iter().map(|&x| f64::from(x)).collect() }
    };
    let (x, h0, c0) = (wide(&l.x, 0), wide(&l.h0, state), wide(&l.c0, state));
    let (ih, hh, b_ih, b_hh) = (wide(&l.ih, 0), wide(&l.hh, 0), wide(&l.b_ih, 0), wide(&l.b_hh, 0));
    let w = reference::Parameters { ih: &ih, hh: &hh, bias: spec.bias.then_some((&b_ih[..], &b_hh[..])) };
    let (mut y, mut c, mut gates) = (vec![0.0; size], vec![0.0; size], vec![0.0; 4 * size]);
    reference::forward(&spec, &x, (&h0, &c0), w, (&mut y, &mut c, &mut gates), &|| Ok(())).unwrap();
    let (dy, mut dh, mut dc) = (wide(&l.dy, size), wide(&l.dh_n, state), wide(&l.dc_n, state));
    let (mut dx, mut dw_ih, mut dw_hh) = (vec![0.0; x.len()], vec![0.0; ih.len()], vec![0.0; hh.len()]);
    let mut db = vec![0.0; b_ih.len()];
    let given = reference::Context { x: &x, state: (&h0, &c0), h: &y, c: &c, dy: Some(&dy) };
    let out = reference::Gradients {
        dx: Some(&mut dx),
        dweights: Some((&mut dw_ih, &mut dw_hh)),
        dbias: spec.bias.then_some(&mut db),
    };
    reference::backward(&spec, &given, w, &mut gates, (&mut dh, &mut dc), out, &|| Ok(())).unwrap();
    let last = |v: &[f64], first: Vec<f64>| size.checked_sub(state).map_or(first, |at| v[at..].to_vec());
    let (h_n, c_n) = (last(&y, h0), last(&c, c0));
    let mut named = vec![("y", y), ("h_n", h_n), ("c_n", c_n)];
    named.extend([("dx", dx), ("dh0", dh), ("dc0", dc), ("dW_ih", dw_ih), ("dW_hh", dw_hh), ("db", db)]);
    named
}

/// 2e-6 of the largest magnitude, 5e-6 for gradients of weights, which are sums over all rows; `factor` times that
/// for sums over tens of thousands of rows (S-159).
fn close(got: &Named<f32>, exact: &Named<f64>, factor: f64, what: &str) {
    for (name, got) in got {
        let (_, exact) = exact.iter().find(|(n, _)| n == name).unwrap();
        assert_eq!(got.len(), exact.len(), "{what}: {name}");
        let largest = exact.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
        let tolerance = if matches!(*name, "dW_ih" | "dW_hh" | "db") { 5e-6 * factor } else { 2e-6 };
        for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
            let error = (f64::from(*got) - exact).abs() / largest;
            assert!(error <= tolerance, "{what}: {name}[{i}] is {got}, not {exact}: {error:.2e} of the largest");
        }
    }
}

#[test]
fn close_to_f64() {
    let Some(gpu) = gpu() else { return };
    for (case, (t, b, i, h)) in
        [(1, 1, 1, 1), (7, 3, 5, 33), (4, 4, 64, 64), (3, 5, 2, 65), (37, 2, 20, 16), (2, 9, 130, 3), (1, 2, 3, 4)]
            .into_iter()
            .enumerate()
    {
        let spec = spec(t, b, i, h, case % 2 == 0);
        let l = layer(&spec, 0);
        close(&run(&gpu, &spec, &l, ALL), &exact(&spec, &l), 1.0, &format!("{t}x{b}x{i}x{h}"));
    }
}

#[test]
fn every_subset_of_what_is_given_and_wanted() {
    let Some(gpu) = gpu() else { return };
    for steps in [1, 3] {
        let spec = spec(steps, 2, 3, 5, true);
        for case in 0..32 {
            let l = layer(&spec, case);
            let expected = exact(&spec, &l);
            let wants = Wants { dx: case % 3 != 0, states: case % 5 != 0, weights: case % 2 == 0 };
            let got = run(&gpu, &spec, &l, wants);
            let asked = 3 + usize::from(wants.dx) + 2 * usize::from(wants.states) + 3 * usize::from(wants.weights);
            assert_eq!(got.len(), asked);
            close(&got, &expected, 1.0, &format!("{steps} steps, case {case}"));
        }
    }
}

// S-30
#[test]
fn no_steps_or_no_rows() {
    let Some(gpu) = gpu() else { return };
    for (t, b) in [(0, 2), (3, 0), (0, 0)] {
        for case in [0, 31] {
            let spec = spec(t, b, 3, 4, true);
            let l = layer(&spec, case);
            let got = run(&gpu, &spec, &l, ALL);
            close(&got, &exact(&spec, &l), 1.0, &format!("{t} steps, {b} rows, case {case}"));
            assert_eq!(got.len(), 9);
        }
    }
}

#[test]
fn inference_gives_the_bits_of_training() {
    let Some(gpu) = gpu() else { return };
    let spec = spec(9, 3, 4, 10, true);
    let (layer, x, initial) = inputs(&gpu, &spec, &layer(&spec, 0));
    let trained = layer.forward(&gpu, &x, &initial, true).unwrap();
    let inferred = layer.forward(&gpu, &x, &initial, false).unwrap();
    assert!(trained.saved.is_some() && inferred.saved.is_none());
    for (a, b) in trained.last.iter().chain([&trained.y]).zip(inferred.last.iter().chain([&inferred.y])) {
        assert_eq!(down(&gpu, a), down(&gpu, b));
    }
}

#[test]
fn a_row_alone_is_the_row_in_a_batch_and_runs_agree() {
    let Some(gpu) = gpu() else { return };
    let (t, b, i, h) = (6, 7, 5, 34);
    let whole = spec(t, b, i, h, true);
    let l = layer(&whole, 0);
    let all = run(&gpu, &whole, &l, ALL);
    assert_eq!(all, run(&gpu, &whole, &l, ALL), "twice");
    let row = |v: &[f32], width: usize, b_at: usize| -> Vec<f32> {
        v.chunks(width).skip(b_at).step_by(b).flatten().copied().collect()
    };
    for r in [0, 3, 6] {
        let one = Layer {
            x: row(&l.x, i, r),
            h0: row(&l.h0, h, r),
            c0: row(&l.c0, h, r),
            dy: row(&l.dy, h, r),
            dh_n: row(&l.dh_n, h, r),
            dc_n: row(&l.dc_n, h, r),
            ..l.clone()
        };
        let alone = run(&gpu, &spec(t, 1, i, h, true), &one, Wants { weights: false, ..ALL });
        for (name, got) in alone {
            let (_, batch) = all.iter().find(|(n, _)| *n == name).unwrap();
            assert_eq!(got, row(batch, if name == "dx" { i } else { h }, r), "{name}, row {r}");
        }
    }
}

// A NaN or an infinity in one row reaches all of that row that depends on it, and no other row.
#[test]
fn not_a_number_stays_in_its_row() {
    let Some(gpu) = gpu() else { return };
    let (t, b, i, h) = (4, 5, 3, 9);
    let spec = spec(t, b, i, h, true);
    let clean = layer(&spec, 0);
    let expected = run(&gpu, &spec, &clean, Wants { weights: false, ..ALL });
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut l = clean.clone();
        l.x[(b + 2) * i] = value; // step 1, row 2
        let got = run(&gpu, &spec, &l, Wants { weights: false, ..ALL });
        for ((name, got), (_, expected)) in got.iter().zip(&expected) {
            let width = if *name == "dx" { i } else { h };
            for (at, (got, expected)) in got.chunks(width).zip(expected.chunks(width)).enumerate() {
                if at % b != 2 {
                    assert_eq!(got, expected, "{name}, row {at}");
                }
            }
        }
        let (y, after) = (&got[0].1, (b + 2) * h);
        assert_eq!(y[2 * h..3 * h], expected[0].1[2 * h..3 * h], "the step before");
        assert_eq!(value.is_nan(), y[after..after + h].iter().all(|v| v.is_nan()), "{value}");
    }
}

// A binding smaller than the sequence: pieces, with the bits of the whole.
#[test]
fn pieces_of_the_sequence_change_no_bit() {
    let Some(gpu) = gpu() else { return };
    let Some(small) = gpu_with(Options { binding: Some(16 << 10), poison: true, ..Options::default() }) else { return };
    let spec = spec(23, 3, 7, 21, true);
    let l = layer(&spec, 0);
    assert!(spec.by_gate().iter().product::<usize>() * 4 > 16 << 10);
    assert_eq!(run(&small, &spec, &l, ALL), run(&gpu, &spec, &l, ALL));
    let huge = self::spec(1, 1200, 7, 21, true);
    let (layer, x, initial) = inputs(&small, &huge, &layer(&huge, 0));
    let e = layer.forward(&small, &x, &initial, true).err().unwrap();
    assert_eq!(e.kind, crate::error::Kind::Memory);
}

// The recurrent weights are packed once, until they change.
#[test]
fn few_dispatches_and_one_submission() {
    let Some(gpu) = gpu_with(Options::default()) else { return };
    let spec = spec(50, 4, 8, 16, true);
    let l = layer(&spec, 0);
    let (layer, x, initial) = inputs(&gpu, &spec, &l);
    let dy = up(&gpu, &l.dy);
    for packs in [1, 0] {
        gpu.context().take_counts();
        let out = layer.forward(&gpu, &x, &initial, true).unwrap();
        let forward = gpu.context().take_counts();
        assert_eq!((forward.dispatches, forward.submits), (50 + 1 + packs, 0));
        let kept = Kept { x: x.clone(), initial: initial.clone(), own: out.saved.unwrap() };
        let above = Above { dy: Some(dy.clone()), dlast: vec![None, None] };
        let g = layer.backward(&gpu, kept, above, ALL).unwrap();
        let backward = gpu.context().take_counts();
        assert_eq!((backward.dispatches, backward.submits, backward.bytes_back), (50 + 6, 0, 0));
        down(&gpu, g.dinitial[1].as_ref().unwrap());
        assert_eq!(gpu.context().take_counts().submits, 1);
    }
    let y = || down(&gpu, &layer.forward(&gpu, &x, &initial, false).unwrap().y);
    let before = y();
    let hh = &layer.weights.hh;
    gpu.assign(hh, &gpu.zeros(DType::F32, hh.len()).unwrap()).unwrap();
    gpu.context().take_counts();
    let after = y();
    assert_eq!(gpu.context().take_counts().dispatches, 52);
    assert_ne!(before, after);
}

// With the work that a submission may hold on integrated hardware; a software adapter's is a hundredth of it.
#[test]
fn few_dispatches_on_hardware_for_large_layers_too() {
    let Some(gpu) = gpu_with(Options { work: Some(10_000_000_000), ..Options::default() }) else { return };
    for (steps, batch, size) in [(50, 16, 256), (50, 64, 512)] {
        let spec = spec(steps, batch, size, size, true);
        let l = layer(&spec, 0);
        let (layer, x, initial) = inputs(&gpu, &spec, &l);
        gpu.context().take_counts();
        let out = layer.forward(&gpu, &x, &initial, true).unwrap();
        assert_eq!(gpu.context().take_counts().dispatches, steps as u64 + 2);
        let above = Above { dy: given(&gpu, &l.dy), dlast: vec![None, None] };
        layer.backward(&gpu, Kept { x, initial, own: out.saved.unwrap() }, above, ALL).unwrap();
        assert_eq!(gpu.context().take_counts().dispatches, steps as u64 + 6);
    }
}

// Grids around 65,535, where one dimension ends, and sums longer than one dispatch may take.
#[test]
fn very_many_rows() {
    let Some(gpu) = gpu() else { return };
    for (t, b) in [(1, 65_535), (1, 65_536), (1, 70_000), (7, 10_000), (35_000, 2)] {
        let spec = spec(t, b, 1, 2, true);
        let l = layer(&spec, 0);
        close(&run(&gpu, &spec, &l, ALL), &exact(&spec, &l), 4.0, &format!("{t} steps, {b} rows"));
    }
}
