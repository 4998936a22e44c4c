//! AVX2 and FMA: eight lanes.

use super::Simd;
use crate::bf16::Bf16;
use std::arch::x86_64::*;

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2 {
    _proof: (),
}

impl Avx2 {
    pub(super) fn assume_detected() -> Self {
        Avx2 { _proof: () }
    }
}

/// All ones in the first `n` lanes, read from the middle of this table.
static TAIL: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn tail_mask(n: usize) -> __m256i {
    debug_assert!(n <= 8);
    // SAFETY: `n <= 8`, so the eight integers from `8 - n` lie within the table of sixteen.
    unsafe { _mm256_loadu_si256(TAIL.as_ptr().add(8 - n).cast()) }
}

/// All ones in the first `pairs` lanes of 32 bits.
#[inline(always)]
unsafe fn pair_mask(pairs: usize) -> __m128i {
    debug_assert!(pairs <= 4);
    // SAFETY: `pairs <= 4`, so the four integers from `8 - pairs` lie within the table of sixteen.
    unsafe { _mm_loadu_si128(TAIL.as_ptr().add(8 - pairs).cast()) }
}

/// The first `n` bytes at `p`, zeros above them.
///
/// # Safety
/// `n <= 8` and `p` is readable for `n` bytes.
#[inline(always)]
unsafe fn bytes_of(p: *const u8, n: usize) -> u64 {
    let mut bytes = 0;
    for i in 0..n {
        // SAFETY: the contract of this function.
        bytes |= u64::from(unsafe { p.add(i).read() }) << (8 * i);
    }
    bytes
}

// Every `unsafe` below calls an intrinsic of AVX, AVX2 or FMA; `self` proves that the processor has them.
// Loads and stores rely on the pointer contract of the trait besides.
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    // 6 x 2 accumulators, 2 weights and a broadcast fill 15 of 16 registers; 12 chains hide the 8 that
    // two FMA ports of latency 4 need.
    const MR: usize = 6;
    const NV: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: `self` proves AVX2; the caller vouches for eight readable floats.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: `self` proves AVX2; the caller vouches for eight writable floats.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, p: *const f32, n: usize) -> __m256 {
        // SAFETY: `self` proves AVX2; masked lanes are not accessed, the caller vouches for the others.
        unsafe { _mm256_maskload_ps(p, tail_mask(n)) }
    }
    #[inline(always)]
    unsafe fn store_tail(self, p: *mut f32, v: __m256, n: usize) {
        // SAFETY: `self` proves AVX2; masked lanes are not accessed, the caller vouches for the others.
        unsafe { _mm256_maskstore_ps(p, tail_mask(n), v) }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> __m256 {
        // SAFETY: `self` proves AVX2; `bytes_of` reads `n` bytes.
        unsafe {
            let bytes = if n == Self::LANES { p.cast::<u64>().read_unaligned() } else { bytes_of(p, n) };
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)))
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: __m256, n: usize) {
        // SAFETY: `self` proves AVX2; the caller vouches for `n` writable bytes.
        unsafe {
            // Past the range of integers the conversion gives the lowest of them: the upper limit comes before it.
            let whole = _mm256_cvtps_epi32(self.min(v, self.splat(255.0)));
            let half = _mm256_extracti128_si256::<1>(whole);
            let words = _mm_packus_epi32(_mm256_castsi256_si128(whole), half);
            let bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words)) as u64;
            if n == Self::LANES {
                p.cast::<u64>().write_unaligned(bytes);
            } else {
                for i in 0..n {
                    p.add(i).write((bytes >> (8 * i)) as u8);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const Bf16, n: usize) -> __m256 {
        // SAFETY: `self` proves AVX2; pairs that do not exist are not accessed, the caller vouches for the others.
        unsafe {
            let halves = if n == Self::LANES {
                _mm_loadu_si128(p.cast())
            } else {
                let pairs = _mm_maskload_epi32(p.cast(), pair_mask(n / 2));
                if n.is_multiple_of(2) {
                    pairs
                } else {
                    let last = _mm_set1_epi32(i32::from(p.add(n - 1).read().to_bits()));
                    let lane = _mm_andnot_si128(pair_mask(n / 2), pair_mask(n / 2 + 1));
                    _mm_or_si128(pairs, _mm_and_si128(last, lane))
                }
            };
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut Bf16, v: __m256, n: usize) {
        // SAFETY: `self` proves AVX2; pairs that do not exist are not accessed, the caller vouches for the others.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7FFF)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let words = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let half = _mm256_extracti128_si256::<1>(words);
            let halves = _mm_packus_epi32(_mm256_castsi256_si128(words), half);
            if n == Self::LANES {
                _mm_storeu_si128(p.cast(), halves);
            } else {
                _mm_maskstore_epi32(p.cast(), pair_mask(n / 2), halves);
                if !n.is_multiple_of(2) {
                    let at = 2 * (n - 1) as i16;
                    let last = _mm_shuffle_epi8(halves, _mm_set1_epi16((at + 1) << 8 | at));
                    p.add(n - 1).write(Bf16::from_bits(_mm_extract_epi16::<0>(last) as u16));
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(self, p: *const Bf16) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2; the caller vouches for sixteen readable numbers.
        unsafe {
            let pairs = _mm256_loadu_si256(p.cast());
            let second = _mm256_and_si256(pairs, _mm256_set1_epi32(!0xFFFF));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(second)]
        }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn select_gt(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_int(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn flush(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
            let small = _mm256_cmp_ps::<_CMP_LT_OQ>(magnitude, _mm256_set1_ps(f32::MIN_POSITIVE));
            _mm256_andnot_ps(small, a)
        }
    }
    #[inline(always)]
    fn any_nan(self, a: __m256) -> bool {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)) != 0 }
    }
    #[inline(always)]
    fn reduce_add(self, a: __m256) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
}
