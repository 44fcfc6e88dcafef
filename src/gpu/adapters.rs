//! Finding and choosing adapters. Never wgpu's own choice, which takes a software renderer silently: real
//! hardware only, unless `SEQCORE_GPU=software`, which takes only software (for tests).

use crate::error::{Error, Kind, Result};
use crate::gpu::guard::without_report;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use wgpu::DeviceType;

/// What a user sees of an adapter; `gpu:N` is its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// the maker's name for it
    pub name: String,
    /// discrete, integrated, virtual, software or other
    pub kind: &'static str,
    /// vulkan, metal or dx12
    pub backend: String,
    /// the driver
    pub driver: String,
    /// its version, in its own words
    pub driver_info: String,
    /// whether it computes on the CPU
    pub is_software: bool,
}

impl AdapterInfo {
    pub(super) fn new(info: &wgpu::AdapterInfo) -> AdapterInfo {
        AdapterInfo {
            name: info.name.clone(),
            kind: match info.device_type {
                DeviceType::DiscreteGpu => "discrete",
                DeviceType::IntegratedGpu => "integrated",
                DeviceType::VirtualGpu => "virtual",
                DeviceType::Cpu => "software",
                DeviceType::Other => "other",
            },
            backend: info.backend.to_string(),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            is_software: info.device_type == DeviceType::Cpu,
        }
    }
}

/// The adapters that can be used, best first. No device is opened.
pub fn adapters() -> Result<Vec<AdapterInfo>> {
    let software = wants_software()?;
    with_all(|all| chosen(all, software).into_iter().map(|i| AdapterInfo::new(&all[i].get_info())).collect())
}

/// As `adapters`, and none where the parent process opened the GPU.
pub fn usable_adapters() -> Result<Vec<AdapterInfo>> {
    if check_process().is_err() { Ok(Vec::new()) } else { adapters() }
}

/// Adapter number `index` of `adapters()`.
pub(super) fn adapter(index: usize) -> Result<wgpu::Adapter> {
    let software = wants_software()?;
    with_all(|all| {
        let list = chosen(all, software);
        match list.get(index) {
            Some(&i) => Ok(all[i].clone()),
            None => Err(absent(index, list.len(), all.len(), software)),
        }
    })?
}

/// The process that first touched wgpu; 0 before. Its children cannot use what it opened: a device of the
/// parent hangs there for ever, even in `drop`.
static OPENED_IN: AtomicU32 = AtomicU32::new(0);

/// `Err` in a child of the process that opened the GPU. Asked before any lock is taken: another thread of the
/// parent may have held it at the fork.
pub(super) fn check_process() -> Result<()> {
    let opened_in = OPENED_IN.load(Ordering::Acquire);
    if opened_in == 0 || opened_in == std::process::id() {
        return Ok(());
    }
    Err(Error::found(Kind::Device, "device", "a GPU opened in this process", "one opened before fork()")
        .hint("start processes with the spawn method"))
}

/// The list is made once a process and kept: a new instance costs up to 0.4 s. Never dropped: see `context.rs`.
struct All {
    _instance: ManuallyDrop<wgpu::Instance>,
    adapters: ManuallyDrop<Vec<wgpu::Adapter>>,
}

fn with_all<R>(f: impl FnOnce(&[wgpu::Adapter]) -> R) -> Result<R> {
    static ALL: Mutex<Option<All>> = Mutex::new(None);
    check_process()?;
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    if all.is_none() {
        OPENED_IN.store(std::process::id(), Ordering::Release);
        let none = |e| Error::found(Kind::Device, "device", "a GPU driver that works", format_args!("none ({e})"));
        *all = Some(without_report(enumerate).map_err(none)?);
    }
    let adapters: &[wgpu::Adapter] = all.as_ref().map_or(&[], |all| &all.adapters);
    without_report(|| f(adapters)).map_err(Error::internal)
}

fn enumerate() -> All {
    let mut wanted = wgpu::InstanceDescriptor::new_without_display_handle();
    wanted.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    wanted.flags = wgpu::InstanceFlags::empty();
    let backends = wanted.backends;
    let instance = wgpu::Instance::new(wanted);
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    All { _instance: ManuallyDrop::new(instance), adapters: ManuallyDrop::new(adapters) }
}

