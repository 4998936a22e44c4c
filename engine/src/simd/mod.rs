//! Vectors of floats with run-time dispatch.
//!
//! An instruction set is a zero-sized *token* ([`Avx2`], [`Avx512`], `Neon`, `Simd128`, [`Portable`]) that can only be made after the
//! processor was asked, so holding one proves that its instructions exist. Kernels are written once, generic over
//! [`Simd`], and compiled once per token under the trampolines of [`dispatch`]. Two rules keep them fast:
//! every function between a trampoline and an intrinsic is `#[inline(always)]`, and work is split across threads
//! *before* dispatch, since a closure handed to another thread is compiled without the features.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod bf16_isa;
mod dispatch;
mod dot;
mod dot_isa;
#[doc(hidden)]
pub mod limits;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
mod pairs;
mod portable;
mod tile_unit;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use crate::bf16::Bf16;
use crate::error::EngineError;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub use avx512_bf16::Avx512Bf16;
pub use bf16_isa::{Bf16Isa, dispatch_pairs};
pub use dispatch::{Kernel, dispatch};
pub use dot::{DotKernel, DotProduct, PortableBytes};
pub use dot_isa::{DotIsa, dispatch_dot};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
#[cfg(target_arch = "aarch64")]
pub use neon_dot::{NeonBytes, NeonDotprod, NeonI8mm};
pub use pairs::{PairKernel, PairProduct, Widened};
pub use portable::Portable;
pub use tile_unit::TileUnit;
pub use tiles::{TILE_BYTES, TILE_SIDE, TILE_SUMS, TileNumbers, TileProducts, TileSums};
#[cfg(target_arch = "x86_64")]
pub use vnni::{Avx2Bytes, Avx512Vnni, AvxVnni};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::Simd128;

/// Largest number of lanes of any vector.
pub const MAX_LANES: usize = 16;
/// Largest number of rows of any register tile of vectors.
pub const MAX_MR: usize = 12;
/// Largest number of rows that are computed together.
pub(crate) const MAX_ROWS: usize = 2 * TILE_SIDE;
/// Largest number of columns of any register tile.
pub(crate) const MAX_NR: usize = 32;

