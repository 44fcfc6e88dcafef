//! Memory for small things when memory ends. Tensors are asked for and may be refused, a `MemoryError`; a string or a
//! list of a few names may not: without it the process would end. For these some memory is kept aside and given back
//! to the system when it has none left. From then on no tensor is made until memory can be put aside again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Enough for the system's allocator to begin a new arena, of 1 MiB. Its pages are never touched.
const SIZE: usize = 4 << 20;
/// What is larger is no small thing.
const SMALL: usize = 1 << 18;

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;
static ASIDE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

fn layout() -> Layout {
    // an alignment of 1 fits every size
    Layout::from_size_align(SIZE, 1).unwrap_or(Layout::new::<u8>())
}

/// Whether memory is aside, or could be put there now.
pub(super) fn is_there() -> bool {
    if !ASIDE.load(Ordering::Relaxed).is_null() {
        return true;
    }
    // SAFETY: not of size 0.
    let fresh = unsafe { System.alloc(layout()) };
    if !fresh.is_null() && ASIDE.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        // SAFETY: just made, and nobody else knows it.
        unsafe { System.dealloc(fresh, layout()) };
    }
    !fresh.is_null()
}

/// The block, or where there is no room for so small a one what `again` finds when the reserve is given back.
fn insisting(block: *mut u8, size: usize, again: impl FnOnce() -> *mut u8) -> *mut u8 {
    if !block.is_null() || size > SMALL {
        return block;
    }
    let aside = ASIDE.swap(ptr::null_mut(), Ordering::AcqRel);
    if aside.is_null() {
        return block;
    }
    // SAFETY: made with this layout, and taken out by this thread alone.
    unsafe { System.dealloc(aside, layout()) };
    again()
}

// SAFETY: it is the system's allocator, asked a second time.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        let get = || unsafe { System.alloc(layout) };
        insisting(get(), layout.size(), get)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        let get = || unsafe { System.alloc_zeroed(layout) };
        insisting(get(), layout.size(), get)
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on; what failed left the old block as it was.
        let get = || unsafe { System.realloc(old, layout, size) };
        insisting(get(), size, get)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(block, layout) }
    }
}
