//! What the tests of kernels start from: a device of their own, so that counts and faults are theirs alone.

use crate::backend::{Backend, Buffer};
use crate::error::Kind;
use crate::gpu::{Context, Gpu, GpuBuffer, Options, adapters};
use crate::tensor::DType;
pub(crate) use crate::tensor::noise;
use std::sync::Once;

/// An engine whose memory is filled with NaN before use, and which cuts dispatches of more than some hundred elements;
/// None, visibly, where there is no adapter.
pub(crate) fn gpu() -> Option<Gpu<'static>> {
    gpu_with(Options { poison: true, work: Some(10_000), ..Options::default() })
}

/// One that cuts nothing.
pub(crate) fn gpu_uncut() -> Option<Gpu<'static>> {
    gpu_with(Options { poison: true, work: Some(u64::MAX), ..Options::default() })
}

/// An engine on a device opened with `options`.
pub(crate) fn gpu_with(options: Options) -> Option<Gpu<'static>> {
    match Context::open(0, options) {
        Ok(context) => {
            static HEAD: Once = Once::new();
            HEAD.call_once(|| {
                for a in adapters().unwrap() {
                    println!("gpu: {} ({}, {}), driver {} {}", a.name, a.kind, a.backend, a.driver, a.driver_info);
                }
            });
            Some(Gpu::on(context, &|| Ok(())))
        }
        Err(error) if error.kind == Kind::Device && std::env::var_os("SEQCORE_REQUIRE_GPU").is_none() => {
            println!("skipped: no software Vulkan driver ({error})");
            None
        }
        Err(error) => panic!("no GPU: {error}"),
    }
}

pub(crate) fn up(gpu: &Gpu, values: &[f32]) -> GpuBuffer {
    gpu.upload(DType::F32, bytemuck::cast_slice(values)).unwrap()
}

pub(crate) fn down(gpu: &Gpu, buffer: &GpuBuffer) -> Vec<f32> {
    let mut values = vec![0f32; buffer.len()];
    gpu.download(buffer, bytemuck::cast_slice_mut(&mut values)).unwrap();
    values
}

mod memory {
    use super::*;

    #[test]
    fn bytes_go_there_and_back() {
        let Some(gpu) = gpu() else { return };
        let values = noise(1, 1000);
        let a = up(&gpu, &values);
        assert_eq!(down(&gpu, &a), values);
        assert_eq!(down(&gpu, &gpu.slice(&a, 3, 5).unwrap()), values[3..8]);
        let joined = gpu.concat(&[&a, &gpu.zeros(DType::F32, 2).unwrap(), &a]).unwrap();
        assert_eq!(down(&gpu, &joined), [&values[..], &[0.0, 0.0], &values[..]].concat());
        let b = gpu.allocate(DType::F32, 1000).unwrap();
        assert!(down(&gpu, &b).iter().all(|v| v.is_nan()));
        gpu.assign(&b, &a).unwrap();
        assert_eq!((down(&gpu, &b), b.stamp().version()), (values, 1));
        let ids = [0i64, -1, 7, i64::from(i32::MAX)];
        let c = gpu.upload(DType::I64, bytemuck::cast_slice(&ids)).unwrap();
        let mut back = [0i64; 4];
        gpu.download(&c, bytemuck::cast_slice_mut(&mut back)).unwrap();
        assert_eq!(back, ids);
        assert!(down(&gpu, &gpu.allocate(DType::F32, 0).unwrap()).is_empty());
        assert_eq!(gpu.allocate(DType::F64, 1).unwrap_err().kind, Kind::DType);
    }

    // A block that recorded work still reads must not be overtaken by a write from the host.
    #[test]
    fn uploads_do_not_overtake_recorded_work() {
        let Some(gpu) = gpu_with(Options::default()) else { return };
        let first = up(&gpu, &[1.0; 64]);
        let copy = gpu.slice(&first, 0, 64).unwrap();
        drop(first);
        let second = up(&gpu, &[2.0; 64]);
        assert_eq!((down(&gpu, &copy)[0], down(&gpu, &second)[0]), (1.0, 2.0));
    }
}
