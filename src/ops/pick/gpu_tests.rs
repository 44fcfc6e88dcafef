//! The shaders against the plain loops, over the sizes that the CPU is tested with.

use super::gpu::Plan;
use super::tests::{SIZES, once, some, spec};
use super::*;
use crate::backend::{Backend, Buffer};
use crate::gpu::Options;
use crate::gpu::testing::{down, gpu, gpu_uncut, gpu_with, noise, up};

#[test]
fn kernels_against_the_reference() {
    let Some(gpu) = gpu() else { return };
    for &[front, bound, width, count] in SIZES {
        let ids = some(bound, count);
        let single = spec(front, bound, width, &once(&ids));
        let spec = spec(front, bound, width, &ids);
        let (x, values) = (noise(1, spec.whole()), noise(2, spec.picked()));
        let what = format!("{front} {bound} {width} {count}");
        assert_eq!(down(&gpu, &gpu.take(&spec, &up(&gpu, &x)).unwrap()), reference::take(&spec, &x), "{what}");
        for values in [&values[..], &[0.5]] {
            let into = up(&gpu, &x);
            gpu.assign_at(&single, &into, &up(&gpu, values)).unwrap();
            assert_eq!(down(&gpu, &into), reference::assign_at(&single, &x, values), "{what}");
            assert_eq!(into.stamp().version(), 1);
        }
        let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let right = reference::put_add(&PickSpec { dtype: DType::F64, ..spec.clone() }, &wide);
        let got = down(&gpu, &gpu.put_add(&spec, &up(&gpu, &values)).unwrap());
        let scale = right.iter().fold(1e-30f64, |m, r| m.max(r.abs()));
        assert_eq!(got.len(), right.len());
        for (g, r) in got.iter().zip(&right) {
            assert!((f64::from(*g) - r).abs() <= 2e-6 * scale, "{what}: {g} {r}");
        }
        assert_eq!(got, down(&gpu, &gpu.put_add(&spec, &up(&gpu, &values)).unwrap()), "{what}: again");
    }
}

#[test]
fn integers_and_memory_that_is_written_into_itself() {
    let Some(gpu) = gpu() else { return };
    let words = |buffer: &crate::gpu::GpuBuffer| {
        let mut words = vec![0i64; buffer.len()];
        gpu.download(buffer, bytemuck::cast_slice_mut(&mut words)).unwrap();
        words
    };
    let x = gpu.upload(DType::I64, bytemuck::cast_slice(&[7i64, -1, i64::from(i32::MIN)])).unwrap();
    let spec = PickSpec { dtype: DType::I64, ..spec(1, 3, 1, &[1, 2, 0]) };
    assert_eq!(words(&gpu.take(&spec, &x).unwrap()), [-1, i64::from(i32::MIN), 7]);
    gpu.assign_at(&spec, &x, &x).unwrap();
    assert_eq!(words(&x), [i64::from(i32::MIN), 7, -1]);
}

#[test]
fn the_plan() {
    let mut raw = vec![5i64; 600];
    (raw[100], raw[101], raw[102]) = (2, -1, 5000);
    let plan = Plan::new(&spec(1, 5001, 1, &raw).ids, &|| Ok(())).unwrap();
    assert_eq!(plan.order[..3], [100, 0, 1]);
    assert_eq!(plan.order[597..], [599, 102]);
    assert_eq!(plan.segments, [0, 1, 257, 513, 598, 599]);
    assert_eq!(plan.rows, [2, 0, 5, 1, 5000, 4, 0, 5]);
    assert_eq!(plan.longest, 3);
    // every digit of an id counts
    let raw: Vec<i64> = (0..5000).map(|i| i * 7_919_993 % 16_777_213).collect();
    let plan = Plan::new(&spec(1, 16_777_213, 1, &raw).ids, &|| Ok(())).unwrap();
    assert!(plan.order.is_sorted_by_key(|&place| raw[place as usize]));
}

#[test]
fn an_id_that_comes_more_often_than_a_loop_may_turn() {
    let Some(gpu) = gpu() else { return };
    let mut raw = vec![3i64; 80_000];
    raw[500] = 1;
    raw[79_999] = 0;
    let values: Vec<f32> = (0..raw.len()).map(|i| (i % 7) as f32 - 3.0).collect();
    let spec = spec(1, 5, 1, &raw);
    let added = down(&gpu, &gpu.put_add(&spec, &up(&gpu, &values)).unwrap());
    assert_eq!(added, reference::put_add(&spec, &values));
}

// What is left of an id after one round is cut again: 80,000 places are 313 segments, then 2 of those.
#[test]
fn an_id_that_has_more_segments_than_a_loop_may_turn() {
    let Some(gpu) = gpu() else { return };
    for (front, width, longest) in [(1, 1, 300), (1, 1, 1), (2, 3, 2), (3, 1, 1)] {
        let mut raw = vec![3i64; 80_000];
        (raw[500], raw[501], raw[79_999]) = (1, -1, 0);
        raw[70_000..79_000].fill(4);
        let spec = spec(front, 5, width, &raw);
        let values: Vec<f32> = (0..spec.picked()).map(|i| (i % 7) as f32 - 3.0).collect();
        let added = down(&gpu, &gpu.put_add_by(&spec, &up(&gpu, &values), longest).unwrap());
        assert_eq!(added, reference::put_add(&spec, &values), "{front} {width} {longest}");
    }
}

#[test]
fn more_ids_than_a_binding_lists() {
    // 65,536 words
    let Some(gpu) = gpu_with(Options { binding: Some(1 << 18), poison: true, ..Options::default() }) else { return };
    let n = 60_000;
    let raw: Vec<i64> = (0..n).map(|i| i * 7 % (n - 1)).collect();
    let values = noise(3, raw.len());
    let spec = spec(1, raw.len(), 1, &raw);
    let added = down(&gpu, &gpu.put_add(&spec, &up(&gpu, &values)).unwrap());
    assert_eq!(added, reference::put_add(&spec, &values));
}

#[test]
fn more_than_65535_workgroups() {
    let Some(gpu) = gpu_uncut() else { return };
    let n = 65_536 * 256 + 300;
    let x = up(&gpu, &(0..n).map(|i| (i % 1000) as f32).collect::<Vec<_>>());
    // every element to the place after next
    let ids: Vec<i64> = (0..n).map(|i| ((i + 2) % n) as i64).collect();
    let spec = spec(1, n, 1, &ids);
    let y = gpu.put_add(&spec, &x).unwrap();
    let y = gpu.take(&spec, &y).unwrap();
    assert!(down(&gpu, &y).iter().enumerate().all(|(i, &v)| v == (i % 1000) as f32));
}
