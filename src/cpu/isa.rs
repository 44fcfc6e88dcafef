//! Which instruction set kernels use: found once at run time, or forced by `SEQCORE_ISA`.

use crate::error::{Error, Kind, Result};
use std::sync::OnceLock;

/// An instruction set that this processor has: a value is proof of it, so kernels need not ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Portable,
    Avx2,
    Avx512,
}

impl Isa {
    /// Plain Rust, 8 lanes: every processor.
    pub const PORTABLE: Isa = Isa(Level::Portable);

    /// All that this processor has, the plainest first: what tests run over.
    pub fn available() -> Vec<Isa> {
        [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|&l| has(l)).map(Isa).collect()
    }

    /// As `SEQCORE_ISA` spells it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// f32 values in one vector.
    pub const fn lanes(self) -> usize {
        match self.0 {
            Level::Portable | Level::Avx2 => 8,
            Level::Avx512 => 16,
        }
    }

    /// 0, 1, 2: added to the kind of a packed image, because images differ by instruction set.
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// Whether products are fused (rounded once), which is what makes bits equal between instruction sets.
    pub const fn fused(self) -> bool {
        !matches!(self.0, Level::Portable) || cfg!(any(target_arch = "aarch64", target_feature = "fma"))
    }

    pub(super) fn level(self) -> Level {
        self.0
    }
}

/// The instruction set of this process: the best there is, or what `SEQCORE_ISA` says; empty, it says nothing. A name
/// that is unknown or that this processor lacks is an error at every call, never an illegal instruction.
pub fn isa() -> Result<Isa> {
    static FOUND: OnceLock<Result<Isa>> = OnceLock::new();
    FOUND
        .get_or_init(|| match std::env::var_os("SEQCORE_ISA") {
            Some(name) if !name.is_empty() => forced(&name.to_string_lossy()),
            _ => Ok(Isa::available().pop().unwrap_or(Isa::PORTABLE)),
        })
        .clone()
}

fn forced(name: &str) -> Result<Isa> {
    let available = Isa::available();
    available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
        let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
        let expected = format!("one of {} on this processor", names.join(", "));
        Error::found(Kind::State, "SEQCORE_ISA", expected, name).hint("unset the variable")
    })
}

fn has(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        (avx2, avx2 && avx512)
    };
    #[cfg(not(target_arch = "x86_64"))]
    let found = (false, false);
    match level {
        Level::Portable => true,
        Level::Avx2 => found.0,
        Level::Avx512 => found.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(forced("portable").unwrap(), Isa::PORTABLE);
        let e = forced("sse9").unwrap_err();
        assert_eq!(e.kind, Kind::State);
        let text = e.to_string();
        assert!(text.contains("SEQCORE_ISA") && text.contains("portable") && text.contains("sse9"), "{text}");
        for isa in Isa::available() {
            assert_eq!(forced(isa.name()).unwrap(), isa);
        }
    }
}
