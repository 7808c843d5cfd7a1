//! Random number generator for the jitter of timers.

/// SplitMix64 random number generator: fast, small and deterministic for a given seed.
#[derive(Debug, Clone)]
pub(crate) struct JitterRng(u64);

impl JitterRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next uniformly distributed number in `[0, 1)`.
    pub(crate) fn next_f64(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published test vector of SplitMix64, scaled to `[0, 1)`.
    #[test]
    fn numbers_match_reference() {
        let expected: [u64; 3] =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        let mut rng = JitterRng::new(1_234_567);
        for number in expected {
            let expected = (number >> 11) as f64 / (1_u64 << 53) as f64;
            assert_eq!(rng.next_f64(), expected);
        }
    }
}
