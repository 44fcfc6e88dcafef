//! The floating-point mode that kernels run in: subnormals flushed, round to nearest, no traps. Without it a
//! tile with subnormal inputs runs a thousand times slower, and bits would depend on the mode that the caller
//! set or that a thread inherited from its creator.

/// While it lives, this thread flushes: subnormal inputs count as 0, results below 2^-126 are 0. Dropping it
/// gives the caller's mode back, on unwinding too.
///
/// Rust assumes the default mode, so code under the guard must be a call that the compiler cannot look
/// into (`#[inline(never)]`), with no floats as arguments or results: `lanes::launch` is the one user.
pub(super) struct Flush(Saved);

#[cfg(target_arch = "x86_64")]
type Saved = u32;
#[cfg(not(target_arch = "x86_64"))]
type Saved = u64;

impl Flush {
    #[inline(always)]
    pub(super) fn new() -> Flush {
        let old = mode();
        set(FLUSHING);
        Flush(old)
    }
}

impl Drop for Flush {
    #[inline(always)]
    fn drop(&mut self) {
        set(self.0);
    }
}

/// Exceptions masked, round to nearest, FTZ and DAZ.
#[cfg(target_arch = "x86_64")]
const FLUSHING: Saved = 0x1f80 | 1 << 15 | 1 << 6;
/// FZ.
#[cfg(not(target_arch = "x86_64"))]
const FLUSHING: Saved = 1 << 24;

#[inline(always)]
fn mode() -> Saved {
    #[cfg(target_arch = "x86_64")]
    {
        let mut now = 0u32;
        // SAFETY: stores the control register to `now`, nothing else.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut now, options(nostack, preserves_flags)) };
        now
    }
    #[cfg(target_arch = "aarch64")]
    {
        let now: u64;
        // SAFETY: reads the control register, nothing else.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) now, options(nostack, preserves_flags)) };
        now
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

#[inline(always)]
fn set(to: Saved) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `to` is a valid control word; code that runs under another mode than the default is kept behind
    // calls that the compiler cannot look into (see `Flush`).
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const to, options(nostack, preserves_flags))
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) to, options(nostack, preserves_flags))
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = to;
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu::{Isa, math};

    #[test]
    fn the_callers_mode_comes_back_and_changes_nothing() {
        let small = [1e-40f32, -1e-40, -87.5, 3.0];
        let default = mode();
        for isa in Isa::available() {
            let mut results = Vec::new();
            // the default, flush to zero, denormals are zero, round up
            for caller in [0x1f80, 0x1f80 | 1 << 15, 0x1f80 | 1 << 6, 0x1f80 | 2 << 13] {
                set(caller);
                let mut out = [0f32; 4];
                math::map::<math::Exp>(isa, &small, &mut out);
                let after = mode();
                set(default);
                assert_eq!(after & !0x3f, caller, "{}", isa.name());
                results.push(out.map(f32::to_bits));
            }
            assert!(results.iter().all(|r| *r == results[0]));
            assert_eq!(results[0][2], 0, "below 2^-126 is 0");
        }
    }

    #[test]
    fn unwinding_restores() {
        let before = mode();
        let caught = std::panic::catch_unwind(|| {
            let _flush = Flush::new();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(caught.is_err());
        assert_eq!(mode(), before);
    }
}
