//! Products of bf16 by AVX-512 BF16.

use super::{Avx512, PairProduct};
use crate::bf16::Bf16;
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 BF16, and all of [`Avx512`].
#[derive(Clone, Copy)]
pub struct Avx512Bf16 {
    _proof: (),
}

impl Avx512Bf16 {
    pub(super) fn assume_detected() -> Self {
        Avx512Bf16 { _proof: () }
    }
}

/// `vdpbf16ps` takes subnormal numbers for zeros and gives none.
// Every `unsafe` below calls an intrinsic of AVX-512 F or BF16; `self` proves that the processor has them.
// Loads rely on the pointer contract of the trait besides.
impl PairProduct for Avx512Bf16 {
    type Floats = Avx512;
    type Pair = __m512bh;
    type Weights = __m512bh;
    // As for floats: 12 x 2 sums, 2 vectors of weights and the pair of a row.
    const MR: usize = 12;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Avx512 {
        Avx512::assume_detected()
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const Bf16) -> __m512bh {
        // SAFETY: `self` proves AVX-512; the caller vouches for two readable numbers, and both types are 64 bytes of bits.
        unsafe { std::mem::transmute(_mm512_set1_epi32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const Bf16) -> __m512bh {
        // SAFETY: `self` proves AVX-512; the caller vouches for 32 readable weights, and both types are 64 bytes of bits.
        unsafe { std::mem::transmute(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    fn dot(self, x: __m512bh, w: __m512bh, sums: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 BF16.
        unsafe { _mm512_dpbf16_ps(sums, x, w) }
    }
}
