//! Blocks of memory, the large ones recycled: a fresh megabyte costs more in page faults than the kernel that
//! fills it (half the time of a training step at B = 1, and what the peers suffer from).
//!
//! Freed blocks of 32 KiB and more are kept, up to a total, and given out again for requests of about their
//! size. A block that nobody wanted for long is returned to the system, so that a run over thousands of shapes
//! does not grow. The lock is only tried: where it is taken (or was, in another thread at a fork) the system's
//! allocator serves.

use super::reserve;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::Mutex;

const ALIGN: usize = 64;
/// Smaller blocks are left to the system's allocator, which is good at them.
const SMALLEST: usize = 32 << 10;
/// From here on blocks are aligned to huge pages, and these are asked for.
const HUGE: usize = 1 << 20;
const HUGE_PAGE: usize = 2 << 20;
/// From here on it is asked whether the machine has so much.
const ENORMOUS: usize = 1 << 32;
/// The most bytes kept, and the most blocks.
const MOST_BYTES: usize = 256 << 20;
const MOST_BLOCKS: usize = 128;
/// A block is dropped when so many others were freed after it.
const AGE: u64 = 256;

/// Memory of one owner.
pub(super) struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory, owned.
unsafe impl Send for Block {}

struct Kept {
    block: Block,
    freed_at: u64,
}

struct Pool {
    /// oldest first
    kept: Vec<Kept>,
    bytes: usize,
    freed: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { kept: Vec::new(), bytes: 0, freed: 0 });

impl Block {
    /// At least `size` bytes; None where there is no room.
    pub(super) fn new(size: usize) -> Option<Block> {
        let layout = layout(size)?;
        if layout.size() >= SMALLEST
            && let Ok(mut pool) = POOL.try_lock()
            && let Some(block) = pool.take(layout.size())
        {
            return Some(block);
        }
        if layout.size() >= ENORMOUS && layout.size() > all_memory() {
            return None;
        }
        if !reserve::is_there() {
            return None;
        }
        // SAFETY: the size is not 0.
        let get = || NonNull::new(unsafe { System.alloc(layout) });
        let start = get().or_else(|| {
            // what is kept here may be what is missing
            let kept = POOL.try_lock().ok().map(|mut pool| pool.clear())?;
            kept.into_iter().for_each(|kept| kept.block.release());
            get()
        })?;
        #[cfg(target_os = "linux")]
        if layout.align() == HUGE_PAGE {
            // SAFETY: our own memory; advice, so a refusal does not matter.
            unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Some(Block { start, layout })
    }

    pub(super) fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Gives it back.
    pub(super) fn free(self) {
        let mut old = Vec::new();
        if self.layout.size() >= SMALLEST
            && let Ok(mut pool) = POOL.try_lock()
        {
            pool.put(self, &mut old);
        } else {
            self.release();
        }
        // outside the lock: returning memory to the system takes long
        old.into_iter().for_each(Block::release);
    }

    fn release(self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { System.dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// All that this machine has, swap included. Some systems promise more, and end the process that uses it.
fn all_memory() -> usize {
    #[cfg(target_os = "linux")]
    {
        let mut info = std::mem::MaybeUninit::<libc::sysinfo>::zeroed();
        // SAFETY: writes to `info`, whose zeros are a value already.
        let info = unsafe {
            libc::sysinfo(info.as_mut_ptr());
            info.assume_init()
        };
        let units = (info.totalram as usize).saturating_add(info.totalswap as usize);
        let all = units.saturating_mul(info.mem_unit as usize);
        if all > 0 { all } else { usize::MAX }
    }
    #[cfg(not(target_os = "linux"))]
    usize::MAX
}

/// Sizes in eighths of a power of two, so that blocks are found again.
fn layout(size: usize) -> Option<Layout> {
    if size < SMALLEST {
        return Layout::from_size_align(size.max(1), ALIGN).ok();
    }
    let step = (1usize << size.ilog2()) / 8;
    let size = size.checked_next_multiple_of(step)?;
    Layout::from_size_align(size, if size >= HUGE { HUGE_PAGE } else { ALIGN }).ok()
}

impl Pool {
    /// The youngest block (its lines may still be in the cache) of `size` or up to a quarter more.
    fn take(&mut self, size: usize) -> Option<Block> {
        let at = self.kept.iter().rposition(|kept| (size..=size + size / 4).contains(&kept.block.layout.size()))?;
        let kept = self.kept.remove(at);
        self.bytes -= kept.block.layout.size();
        Some(kept.block)
    }

    fn clear(&mut self) -> Vec<Kept> {
        self.bytes = 0;
        std::mem::take(&mut self.kept)
    }

    fn put(&mut self, block: Block, old: &mut Vec<Block>) {
        self.freed += 1;
        self.bytes += block.layout.size();
        self.kept.push(Kept { block, freed_at: self.freed });
        let mut drop = 0;
        while let Some(kept) = self.kept.get(drop)
            && (self.bytes > MOST_BYTES || self.kept.len() - drop > MOST_BLOCKS || self.freed - kept.freed_at > AGE)
        {
            self.bytes -= kept.block.layout.size();
            drop += 1;
        }
        old.extend(self.kept.drain(..drop).map(|kept| kept.block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_an_eighth_at_most() {
        for size in (1..400).map(|i| i * 12_345) {
            let layout = layout(size).unwrap();
            assert!(layout.size() >= size && layout.size() <= size + size / 8 + 1, "{size}");
        }
        assert!(layout(usize::MAX).is_none());
        assert!(Block::new(isize::MAX as usize / 2).is_none());
        assert!(cfg!(not(target_os = "linux")) || Block::new(1 << 44).is_none(), "however much is promised");
    }

    #[test]
    fn what_is_kept_is_bounded_and_ages() {
        let mut pool = Pool { kept: Vec::new(), bytes: 0, freed: 0 };
        let make = |size: usize| {
            let layout = layout(size).unwrap();
            // SAFETY: not 0.
            Block { start: NonNull::new(unsafe { System.alloc(layout) }).unwrap(), layout }
        };
        let mut old = Vec::new();
        pool.put(make(40 << 10), &mut old);
        let odd = pool.kept[0].block.start;
        for i in 0..1000usize {
            pool.put(make((64 << 10) + (i * 7919) % (3 << 20)), &mut old);
            assert!(pool.bytes <= MOST_BYTES && pool.kept.len() <= MOST_BLOCKS);
            assert_eq!(pool.bytes, pool.kept.iter().map(|k| k.block.layout.size()).sum::<usize>());
        }
        assert!(pool.kept.iter().all(|kept| kept.block.start != odd), "too old");
        let size = pool.kept[50].block.layout.size();
        assert!(pool.take(size).is_some_and(|block| (size..=size + size / 4).contains(&block.layout.size())));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn four_thousand_shapes_do_not_grow() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let mut state = 1u64;
        let mut round = |n: usize| {
            for _ in 0..n {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let size = (state >> 40) as usize % (4 << 20) + 1;
                let block = Block::new(size).unwrap();
                // SAFETY: size bytes are ours.
                unsafe { std::ptr::write_bytes(block.as_ptr().as_ptr(), 1, size) };
                block.free();
            }
        };
        round(1000);
        let before = resident();
        round(4000);
        // other tests run beside this one
        assert!(resident() < before + (300 << 20), "{} then {}", before, resident());
    }
}
