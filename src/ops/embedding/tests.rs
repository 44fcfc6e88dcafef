//! Embedding against numbers worked by hand, the reference, and itself.

use super::{Embedding, EmbeddingSizes, reference};
use crate::cpu::testing::buffer;
use crate::cpu::{Cpu, Isa};
use crate::error::Kind;
use crate::tensor::DType;

#[test]
fn worked_by_hand() {
    let ids = [2, 0, 2, 1];
    let spec =
        EmbeddingSizes::forward(DType::F64, &[3, 2], &[2, 2]).and_then(|s| s.with("ids", &ids, &|| Ok(()))).unwrap();
    let mut y = [0f64; 8];
    reference::forward(&spec, &[1., 2., 3., 4., 5., 6.], &mut y);
    assert_eq!(y, [5., 6., 1., 2., 5., 6., 3., 4.]);
    // repeated ids accumulate; the padding row gets none (S-136)
    let dy = [1., 2., 3., 4., 10., 20., 7., 8.];
    for (padding, right) in [(None, [3., 4., 7., 8., 11., 22.]), (Some(2), [3., 4., 7., 8., 0., 0.])] {
        let spec = EmbeddingSizes::backward(DType::F64, &[2, 2, 2], &[2, 2], 3, padding)
            .and_then(|s| s.with("ids", &ids, &|| Ok(())))
            .unwrap();
        let mut dw = [0f64; 6];
        reference::backward(&spec, &dy, &mut dw);
        assert_eq!(dw, right);
    }
}

#[test]
fn cpu() {
    for isa in Isa::available() {
        let cpu = Cpu::quiet().with_isa(isa);
        for (vocabulary, features, count) in
            [(1, 1, 1), (7, 3, 50), (65, 33, 1000), (5, 2000, 300), (3, 0, 4), (3, 4, 0), (7, 64, 20_000)]
        {
            let ids: Vec<i64> = (0..count as i64).map(|i| i * i % vocabulary as i64).collect();
            let numbers = |n: usize| (0..n).map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 300.0).collect::<Vec<_>>();
            let spec = EmbeddingSizes::forward(DType::F32, &[vocabulary, features], &[count])
                .and_then(|s| s.with("ids", &ids, &|| Ok(())))
                .unwrap();
            let (w, mut y) = (numbers(vocabulary * features), vec![0f32; count * features]);
            reference::forward(&spec, &w, &mut y);
            assert_eq!(cpu.embedding(&spec, &buffer(&w)).unwrap().slice::<f32>().unwrap(), y);
            let (dy, mut dw) = (numbers(count * features), vec![0f32; vocabulary * features]);
            let spec = EmbeddingSizes::backward(DType::F32, &[count, features], &[count], vocabulary, Some(0))
                .and_then(|s| s.with("ids", &ids, &|| Ok(())))
                .unwrap();
            reference::backward(&spec, &dy, &mut dw);
            for threads in [1, 3] {
                let got = cpu.with_threads(threads).embedding_backward(&spec, &buffer(&dy)).unwrap();
                assert_eq!(got.slice::<f32>().unwrap(), dw, "{vocabulary} {features} {count}");
            }
            assert!(dw[..features].iter().all(|&g| g == 0.0));
        }
    }
}

#[test]
fn bits_are_copied() {
    let odd = [f32::from_bits(0x7fc0_1234), f32::from_bits(1), -0.0];
    let spec = EmbeddingSizes::forward(DType::F32, &[1, 3], &[]).and_then(|s| s.with("ids", &[0], &|| Ok(()))).unwrap();
    let y = Cpu::quiet().embedding(&spec, &buffer(&odd)).unwrap();
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(y.slice().unwrap()), bits(&odd));
}

#[test]
fn bad_ids_and_sizes() {
    let mut ids = vec![0i64; 20];
    ids[15] = 70;
    let e = EmbeddingSizes::forward(DType::F32, &[65, 8], &[4, 5])
        .and_then(|s| s.with("ids", &ids, &|| Ok(())))
        .unwrap_err();
    assert_eq!(
        (e.kind, e.to_string().as_str()),
        (Kind::Index, "embedding: ids: expected 0 <= id < 65, got 70 at (3, 0).")
    );
    // negatives do not wrap (S-15)
    assert_eq!(
        EmbeddingSizes::forward(DType::F32, &[65, 8], &[1])
            .and_then(|s| s.with("ids", &[-1], &|| Ok(())))
            .unwrap_err()
            .kind,
        Kind::Index
    );
    assert_eq!(
        EmbeddingSizes::forward(DType::F32, &[65], &[1])
            .and_then(|s| s.with("ids", &[0], &|| Ok(())))
            .unwrap_err()
            .kind,
        Kind::Shape
    );
    let e = EmbeddingSizes::backward(DType::F32, &[2, 8], &[2], 5, Some(5))
        .and_then(|s| s.with("ids", &[0, 1], &|| Ok(())))
        .unwrap_err();
    assert_eq!(e.to_string(), "embedding_backward: padding_idx: expected 0 <= padding_idx < 5, got 5.");
    assert_eq!(
        EmbeddingSizes::backward(DType::F32, &[3, 8], &[2], 5, None)
            .and_then(|s| s.with("ids", &[0, 1], &|| Ok(())))
            .unwrap_err()
            .kind,
        Kind::Shape
    );
    let e = EmbeddingSizes::backward(DType::F32, &[1, 1 << 40], &[1], 1 << 40, None)
        .and_then(|s| s.with("ids", &[0], &|| Ok(())))
        .unwrap_err();
    assert_eq!(e.kind, Kind::Memory);
}
