//! Seeded random numbers: streams of [`SplitMix64`].
//!
//! A counter-based generator gives every element its number from (seed, stream, index) alone, so dropout masks
//! do not depend on threads and a resumed run needs no generator state.

use ocelli_common::random::{STEP, SplitMix64, mix};

/// A stream of numbers from a seed and a stream number.
#[derive(Clone, Debug)]
pub struct Rng {
    numbers: SplitMix64,
}

impl Rng {
    /// Stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        Rng { numbers: SplitMix64(mix(seed ^ mix(stream.wrapping_mul(STEP).wrapping_add(STEP)))) }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.numbers.next_u64()
    }

    /// Uniform in `0..1`, on 24 bits.
    pub fn uniform(&mut self) -> f32 {
        self.numbers.uniform()
    }

    /// Standard normal by Box and Muller (1958).
    pub fn normal(&mut self) -> f32 {
        let (u, v) = (1.0 - self.uniform() as f64, self.uniform() as f64);
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }
}
