//! What goes wrong with devices, and what must come of it: an error of the right class, and a next call that works.

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Kind};
use crate::gpu::testing::{down, gpu, gpu_with, noise, up};
use crate::gpu::{Begin, Context, Gpu, Grid, Kernel, Matrix, Options, Product};
use crate::tensor::DType;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_lost_device_is_an_error_and_the_next_one_works() {
    let Some(gpu) = gpu_with(Options::default()) else { return };
    let a = up(&gpu, &[1.0, 2.0]);
    let pending = gpu.slice(&a, 0, 2).unwrap();
    gpu.context().destroy();
    let mut bytes = [0u8; 8];
    let errors = [
        gpu.download(&pending, &mut bytes).unwrap_err(),
        gpu.upload(DType::F32, &bytes).unwrap_err(),
        gpu.allocate(DType::F32, 5).unwrap_err(),
        gpu.slice(&a, 0, 1).unwrap_err(),
        gpu.assign(&a, &pending).unwrap_err(),
        gpu.flush().unwrap_err(),
        gpu.dispatch(&Kernel::new("gpu/probe", "functions"), &[&a, &pending], &[0u32; 8], Grid::new(1)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind, Kind::DeviceLost, "{error}");
        assert!(error.to_string().contains("make new ones"), "{error}");
    }
    // Its tensors stay lost for an engine on another device.
    let Some(next) = gpu_with(Options::default()) else { return };
    assert_eq!(next.slice(&a, 0, 1).unwrap_err().kind, Kind::DeviceLost);
    drop((a, pending));
    assert_eq!(down(&next, &up(&next, &[3.0])), [3.0]);
}

#[test]
fn the_shared_context_is_replaced_after_a_loss() {
    let Some(_) = gpu_with(Options::default()) else { return };
    let quiet = || Ok(());
    let first = Gpu::open(0, &quiet).unwrap();
    assert!(Arc::ptr_eq(Gpu::open(0, &quiet).unwrap().context(), first.context()));
    first.context().destroy();
    let second = Gpu::open(0, &quiet).unwrap();
    assert!(!Arc::ptr_eq(second.context(), first.context()));
    assert_eq!(down(&second, &up(&second, &[3.0])), [3.0]);
    assert!(crate::gpu::take_counts().unwrap().bytes_up >= 4);
    assert_eq!(Gpu::open(99, &quiet).err().map(|e| e.kind), Some(Kind::Device));
}

#[test]
fn tensors_of_two_devices_do_not_meet() {
    let (Some(one), Some(two)) = (gpu(), gpu()) else { return };
    let error = one.concat(&[&up(&one, &[1.0]), &up(&two, &[1.0])]).unwrap_err();
    assert_eq!(error.kind, Kind::Device);
}

#[test]
fn memory_has_an_end_and_returns() {
    let mib = |n: usize| n << 18;
    let Some(gpu) = gpu_with(Options { memory: Some(8 << 20), ..Options::default() }) else { return };
    let a = gpu.allocate(DType::F32, mib(3)).unwrap();
    let b = gpu.zeros(DType::F32, mib(4)).unwrap();
    let error = gpu.allocate(DType::F32, mib(2)).unwrap_err();
    assert_eq!(error.kind, Kind::Memory);
    assert!(error.to_string().contains("SEQCORE_GPU_MEMORY"), "{error}");
    assert_eq!(gpu.context().memory().0, 7 << 20);
    assert_eq!(down(&gpu, &b)[7], 0.0);
    drop((a, b));
    // The free blocks are of other sizes and make room.
    let c = gpu.zeros(DType::F32, mib(8)).unwrap();
    assert_eq!(down(&gpu, &c)[mib(8) - 1], 0.0);
    assert_eq!(gpu.context().memory(), (8 << 20, 0));
    for huge in [1 << 40, 1 << 60, usize::MAX] {
        assert_eq!(gpu.allocate(DType::F32, huge).unwrap_err().kind, Kind::Memory);
    }
}

// The memory of training must not grow: what is dropped is used again.
#[test]
fn steady_work_takes_no_more_memory() {
    let Some(gpu) = gpu_with(Options::default()) else { return };
    let mut held = 0;
    for i in 0..200 {
        let a = up(&gpu, &[1.0; 5000]);
        let b = gpu.concat(&[&a, &a]).unwrap();
        assert_eq!(down(&gpu, &gpu.slice(&b, 7, 3).unwrap()), [1.0; 3]);
        let (used, free) = gpu.context().memory();
        if i == 10 {
            held = used + free;
        }
        assert!(i <= 10 || used + free <= held);
    }
}

/// Work of a second or so on this machine.
fn long_work(gpu: &Gpu, steps: usize) -> crate::error::Result<Vec<f32>> {
    let n = 256;
    let (a, b) = (up(gpu, &noise(1, n * n)), up(gpu, &noise(2, n * n)));
    let c = gpu.zeros(DType::F32, n * n)?;
    for _ in 0..steps {
        gpu.product(&Product {
            m: n,
            n,
            k: n,
            block: n,
            a: Matrix::new(&a, n, 1),
            b: Matrix::new(&b, n, 1),
            c: &c,
            c_start: 0,
            begin: Begin::Zero,
        })?;
    }
    let mut out = vec![0f32; n * n];
    gpu.download(&c, bytemuck::cast_slice_mut(&mut out))?;
    Ok(out)
}

