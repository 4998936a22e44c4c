//! NEON of 64-bit ARM: four lanes, 32 registers.

use super::Simd;
use crate::bf16::Bf16;
use std::arch::aarch64::*;

/// Proof that the processor has NEON.
#[derive(Clone, Copy)]
pub struct Neon {
    _proof: (),
}

impl Neon {
    pub(super) fn assume_detected() -> Self {
        Neon { _proof: () }
    }
}

// Every `unsafe` below calls an intrinsic of NEON; `self` proves that the processor has it.
// Loads and stores rely on the pointer contract of the trait besides.
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    // 12 x 2 accumulators, 2 weights and a broadcast fill 27 of 32 registers; 24 chains hide the 16 that four units of
    // latency 4 need.
    const MR: usize = 12;
    const NV: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        // SAFETY: `self` proves NEON; the caller vouches for four readable floats.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: float32x4_t) {
        // SAFETY: `self` proves NEON; the caller vouches for four writable floats.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, p: *const f32, n: usize) -> float32x4_t {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` readable floats.
            *lane = unsafe { p.add(i).read() };
        }
        // SAFETY: `self` proves NEON; there are four lanes.
        unsafe { vld1q_f32(lanes.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_tail(self, p: *mut f32, v: float32x4_t, n: usize) {
        let mut lanes = [0.0; 4];
        // SAFETY: `self` proves NEON; there are four lanes.
        unsafe { vst1q_f32(lanes.as_mut_ptr(), v) }
        for (i, lane) in lanes.iter().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` writable floats.
            unsafe { p.add(i).write(*lane) }
        }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> float32x4_t {
        // SAFETY: `self` proves NEON; the caller vouches for `n` readable bytes.
        unsafe {
            let mut bytes = 0;
            if n == Self::LANES {
                bytes = p.cast::<u32>().read_unaligned();
            } else {
                for i in 0..n {
                    bytes |= u32::from(p.add(i).read()) << (8 * i);
                }
            }
            let words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)))
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: float32x4_t, n: usize) {
        // SAFETY: `self` proves NEON; the caller vouches for `n` writable bytes.
        unsafe {
            // The conversion saturates, at zero below, and so does each narrowing.
            let words = vqmovn_u32(vcvtnq_u32_f32(v));
            let bytes = vqmovn_u16(vcombine_u16(words, words));
            let bytes = vget_lane_u32::<0>(vreinterpret_u32_u8(bytes));
            if n == Self::LANES {
                p.cast::<u32>().write_unaligned(bytes);
            } else {
                for i in 0..n {
                    p.add(i).write((bytes >> (8 * i)) as u8);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const Bf16, n: usize) -> float32x4_t {
        let mut lanes = [0u16; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` readable numbers.
            *lane = unsafe { p.add(i).read() }.to_bits();
        }
        // SAFETY: `self` proves NEON; there are four lanes.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(lanes.as_ptr()))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut Bf16, v: float32x4_t, n: usize) {
        let mut lanes = [0u16; 4];
        // SAFETY: `self` proves NEON; there are four lanes.
        unsafe {
            let bits = vreinterpretq_u32_f32(v);
            let even = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(even, vdupq_n_u32(0x7FFF)));
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
            let words = vbslq_u32(vceqq_f32(v, v), rounded, quiet);
            vst1_u16(lanes.as_mut_ptr(), vshrn_n_u32::<16>(words));
        }
        for (i, &lane) in lanes.iter().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` writable numbers.
            unsafe { p.add(i).write(Bf16::from_bits(lane)) }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(self, p: *const Bf16) -> [float32x4_t; 2] {
        // SAFETY: `self` proves NEON; the caller vouches for eight readable numbers.
        unsafe {
            let pairs = vld1q_u32(p.cast());
            let second = vandq_u32(pairs, vdupq_n_u32(!0xFFFF));
            [vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)), vreinterpretq_f32_u32(second)]
        }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // Not `vmaxq_f32`, whose result is a NaN where either is one.
        self.select_gt(a, b, a, b)
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.select_gt(b, a, a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vsqrtq_f32(a) }
    }
    #[inline(always)]
    fn select_gt(self, a: float32x4_t, b: float32x4_t, x: float32x4_t, y: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vbslq_f32(vcgtq_f32(a, b), x, y) }
    }
    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vrndnq_f32(a) }
    }
    #[inline(always)]
    fn exp2_int(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
    }
    #[inline(always)]
    fn flush(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe {
            let small = vcltq_f32(vabsq_f32(a), vdupq_n_f32(f32::MIN_POSITIVE));
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), small))
        }
    }
    #[inline(always)]
    fn any_nan(self, a: float32x4_t) -> bool {
        // SAFETY: `self` proves NEON.
        unsafe { vminvq_u32(vceqq_f32(a, a)) == 0 }
    }
    #[inline(always)]
    fn reduce_add(self, a: float32x4_t) -> f32 {
        // SAFETY: `self` proves NEON.
        unsafe { vaddvq_f32(a) }
    }
}
