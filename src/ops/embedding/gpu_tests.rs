//! The shaders against the reference.

use super::gpu::Plan;
use super::{Embedding, EmbeddingSizes, reference};
use crate::gpu::testing::{down, gpu, noise, up};
use crate::tensor::{DType, Ids};

#[test]
fn kernels_against_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (vocabulary, features, count) in
        [(1, 1, 1), (7, 3, 50), (65, 65, 300), (3, 70, 1000), (300, 5, 20), (3, 0, 4), (3, 4, 0)]
    {
        let ids: Vec<i64> = (0..count as i64).map(|i| i * i % vocabulary as i64).collect();
        let w = noise(1, vocabulary * features);
        let spec = EmbeddingSizes::forward(DType::F32, &[vocabulary, features], &[count])
            .and_then(|s| s.with("ids", &ids, &|| Ok(())))
            .unwrap();
        let mut y = vec![0f32; count * features];
        reference::forward(&spec, &w, &mut y);
        assert_eq!(down(&gpu, &gpu.embedding(&spec, &up(&gpu, &w)).unwrap()), y);
        let dy = noise(2, count * features);
        for padding in [None, Some(0)] {
            let spec = EmbeddingSizes::backward(DType::F32, &[count, features], &[count], vocabulary, padding)
                .and_then(|s| s.with("ids", &ids, &|| Ok(())))
                .unwrap();
            let wide: Vec<f64> = dy.iter().map(|&d| f64::from(d)).collect();
            let mut right = vec![0f64; vocabulary * features];
            reference::backward(&spec, &wide, &mut right);
            let got = down(&gpu, &gpu.embedding_backward(&spec, &up(&gpu, &dy)).unwrap());
            let scale = right.iter().fold(1e-30f64, |m, r| m.max(r.abs()));
            assert_eq!(got.len(), right.len());
            for (g, r) in got.iter().zip(&right) {
                assert!((f64::from(*g) - r).abs() <= 5e-6 * scale, "{vocabulary} {features} {count}: {g} {r}");
            }
            let again = down(&gpu, &gpu.embedding_backward(&spec, &up(&gpu, &dy)).unwrap());
            assert_eq!(got, again);
        }
    }
}

#[test]
fn the_plan() {
    let mut ids = vec![5i64; 600];
    ids[100] = 2;
    ids[101] = 7;
    let ids = Ids::new("t", "ids", &ids, &[600], 8, Some(7), &|| Ok(())).unwrap();
    let plan = Plan::new(&ids).unwrap();
    assert_eq!((plan.segments, plan.rows, plan.longest), (4, 2, 3));
    assert_eq!(plan.table[..3], [100, 0, 1]);
    assert_eq!(plan.table[plan.segments_at..plan.rows_at], [0, 1, 257, 513, 599]);
    assert_eq!(plan.table[plan.rows_at..], [2, 0, 1, 5, 1, 4]);
}
