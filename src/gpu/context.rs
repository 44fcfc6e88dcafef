//! One opened device and all that belongs to it. A context is shared by all threads and kept for the life of
//! the process: dropping a device at exit, or in a child after fork(), can hang. A lost device is replaced by
//! a new context; what belonged to the old one stays lost.

use crate::error::{Error, Kind, Result};
use crate::gpu::adapters::{AdapterInfo, adapter, check_process};
use crate::gpu::counters::{Counters, Counts};
use crate::gpu::guard::{Fault, without_report};
use crate::gpu::pool::{self, Pool, class};
use crate::gpu::record::Recorder;
use crate::gpu::wait::{Done, Gate};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that wgpu may copy for itself: what is more goes through memory whose lack is no loss of the device.
const SMALL: usize = 1 << 16;
/// Bytes that go up at a time.
const PIECE: usize = 16 << 20;

/// Bytes of the largest binding that is asked for: kernels compute positions in 32 bits, and some step past the end.
const LARGEST_BINDING: u64 = 4 << 31;

/// Bytes that the host must have left before new buffers and kernels are made: wgpu and drivers take some without asking
/// whether there are any, for lists that grow with the number of buffers and, on an adapter that computes there, for all.
pub(super) const ROOM_TO_GROW: usize = 64 << 20;
/// The same before work with those that are there: what is left where no new ones could be made.
pub(super) const ROOM_TO_WORK: usize = 16 << 20;

/// How long something is waited for that should come at once, or that we can do without.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// An opened device.
pub struct Context {
    recorder: Mutex<Recorder>,
    pool: Mutex<Pool>,
    /// host-readable buffers that nobody uses at the moment
    pub(super) readers: Mutex<Vec<wgpu::Buffer>>,
    pub(super) queue: wgpu::Queue,
    pub(super) device: wgpu::Device,
    pub(super) fault: Arc<Fault>,
    pub(super) counters: Counters,
    pub(super) gate: Gate,
    pub(super) done: Done,
    /// how many submissions there were: see `pool.rs`
    pub(super) submissions: AtomicU64,
    pub(super) limits: Limits,
    info: AdapterInfo,
    index: usize,
    process: u32,
    poison: AtomicBool,
}

/// What is checked here before wgpu sees a size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// bytes of a buffer
    pub(super) buffer: u64,
    /// bytes that one binding shows to a kernel
    pub(super) binding: u64,
    /// estimated work of one submission, as `Grid::work` counts it: some 50 ms
    pub(super) work: u64,
}

/// How to open a device; the default is what users get.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// lower the largest binding, to test what happens above it
    pub binding: Option<u64>,
    /// lower the work of a submission, to test what is cut
    pub work: Option<u64>,
    /// lower the memory budget
    pub memory: Option<u64>,
    /// fill memory with NaN before it is handed out, so that a kernel that does not write all of it shows
    pub poison: bool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({})", self.info.name)
    }
}

static SHARED: Mutex<Vec<Arc<Context>>> = Mutex::new(Vec::new());

