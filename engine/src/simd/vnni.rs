//! Products of bytes on x86: AVX-512 VNNI, AVX-VNNI, and AVX2 by way of 16-bit products.

use super::{Avx2, Avx512, DotProduct};
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 VNNI, and all of [`Avx512`].
#[derive(Clone, Copy)]
pub struct Avx512Vnni {
    _proof: (),
}

impl Avx512Vnni {
    pub(super) fn assume_detected() -> Self {
        Avx512Vnni { _proof: () }
    }
}

/// Proof that the processor has AVX-VNNI, and all of [`Avx2`].
#[derive(Clone, Copy)]
pub struct AvxVnni {
    _proof: (),
}

impl AvxVnni {
    pub(super) fn assume_detected() -> Self {
        AvxVnni { _proof: () }
    }
}

/// AVX2 for products of bytes.
#[derive(Clone, Copy)]
pub struct Avx2Bytes(Avx2);

impl Avx2Bytes {
    pub(super) fn of(token: Avx2) -> Self {
        Avx2Bytes(token)
    }
}

// Every `unsafe` below calls an intrinsic of the processor's part that `self` proves.
// Loads rely on the pointer contract of the trait besides.
impl DotProduct for Avx512Vnni {
    type Floats = Avx512;
    type Sums = __m512i;
    type Bytes = __m512i;
    type Weights = __m512i;
    // As for floats: 12 x 2 sums, 2 vectors of weights and the bytes of a row.
    const MR: usize = 12;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Avx512 {
        Avx512::assume_detected()
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> __m512i {
        // SAFETY: `self` proves AVX-512; the caller vouches for sixteen readable sums.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> __m512i {
        // SAFETY: `self` proves AVX-512; the caller vouches for four readable bytes.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> __m512i {
        // SAFETY: `self` proves AVX-512; the caller vouches for 64 readable weights.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    fn dot(self, x: __m512i, w: __m512i, sums: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }
    #[inline(always)]
    fn to_floats(self, sums: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

impl DotProduct for AvxVnni {
    type Floats = Avx2;
    type Sums = __m256i;
    type Bytes = __m256i;
    type Weights = __m256i;
    const MR: usize = 6;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Avx2 {
        Avx2::assume_detected()
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller vouches for eight readable sums.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller vouches for four readable bytes.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller vouches for 32 readable weights.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    fn dot(self, x: __m256i, w: __m256i, sums: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) }
    }
    #[inline(always)]
    fn to_floats(self, sums: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
}

/// `vpmaddubsw` would take bytes as they are, but its sums of two products saturate at 16 bits. So both operands are
/// widened, even and odd bytes apart, and `vpmaddwd` adds two products in 32 bits.
impl DotProduct for Avx2Bytes {
    type Floats = Avx2;
    type Sums = __m256i;
    /// Even bytes and odd ones.
    type Bytes = [__m256i; 2];
    type Weights = [__m256i; 2];
    // 4 x 2 sums, 2 x 2 vectors of weights, 2 of bytes and a product fill 15 of 16 registers.
    const MR: usize = 4;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Avx2 {
        self.0
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller vouches for eight readable sums.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2; the caller vouches for four readable bytes.
        unsafe {
            let bytes = p.cast::<u32>().read_unaligned();
            let (even, odd) = (bytes & 0x00FF_00FF, (bytes >> 8) & 0x00FF_00FF);
            [_mm256_set1_epi32(even as i32), _mm256_set1_epi32(odd as i32)]
        }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2; the caller vouches for 32 readable weights.
        unsafe {
            let weights = _mm256_loadu_si256(p.cast());
            [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weights)), _mm256_srai_epi16::<8>(weights)]
        }
    }
    #[inline(always)]
    fn dot(self, x: [__m256i; 2], w: [__m256i; 2], sums: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x[0], w[0]));
            _mm256_add_epi32(sums, _mm256_madd_epi16(x[1], w[1]))
        }
    }
    #[inline(always)]
    fn to_floats(self, sums: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
}
