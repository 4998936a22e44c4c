//! The 128-bit vectors of WebAssembly: four lanes, and no multiply-add with one rounding.
//!
//! A module that has these instructions does not load where they are missing, so the token needs no look at the processor.

use super::Simd;
use crate::bf16::Bf16;
use std::arch::wasm32::*;

/// The token of a program for WebAssembly that was built with `simd128`.
#[derive(Clone, Copy)]
pub struct Simd128 {
    _proof: (),
}

impl Simd128 {
    /// The token: who runs this code has the instructions.
    pub fn detect() -> Option<Self> {
        Some(Simd128 { _proof: () })
    }
}

// Intrinsics of this target are safe; every `unsafe` below relies on the pointer contract of the trait.
impl Simd for Simd128 {
    type V = v128;
    const LANES: usize = 4;
    // Engines on x86-64 have 16 registers and keep one: 4 x 2 accumulators, 2 weights, a broadcast and a product leave some
    // free. As portable code has the same lanes, tile and roundings, both give the same bits.
    const MR: usize = 4;
    const NV: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> v128 {
        f32x4_splat(x)
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> v128 {
        // SAFETY: the caller vouches for four readable floats; no alignment is assumed.
        unsafe { v128_load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: v128) {
        // SAFETY: the caller vouches for four writable floats; no alignment is assumed.
        unsafe { v128_store(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, p: *const f32, n: usize) -> v128 {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` readable floats.
            *lane = unsafe { p.add(i).read() };
        }
        f32x4(lanes[0], lanes[1], lanes[2], lanes[3])
    }
    #[inline(always)]
    unsafe fn store_tail(self, p: *mut f32, v: v128, n: usize) {
        for (i, &lane) in lanes(v).iter().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` writable floats.
            unsafe { p.add(i).write(lane) }
        }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> v128 {
        let mut bytes = 0;
        if n == Self::LANES {
            // SAFETY: the caller vouches for four readable bytes; no alignment is assumed.
            bytes = unsafe { p.cast::<u32>().read_unaligned() };
        } else {
            for i in 0..n {
                // SAFETY: `i < n`, and the caller vouches for `n` readable bytes.
                bytes |= u32::from(unsafe { p.add(i).read() }) << (8 * i);
            }
        }
        let words = u16x8_extend_low_u8x16(u32x4_splat(bytes));
        f32x4_convert_i32x4(u32x4_extend_low_u16x8(words))
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: v128, n: usize) {
        // The conversion saturates, and so does each narrowing, the last one at 0 and 255.
        let words = i32x4_trunc_sat_f32x4(f32x4_nearest(v));
        let words = i16x8_narrow_i32x4(words, words);
        let bytes = u32x4_extract_lane::<0>(u8x16_narrow_i16x8(words, words));
        if n == Self::LANES {
            // SAFETY: the caller vouches for four writable bytes; no alignment is assumed.
            unsafe { p.cast::<u32>().write_unaligned(bytes) }
        } else {
            for i in 0..n {
                // SAFETY: `i < n`, and the caller vouches for `n` writable bytes.
                unsafe { p.add(i).write((bytes >> (8 * i)) as u8) }
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const Bf16, n: usize) -> v128 {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` readable numbers.
            *lane = unsafe { p.add(i).read() }.into();
        }
        f32x4(lanes[0], lanes[1], lanes[2], lanes[3])
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut Bf16, v: v128, n: usize) {
        for (i, &lane) in lanes(v).iter().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` writable numbers.
            unsafe { p.add(i).write(lane.into()) }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(self, p: *const Bf16) -> [v128; 2] {
        // SAFETY: the caller vouches for eight readable numbers; no alignment is assumed.
        let pairs = unsafe { v128_load(p.cast()) };
        [u32x4_shl(pairs, 16), v128_and(pairs, u32x4_splat(!0xFFFF))]
    }
    #[inline(always)]
    fn add(self, a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    fn mul(self, a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    fn div(self, a: v128, b: v128) -> v128 {
        f32x4_div(a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: v128, b: v128, c: v128) -> v128 {
        // `relaxed_madd` may round once or twice, as the browser likes.
        f32x4_add(f32x4_mul(a, b), c)
    }
    #[inline(always)]
    fn max(self, a: v128, b: v128) -> v128 {
        // `pmax(b, a)` is `b < a ? a : b`.
        f32x4_pmax(b, a)
    }
    #[inline(always)]
    fn min(self, a: v128, b: v128) -> v128 {
        f32x4_pmin(b, a)
    }
    #[inline(always)]
    fn sqrt(self, a: v128) -> v128 {
        f32x4_sqrt(a)
    }
    #[inline(always)]
    fn select_gt(self, a: v128, b: v128, x: v128, y: v128) -> v128 {
        v128_bitselect(x, y, f32x4_gt(a, b))
    }
    #[inline(always)]
    fn round(self, a: v128) -> v128 {
        f32x4_nearest(a)
    }
    #[inline(always)]
    fn exp2_int(self, a: v128) -> v128 {
        u32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(a), i32x4_splat(127)), 23)
    }
    #[inline(always)]
    fn flush(self, a: v128) -> v128 {
        v128_andnot(a, f32x4_lt(f32x4_abs(a), f32x4_splat(f32::MIN_POSITIVE)))
    }
    #[inline(always)]
    fn any_nan(self, a: v128) -> bool {
        v128_any_true(f32x4_ne(a, a))
    }
    #[inline(always)]
    fn reduce_add(self, a: v128) -> f32 {
        let [a, b, c, d] = lanes(a);
        (a + c) + (b + d)
    }
}

#[inline(always)]
fn lanes(v: v128) -> [f32; 4] {
    [
        f32x4_extract_lane::<0>(v),
        f32x4_extract_lane::<1>(v),
        f32x4_extract_lane::<2>(v),
        f32x4_extract_lane::<3>(v),
    ]
}

#[cfg(test)]
mod tests;
