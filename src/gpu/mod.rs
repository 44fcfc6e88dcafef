//! The GPU workshop (wgpu): adapters, context, buffers, pipelines, counters, and the shader functions that
//! several operations share. It knows no operation and no Python.
//!
//! # How to add a shader
//!
//! 1. Write `src/ops/OP/NAME.wgsl`. First lines: what it is for, and `// uses: grid, math` for the shared files
//!    it needs (`grid.wgsl`: `group_number`; `math.wgsl`: `exp_f32`, `sigmoid`, `tanh_f32`, `is_nan`;
//!    `philox.wgsl`: `philox`, `uniform_f32`; `walk.wgsl`: `index_of`, `offset_of`). Binding 0 is the uniform: a
//!    struct of u32, i32 or f32, its size a multiple of 16 bytes. Storage bindings follow from 1, at most 7 in an
//!    entry. Each binding, each `const`, `override` and `var<workgroup>` on one line. Above each `@compute` a line
//!    `// grid:` (workgroups) and one `// trips:` (loop trips of an invocation, all loops together).
//! 2. A grid is one-dimensional: `group_number(workgroup_id, num_workgroups)`, then a range test, because a long
//!    grid is spilled into a second dimension and padded. No `return` before a barrier.
//! 3. In `src/ops/OP/gpu.rs` repeat the struct with `#[repr(C)] #[derive(Clone, Copy, bytemuck::NoUninit)]`, then
//!
//!    ```text
//!    let y = gpu.allocate(DType::F32, n)?;
//!    gpu.dispatch(&Kernel::new("OP/NAME", "entry"), &[&x, &y], &params, Grid::new(groups).trips(k).work(flops))?;
//!    ```
//!
//!    A long dispatch is cut into several where the uniform has a field `first_group: u32` (in the host's struct 0,
//!    called `cut` with what pads it) and the entry adds it to `group_number(..)`: without that, Ctrl-C waits for its end.
//!
//!    An operation on elements in order is `dispatch_pieces`, so that a tensor may be larger than a binding.
//!    `with("NAME", value)` sets an override; `repeat` runs a kernel many times with changing parameters for the
//!    price of the dispatches alone. Nothing waits: errors of shape and size show at once, lost devices at the
//!    next call, results at `download`. Memory from `allocate` holds old data: write every element.
//! 4. `cargo test --features gpu` reads every shader with naga and compares it with its manifest. Test the kernel
//!    in `gpu_tests.rs` with `testing::gpu()`, whose memory is filled with NaN before use.

mod adapters;
mod buffer;
mod context;
mod counters;
mod engine;
#[cfg(test)]
mod fault_tests;
mod gemm;
mod guard;
#[cfg(all(test, target_os = "linux"))]
mod injected_tests;
mod pipeline;
mod pool;
#[cfg(test)]
mod probe_tests;
mod read;
mod record;
mod sequence;
mod shaders;
#[cfg(test)]
pub(crate) mod testing;
mod wait;
pub mod walk;

pub use adapters::{AdapterInfo, adapters, usable_adapters};
pub use buffer::GpuBuffer;
pub use context::{Context, Options};
pub use counters::Counts;
pub use gemm::{Batch, Begin, Matrix, Product};
pub use pipeline::Kernel;
pub use record::Ready;
pub use sequence::Steps;
pub use shaders::{Access, Binding, Entry, Shader, shaders};

use crate::backend::Buffer;
use crate::error::{Error, Result};
use std::sync::Arc;

/// Asked now and then by long work: `Err` (of kind `Interrupted`) means stop.
pub type Poll<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// A GPU as an engine, for one call.
#[derive(Clone)]
pub struct Gpu<'a> {
    context: Arc<Context>,
    poll: Poll<'a>,
}

/// How much a dispatch does.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    groups: u64,
    trips: u64,
    work: u64,
}

impl Grid {
    /// So many workgroups; none is allowed, and does nothing.
    pub fn new(groups: u64) -> Grid {
        Grid { groups, trips: 0, work: 0 }
    }

