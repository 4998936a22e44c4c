//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): a counter hashed by
//! a bijective mixer. Every generator of this workspace is made of it: the engine's streams are one each, those of
//! datasets take their state from it, tests use it as it is.

/// What the counter grows by: 2^64 divided by the golden ratio.
pub const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The mixer: every input bit changes every output bit with probability about one half.
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A generator; its state is the counter.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Uniform in `0..1`, on 24 bits: every value is exact.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Uniform in `low..high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in `0..end`, but for a bias of `end / 2^64`.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next_u64() % end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers() {
        // First outputs for the seed 1234567, as listed for the reference implementation.
        let mut rng = SplitMix64(1_234_567);
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert!(published.iter().all(|&number| rng.next_u64() == number));
    }

    #[test]
    fn numbers_lie_in_their_ranges() {
        let mut rng = SplitMix64(0);
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&rng.uniform()));
            assert!((-2.0..3.0).contains(&rng.between(-2.0, 3.0)));
            assert!(rng.below(7) < 7);
        }
    }
}
