//! Embedding against numbers worked by hand, and what is refused.

use super::EmbeddingSizes;
use crate::error::Kind;
use crate::ops::pick::reference;
use crate::tensor::DType;

#[test]
fn worked_by_hand() {
    let ids = [2, 0, 2, 1];
    let spec =
        EmbeddingSizes::forward(DType::F64, &[3, 2], &[2, 2]).and_then(|s| s.with("ids", &ids, &|| Ok(()))).unwrap();
    assert_eq!(reference::take(&spec, &[1f64, 2., 3., 4., 5., 6.]), [5., 6., 1., 2., 5., 6., 3., 4.]);
    // repeated ids accumulate; the padding row gets none (S-136)
    let dy = [1f64, 2., 3., 4., 10., 20., 7., 8.];
    for (padding, right) in [(None, [3., 4., 7., 8., 11., 22.]), (Some(2), [3., 4., 7., 8., 0., 0.])] {
        let spec = EmbeddingSizes::backward(DType::F64, &[2, 2, 2], &[2, 2], 3, padding)
            .and_then(|s| s.with("ids", &ids, &|| Ok(())))
            .unwrap();
        assert_eq!(reference::put_add(&spec, &dy), right);
    }
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
