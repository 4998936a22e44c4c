//! Products of bytes on 64-bit ARM: its instructions for them (`i8mm`, `dotprod`), and plain NEON by way of 16-bit products.
//!
//! `i8mm` has a second form, `usmmla`, with twice the products: two rows of eight bytes by two columns of eight. Its sums are
//! 2 x 2 blocks of the output and its weights come eight to a column, where tiles have a row for each vector of sums and groups
//! of four; both would be other tiles and other panels than those of all other instruction sets.

use super::{DotProduct, Neon};
use std::arch::{aarch64::*, asm};

/// Proof that the processor has products of unsigned bytes with signed ones.
#[derive(Clone, Copy)]
pub struct NeonI8mm {
    _proof: (),
}

impl NeonI8mm {
    pub(super) fn assume_detected() -> Self {
        NeonI8mm { _proof: () }
    }
}

/// Proof that the processor has products of signed bytes.
#[derive(Clone, Copy)]
pub struct NeonDotprod {
    _proof: (),
}

impl NeonDotprod {
    pub(super) fn assume_detected() -> Self {
        NeonDotprod { _proof: () }
    }
}

/// NEON for products of bytes.
#[derive(Clone, Copy)]
pub struct NeonBytes(Neon);

impl NeonBytes {
    pub(super) fn of(token: Neon) -> Self {
        NeonBytes(token)
    }
}

/// Four bytes, each less 128 as a signed byte.
///
/// # Safety
/// `p` is readable for four bytes.
#[inline(always)]
unsafe fn less_128(p: *const u8) -> u32 {
    // SAFETY: the contract of this function.
    unsafe { p.cast::<u32>().read_unaligned() ^ 0x8080_8080 }
}

// Every `unsafe` below calls an instruction of the processor's part that `self` proves.
// Loads rely on the pointer contract of the trait besides.
//
// The compiler has no stable intrinsics for these products. Their form with one element in place of a vector takes the four
// bytes of a row as they were loaded: a load into all lanes would keep a vector unit busy on many processors.
impl DotProduct for NeonI8mm {
    type Floats = Neon;
    type Sums = int32x4_t;
    /// The bits of four bytes. A float is what the compiler loads into a vector register without a detour.
    type Bytes = f32;
    type Weights = int8x16_t;
    // As for floats: 12 x 2 sums, 2 vectors of weights and the bytes of a row.
    const MR: usize = 12;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Neon {
        Neon::assume_detected()
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> int32x4_t {
        // SAFETY: `self` proves NEON; the caller vouches for four readable sums.
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> f32 {
        // SAFETY: the caller vouches for four readable bytes; no alignment is assumed.
        unsafe { p.cast::<f32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> int8x16_t {
        // SAFETY: `self` proves NEON; the caller vouches for sixteen readable weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    fn dot(self, x: f32, w: int8x16_t, mut sums: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves `i8mm`; the instruction touches registers alone.
        unsafe {
            asm!(
                "sudot {sums:v}.4s, {w:v}.16b, {x:v}.4b[0]",
                sums = inout(vreg) sums,
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }
    #[inline(always)]
    fn to_floats(self, sums: int32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vcvtq_f32_s32(sums) }
    }
}

impl DotProduct for NeonDotprod {
    type Floats = Neon;
    type Sums = int32x4_t;
    /// Four signed bytes, made in a general register: vector units, of which most of these processors have two, are left to the
    /// products.
    type Bytes = u32;
    type Weights = int8x16_t;
    const TAKEN: i32 = 128;
    const MR: usize = 12;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Neon {
        Neon::assume_detected()
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> int32x4_t {
        // SAFETY: `self` proves NEON; the caller vouches for four readable sums.
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> u32 {
        // SAFETY: the caller vouches for four readable bytes.
        unsafe { less_128(p) }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> int8x16_t {
        // SAFETY: `self` proves NEON; the caller vouches for sixteen readable weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    fn dot(self, x: u32, w: int8x16_t, mut sums: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves `dotprod`; the instruction touches registers alone.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[0]",
                sums = inout(vreg) sums,
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }
    #[inline(always)]
    fn to_floats(self, sums: int32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vcvtq_f32_s32(sums) }
    }
}

/// A product of signed bytes fits 16 bits, two of them may not: pairs are added to sums of 32 bits, of which a lane has two
/// until the end.
impl DotProduct for NeonBytes {
    type Floats = Neon;
    /// Two sums for each lane: of the first two lanes, and of the others.
    type Sums = [int32x4_t; 2];
    type Bytes = int8x16_t;
    type Weights = int8x16_t;
    const TAKEN: i32 = 128;
    // 5 x 2 pairs of sums, 2 x 2 halves of weights, the bytes of a row and two products take 27 of 32 registers. With 6 x 2 the
    // compiler spills.
    const MR: usize = 5;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Neon {
        self.0
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> [int32x4_t; 2] {
        // SAFETY: `self` proves NEON; the caller vouches for four readable sums.
        unsafe {
            let (sums, zeros) = (vld1q_s32(p), vdupq_n_s32(0));
            [vzip1q_s32(sums, zeros), vzip2q_s32(sums, zeros)]
        }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> int8x16_t {
        // SAFETY: `self` proves NEON; the caller vouches for four readable bytes.
        unsafe { vreinterpretq_s8_u32(vdupq_n_u32(less_128(p))) }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> int8x16_t {
        // SAFETY: `self` proves NEON; the caller vouches for sixteen readable weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    fn dot(self, x: int8x16_t, w: int8x16_t, sums: [int32x4_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: `self` proves NEON.
        unsafe {
            let low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
            [vpadalq_s16(sums[0], low), vpadalq_s16(sums[1], vmull_high_s8(x, w))]
        }
    }
    #[inline(always)]
    fn to_floats(self, sums: [int32x4_t; 2]) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vcvtq_f32_s32(vpaddq_s32(sums[0], sums[1])) }
    }
}
