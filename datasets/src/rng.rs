//! A small random generator with the same numbers on every platform, for shuffling and augmentation.
//!
//! xoshiro256++ 1.0 seeded through SplitMix64, both by Blackman and Vigna (public domain, prng.di.unimi.it;
//! "Scrambled linear pseudorandom number generators", ACM TOMS 47(4), 2021). Not for secrets.

use ocelli_common::random::SplitMix64;

/// A xoshiro256++ stream.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of a seed; neighbouring seeds give unrelated streams.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: std::array::from_fn(|_| split_mix64(&mut counter)) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `0.0 <= x < 1.0`, from 24 bits: every value is exact in `f32`.
    pub fn unit_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Uniform in `low <= x <= high`.
    pub fn range_f32(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit_f32()
    }

    /// Uniform in `0 <= x < bound` without bias (Lemire's multiply-and-reject).
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }
}

/// One step of SplitMix64; also a good 64-bit mixer for building keys out of (seed, epoch, index).
pub fn split_mix64(state: &mut u64) -> u64 {
    let mut numbers = SplitMix64(*state);
    let number = numbers.next_u64();
    *state = numbers.0;
    number
}

/// Shuffles in place (Fisher-Yates, from the end), the same way for the same seed everywhere.
pub fn shuffle<T>(values: &mut [T], seed: u64) {
    let mut rng = Rng::new(seed);
    for i in (1..values.len()).rev() {
        values.swap(i, rng.below(i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoshiro_gives_the_published_numbers() {
        // State 1, 2, 3, 4: the test vector that the rand_xoshiro crate takes from the reference C code.
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let published = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
        ];
        assert!(published.iter().all(|&p| rng.next_u64() == p));
    }

    #[test]
    fn below_is_even_and_shuffle_is_a_permutation() {
        let mut rng = Rng::new(7);
        let mut counts = [0u32; 5];
        (0..50_000).for_each(|_| counts[rng.below(5) as usize] += 1);
        assert!(counts.iter().all(|&c| (9_500..10_500).contains(&c)), "{counts:?}");

        let mut a: Vec<usize> = (0..1000).collect();
        let mut b = a.clone();
        shuffle(&mut a, 3);
        shuffle(&mut b, 3);
        assert_eq!(a, b);
        shuffle(&mut b, 4);
        assert_ne!(a, b);
        a.sort_unstable();
        assert!(a.iter().copied().eq(0..1000));
    }

    #[test]
    fn unit_stays_below_one() {
        let mut rng = Rng::new(0);
        assert!((0..100_000).map(|_| rng.unit_f32()).all(|x| (0.0..1.0).contains(&x)));
    }
}
