//! Sums of four products of bytes at a time, `u8` x `s8` in `i32`.
//!
//! A lane of 32 bits takes four neighbouring bytes of either operand. Sums are exact on every instruction set: no
//! instruction is used that saturates in between.

use super::{Portable, Simd};

/// Sums of products of bytes on one instruction set. Everything is `#[inline(always)]`.
pub trait DotProduct: Copy + Send + Sync + 'static {
    /// The floats that sums become: as many lanes.
    type Floats: Simd;
    /// A vector of sums.
    type Sums: Copy;
    /// Four bytes in all lanes.
    type Bytes: Copy;
    /// Four weights for each lane.
    type Weights: Copy;
    /// Sums in a vector.
    const LANES: usize = Self::Floats::LANES;
    /// What is taken from each byte of the input before it is multiplied, 128 where an instruction knows signed bytes alone.
    /// Sums then lack as many sums of their weights, which [`DotIsa::complete`](super::DotIsa::complete) gives them at their start.
    const TAKEN: i32 = 0;
    /// Rows of the register tile.
    const MR: usize;
    /// Vectors in a row of the register tile.
    const NV: usize;

    /// The token of the floats.
    fn floats(self) -> Self::Floats;
    /// A vector of sums from memory.
    ///
    /// # Safety
    /// `p` is readable for `LANES` sums.
    unsafe fn load_sums(self, p: *const i32) -> Self::Sums;
    /// Four bytes, for all lanes.
    ///
    /// # Safety
    /// `p` is readable for four bytes.
    unsafe fn spread(self, p: *const u8) -> Self::Bytes;
    /// Four weights for each lane.
    ///
    /// # Safety
    /// `p` is readable for `4 * LANES` weights.
    unsafe fn load_weights(self, p: *const i8) -> Self::Weights;
    /// Adds the four products of each lane, modulo 2^32.
    fn dot(self, x: Self::Bytes, w: Self::Weights, sums: Self::Sums) -> Self::Sums;
    /// The nearest floats, halves to even.
    fn to_floats(self, sums: Self::Sums) -> <Self::Floats as Simd>::V;
}

/// The arguments of a kernel on bytes together with its generic body.
pub trait DotKernel {
    /// What the kernel returns.
    type Output;
    /// The body. Implementations are `#[inline(always)]`, all the way down to the intrinsics.
    fn run<D: DotProduct>(self, d: D) -> Self::Output;
}

/// The token of plain Rust.
#[derive(Clone, Copy)]
pub struct PortableBytes;

impl DotProduct for PortableBytes {
    type Floats = Portable;
    type Sums = [i32; 4];
    type Bytes = [u8; 4];
    type Weights = [[i8; 4]; 4];
    const MR: usize = 4;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Portable {
        Portable
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> [i32; 4] {
        // SAFETY: the caller vouches for four readable sums; no alignment is assumed.
        unsafe { p.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> [u8; 4] {
        // SAFETY: the caller vouches for four readable bytes.
        unsafe { p.cast::<[u8; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> [[i8; 4]; 4] {
        // SAFETY: the caller vouches for sixteen readable weights.
        unsafe { p.cast::<[[i8; 4]; 4]>().read() }
    }
    #[inline(always)]
    fn dot(self, x: [u8; 4], w: [[i8; 4]; 4], sums: [i32; 4]) -> [i32; 4] {
        let lane = |i: usize| {
            let product = |j: usize| i32::from(x[j]) * i32::from(w[i][j]);
            sums[i].wrapping_add(product(0) + product(1) + product(2) + product(3))
        };
        [lane(0), lane(1), lane(2), lane(3)]
    }
    #[inline(always)]
    fn to_floats(self, sums: [i32; 4]) -> [f32; 4] {
        [sums[0] as f32, sums[1] as f32, sums[2] as f32, sums[3] as f32]
    }
}
