//! The shaders against the plain loops, over the rows that the CPU's kernels are tested with.

use super::tests::{BROADCASTS, JOINS, VIEWS, counting};
use super::*;
use crate::gpu::testing::{down, gpu, gpu_uncut, noise, up};

#[test]
fn strided_copies_and_their_adjoint() {
    let Some(gpu) = gpu() else { return };
    for &(shape, strides, offset, len) in VIEWS.iter().chain(BROADCASTS) {
        let spec = StridedSpec::copy(DType::F32, len, shape, strides, offset).unwrap();
        let x = counting(len);
        let y = down(&gpu, &gpu.copy_strided(&spec, &up(&gpu, &x)).unwrap());
        assert_eq!(y, reference::copy_strided(&spec, &x), "{shape:?}");
    }
    for &(shape, strides, offset, len) in VIEWS {
        let spec = StridedSpec::place(DType::F32, &[len], shape, strides, offset).unwrap();
        let values: Vec<f32> = counting(spec.elements()).iter().map(|v| v + 1.0).collect();
        let x = down(&gpu, &gpu.place_strided(&spec, &up(&gpu, &values)).unwrap());
        assert_eq!(x, reference::place_strided(&spec, &values), "{shape:?}");
        for from in [shape, &shape[shape.len().min(1)..], &[]] {
            let (x, values) = (up(&gpu, &counting(len)), counting(from.iter().product()));
            gpu.assign_strided(&spec, &x, &up(&gpu, &values), &Shape::from(from)).unwrap();
            let want = reference::assign_strided(&spec, &counting(len), &values, from);
            assert_eq!(down(&gpu, &x), want, "{shape:?} {from:?}");
        }
    }
}

#[test]
fn eight_axes() {
    let Some(gpu) = gpu() else { return };
    // all axes of (2, 3, 2, 2, 2, 3, 2, 2) in reverse: none of them steps with its neighbour
    let shape = [2, 2, 3, 2, 2, 2, 3, 2];
    let mut strides = [1isize; 8];
    for i in 1..8 {
        strides[i] = strides[i - 1] * shape[i - 1] as isize;
    }
    let spec = StridedSpec::copy(DType::F32, 576, &shape, &strides, 0).unwrap();
    let x = counting(576);
    let y = gpu.copy_strided(&spec, &up(&gpu, &x)).unwrap();
    assert_eq!(down(&gpu, &y), reference::copy_strided(&spec, &x));
    let spec = StridedSpec::place(DType::F32, &[576], &shape, &strides, 0).unwrap();
    assert_eq!(down(&gpu, &gpu.place_strided(&spec, &y).unwrap()), x);
}

#[test]
fn joining() {
    let Some(gpu) = gpu() else { return };
    for (shapes, axis) in JOINS {
        let shapes: Vec<Shape> = shapes.iter().map(|&s| Shape::from(s)).collect();
        let spec = CatSpec::new(DType::F32, &shapes.iter().collect::<Vec<_>>(), *axis).unwrap();
        let parts: Vec<Vec<f32>> =
            shapes.iter().enumerate().map(|(i, s)| noise(i as u64, elements(s).unwrap())).collect();
        let buffers: Vec<_> = parts.iter().map(|part| up(&gpu, part)).collect();
        let want = reference::cat(&spec, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(down(&gpu, &gpu.cat(&spec, &buffers).unwrap()), want);
    }
    // one array twice
    let spec = CatSpec::new(DType::F32, &[&Shape::from([2, 1]), &Shape::from([2, 1])], 1).unwrap();
    let x = up(&gpu, &[1.0, 2.0]);
    assert_eq!(down(&gpu, &gpu.cat(&spec, &[x.clone(), x]).unwrap()), [1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn more_than_65535_workgroups() {
    let Some(gpu) = gpu_uncut() else { return };
    let n = 65_536 * 256 + 300;
    let x = up(&gpu, &(0..n).map(|i| (i % 1000) as f32).collect::<Vec<_>>());
    let spec = StridedSpec::copy(DType::F32, n, &[n], &[-1], n - 1).unwrap();
    let back = gpu.copy_strided(&spec, &x).unwrap();
    let spec = StridedSpec::place(DType::F32, &[n], &[n], &[-1], n - 1).unwrap();
    let again = gpu.place_strided(&spec, &back).unwrap();
    drop(back);
    assert!(down(&gpu, &again).iter().enumerate().all(|(i, &v)| v == (i % 1000) as f32));
}
