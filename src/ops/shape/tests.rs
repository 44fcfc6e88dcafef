//! Moving elements: worked examples, the kernels against the plain loops, refusals before anything is written.

use super::*;
use crate::backend::Buffer;
use crate::cpu::testing::{ask_always, asked, buffer, engines};
use crate::cpu::{Cpu, CpuBuffer};
use crate::error::{Error, Kind};
use crate::tensor::noise;
use std::sync::atomic::{AtomicI32, Ordering};

pub(super) fn counting(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

#[test]
fn worked_by_hand() {
    let x = [0f32, 1.0, 2.0, 3.0, 4.0, 5.0];
    // the transpose of (2, 3), its last column backwards, and each row twice
    let transpose = StridedSpec::copy(DType::F32, 6, &[3, 2], &[1, 3], 0).unwrap();
    assert_eq!(reference::copy_strided(&transpose, &x), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let backwards = StridedSpec::copy(DType::F32, 6, &[2], &[-3], 5).unwrap();
    assert_eq!(reference::copy_strided(&backwards, &x), [5.0, 2.0]);
    let twice = StridedSpec::copy(DType::F32, 6, &[2, 2, 2], &[3, 0, 1], 0).unwrap();
    assert_eq!(reference::copy_strided(&twice, &x), [0.0, 1.0, 0.0, 1.0, 3.0, 4.0, 3.0, 4.0]);
    let column = StridedSpec::place(DType::F32, &[2, 3], &[2], &[3], 1).unwrap();
    assert_eq!(reference::place_strided(&column, &[7f32, 8.0]), [0.0, 7.0, 0.0, 0.0, 8.0, 0.0]);
    let (a, b) = (Shape::from([2, 2]), Shape::from([2, 1]));
    let cat = CatSpec::new(DType::F32, &[&a, &b], -1).unwrap();
    assert_eq!(cat.shape, Shape::from([2, 3]));
    assert_eq!(reference::cat(&cat, &[&[1f32, 2.0, 3.0, 4.0], &[5.0, 6.0]]), [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
}

/// Shape, strides, offset and length of memory.
pub(super) type View = (&'static [usize], &'static [isize], usize, usize);

pub(super) const VIEWS: &[View] = &[
    (&[], &[], 3, 5),
    (&[7], &[1], 2, 9),
    (&[7], &[-1], 6, 7),
    (&[4, 5], &[5, 1], 0, 20),
    (&[5, 4], &[1, 5], 0, 20),
    (&[4, 5], &[-5, 1], 15, 20),
    (&[2, 3, 4], &[1, 8, 2], 0, 24),
    (&[3, 2, 4], &[4, 12, 1], 0, 24),
    (&[4, 3, 2], &[1, 4, 12], 0, 24),
    (&[2, 2], &[7, 3], 1, 12),
    (&[3, 0, 2], &[99, 99, 99], 0, 1),
    (&[1, 4, 1], &[-77, 1, 1000], 0, 4),
    (&[301, 257], &[1, 301], 0, 301 * 257),
    (&[257, 301], &[-301, -1], 301 * 257 - 1, 301 * 257),
    (&[40_000, 2], &[1, 40_000], 0, 80_000),
    (&[2, 40_000], &[1, 2], 0, 80_000),
    (&[70_000], &[2], 1, 140_000),
    (&[33, 40, 70], &[70, 70 * 33, 1], 0, 33 * 40 * 70),
    (&[33, 70, 40], &[70, 1, 70 * 33], 0, 33 * 40 * 70),
];

pub(super) const BROADCASTS: &[View] =
    &[(&[3, 4], &[1, 0], 0, 3), (&[3, 4], &[0, 1], 0, 4), (&[300, 400], &[0, 0], 1, 2)];

#[test]
fn strided_copies_and_their_adjoint() {
    for &(shape, strides, offset, len) in VIEWS.iter().chain(BROADCASTS) {
        let spec = StridedSpec::copy(DType::F32, len, shape, strides, offset).unwrap();
        let x = counting(len);
        let want = reference::copy_strided(&spec, &x);
        let wide: Vec<i64> = want.iter().map(|&x| x as i64).collect();
        let ids: Vec<i64> = x.iter().map(|&x| x as i64).collect();
        for cpu in engines() {
            assert_eq!(cpu.copy_strided(&spec, &buffer(&x)).unwrap().slice::<f32>().unwrap(), want, "{shape:?}");
            let spec = StridedSpec { dtype: DType::I64, ..spec.clone() };
            assert_eq!(cpu.copy_strided(&spec, &buffer(&ids)).unwrap().slice::<i64>().unwrap(), wide, "{shape:?}");
        }
    }
    for &(shape, strides, offset, len) in VIEWS {
        let spec = StridedSpec::place(DType::F32, &[len], shape, strides, offset).unwrap();
        let values: Vec<f32> = counting(spec.elements()).iter().map(|v| v + 1.0).collect();
        for cpu in engines() {
            let x = cpu.place_strided(&spec, &buffer(&values)).unwrap();
            assert_eq!(x.slice::<f32>().unwrap(), reference::place_strided(&spec, &values), "{shape:?}");
            // copying back out gives what was placed
            let back = cpu.copy_strided(&spec, &x).unwrap();
            assert_eq!(back.slice::<f32>().unwrap(), values, "{shape:?}");
        }
    }
}

#[test]
fn assignment_in_place() {
    for &(shape, strides, offset, len) in VIEWS {
        let spec = StridedSpec::place(DType::F32, &[len], shape, strides, offset).unwrap();
        // values of the view's shape, of its last axis, and a single one
        for from in [shape, &shape[shape.len().min(1)..], &[]] {
            let values: Vec<f32> = counting(from.iter().product()).iter().map(|v| -v - 1.0).collect();
            let want = reference::assign_strided(&spec, &counting(len), &values, from);
            for cpu in engines() {
                let x = buffer(&counting(len));
                cpu.assign_strided(&spec, &x, &buffer(&values), &Shape::from(from)).unwrap();
                assert_eq!(x.slice::<f32>().unwrap(), want, "{shape:?} {from:?}");
                assert_eq!(x.stamp().version(), 1);
            }
        }
    }
    // the memory over itself, backwards
    let spec = StridedSpec::place(DType::F32, &[5], &[5], &[-1], 4).unwrap();
    let x = buffer(&counting(5));
    Cpu::quiet().assign_strided(&spec, &x, &x, &Shape::from([5])).unwrap();
    assert_eq!(x.slice::<f32>().unwrap(), [4.0, 3.0, 2.0, 1.0, 0.0]);
    // an interrupted call writes nothing
    let stop: crate::cpu::Poll<'_> = &|| Err(Error::interrupted());
    assert!(Cpu::new(stop).assign_strided(&spec, &x, &buffer(&[9f32]), &Shape::from([])).is_err());
    assert_eq!((x.slice::<f32>().unwrap()[0], x.stamp().version()), (4.0, 1));
}

#[test]
fn views_that_reach_too_far_or_repeat_are_refused() {
    assert!(StridedSpec::copy(DType::F32, 5, &[6], &[1], 0).is_err());
    assert!(StridedSpec::copy(DType::F32, 5, &[2], &[-1], 0).is_err());
    assert!(StridedSpec::copy(DType::F32, 5, &[2, 2], &[1], 0).is_err());
    assert!(StridedSpec::copy(DType::F32, 5, &[usize::MAX, 3], &[0, 0], 0).is_err());
    for (shape, strides, offset, _) in BROADCASTS {
        assert!(StridedSpec::place(DType::F32, &[1000], shape, strides, *offset).is_err());
    }
    assert!(StridedSpec::place(DType::F32, &[9], &[3, 3], &[2, 1], 0).is_err());
}

/// Shapes of the parts, and the axis.
pub(super) const JOINS: &[(&[&[usize]], isize)] = &[
    (&[&[3]], 0),
    (&[&[3], &[0], &[2]], 0),
    (&[&[2, 3], &[2, 1]], 1),
    (&[&[2, 3], &[4, 3]], -2),
    (&[&[2, 0, 5], &[2, 3, 5], &[2, 1, 5]], 1),
    (&[&[0, 3], &[0, 2]], 1),
    (&[&[500, 90], &[500, 1], &[500, 33]], 1),
];

#[test]
fn joining() {
    for (shapes, axis) in JOINS {
        let shapes: Vec<Shape> = shapes.iter().map(|&s| Shape::from(s)).collect();
        let spec = CatSpec::new(DType::F32, &shapes.iter().collect::<Vec<_>>(), *axis).unwrap();
        let mut next = 0.0;
        let parts: Vec<Vec<f32>> = shapes
            .iter()
            .map(|s| {
                (0..elements(s).unwrap())
                    .map(|_| {
                        next += 1.0;
                        next
                    })
                    .collect()
            })
            .collect();
        let want = reference::cat(&spec, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(want.len(), elements(&spec.shape).unwrap());
        for cpu in engines() {
            let buffers: Vec<CpuBuffer> = parts.iter().map(|p| buffer(p)).collect();
            assert_eq!(cpu.cat(&spec, &buffers).unwrap().slice::<f32>().unwrap(), want);
        }
    }
    let (a, b) = (Shape::from([2, 3]), Shape::from([3, 3]));
    let e = CatSpec::new(DType::F32, &[&a, &b], 1).unwrap_err();
    assert_eq!(e.kind, Kind::Shape);
    assert_eq!(e.to_string(), "cat: arrays[1]: expected (2, 3) but for axis 1, as arrays[0], got (3, 3).");
    assert_eq!(CatSpec::new(DType::F32, &[&a], 2).unwrap_err().kind, Kind::Value);
    assert_eq!(CatSpec::new(DType::F32, &[&a], -3).unwrap_err().kind, Kind::Value);
    assert_eq!(CatSpec::new(DType::F32, &[], 0).unwrap_err().kind, Kind::Value);
    assert_eq!(CatSpec::new(DType::F32, &[&Shape::from([])], 0).unwrap_err().kind, Kind::Value);
}

// Rows that are longer than a unit of work: cut within a row, on every number of threads.
#[test]
fn long_rows() {
    let (w, v) = (100_000, 33_000);
    let (a, b) = (noise(1, 3 * w), noise(2, 3 * v));
    let spec =
        CatSpec::new(DType::F32, &[&Shape::from([3, w]), &Shape::from([3, 0]), &Shape::from([3, v])], 1).unwrap();
    let want: Vec<f32> = (0..3).flat_map(|r| [&a[r * w..(r + 1) * w], &b[r * v..(r + 1) * v]].concat()).collect();
    let slice = StridedSpec::copy(DType::F32, 3 * w, &[3, w - 1], &[w as isize, 1], 1).unwrap();
    let behind: Vec<f32> = a.chunks(w).flat_map(|row| row[1..].to_vec()).collect();
    let repeat = StridedSpec::copy(DType::F32, 3 * w, &[3, w], &[w as isize, 0], 7).unwrap();
    for cpu in engines() {
        let joined = cpu.cat(&spec, &[buffer(&a), buffer::<f32>(&[]), buffer(&b)]).unwrap();
        assert_eq!(joined.slice::<f32>().unwrap(), want);
        assert_eq!(cpu.copy_strided(&slice, &buffer(&a)).unwrap().slice::<f32>().unwrap(), behind);
        let y = cpu.copy_strided(&repeat, &buffer(&a)).unwrap();
        assert!(y.slice::<f32>().unwrap().iter().enumerate().all(|(i, &y)| y == a[i / w * w + 7]));
    }
}

/// What does not lie line by line is written whole or, where the call is ended meanwhile, not at all.
#[test]
fn all_or_nothing() {
    ask_always();
    let n = 600;
    let spec = StridedSpec::place(DType::F32, &[n, n], &[n, n], &[1, n as isize], 0).unwrap();
    let (values, shape) = (buffer(&counting(n * n)), Shape::from([n, n]));
    for polls in 0.. {
        let left = AtomicI32::new(polls);
        let end = || match left.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(Error::interrupted()),
            _ => Ok(()),
        };
        let x = buffer(&vec![-1f32; n * n]);
        let ended = Cpu::new(&end).with_threads(1).assign_strided(&spec, &x, &values, &shape).is_err();
        let found = x.slice::<f32>().unwrap();
        let right = |at: usize| if ended { -1.0 } else { (at % n * n + at / n) as f32 };
        assert!(found.iter().enumerate().all(|(at, &x)| x == right(at)));
        assert_eq!(x.stamp().version(), u64::from(!ended));
        if !ended {
            assert!(polls > 2, "{polls}");
            break;
        }
    }
}

#[test]
fn long_parts_ask_whether_to_stop() {
    let part = buffer(&vec![1f32; 1 << 21]);
    assert!(asked(|cpu| cpu.concat(&[&part, &part]).map(drop)) > 0);
}