#[test]
fn long_work_can_be_stopped() {
    let Some(gpu) = gpu_with(Options::default()) else { return };
    let expected = long_work(&gpu, 1).unwrap();
    let asked = AtomicU32::new(0);
    let stop = || match asked.fetch_add(1, Ordering::Relaxed) {
        0..3 => Ok(()),
        _ => Err(Error::interrupted()),
    };
    let start = Instant::now();
    let error = long_work(&Gpu::on(gpu.context().clone(), &stop), 3000).unwrap_err();
    assert_eq!(error.kind, Kind::Interrupted);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(long_work(&gpu, 1).unwrap(), expected);
}

#[test]
fn threads_share_a_device() {
    let Some(gpu) = gpu() else { return };
    let expected = long_work(&gpu, 2).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..30 {
                    assert_eq!(down(&gpu, &up(&gpu, &[i as f32; 100])), [i as f32; 100]);
                    if i % 5 == 0 {
                        assert_eq!(long_work(&gpu, 2).unwrap(), expected);
                    }
                }
            });
        }
    });
}

// Mistakes of ours are found before wgpu or a driver meets them.
#[test]
fn wrong_dispatches_are_refused() {
    let Some(gpu) = gpu() else { return };
    let (a, b) = (up(&gpu, &[1.0; 64]), up(&gpu, &[1.0; 64]));
    let kernel = Kernel::new("gpu/probe", "functions");
    let run = |kernel: &Kernel, buffers: &[&crate::gpu::GpuBuffer], grid: Grid| {
        gpu.dispatch(kernel, buffers, &[0u32; 8], grid)
    };
    let wrong = [
        run(&Kernel::new("gpu/probe", "none"), &[&a, &b], Grid::new(1)),
        run(&kernel.clone().with("none", 1.0), &[&a, &b], Grid::new(1)),
        run(&kernel, &[&a], Grid::new(1)),
        run(&kernel, &[&a, &a], Grid::new(1)),
        run(&kernel, &[&a, &b], Grid::new(1).trips(60_001)),
        run(&kernel, &[&a, &b], Grid::new(1 << 40)),
        gpu.dispatch(&kernel, &[&a, &b], &[0u32; 4], Grid::new(1)),
        gpu.copy_elements(&a, 60, &b, 0, 5),
        gpu.slice(&a, usize::MAX, 2).map(drop),
        gpu.download(&a, &mut [0; 3]),
    ];
    for (i, outcome) in wrong.into_iter().enumerate() {
        assert_eq!(outcome.unwrap_err().kind, Kind::Internal, "{i}");
    }
    run(&kernel, &[&a, &b], Grid::new(0)).unwrap();
    assert_eq!(down(&gpu, &a), [1.0; 64]);
}

// A child of fork() gets an error from everything, and does not hang where it drops what it inherited.
#[cfg(unix)]
#[test]
fn a_forked_child_is_refused() {
    let Some(gpu) = gpu() else { return };
    let a = up(&gpu, &[1.0; 64]);
    let quiet = || Ok(());
    // SAFETY: the child calls nothing that waits for a thread of the parent, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = |kind: Option<Kind>| kind == Some(Kind::Device);
        let mut bytes = [0u8; 256];
        let right = refused(Gpu::open(0, &quiet).err().map(|e| e.kind))
            && refused(crate::gpu::adapters().err().map(|e| e.kind))
            && refused(Context::open(0, Options::default()).err().map(|e| e.kind))
            && refused(gpu.download(&a, &mut bytes).err().map(|e| e.kind))
            && refused(gpu.slice(&a, 0, 1).err().map(|e| e.kind))
            && refused(gpu.flush().err().map(|e| e.kind));
        drop(a);
        drop(gpu);
        // SAFETY: no destructor of the parent's state may run here.
        unsafe { libc::_exit(if right { 7 } else { 1 }) }
    }
    let mut status = 0;
    let start = Instant::now();
    // SAFETY: `child` is ours, `status` is valid.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > Duration::from_secs(20) {
            // SAFETY: `child` is ours and has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(libc::WEXITSTATUS(status), 7, "status {status}");
    assert_eq!(down(&gpu, &a), [1.0; 64]);
}

// More than 65,535 workgroups: the grid goes on in a second dimension.
#[test]
fn long_grids_spill() {
    let Some(gpu) = gpu() else { return };
    let m = 8 * 65_535 + 11;
    let values = noise(1, m);
    let (a, b) = (up(&gpu, &values), up(&gpu, &[2.0]));
    let c = gpu.allocate(DType::F32, m).unwrap();
    let a = Matrix::new(&a, 1, 1);
    gpu.product(&Product {
        m,
        n: 1,
        k: 1,
        block: 1,
        a,
        b: Matrix::new(&b, 1, 1),
        c: &c,
        c_start: 0,
        begin: Begin::Zero,
    })
    .unwrap();
    let doubled: Vec<f32> = values.iter().map(|v| v * 2.0).collect();
    assert!(down(&gpu, &c) == doubled);
    assert_eq!(c.len(), m);
}

// fault: copies and clears recorded without end, then a read that waits for all of them
#[test]
fn copies_and_clears_are_work_too() {
    let Some(gpu) = gpu_with(Options::default()) else { return };
    let n = 8_000_000;
    let a = gpu.zeros(DType::F32, n).unwrap();
    gpu.context().take_counts();
    for _ in 0..60 {
        let both = gpu.concat(&[&a, &a]).unwrap();
        gpu.assign(&both, &gpu.zeros(DType::F32, 2 * n).unwrap()).unwrap();
    }
    // a submission holds the copies of some hundred million elements at most, on a software adapter
    assert!(!gpu.context().info().is_software || gpu.context().take_counts().submits > 20);
}