/// A lock whose holder may have panicked: everything behind these locks is valid at every unlock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// The process's context on adapter `index`, opened at first use; a new one after a loss.
    pub fn shared(index: usize) -> Result<Arc<Context>> {
        check_process()?;
        let mut shared = lock(&SHARED);
        if let Some(context) = shared.iter().rev().find(|c| c.index == index && !c.fault.is_lost()) {
            return Ok(context.clone());
        }
        let context = Context::open(index, Options::default())?;
        shared.push(context.clone());
        Ok(context)
    }

    /// Every shared context.
    pub(super) fn all_shared() -> Result<Vec<Arc<Context>>> {
        check_process()?;
        Ok(lock(&SHARED).clone())
    }

    /// A context of its own.
    pub fn open(index: usize, options: Options) -> Result<Arc<Context>> {
        let adapter = adapter(index)?;
        let (info, offered) = without_report(|| (adapter.get_info(), adapter.limits())).map_err(Error::internal)?;
        // Everything else stays at the defaults, which every adapter has: a test on a generous software
        // driver must not pass with sizes that real devices refuse.
        let binding = offered.max_storage_buffer_binding_size.min(LARGEST_BINDING);
        let limits = wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: options.binding.map_or(binding, |lower| lower.min(binding)),
            ..wgpu::Limits::default()
        };
        let wanted =
            wgpu::DeviceDescriptor { label: Some("seqcore"), required_limits: limits.clone(), ..Default::default() };
        let refused = |why: &dyn std::fmt::Display| {
            let got = format!("gpu:{index} ({}), which cannot: {why}", info.name);
            Error::found(Kind::Device, "device", "a GPU that can be opened", got)
        };
        let (device, queue) = without_report(|| pollster::block_on(adapter.request_device(&wanted)))
            .map_err(|e| refused(&e))?
            .map_err(|e| refused(&e))?;
        let fault = Arc::new(Fault::default());
        let heard = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| heard.uncaught(error.to_string())));
        let heard = fault.clone();
        device.set_device_lost_callback(move |reason, message| heard.lose(format!("{reason:?}: {message}")));
        let info = AdapterInfo::new(&info);
        let budget = match options.memory {
            Some(bytes) => bytes,
            None => pool::budget(info.is_software)?,
        };
        let work = options.work.unwrap_or(match info.kind {
            "software" => 100_000_000,
            "discrete" => 100_000_000_000,
            _ => 10_000_000_000,
        });
        Ok(Arc::new(Context {
            recorder: Mutex::new(Recorder::default()),
            pool: Mutex::new(Pool::new(budget)),
            readers: Mutex::new(Vec::new()),
            queue,
            device,
            fault,
            counters: Counters::default(),
            gate: Gate::default(),
            done: Done::default(),
            submissions: AtomicU64::new(0),
            limits: Limits { buffer: limits.max_buffer_size, binding: limits.max_storage_buffer_binding_size, work },
            info,
            index,
            process: std::process::id(),
            poison: AtomicBool::new(options.poison),
        }))
    }

    /// The adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Its place in the list of adapters.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Elements that one binding shows to a kernel.
    pub fn largest_window(&self) -> usize {
        usize::try_from(self.limits.binding / 4).unwrap_or(usize::MAX)
    }

    /// What was sent since the last call.
    pub fn take_counts(&self) -> Counts {
        self.counters.take()
    }

    /// Bytes that tensors hold, and bytes kept for the next ones.
    #[cfg(test)]
    pub(super) fn memory(&self) -> (u64, u64) {
        let (held, free) = lock(&self.pool).bytes();
        (held - free, free)
    }

    /// Loses the device on purpose.
    #[cfg(any(test, feature = "testing"))]
    pub fn destroy(&self) {
        let _ = without_report(|| {
            self.device.destroy();
            let _ = self.gate.beside(|| self.device.poll(wgpu::PollType::Poll));
        });
    }

    /// `Err` in a forked child and after a loss.
    pub(super) fn check(&self) -> Result<()> {
        if self.process != std::process::id() {
            check_process()?;
            return Err(Error::internal("a GPU of another process"));
        }
        self.fault.check()
    }

    /// Runs `f`, which calls wgpu, and finds out whether it worked.
    pub(super) fn guarded<R>(&self, what: &str, f: impl FnOnce() -> R) -> Result<R> {
        self.fault.guarded(&self.device, what, f)
    }

    /// Err where the host has no such room. Asked of software adapters only, before what can still be refused.
    pub(super) fn check_host(&self, bytes: usize) -> Result<()> {
        let mut room = Vec::<u8>::new();
        let fits = !self.info.is_software || room.try_reserve_exact(bytes).is_ok();
        // a compiler leaves out memory that nobody looks at
        std::hint::black_box(&room);
        if fits { Ok(()) } else { Err(Error::memory("what a software GPU takes of the host's memory")) }
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        lock(&self.recorder)
    }

    /// Memory for at least `bytes`. With `for_host` it may be written to at once by the host, else only by
    /// what is recorded from now on.
    pub(super) fn block(&self, bytes: u64, for_host: bool) -> Result<wgpu::Buffer> {
        self.check()?;
        let class = class(bytes);
        if class > self.limits.buffer {
            let most = format!("at most {} bytes in one piece, this GPU's largest buffer", self.limits.buffer);
            return Err(Error::too_large(most, bytes));
        }
        let before = if for_host { self.submissions.load(Ordering::Acquire) } else { u64::MAX };
        if let Some(buffer) = lock(&self.pool).take(class, before) {
            return Ok(buffer);
        }
        if lock(&self.pool).reserve(class) {
            match self.create(class) {
                Err(error) if error.kind == Kind::Memory => lock(&self.pool).unreserve(class),
                Err(error) => {
                    lock(&self.pool).unreserve(class);
                    return Err(error);
                }
                done => return done,
            }
        }
        // No room: free blocks of other sizes may be in the way, and their memory returns only when the work
        // that uses them has ended.
        self.trim()?;
        if !lock(&self.pool).reserve(class) {
            let (held, _) = lock(&self.pool).bytes();
            let room = format!("room for {bytes} bytes on the GPU");
            let got = format!("none beside {held} in use");
            return Err(Error::too_large(room, got).hint("SEQCORE_GPU_MEMORY sets how much may be used"));
        }
        self.create(class).inspect_err(|_| lock(&self.pool).unreserve(class))
    }

    fn create(&self, size: u64) -> Result<wgpu::Buffer> {
        // what was let go of has left its room, though not always in one piece
        let grows = lock(&self.pool).grows();
        if grows {
            self.check_host(ROOM_TO_GROW)?;
        }
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        let wanted = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = self.guarded("allocating", || self.device.create_buffer(&wanted))?;
        lock(&self.pool).grown();
        Ok(buffer)
    }

    fn trim(&self) -> Result<()> {
        let blocks = lock(&self.pool).trim();
        let submitted = self.submit(&mut self.recorder())?;
        self.guarded("freeing", || drop(blocks))?;
        let Some(submitted) = submitted else { return Ok(()) };
        let start = Instant::now();
        self.wait(&submitted, &|| match start.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(Error::memory("more tensors while the GPU is still busy with others")),
        })
    }

    /// Takes memory back. Never blocks on the device, never fails: called by `drop`.
    pub(super) fn give_back(&self, block: wgpu::Buffer) {
        if self.process != std::process::id() {
            // Even dropping a handle of the parent's device can hang here.
            std::mem::forget(block);
            return;
        }
        let submission = self.submissions.load(Ordering::Acquire);
        let extra = if self.fault.is_lost() {
            lock(&self.pool).unreserve(block.size());
            Some(block)
        } else {
            lock(&self.pool).release(block, submission)
        };
        let _ = without_report(move || drop(extra));
    }

    /// Whether memory is to be filled with NaN before it is handed out.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.load(Ordering::Relaxed)
    }

    /// Copies host data into a block from `block(.., true)`.
    pub(super) fn write(&self, block: &wgpu::Buffer, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !bytes.len().is_multiple_of(4) || bytes.len() as u64 > block.size() {
            return Err(Error::internal("an upload of a wrong size"));
        }
        Counters::add(&self.counters.bytes_up, bytes.len() as u64);
        if bytes.len() <= SMALL {
            self.guarded("uploading", || self.queue.write_buffer(block, 0, bytes))?;
            return self.wrote(bytes.len() as u64);
        }
        // `write_buffer` would make as much memory of its own, and lose the device where there is none
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            let staged = self.staged(piece)?;
            let (start, size) = ((i * PIECE) as u64, piece.len() as u64);
            self.recorder().encoder(self)?.copy_buffer_to_buffer(&staged, 0, block, start, size);
            self.wrote(size)?;
        }
        Ok(())
    }

    /// Memory for the host to write to and the device to copy from, with `bytes` in it.
    fn staged(&self, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let wanted = wgpu::BufferDescriptor {
            label: Some("upload"),
            size: bytes.len() as u64,
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        };
        let staged = self.guarded("uploading", || self.device.create_buffer(&wanted))?;
        self.guarded("uploading", || match staged.get_mapped_range_mut(..) {
            Ok(mut view) => {
                view.slice(..).copy_from_slice(bytes);
                Ok(())
            }
            Err(error) => Err(Error::internal(format!("uploading: {error}"))),
        })??;
        self.guarded("uploading", || staged.unmap())?;
        Ok(staged)
    }
}

impl Drop for Context {
    /// Only contexts that are not shared get here, and lost ones.
    fn drop(&mut self) {
        if self.process != std::process::id() || self.fault.is_lost() {
            // Dropping these may hang, so they are forgotten: of the device and the queue, one reference.
            std::mem::forget((self.device.clone(), self.queue.clone()));
            std::mem::forget(std::mem::take(&mut *lock(&self.readers)));
            std::mem::forget(std::mem::take(&mut *lock(&self.recorder)));
            std::mem::forget(lock(&self.pool).trim());
            return;
        }
        let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) };
        let _ = self.guarded("closing", || {
            let _ = self.device.poll(wait);
        });
        let _ = without_report(|| {
            lock(&self.readers).clear();
            *lock(&self.recorder) = Recorder::default();
            drop(lock(&self.pool).trim());
        });
    }
}
