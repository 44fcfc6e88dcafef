//! Picking by ids: worked examples, and the CPU against the plain loops.

use super::*;
use crate::backend::Buffer;
use crate::cpu::testing::{buffer, engines};
use crate::cpu::{Cpu, CpuBuffer};
use crate::error::{Error, Kind};
use crate::tensor::{Layout, noise};
use std::sync::atomic::{AtomicI32, Ordering};

/// A call; ids of -1 are skipped.
pub(super) fn spec(front: usize, bound: usize, width: usize, ids: &[i64]) -> PickSpec {
    let ids = Ids::new("t", "ids", ids, &[ids.len()], bound, Some(-1), &|| Ok(())).unwrap();
    PickSpec::new(DType::F32, front, ids, width).unwrap()
}

/// front, bound, width, how many ids
pub(super) const SIZES: &[[usize; 4]] = &[
    [1, 1, 1, 1],
    [1, 977, 1, 5000],
    [3, 40, 1, 500],
    [900, 7, 1, 4],
    [2, 7, 3, 50],
    [1, 65, 33, 1000],
    [1, 5, 2000, 300],
    [2, 3, 40_000, 4],
    [70, 5, 9, 3],
    [0, 3, 2, 4],
    [2, 3, 0, 4],
    [2, 3, 4, 0],
    [2, 0, 4, 0],
];

/// Ids that come again and again, a skipped one among them.
pub(super) fn some(bound: usize, count: usize) -> Vec<i64> {
    (0..count as i64).map(|i| if i % 11 == 7 { -1 } else { i * i % bound as i64 }).collect()
}

/// The same without those that come again.
pub(super) fn once(ids: &[i64]) -> Vec<i64> {
    ids.iter().enumerate().map(|(i, id)| if ids[i + 1..].contains(id) { -1 } else { *id }).collect()
}

#[test]
fn worked_by_hand() {
    let x = [0f32, 1.0, 2.0, 3.0, 4.0, 5.0];
    assert_eq!(reference::take(&spec(1, 6, 1, &[5, 0, -1, 5]), &x), [5.0, 0.0, 0.0, 5.0]);
    assert_eq!(reference::take(&spec(2, 3, 1, &[2, 1]), &x), [2.0, 1.0, 5.0, 4.0]);
    assert_eq!(reference::take(&spec(1, 3, 2, &[2, 0, 2]), &x), [4.0, 5.0, 0.0, 1.0, 4.0, 5.0]);
    // repeated ids accumulate (S-24), in order: (0 + 1e8 + 1) - 1e8 is 0 in f32, another order gives 1
    let added = reference::put_add(&spec(1, 3, 1, &[2, 2, 0, -1, 2]), &[1e8f32, 1.0, 4.0, 9.0, -1e8]);
    assert_eq!(added, [4.0, 0.0, 0.0]);
    let added = reference::put_add(&spec(1, 2, 2, &[1, 1, 0]), &[1f32, 2.0, 10.0, 20.0, 5.0, 6.0]);
    assert_eq!(added, [5.0, 6.0, 11.0, 22.0]);
    let ids = spec(2, 3, 1, &[2, -1, 0]);
    assert_eq!(reference::assign_at(&ids, &x, &[6., 7., 8., 9., 10., 11.]), [8.0, 1.0, 6.0, 11.0, 4.0, 9.0]);
    assert_eq!(reference::assign_at(&ids, &x, &[9.0]), [9.0, 1.0, 9.0, 9.0, 4.0, 9.0]);
}

#[test]
fn cpu() {
    for &[front, bound, width, count] in SIZES {
        let ids = some(bound, count);
        let spec = spec(front, bound, width, &ids);
        let (x, values) = (noise(1, spec.whole()), noise(2, spec.picked()));
        let single = super::tests::spec(front, bound, width, &once(&ids));
        for cpu in engines() {
            let what = format!("{front} {bound} {width} {count}");
            assert_eq!(
                cpu.take(&spec, &buffer(&x)).unwrap().slice::<f32>().unwrap(),
                reference::take(&spec, &x),
                "{what}"
            );
            let added = cpu.put_add(&spec, &buffer(&values)).unwrap();
            assert_eq!(added.slice::<f32>().unwrap(), reference::put_add(&spec, &values), "{what}");
            for values in [&values[..], &[0.5]] {
                let into = buffer(&x);
                cpu.assign_at(&single, &into, &buffer(values)).unwrap();
                assert_eq!(into.slice::<f32>().unwrap(), reference::assign_at(&single, &x, values), "{what}");
                assert_eq!(into.stamp().version(), 1);
            }
        }
        let wide = PickSpec { dtype: DType::F64, ..spec };
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let added = Cpu::quiet().put_add(&wide, &buffer(&values)).unwrap();
        assert_eq!(added.slice::<f64>().unwrap(), reference::put_add(&wide, &values));
    }
}