fn wants_software() -> Result<bool> {
    match std::env::var("SEQCORE_GPU") {
        Err(std::env::VarError::NotPresent) => Ok(false),
        Ok(value) if value.is_empty() => Ok(false),
        Ok(value) if value == "software" => Ok(true),
        other => {
            let got = other.unwrap_or_else(|_| "something that is not text".into());
            Err(Error::found(Kind::Device, "SEQCORE_GPU", "\"software\" or nothing", format_args!("{got:?}")))
        }
    }
}

fn chosen(all: &[wgpu::Adapter], software: bool) -> Vec<usize> {
    choose(&all.iter().map(wgpu::Adapter::get_info).collect::<Vec<_>>(), software)
}

/// Positions in `all`, best first, each card once (Windows shows one under Vulkan and under DX12).
fn choose(all: &[wgpu::AdapterInfo], software: bool) -> Vec<usize> {
    let rank = |info: &wgpu::AdapterInfo| match info.device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    let mut list: Vec<usize> = (0..all.len()).filter(|&i| (rank(&all[i]) == 4) == software).collect();
    list.sort_by_key(|&i| rank(&all[i]));
    let mut seen: Vec<(u32, u32, &str, wgpu::Backend)> = Vec::new();
    list.retain(|&i| {
        let card = (all[i].vendor, all[i].device, all[i].device_pci_bus_id.as_str());
        // Two equal cards under one backend are two cards, even where no bus number is known.
        let again = seen.iter().any(|&(v, d, bus, backend)| (v, d, bus) == card && backend != all[i].backend);
        if !again {
            seen.push((card.0, card.1, card.2, all[i].backend));
        }
        !again
    });
    list
}

fn absent(index: usize, usable: usize, all: usize, software: bool) -> Error {
    let there = match usable {
        0 => "cpu".into(),
        1 => "cpu, gpu:0".into(),
        n => format!("cpu, gpu:0 to gpu:{}", n - 1),
    };
    let error = |why: &str| {
        let expected = format_args!("a device that is there ({there})");
        Error::argument(Kind::Device, "device", "device", expected, format_args!("gpu:{index}{why}"))
    };
    match (usable, all, software) {
        (0, 0, _) | (0, _, true) => {
            let why = if software { " where no software GPU driver was found" } else { " where no GPU was found" };
            error(why).hint(match is_room_for_a_driver() {
                true => "install a driver: on Debian and Ubuntu the packages mesa-vulkan-drivers and libvulkan1",
                false => "give the process more memory: a driver that finds no room to be loaded is not found",
            })
        }
        (0, _, false) => error(" where only a software GPU driver was found")
            .hint("use the CPU, or set SEQCORE_GPU=software to test with it"),
        _ => error(""),
    }
}

fn is_room_for_a_driver() -> bool {
    let mut room = Vec::<u8>::new();
    let fits = room.try_reserve_exact(256 << 20).is_ok();
    // a compiler leaves out memory that nobody looks at
    std::hint::black_box(&room);
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(device_type: DeviceType, backend: wgpu::Backend, device: u32) -> wgpu::AdapterInfo {
        let mut info = wgpu::AdapterInfo::new(device_type, backend);
        info.vendor = 1;
        info.device = device;
        info.device_pci_bus_id = format!("0000:0{device}:00.0");
        info
    }

    #[test]
    fn hardware_first_and_once_software_only_by_name() {
        use wgpu::Backend::{Dx12, Vulkan};
        let all = [
            info(DeviceType::Cpu, Vulkan, 1),
            info(DeviceType::IntegratedGpu, Vulkan, 2),
            info(DeviceType::DiscreteGpu, Vulkan, 3),
            info(DeviceType::DiscreteGpu, Dx12, 3),
            info(DeviceType::DiscreteGpu, Vulkan, 3),
        ];
        assert_eq!(choose(&all, false), [2, 4, 1]);
        assert_eq!(choose(&all, true), [0]);
        assert!(choose(&all[..1], false).is_empty());
    }

    #[test]
    fn an_absent_gpu_says_what_to_do() {
        for (text, error) in [
            ("mesa-vulkan-drivers", absent(0, 0, 0, false)),
            ("SEQCORE_GPU=software", absent(0, 0, 1, false)),
            ("device: device: expected a device that is there (cpu, gpu:0), got gpu:7", absent(7, 1, 1, true)),
            ("(cpu, gpu:0 to gpu:1), got gpu:2", absent(2, 2, 3, false)),
        ] {
            assert_eq!(error.kind, Kind::Device);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
