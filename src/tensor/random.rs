//! Random numbers as a function of (seed, stream, position): Philox 4x32-10 (Salmon et al. 2011, "Parallel
//! random numbers: as easy as 1, 2, 3"). No state, so no thread count, device or recomputation changes a
//! draw. `src/gpu/philox.wgsl` computes the same bits.

/// A stream of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    /// the user's seed
    pub seed: u64,
    /// which use of the seed: a counter of calls, never used twice
    pub stream: u64,
}

impl Philox {
    /// Rounds of a block.
    pub const ROUNDS: usize = 10;
    /// Of the first and the third word, in each round.
    pub const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    /// Added to the key after each round.
    pub const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

    /// Four random words at block `block` of the stream.
    pub fn block(self, block: u64) -> [u32; 4] {
        let mut key = [self.seed as u32, (self.seed >> 32) as u32];
        let mut x = [block as u32, (block >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        for _ in 0..Self::ROUNDS {
            let p0 = u64::from(Self::MULTIPLIERS[0]) * u64::from(x[0]);
            let p1 = u64::from(Self::MULTIPLIERS[1]) * u64::from(x[2]);
            x = [(p1 >> 32) as u32 ^ x[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ x[3] ^ key[1], p0 as u32];
            key = [key[0].wrapping_add(Self::WEYL[0]), key[1].wrapping_add(Self::WEYL[1])];
        }
        x
    }

    /// The word of element `position`: word `position % 4` of block `position / 4`.
    pub fn word(self, position: u64) -> u32 {
        self.block(position / 4)[(position % 4) as usize]
    }
}

/// A word as a number in [0, 1), a multiple of 2^-24: exact in f32.
pub fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Numbers in [-1, 1) that depend on `seed`: what tests of kernels start from.
#[cfg(test)]
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let random = Philox { seed, stream: 7 };
    (0..len as u64).map(|i| uniform(random.word(i)) * 2.0 - 1.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The known answers that come with the paper's own implementation (Random123, kat_vectors, philox4x32 10).
    #[test]
    fn known_answers() {
        let zero = Philox { seed: 0, stream: 0 };
        assert_eq!(zero.block(0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox { seed: u64::MAX, stream: u64::MAX };
        assert_eq!(ones.block(u64::MAX), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = Philox { seed: 0x299f_31d0_a409_3822, stream: 0x0370_7344_1319_8a2e };
        assert_eq!(pi.block(0x85a3_08d3_243f_6a88), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }
}
