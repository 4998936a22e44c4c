//! AVX-512 F, BW, VL and DQ: sixteen lanes, tails by mask registers.

use super::{Avx2, Simd};
use crate::bf16::Bf16;
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 F, BW, VL and DQ, and AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx512 {
    _proof: (),
}

impl Avx512 {
    pub(super) fn assume_detected() -> Self {
        Avx512 { _proof: () }
    }

    /// AVX2 and FMA, which [`Avx512::detect`] asks for too.
    pub(super) fn avx2(self) -> Avx2 {
        Avx2::assume_detected()
    }
}

#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

// Every `unsafe` below calls an intrinsic of AVX-512 F; `self` proves that the processor has it.
// Loads and stores rely on the pointer contract of the trait besides.
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    // 12 x 2 accumulators, 2 weights and a broadcast take 27 of 32 registers; compilers begin to spill at 29.
    // 12 row pointers, the weights and the counter take all general registers.
    const MR: usize = 12;
    const NV: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: `self` proves AVX-512; the caller vouches for sixteen readable floats.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: `self` proves AVX-512; the caller vouches for sixteen writable floats.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512; masked lanes are not accessed, the caller vouches for the others.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_tail(self, p: *mut f32, v: __m512, n: usize) {
        // SAFETY: `self` proves AVX-512; masked lanes are not accessed, the caller vouches for the others.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512 with BW and VL; masked bytes are not accessed, the caller vouches for the others.
        unsafe {
            let whole = n == Self::LANES;
            let bytes =
                if whole { _mm_loadu_si128(p.cast()) } else { _mm_maskz_loadu_epi8(first(n), p.cast()) };
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: __m512, n: usize) {
        // SAFETY: `self` proves AVX-512 with BW and VL; masked bytes are not accessed, the caller vouches for the others.
        unsafe {
            // Past the range of integers the conversion gives the lowest of them: the upper limit comes before it.
            let whole = _mm512_cvtps_epi32(self.min(v, self.splat(255.0)));
            let bytes = _mm512_cvtepi32_epi8(_mm512_max_epi32(whole, _mm512_setzero_si512()));
            if n == Self::LANES {
                _mm_storeu_si128(p.cast(), bytes);
            } else {
                _mm_mask_storeu_epi8(p.cast(), first(n), bytes);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const Bf16, n: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512 with BW and VL; masked numbers are not accessed, the caller vouches for the others.
        unsafe {
            let whole = n == Self::LANES;
            let halves = if whole {
                _mm256_loadu_si256(p.cast())
            } else {
                _mm256_maskz_loadu_epi16(first(n), p.cast())
            };
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut Bf16, v: __m512, n: usize) {
        // SAFETY: `self` proves AVX-512 with BW and VL; masked numbers are not accessed, the caller vouches for the others.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7FFF)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let quiet = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000));
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(quiet));
            if n == Self::LANES {
                _mm256_storeu_si256(p.cast(), halves);
            } else {
                _mm256_mask_storeu_epi16(p.cast(), first(n), halves);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(self, p: *const Bf16) -> [__m512; 2] {
        // SAFETY: `self` proves AVX-512; the caller vouches for 32 readable numbers.
        unsafe {
            let pairs = _mm512_loadu_si512(p.cast());
            let second = _mm512_and_si512(pairs, _mm512_set1_epi32(!0xFFFF));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(second)]
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn select_gt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_int(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn flush(self, a: __m512) -> __m512 {
        /// Zeros of either sign and subnormal numbers.
        const SMALL: i32 = 0x02 | 0x04 | 0x20;
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mask_blend_ps(_mm512_fpclass_ps_mask::<SMALL>(a), a, _mm512_setzero_ps()) }
    }
    #[inline(always)]
    fn any_nan(self, a: __m512) -> bool {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) != 0 }
    }
    #[inline(always)]
    fn reduce_add(self, a: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_reduce_add_ps(a) }
    }
}
