//! Loops that find the limits of a processor, for benchmarks: what they compute is of no use.

use std::hint::black_box;

use super::{
    Bf16Isa, DotIsa, DotKernel, DotProduct, Isa, Kernel, PairKernel, PairProduct, Simd, TILE_BYTES,
    TILE_SIDE, TileNumbers, TileProducts, TileSums, TileUnit, dispatch, dispatch_dot, dispatch_pairs,
};
use crate::bf16::Bf16;

/// Independent sums, as rows and vectors of a register tile: two ports of latency 5 need 10, and 12 with their operands fit
/// the 16 registers of AVX2. No two have the same products, which would be computed once.
const CHAINS: [usize; 2] = [6, 2];

struct ByteProducts {
    rounds: usize,
    weights: [i8; 64 * CHAINS[1]],
    bytes: [u8; 4 * CHAINS[0]],
}

impl DotKernel for ByteProducts {
    type Output = (usize, f32);

    #[inline(always)]
    fn run<D: DotProduct>(self, d: D) -> (usize, f32) {
        const { assert!(4 * D::LANES <= 64) };
        let zeros = [0i32; 16];
        // SAFETY: the arrays are as long as the longest vectors.
        let (first, second, start) = unsafe {
            let w = self.weights.as_ptr();
            (d.load_weights(w), d.load_weights(w.add(64)), d.load_sums(zeros.as_ptr()))
        };
        let mut sums = [[start; CHAINS[1]]; CHAINS[0]];
        for _ in 0..self.rounds {
            // Read again each time, or products that do not change would leave the loop.
            let bytes = black_box(&self.bytes).as_ptr();
            for (row, [a, b]) in sums.iter_mut().enumerate() {
                // SAFETY: there are four bytes for each row.
                let x = unsafe { d.spread(bytes.add(4 * row)) };
                *a = d.dot(x, first, *a);
                *b = d.dot(x, second, *b);
            }
        }
        let s = d.floats();
        let mut all = s.splat(0.0);
        for sum in sums.into_iter().flatten() {
            all = s.add(all, d.to_floats(sum));
        }
        (self.rounds * CHAINS[0] * CHAINS[1] * 4 * D::LANES, s.reduce_add(all))
    }
}

/// Multiplies and adds bytes on registers; gives the number of products, and a sum.
pub fn multiply_bytes(isa: DotIsa, rounds: usize) -> (usize, f32) {
    let (weights, bytes) = black_box(([1; 64 * CHAINS[1]], [1; 4 * CHAINS[0]]));
    dispatch_dot(isa, ByteProducts { rounds, weights, bytes })
}

/// With `ROWS` in place of the first of [`CHAINS`].
struct PairProducts<const ROWS: usize> {
    rounds: usize,
    weights: [Bf16; 32 * CHAINS[1]],
    pairs: [[Bf16; 2]; ROWS],
}

/// Where there are 32 registers: the latency of a product of pairs is 6, and 12 sums on two ports leave no cycle to spare.
const MANY_ROWS: usize = 12;

impl<const ROWS: usize> PairKernel for PairProducts<ROWS> {
    type Output = (usize, f32);

    #[inline(always)]
    fn run<P: PairProduct>(self, p: P) -> (usize, f32) {
        const { assert!(2 * P::LANES <= 32) };
        let s = p.floats();
        // SAFETY: the array has two of the longest vectors.
        let (first, second) = unsafe {
            let w = self.weights.as_ptr();
            (p.load_weights(w), p.load_weights(w.add(32)))
        };
        let mut sums = [[s.splat(0.0); CHAINS[1]]; ROWS];
        for _ in 0..self.rounds {
            // Read again each time, or products that do not change would leave the loop.
            let pairs = black_box(&self.pairs);
            for (pair, [a, b]) in pairs.iter().zip(&mut sums) {
                // SAFETY: two numbers are read.
                let x = unsafe { p.spread(pair.as_ptr()) };
                *a = p.dot(x, first, *a);
                *b = p.dot(x, second, *b);
            }
        }
        let all = sums.into_iter().flatten().fold(s.splat(0.0), |all, sum| s.add(all, sum));
        (self.rounds * ROWS * CHAINS[1] * 2 * P::LANES, s.reduce_add(all))
    }
}

/// Multiplies and adds bf16 on registers; gives the number of products, and a sum.
pub fn multiply_pairs(isa: Bf16Isa, rounds: usize) -> (usize, f32) {
    let one = Bf16::from(1.0);
    let weights = black_box([one; 32 * CHAINS[1]]);
    if isa.mr() < MANY_ROWS {
        return dispatch_pairs(
            isa,
            PairProducts { rounds, weights, pairs: black_box([[one; 2]; CHAINS[0]]) },
        );
    }
    dispatch_pairs(isa, PairProducts { rounds, weights, pairs: black_box([[one; 2]; MANY_ROWS]) })
}

/// Multiplies and adds tiles, two by two, which are read from a first-level cache; gives the number of products.
pub fn multiply_tiles(unit: TileUnit, numbers: TileNumbers, rounds: usize) -> usize {
    const ROW: usize = 2 * TILE_BYTES;
    let operands = black_box([0u8; 2 * TILE_SIDE * ROW]);
    let mut sums = TileSums([0; _]);
    let products = TileProducts {
        numbers,
        base: operands.as_ptr(),
        offsets: &[0],
        steps: rounds.max(1),
        table_is_a: true,
        other: operands.as_ptr(),
        a_stride: TILE_BYTES,
        b_stride: ROW,
        a_step: 0,
        b_step: 0,
        rows: 2 * TILE_SIDE,
        depth: TILE_BYTES,
        b_tiles: 2,
    };
    // SAFETY: A has 32 rows of 64 bytes and B 16 of 128, and every step reads the same.
    unsafe { unit.multiply(&products, &mut sums) }
    black_box(sums.0[0]);
    let group = if numbers == TileNumbers::Bf16 { 2 } else { 4 };
    products.steps * 4 * TILE_SIDE * TILE_SIDE * (TILE_BYTES / 4) * group
}

struct Read<'a> {
    numbers: &'a [f32],
    passes: usize,
}

/// Vectors that are read at a time, each into a sum of its own: two loads a cycle meet additions of latency 4.
const STREAMS: usize = 8;

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat(0.0); STREAMS];
        let whole = self.numbers.len() / (STREAMS * S::LANES) * STREAMS * S::LANES;
        for _ in 0..self.passes {
            // Or the compiler would read once and multiply.
            let numbers = black_box(self.numbers).as_ptr();
            for at in (0..whole).step_by(STREAMS * S::LANES) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: whole rounds of streams lie in the numbers.
                    *sum = s.max(unsafe { s.load(numbers.add(at + i * S::LANES)) }, *sum);
                }
            }
        }
        s.reduce_add(sums.into_iter().fold(s.splat(0.0), |a, b| s.add(a, b)))
    }
}

/// Reads numbers again and again, all but an incomplete round of vectors at their end.
pub fn read(isa: Isa, numbers: &[f32], passes: usize) -> f32 {
    dispatch(isa, Read { numbers, passes })
}
