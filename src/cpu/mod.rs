//! The CPU workshop: memory, instruction sets, SIMD lanes, tile products, packing, sigmoid/tanh/exp and the
//! thread team. It knows no operation and no Python; `ops/*/cpu.rs` builds kernels from these parts.

mod flush;
pub mod gemm;
mod gradient;
mod isa;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_x86;
pub mod map;
pub mod math;
mod memory;
pub mod pack;
mod pool;
mod pow;
mod reserve;
mod strided;
mod sum;
mod team;
#[cfg(test)]
pub(crate) mod testing;
mod through;
pub mod tile;
mod time_loop;

pub use isa::{Isa, isa};
pub use lanes::{Kernel, Lanes, ROUND, launch};
pub use memory::{CpuBuffer, Fresh};
pub use pow::{pow, pow_all};
pub use strided::put_add;
pub use team::{At, num_threads, set_num_threads, wrong_num_threads};
pub use time_loop::TimeLoop;

use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::tensor::{DType, bytes};
use std::cell::Cell;
use std::time::Instant;

/// Bytes that one thread copies at a time: some 50 µs.
const COPY: usize = 1 << 19;

/// Asked now and then by long work: `Err` (of kind `Interrupted`) means stop.
pub type Poll<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// The CPU as an engine, for one call.
#[derive(Clone, Copy)]
pub struct Cpu<'a> {
    poll: Poll<'a>,
    isa: Option<Isa>,
    threads: Option<usize>,
}

impl<'a> Cpu<'a> {
    /// An engine whose long work asks `poll` every few milliseconds, on the calling thread, outside kernels.
    pub fn new(poll: Poll<'a>) -> Cpu<'a> {
        Cpu { poll, isa: None, threads: None }
    }

    /// An engine that nobody interrupts.
    pub fn quiet() -> Cpu<'static> {
        Cpu::new(&|| Ok(()))
    }

    /// The same, not interruptible: for what must not stop half way.
    pub fn quietly(self) -> Cpu<'static> {
        Cpu { poll: &|| Ok(()), isa: self.isa, threads: self.threads }
    }

    /// Copies bytes, in pieces on the team.
    fn copy(&self, from: &[u8], into: &mut [u8]) -> Result<()> {
        if from.len() != into.len() {
            return Err(Error::internal("a copy between unequal buffers"));
        }
        self.pieces(into, COPY, |start, into| {
            into.copy_from_slice(&from[start..][..into.len()]);
            Ok(())
        })
    }

    /// The same with an instruction set of the caller's choice, so that a test compares them in one process.
    pub fn with_isa(self, isa: Isa) -> Cpu<'a> {
        Cpu { isa: Some(isa), ..self }
    }

    /// The same with at most `threads` threads, at least one, whatever the process uses.
    pub fn with_threads(self, threads: usize) -> Cpu<'a> {
        Cpu { threads: Some(threads.max(1)), ..self }
    }

    /// `Err` when the caller wants the call to end.
    pub fn poll(&self) -> Result<()> {
        (self.poll)()
    }

    /// `poll` every few milliseconds, however often it is asked: for plain loops.
    pub fn paced(&self) -> impl Fn() -> Result<()> + '_ {
        let last = Cell::new(Instant::now());
        move || {
            if last.get().elapsed() < team::every() {
                return Ok(());
            }
            last.set(Instant::now());
            self.poll()
        }
    }

    /// The instruction set of its kernels; an error where `SEQCORE_ISA` asks for what is not there.
    pub fn isa(&self) -> Result<Isa> {
        self.isa.map_or_else(isa, Ok)
    }

    /// How many threads its work may use: another thread of the program may change it at any time.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(num_threads)
    }

    /// Does `work` for every unit below `units`, on the team if there is more than one. Units write to disjoint
    /// memory. `Err` is what `poll` said, or a panic of a unit; some units are then not done.
    pub fn run(&self, units: usize, work: impl Fn(usize) + Sync) -> Result<()> {
        team::run(self.threads(), 1, units, self.poll, &|at| work(at.unit))
    }

    /// The same in `phases`, each begun when the one before is done, on at most `threads` threads, which `At::thread`
    /// counts. A thread keeps to its units as far as it can.
    pub fn run_phases(&self, threads: usize, phases: usize, units: usize, work: impl Fn(At) + Sync) -> Result<()> {
        team::run(threads, phases, units, self.poll, &work)
    }
}

impl Backend for Cpu<'_> {
    type Buffer = CpuBuffer;

    fn allocate(&self, dtype: DType, len: usize) -> Result<CpuBuffer> {
        CpuBuffer::allocate(dtype, len)
    }

    fn zeros(&self, dtype: DType, len: usize) -> Result<CpuBuffer> {
        Ok(match dtype {
            DType::F32 => self.cleared::<f32>(len)?.done(),
            DType::F64 => self.cleared::<f64>(len)?.done(),
            DType::I64 => self.cleared::<i64>(len)?.done(),
        })
    }

    fn upload(&self, dtype: DType, data: &[u8]) -> Result<CpuBuffer> {
        let buffer = CpuBuffer::allocate(dtype, data.len() / dtype.size())?;
        // SAFETY: nobody else has a handle on the new memory.
        self.copy(data, unsafe { buffer.bytes_mut() })?;
        Ok(buffer)
    }

    fn download(&self, from: &CpuBuffer, into: &mut [u8]) -> Result<()> {
        self.copy(from.bytes(), into)
    }

    fn slice(&self, from: &CpuBuffer, start: usize, len: usize) -> Result<CpuBuffer> {
        let size = from.dtype().size();
        let range = start
            .checked_add(len)
            .filter(|&end| end <= from.len())
            .map(|end| start * size..end * size)
            .ok_or_else(|| Error::internal("slice past the end of a buffer"))?;
        self.upload(from.dtype(), &from.bytes()[range])
    }

    fn concat(&self, parts: &[&CpuBuffer]) -> Result<CpuBuffer> {
        let dtype = parts.first().ok_or_else(|| Error::internal("concat of nothing"))?.dtype();
        let mut len = 0usize;
        for part in parts {
            len = len.checked_add(part.len()).ok_or_else(|| Error::memory("joined buffers"))?;
        }
        let buffer = CpuBuffer::allocate(dtype, len)?;
        // SAFETY: nobody else has a handle on the new memory.
        let mut rest = unsafe { buffer.bytes_mut() };
        for part in parts {
            let (head, tail) = rest.split_at_mut(bytes(&[part.len()], dtype)?);
            self.copy(part.bytes(), head)?;
            rest = tail;
        }
        Ok(buffer)
    }

    fn assign(&self, into: &CpuBuffer, from: &CpuBuffer) -> Result<()> {
        if into.dtype() != from.dtype() || into.len() != from.len() {
            return Err(Error::internal("assign between unequal buffers"));
        }
        // SAFETY: the caller of a mutating operation holds the only right to touch `into` (see `memory.rs`).
        // What has begun ends: nobody sees half of it.
        if into.as_ptr() != from.as_ptr() {
            self.quietly().copy(from.bytes(), unsafe { into.bytes_mut() })?;
        }
        into.stamp().bump();
        Ok(())
    }
}