/// Arithmetic on one instruction set's vectors of `f32`.
///
/// Kernels give the same bits with AVX2 and AVX-512 (`tests/same_bits.rs`), and are meant to with NEON: lanes are columns or channels, never terms of
/// one sum, and where a sum is cut depends on neither [`Simd::LANES`] nor the register tile. Portable code and WebAssembly
/// differ, as their `mul_add` rounds twice.
///
/// `max`, `min` and `select_gt` compare as `a > b ? .. : ..`, so a NaN in `a` gives the second operand.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Self::LANES`] floats.
    type V: Copy;
    /// Floats in a vector.
    const LANES: usize;
    /// Rows of the register tile of matrix products; with [`Self::NV`] vectors a row it fills the registers.
    const MR: usize;
    /// Vectors in a row of the register tile.
    const NV: usize;
    /// Columns of the register tile.
    const NR: usize = Self::LANES * Self::NV;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// `LANES` floats from memory.
    ///
    /// # Safety
    /// `p` is readable for `LANES` floats.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// `LANES` floats to memory.
    ///
    /// # Safety
    /// `p` is writable for `LANES` floats.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// `n` floats from memory, zeros in the other lanes.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is readable for `n` floats; memory behind them is not touched.
    unsafe fn load_tail(self, p: *const f32, n: usize) -> Self::V;
    /// The first `n` lanes to memory.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is writable for `n` floats; memory behind them is not touched.
    unsafe fn store_tail(self, p: *mut f32, v: Self::V, n: usize);
    /// `n` bytes from memory as floats, zeros in the other lanes.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is readable for `n` bytes; memory behind them is not touched.
    unsafe fn load_u8(self, p: *const u8, n: usize) -> Self::V;
    /// The first `n` lanes to memory as bytes: the nearest whole number from 0 to 255, halves to even. No lane is a NaN.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is writable for `n` bytes; memory behind them is not touched.
    unsafe fn store_u8(self, p: *mut u8, v: Self::V, n: usize);
    /// `n` numbers in bf16 from memory as floats, zeros in the other lanes.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is readable for `n` numbers; memory behind them is not touched.
    unsafe fn load_bf16(self, p: *const Bf16, n: usize) -> Self::V;
    /// The first `n` lanes to memory in bf16, as `Bf16::from` rounds them up to the bits of a NaN.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is writable for `n` numbers; memory behind them is not touched.
    unsafe fn store_bf16(self, p: *mut Bf16, v: Self::V, n: usize);
    /// `LANES` pairs of numbers in bf16 from memory: the first number of each pair, and the second.
    ///
    /// # Safety
    /// `p` is readable for `2 * LANES` numbers.
    unsafe fn load_bf16_pairs(self, p: *const Bf16) -> [Self::V; 2];
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, with one rounding where the instruction set has it.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `a > b ? x : y`, lane by lane.
    fn select_gt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Nearest integer, halves to even; for `|a| < 2^22`.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^a` for integer-valued `a` in `-126..=127`.
    fn exp2_int(self, a: Self::V) -> Self::V;
    /// `a`, but zero in lanes that are zero or subnormal, whatever their sign.
    fn flush(self, a: Self::V) -> Self::V;
    /// Whether some lane is a NaN.
    fn any_nan(self, a: Self::V) -> bool;
    /// Sum of the lanes, in an order that depends on their number: for measurements, which need a result, and not for
    /// kernels.
    fn reduce_add(self, a: Self::V) -> f32;
}

/// An instruction set that this processor has.
#[derive(Clone, Copy)]
pub enum Isa {
    /// Plain Rust, for any processor. A program for WebAssembly with vectors has them wherever it runs, and every kernel but
    /// once.
    #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
    Portable(Portable),
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 F, BW, VL and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// NEON of 64-bit ARM.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// The vectors of WebAssembly.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(Simd128),
}

impl Isa {
    /// Names that [`Isa::by_name`] and `OCELLI_ISA` understand, fastest first.
    pub const NAMES: [&'static str; 5] = ["avx512", "avx2", "neon", "simd128", "portable"];

    /// The instruction set to use: what `OCELLI_ISA` names, else the fastest that the processor has.
    /// The environment is read once.
    ///
    /// # Errors
    /// [`EngineError::Isa`] when `OCELLI_ISA` names one that is unknown or missing here.
    pub fn best() -> Result<Self, EngineError> {
        static CHOICE: OnceLock<Result<Isa, String>> = OnceLock::new();
        let choice = CHOICE.get_or_init(|| match std::env::var("OCELLI_ISA") {
            Ok(name) => Isa::by_name(&name).map_err(|e| e.to_string()),
            Err(_) => Ok(Isa::available()[0]),
        });
        choice.clone().map_err(EngineError::Isa)
    }

    /// One instruction set by name.
    ///
    /// # Errors
    /// [`EngineError::Isa`] when the name is unknown or the processor lacks it.
    pub fn by_name(name: &str) -> Result<Self, EngineError> {
        let found = Isa::available().into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| {
            let here: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
            EngineError::Isa(format!(
                "instruction set `{name}` is not available: this machine has {}",
                here.join(", ")
            ))
        })
    }

    /// All that this processor has, fastest first.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            found.extend(Avx512::detect().map(Isa::Avx512));
            found.extend(Avx2::detect().map(Isa::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        found.extend(Neon::detect().map(Isa::Neon));
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        found.extend(Simd128::detect().map(Isa::Simd128));
        #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
        found.push(Isa::Portable(Portable));
        found
    }

    /// `avx512`, `avx2`, `neon`, `simd128` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
            Isa::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Simd128(_) => "simd128",
        }
    }

    /// This instruction set, or AVX2 in place of AVX-512 where `n` floats fill a vector of AVX2 alone.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "vectors have one length there")
    )]
    pub(crate) fn for_length(self, n: usize) -> Self {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) if (Avx2::LANES..Avx512::LANES).contains(&n) => Isa::Avx2(token.avx2()),
            isa => isa,
        }
    }

    /// Rows of the register tile.
    pub fn mr(self) -> usize {
        dispatch(self, TileSize).0
    }

    /// Columns of the register tile: the width of a packed weight panel.
    pub fn nr(self) -> usize {
        dispatch(self, TileSize).1
    }
}

struct TileSize;

impl Kernel for TileSize {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (S::MR, S::NR)
    }
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