#[test]
fn more_ids_than_are_added_in_one_go() {
    let raw: Vec<i64> = (0..(1 << 20) + 5).map(|i| i * i % 977).collect();
    let values = noise(3, 2 * raw.len());
    let spec = spec(2, 977, 1, &raw);
    for cpu in engines() {
        let added = cpu.put_add(&spec, &buffer(&values)).unwrap();
        assert_eq!(added.slice::<f32>().unwrap(), reference::put_add(&spec, &values));
    }
}

#[test]
fn integers_and_bits() {
    let ids = PickSpec { dtype: DType::I64, ..spec(1, 3, 2, &[2, -1, 0]) };
    let x: [i64; 6] = [i64::MIN, 1, 2, 3, 4, i64::MAX];
    let cpu = Cpu::quiet();
    assert_eq!(cpu.take(&ids, &buffer(&x)).unwrap().slice::<i64>().unwrap(), [4, i64::MAX, 0, 0, i64::MIN, 1]);
    assert_eq!(cpu.put_add(&ids, &buffer(&x)).unwrap_err().kind, Kind::DType);
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for odd in [f32::from_bits(0x7fc0_1234), f32::from_bits(1), -0.0] {
        let x = [0.0, odd, 0.0, 1.0];
        for (width, y) in [(1, vec![odd, 0.0]), (2, vec![0.0, 1.0, 0.0, odd])] {
            let y_of = cpu.take(&spec(1, 4 / width, width, &[1, 0]), &buffer(&x)).unwrap();
            assert_eq!(bits(y_of.slice().unwrap()), bits(&y));
        }
    }
}

/// What ids pick of a view, copied, is what they pick through it.
#[test]
fn through_a_view() {
    /// Shape, strides and offset of the view, elements of the memory, axes, width of the blocks.
    type Case = (&'static [usize], &'static [isize], usize, usize, (usize, usize), usize);
    let cases: &[Case] = &[
        (&[4, 6], &[6, 1], 6, 30, (1, 2), 1),
        (&[3, 4, 5], &[20, 5, 1], 20, 80, (1, 2), 5),
        (&[3, 4, 4], &[20, 5, 1], 20, 80, (1, 2), 1),
        (&[3, 2, 5], &[-20, 10, -1], 44, 60, (0, 1), 1),
        (&[3, 2, 4], &[-32, 8, 1], 68, 96, (0, 1), 4),
        (&[3, 4, 5], &[20, 5, 1], 0, 60, (1, 3), 1),
        (&[5, 3, 4], &[1, 20, 5], 0, 60, (0, 2), 1),
        (&[1, 4], &[0, 1], 0, 6, (0, 1), 1),
        (&[1, 3], &[0, 1], 3, 6, (0, 1), 3),
        (&[1], &[0], 2, 6, (0, 1), 1),
        (&[40, 1, 900], &[1800, 7, 2], 1, 72_000, (0, 1), 1),
        (&[40, 900, 2], &[1800, 2, 1], 0, 72_000, (1, 2), 2),
        (&[0, 4], &[4, 1], 0, 24, (1, 2), 1),
    ];
    for &(shape, strides, offset, len, (first, last), width) in cases {
        let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let view = Layout::new("t", shape, strides, offset, len).unwrap();
        let bound = shape[first..last].iter().product();
        let picked = spec(shape[..first].iter().product(), bound, shape[last..].iter().product(), &some(bound, 50));
        let want = reference::take(&picked, &Cpu::quiet().gather(&x, &view).unwrap());
        for cpu in engines() {
            let (ids, found) = cpu.ids_through(&picked.ids, &view, first..last, len).unwrap();
            assert_eq!(found, width, "{shape:?}");
            assert_eq!(reference::take(&spec(1, len / width, width, &ids), &x), want, "{shape:?}");
        }
    }
}

#[test]
fn a_tensor_is_written_into_itself() {
    let x: CpuBuffer = buffer(&[1f32, 2.0, 3.0]);
    Cpu::quiet().assign_at(&spec(1, 3, 1, &[1, 2, 0]), &x, &x).unwrap();
    assert_eq!(x.slice::<f32>().unwrap(), [3.0, 1.0, 2.0]);
}

/// Much is written whole or, where the call is ended meanwhile, not at all.
#[test]
fn all_or_nothing() {
    let n = 5 << 20;
    let ids: Vec<i64> = (0..n).collect();
    let spec = spec(1, n as usize, 1, &ids);
    let values = buffer(&vec![1f32; n as usize]);
    for polls in 0.. {
        let left = AtomicI32::new(polls);
        let end = || match left.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(Error::interrupted()),
            _ => Ok(()),
        };
        let x = buffer(&vec![0f32; n as usize]);
        let ended = Cpu::new(&end).assign_at(&spec, &x, &values).is_err();
        let want = if ended { 0.0 } else { 1.0 };
        assert!(x.slice::<f32>().unwrap().iter().all(|&x| x == want));
        assert_eq!(x.stamp().version(), u64::from(!ended));
        if !ended {
            assert!(polls > 3);
            break;
        }
    }
}