    /// A thread for each of `count` elements, 256 to a workgroup. An element that is read and written takes as long as
    /// some 20 terms of a product.
    pub fn elements(count: usize) -> Grid {
        Grid::new(count.div_ceil(256) as u64).work(20 * count as u64)
    }

    /// The same, where an element's place in views of several axes is computed: divisions by five sizes.
    pub fn walk(count: usize) -> Grid {
        Grid::elements(count).work(60 * count as u64)
    }

    /// Loop trips of one invocation, all its loops together, one more for each time a loop is entered.
    pub fn trips(self, trips: u64) -> Grid {
        Grid { trips, ..self }
    }

    /// How long the whole dispatch takes, roughly, in terms (a multiplication and an addition) of a product: decides
    /// when to submit, and where a dispatch is cut.
    pub fn work(self, work: u64) -> Grid {
        Grid { work, ..self }
    }
}

impl<'a> Gpu<'a> {
    /// The same, not interruptible: for what must not stop half way. Ctrl-C is heard before.
    pub fn quietly(&self) -> Result<Gpu<'static>> {
        (self.poll)()?;
        self.throttle()?;
        Ok(Gpu { context: Arc::clone(&self.context), poll: &|| Ok(()) })
    }

    /// The engine on adapter `index` of `adapters()`. Waits ask `poll` every 20 ms, on the calling thread, with
    /// no lock held.
    pub fn open(index: usize, poll: Poll<'a>) -> Result<Gpu<'a>> {
        Ok(Gpu { context: Context::shared(index)?, poll })
    }

    /// The engine on a context that is already open.
    pub fn on(context: Arc<Context>, poll: Poll<'a>) -> Gpu<'a> {
        Gpu { context, poll }
    }

    /// Asks whether the call is to end.
    pub fn poll(&self) -> Result<()> {
        (self.poll)()
    }

    /// The opened device.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// (first, count) of pieces of `len` elements that a kernel sees in one binding each; every piece begins at a
    /// multiple of 64, so that its window begins with it.
    pub fn pieces(&self, len: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        // at most 2^30, so that a kernel's u32 holds it whatever a binding may be
        let most = (self.context.largest_window() / 64 * 64).clamp(64, 1 << 30);
        (0..len).step_by(most).map(move |first| (first, most.min(len - first)))
    }

    /// Records one run of a kernel for each such piece of `buffers`, which are of one length: mostly one.
    /// `params(first, count)` says what is run of it.
    pub fn dispatch_pieces<P: bytemuck::NoUninit>(
        &self,
        kernel: &Kernel,
        buffers: &[&GpuBuffer],
        params: impl Fn(usize, usize) -> (P, Grid),
    ) -> Result<()> {
        for (first, count) in self.pieces(buffers.first().map_or(0, |b| b.len())) {
            let windows = buffers.iter().map(|b| Ok(b.window(first, count)?.0)).collect::<Result<Vec<_>>>()?;
            let (params, grid) = params(first, count);
            self.dispatch(kernel, &windows.iter().collect::<Vec<_>>(), &params, grid)?;
        }
        Ok(())
    }

    /// Whether the adapter computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.context.info().is_software
    }
}

/// `n`, a number of elements or a position, as kernels know it.
pub fn position(op: &str, n: usize) -> Result<u32> {
    let most = "fewer than 2^32 elements in one operation on the GPU";
    u32::try_from(n).map_err(|_| Error::too_large(most, n).of(op))
}

/// What was sent to all devices since the last call.
pub fn take_counts() -> Result<Counts> {
    let mut sum = Counts::default();
    for context in Context::all_shared()? {
        let counts = context.take_counts();
        sum.dispatches += counts.dispatches;
        sum.submits += counts.submits;
        sum.bytes_up += counts.bytes_up;
        sum.bytes_back += counts.bytes_back;
    }
    Ok(sum)
}
