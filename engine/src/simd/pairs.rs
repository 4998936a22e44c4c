//! Sums of two products at a time, bf16 x bf16 in f32.
//!
//! A lane of 32 bits takes two neighbouring numbers of either operand. Products are exact in f32; the product of the second
//! numbers is added first, with one rounding for each sum.

use super::Simd;
use crate::bf16::Bf16;

/// Sums of products of bf16 on one instruction set. Everything is `#[inline(always)]`.
pub trait PairProduct: Copy + Send + Sync + 'static {
    /// The floats that sums are: as many lanes.
    type Floats: Simd;
    /// Two numbers in all lanes.
    type Pair: Copy;
    /// Two weights for each lane.
    type Weights: Copy;
    /// Sums in a vector.
    const LANES: usize = Self::Floats::LANES;
    /// Rows of the register tile.
    const MR: usize;
    /// Vectors in a row of the register tile.
    const NV: usize;

    /// The token of the floats.
    fn floats(self) -> Self::Floats;
    /// Two numbers, for all lanes.
    ///
    /// # Safety
    /// `p` is readable for two numbers.
    unsafe fn spread(self, p: *const Bf16) -> Self::Pair;
    /// Two weights for each lane.
    ///
    /// # Safety
    /// `p` is readable for `2 * LANES` weights.
    unsafe fn load_weights(self, p: *const Bf16) -> Self::Weights;
    /// Adds the two products of each lane.
    fn dot(
        self,
        x: Self::Pair,
        w: Self::Weights,
        sums: <Self::Floats as Simd>::V,
    ) -> <Self::Floats as Simd>::V;
}

/// The arguments of a kernel on pairs of bf16 together with its generic body.
pub trait PairKernel {
    /// What the kernel returns.
    type Output;
    /// The body. Implementations are `#[inline(always)]`, all the way down to the intrinsics.
    fn run<P: PairProduct>(self, p: P) -> Self::Output;
}

/// Products of bf16 by multiply-adds of floats, on any instruction set.
#[derive(Clone, Copy)]
pub struct Widened<S>(pub(super) S);

impl<S: Simd> PairProduct for Widened<S> {
    type Floats = S;
    type Pair = [S::V; 2];
    type Weights = [S::V; 2];
    // Two vectors of floats for every vector of weights, and for what is spread.
    const MR: usize = S::MR - 2;
    const NV: usize = S::NV;

    #[inline(always)]
    fn floats(self) -> S {
        self.0
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const Bf16) -> [S::V; 2] {
        // SAFETY: the caller vouches for two readable numbers.
        let [first, second] = unsafe { p.cast::<[Bf16; 2]>().read() };
        [self.0.splat(first.into()), self.0.splat(second.into())]
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const Bf16) -> [S::V; 2] {
        // SAFETY: the contract of this function.
        unsafe { self.0.load_bf16_pairs(p) }
    }
    #[inline(always)]
    fn dot(self, x: [S::V; 2], w: [S::V; 2], sums: S::V) -> S::V {
        self.0.mul_add(x[0], w[0], self.0.mul_add(x[1], w[1], sums))
    }
}
