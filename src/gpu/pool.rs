//! Device memory in blocks: one `wgpu::Buffer` a block, size classes, free lists, a budget. An arena would be
//! refused by wgpu as soon as one dispatch reads one part of it and writes another.
//!
//! A block may be taken again as soon as its last use is *recorded*: the queue runs in order. Only writes from
//! the host (`Queue::write_buffer`) overtake what is recorded but not submitted; for them a block must wait
//! until the submission count has passed the one of its release.

use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;

/// The bytes of the block that holds `bytes`: powers of two up to 1 MiB, then multiples of 1 MiB.
pub(super) fn class(bytes: u64) -> u64 {
    if bytes <= MIB { bytes.max(256).next_power_of_two() } else { bytes.div_ceil(MIB).saturating_mul(MIB) }
}

/// The free blocks of a device, and the count of all.
#[derive(Debug)]
pub(super) struct Pool {
    free: BTreeMap<u64, Vec<(u64, wgpu::Buffer)>>,
    free_bytes: u64,
    held_bytes: u64,
    /// most bytes that were held
    peak: u64,
    /// most bytes that may be held
    pub(super) budget: u64,
}

impl Pool {
    pub(super) fn new(budget: u64) -> Pool {
        Pool { free: BTreeMap::new(), free_bytes: 0, held_bytes: 0, peak: 0, budget }
    }

    /// A free block of exactly this class, released before submission `before`.
    pub(super) fn take(&mut self, class: u64, before: u64) -> Option<wgpu::Buffer> {
        let list = self.free.get_mut(&class)?;
        let at = list.iter().rposition(|(released, _)| *released < before)?;
        let (_, buffer) = list.swap_remove(at);
        self.free_bytes -= class;
        Some(buffer)
    }

    /// Counts a new block; false when the budget has no room for it.
    pub(super) fn reserve(&mut self, class: u64) -> bool {
        let after = self.held_bytes.saturating_add(class);
        let fits = after <= self.budget;
        if fits {
            self.held_bytes = after;
        }
        fits
    }

    /// Whether more is held, with what is reserved, than ever was.
    pub(super) fn grows(&self) -> bool {
        self.held_bytes > self.peak
    }

    /// Says that what was reserved is there.
    pub(super) fn grown(&mut self) {
        self.peak = self.peak.max(self.held_bytes);
    }

    /// Takes back what `reserve` counted.
    pub(super) fn unreserve(&mut self, class: u64) {
        self.held_bytes = self.held_bytes.saturating_sub(class);
    }

    /// Keeps a block for later, or gives it to the caller to drop when enough are kept: as much as is in use,
    /// and always some.
    pub(super) fn release(&mut self, buffer: wgpu::Buffer, submission: u64) -> Option<wgpu::Buffer> {
        let class = buffer.size();
        let used = self.held_bytes.saturating_sub(self.free_bytes);
        if self.free_bytes.saturating_add(class) > used.max(256 * MIB).min(self.budget) {
            self.unreserve(class);
            return Some(buffer);
        }
        self.free_bytes += class;
        self.free.entry(class).or_default().push((submission, buffer));
        None
    }

    /// Gives all free blocks to the caller to drop.
    pub(super) fn trim(&mut self) -> Vec<wgpu::Buffer> {
        self.held_bytes = self.held_bytes.saturating_sub(self.free_bytes);
        self.free_bytes = 0;
        std::mem::take(&mut self.free).into_values().flatten().map(|(_, buffer)| buffer).collect()
    }

    /// (held, free of those)
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.held_bytes, self.free_bytes)
    }
}

/// The budget: `SEQCORE_GPU_MEMORY` (bytes, or with K, M or G), else for an adapter that computes in host
/// memory 80 % of what is available there, because such memory is committed lazily and its real end is the
/// kernel's out-of-memory killer, not an error.
pub(super) fn budget(is_software: bool) -> Result<u64> {
    match std::env::var("SEQCORE_GPU_MEMORY") {
        Ok(text) if !text.is_empty() => parse_bytes(&text).ok_or_else(|| {
            let expected = "bytes, or a number with K, M or G";
            Error::found(Kind::Value, "SEQCORE_GPU_MEMORY", expected, format_args!("{text:?}"))
        }),
        _ if is_software => Ok(available().map_or(u64::MAX, |bytes| bytes / 5 * 4)),
        _ => Ok(u64::MAX),
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = match text.chars().last()?.to_ascii_uppercase() {
        'K' => (&text[..text.len() - 1], 1 << 10),
        'M' => (&text[..text.len() - 1], MIB),
        'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for (bytes, expected) in [(0, 256), (256, 256), (257, 512), (MIB, MIB), (MIB + 1, 2 * MIB), (5 * MIB, 5 * MIB)]
        {
            assert_eq!(class(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn budgets() {
        assert_eq!(parse_bytes("17"), Some(17));
        assert_eq!(parse_bytes("2g"), Some(2 << 30));
        assert_eq!(parse_bytes("512 M"), Some(512 * MIB));
        assert_eq!(parse_bytes("a lot"), None);
        assert_eq!(parse_bytes(""), None);
    }
}
