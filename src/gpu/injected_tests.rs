//! Faults of a real driver, injected one at a time by `fault_driver.c` between Vulkan's loader and lavapipe. Each
//! case runs in a process of its own: a hang is a failure too, and wgpu's panics must not reach stderr.

use crate::backend::{Backend, Buffer};
use crate::error::{Kind, Result};
use crate::gpu::testing::{down, gpu_with, up};
use crate::gpu::{Begin, Gpu, GpuBuffer, Matrix, Options, Product};
use crate::tensor::DType;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const OUT_OF_DEVICE_MEMORY: i32 = -2;
const INITIALIZATION_FAILED: i32 = -3;
const DEVICE_LOST: i32 = -4;
const MEMORY_MAP_FAILED: i32 = -5;

const CASE: &str = "SEQCORE_INJECTED_CASE";
const DRIVER: &str = "SEQCORE_INJECTED_DRIVER";
const ALWAYS: i32 = i32::MAX;

/// Makes the function fail the next `times` times.
fn fault(name: &str, code: i32, times: i32) {
    let (path, symbol) = (CString::new(std::env::var(DRIVER).unwrap()).unwrap(), c"seqcore_fault");
    let name = CString::new(name).unwrap();
    // SAFETY: the driver is loaded and its function has this signature.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null());
        let function = libc::dlsym(library, symbol.as_ptr());
        assert!(!function.is_null());
        let function: extern "C" fn(*const libc::c_char, libc::c_int, libc::c_int) = std::mem::transmute(function);
        function(name.as_ptr(), code, times);
    }
}

fn heal() {
    fault("nothing", 0, 0);
}

fn doubled(gpu: &Gpu, a: &GpuBuffer) -> Result<GpuBuffer> {
    let two = gpu.upload(DType::F32, bytemuck::bytes_of(&2f32))?;
    let c = gpu.allocate(DType::F32, a.len())?;
    gpu.product(&Product {
        m: a.len(),
        n: 1,
        k: 1,
        block: 1,
        a: Matrix::new(a, 1, 1),
        b: Matrix::new(&two, 1, 1),
        c: &c,
        c_start: 0,
        begin: Begin::Zero,
    })?;
    Ok(c)
}

fn read(gpu: &Gpu, a: &GpuBuffer) -> Result<Vec<f32>> {
    let mut out = vec![0f32; a.len()];
    gpu.download(a, bytemuck::cast_slice_mut(&mut out))?;
    Ok(out)
}

/// The device is lost for good, and the next one works.
fn lost(gpu: &Gpu, a: &GpuBuffer) {
    heal();
    for error in [read(gpu, a).unwrap_err(), doubled(gpu, a).unwrap_err(), gpu.flush().unwrap_err()] {
        assert_eq!(error.kind, Kind::DeviceLost, "{error}");
    }
    works(&gpu_with(Options::default()).unwrap());
}

fn works(gpu: &Gpu) {
    let a = up(gpu, &[1.0, 2.0, 3.0]);
    assert_eq!(down(gpu, &doubled(gpu, &a).unwrap()), [2.0, 4.0, 6.0]);
}

type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("no device", || {
        fault("vkCreateDevice", INITIALIZATION_FAILED, ALWAYS);
        let error = crate::gpu::Context::open(0, Options::default()).unwrap_err();
        assert_eq!(error.kind, Kind::Device, "{error}");
        heal();
        works(&gpu_with(Options::default()).unwrap());
    }),
    ("no memory", || {
        let gpu = gpu_with(Options::default()).unwrap();
        let a = up(&gpu, &[1.0, 2.0]);
        fault("vkAllocateMemory", OUT_OF_DEVICE_MEMORY, ALWAYS);
        let error = gpu.allocate(DType::F32, 100 << 20).unwrap_err();
        assert_eq!(error.kind, Kind::Memory, "{error}");
        heal();
        assert_eq!(down(&gpu, &a), [1.0, 2.0]);
        gpu.allocate(DType::F32, 100 << 20).unwrap();
        works(&gpu);
    }),
    ("no memory once: waits and tries again", || {
        let gpu = gpu_with(Options::default()).unwrap();
        fault("vkAllocateMemory", OUT_OF_DEVICE_MEMORY, 1);
        gpu.allocate(DType::F32, 100 << 20).unwrap();
        works(&gpu);
    }),
    ("lost at submit", || {
        let gpu = gpu_with(Options::default()).unwrap();
        works(&gpu);
        let c = doubled(&gpu, &up(&gpu, &[1.0])).unwrap();
        fault("vkQueueSubmit", DEVICE_LOST, 1);
        let _ = gpu.flush();
        assert_eq!(read(&gpu, &c).unwrap_err().kind, Kind::DeviceLost);
        lost(&gpu, &c);
    }),
    ("lost at the submission of a read", || {
        let gpu = gpu_with(Options::default()).unwrap();
        let c = doubled(&gpu, &up(&gpu, &[1.0])).unwrap();
        fault("vkQueueSubmit", DEVICE_LOST, 1);
        assert_eq!(read(&gpu, &c).unwrap_err().kind, Kind::DeviceLost);
        lost(&gpu, &c);
    }),
    ("no memory at submit", || {
        let gpu = gpu_with(Options::default()).unwrap();
        let c = doubled(&gpu, &up(&gpu, &[1.0])).unwrap();
        fault("vkQueueSubmit", OUT_OF_DEVICE_MEMORY, 1);
        let error = read(&gpu, &c).unwrap_err();
        assert_eq!(error.kind, Kind::DeviceLost, "{error}");
        lost(&gpu, &c);
    }),
    ("lost while waiting", || {
        let gpu = gpu_with(Options::default()).unwrap();
        let c = doubled(&gpu, &up(&gpu, &[1.0])).unwrap();
        fault("vkWaitSemaphores", DEVICE_LOST, 1);
        let error = read(&gpu, &c).unwrap_err();
        assert_eq!(error.kind, Kind::DeviceLost, "{error}");
        lost(&gpu, &c);
    }),
    ("cannot be mapped", || {
        // wgpu keeps small host-readable memory mapped, so it takes a large tensor to map anything.
        let gpu = gpu_with(Options::default()).unwrap();
        let c = gpu.zeros(DType::F32, 10 << 20).unwrap();
        fault("vkMapMemory", MEMORY_MAP_FAILED, ALWAYS);
        let error = read(&gpu, &c).unwrap_err();
        assert!(matches!(error.kind, Kind::DeviceLost | Kind::Memory), "{error}");
        heal();
        works(&gpu_with(Options::default()).unwrap());
    }),
    ("cannot be mapped for an upload", || {
        let gpu = gpu_with(Options::default()).unwrap();
        let values = vec![0u8; 40 << 20];
        fault("vkMapMemory", MEMORY_MAP_FAILED, ALWAYS);
        let error = gpu.upload(DType::F32, &values).unwrap_err();
        assert!(matches!(error.kind, Kind::DeviceLost | Kind::Memory), "{error}");
        heal();
        works(&gpu_with(Options::default()).unwrap());
    }),
    ("no memory for a kernel", || {
        let gpu = gpu_with(Options::default()).unwrap();
        let a = up(&gpu, &[1.0]);
        fault("vkCreateComputePipelines", OUT_OF_DEVICE_MEMORY, 1);
        let error = doubled(&gpu, &a).unwrap_err();
        assert!(matches!(error.kind, Kind::DeviceLost | Kind::Memory), "{error}");
        heal();
        works(&gpu_with(Options::default()).unwrap());
    }),
];

/// What a child process runs.
#[test]
fn injected_case() {
    let Ok(name) = std::env::var(CASE) else { return };
    let case = CASES.iter().find(|(n, _)| *n == name).unwrap();
    case.1();
    println!("case passed");
}

#[test]
fn every_driver_fault_is_an_error_and_the_next_call_works() {
    let Some(_) = gpu_with(Options::default()) else { return };
    let Some((manifest, driver, real)) = build() else { return };
    for (name, _) in CASES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "gpu::injected_tests::injected_case", "--nocapture"])
            .env(CASE, name)
            .env(DRIVER, &driver)
            .env("SEQCORE_REAL_DRIVER", &real)
            .env("VK_DRIVER_FILES", &manifest)
            .env("VK_ICD_FILENAMES", &manifest)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("{name}: hangs");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("case passed"), "{name}: {out}\n{err}");
        assert!(!err.contains("panicked"), "{name}: {err}");
    }
    std::fs::remove_dir_all(manifest.parent().unwrap()).unwrap();
}

/// Compiles the driver and writes its manifest; None, visibly, without a C compiler or a known real driver.
fn build() -> Option<(PathBuf, PathBuf, String)> {
    let manifest = std::env::var("VK_DRIVER_FILES").or_else(|_| std::env::var("VK_ICD_FILENAMES")).ok();
    let text = manifest.and_then(|file| std::fs::read_to_string(file).ok());
    let real = text.as_deref().and_then(|t| t.split("\"library_path\"").nth(1)).and_then(|t| t.split('"').nth(1));
    let Some(real) = real else {
        println!("skipped: VK_DRIVER_FILES names no driver");
        return None;
    };
    let folder = std::env::temp_dir().join(format!("seqcore-fault-driver-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let library = folder.join("libfault_driver.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu/fault_driver.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("skipped: no C compiler");
        return None;
    }
    let manifest = folder.join("fault.json");
    let icd = format!("{{\"library_path\": {:?}, \"api_version\": \"1.3.230\"}}", library.display().to_string());
    std::fs::write(&manifest, format!("{{\"file_format_version\": \"1.0.0\", \"ICD\": {icd}}}")).unwrap();
    Some((manifest, library, real.to_string()))
}
