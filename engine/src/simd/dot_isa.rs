//! Instruction sets for products of bytes, and their run-time dispatch.

use super::Isa;
#[cfg(target_arch = "x86_64")]
use super::dispatch::{run_avx2_bytes, run_avx512vnni, run_avxvnni};
#[cfg(target_arch = "aarch64")]
use super::dispatch::{run_neon_bytes, run_neon_dotprod, run_neon_i8mm};
use super::dot::{DotKernel, DotProduct, PortableBytes};
#[cfg(target_arch = "aarch64")]
use super::neon_dot::{NeonBytes, NeonDotprod, NeonI8mm};
#[cfg(target_arch = "x86_64")]
use super::vnni::{Avx2Bytes, Avx512Vnni, AvxVnni};

/// An instruction set of this processor for products of bytes.
#[derive(Clone, Copy)]
pub enum DotIsa {
    /// Plain Rust, for any processor.
    Portable(PortableBytes),
    /// 16-bit products of AVX2: about as fast as its f32.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2Bytes),
    /// The byte products of AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// The byte products of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    /// 16-bit products of NEON: as many at a time as in f32.
    #[cfg(target_arch = "aarch64")]
    Neon(NeonBytes),
    /// The products of signed bytes of ARM's `dotprod`.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod(NeonDotprod),
    /// The products of unsigned bytes with signed ones of ARM's `i8mm`.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(NeonI8mm),
}

impl DotIsa {
    /// The one that goes with an instruction set for floats.
    pub fn of(isa: Isa) -> DotIsa {
        DotIsa::all(isa)[0]
    }

    /// All of this processor with vectors as long as those of an instruction set for floats or, for AVX-512 without byte
    /// products, of AVX2; fastest first.
    pub fn all(isa: Isa) -> Vec<DotIsa> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) => {
                let own = Avx512Vnni::detect().map(DotIsa::Avx512Vnni);
                own.into_iter().chain(DotIsa::all(Isa::Avx2(token.avx2()))).collect()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => AvxVnni::detect()
                .map(DotIsa::AvxVnni)
                .into_iter()
                .chain([DotIsa::Avx2(Avx2Bytes::of(token))])
                .collect(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(token) => {
                let own = NeonI8mm::detect().map(DotIsa::NeonI8mm);
                let signed = NeonDotprod::detect().map(DotIsa::NeonDotprod);
                own.into_iter().chain(signed).chain([DotIsa::Neon(NeonBytes::of(token))]).collect()
            }
            Isa::Portable(_) => vec![DotIsa::Portable(PortableBytes)],
        }
    }

    /// `avx512-vnni`, `avx-vnni`, `avx2-int8`, `neon-i8mm`, `neon-dotprod`, `neon-int8` or `portable-int8`.
    pub fn name(self) -> &'static str {
        match self {
            DotIsa::Portable(_) => "portable-int8",
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx2(_) => "avx2-int8",
            #[cfg(target_arch = "x86_64")]
            DotIsa::AvxVnni(_) => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx512Vnni(_) => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            DotIsa::Neon(_) => "neon-int8",
            #[cfg(target_arch = "aarch64")]
            DotIsa::NeonDotprod(_) => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            DotIsa::NeonI8mm(_) => "neon-i8mm",
        }
    }

    /// Whether the processor has instructions for it, which make int8 faster than f32.
    pub fn is_native(self) -> bool {
        match self {
            DotIsa::Portable(_) => false,
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx2(_) => false,
            #[cfg(target_arch = "x86_64")]
            DotIsa::AvxVnni(_) | DotIsa::Avx512Vnni(_) => true,
            #[cfg(target_arch = "aarch64")]
            DotIsa::Neon(_) => false,
            #[cfg(target_arch = "aarch64")]
            DotIsa::NeonDotprod(_) | DotIsa::NeonI8mm(_) => true,
        }
    }

    /// Adds to the start of each sum what its products lack on this instruction set: nothing where bytes are multiplied as they
    /// are, else a multiple of the sum of its weights. `w` is `[rows][columns]`, with a start for each column.
    pub fn complete(self, start: &mut [i32], w: &[i8]) {
        let taken = dispatch_dot(self, Taken);
        if taken == 0 {
            return;
        }
        for row in w.chunks_exact(start.len()) {
            for (start, &w) in start.iter_mut().zip(row) {
                *start = start.wrapping_add(taken * i32::from(w));
            }
        }
    }

    /// Rows of the register tile.
    pub fn mr(self) -> usize {
        dispatch_dot(self, TileSize).0
    }

    /// Columns of the register tile: the width of a packed weight panel.
    pub fn nr(self) -> usize {
        dispatch_dot(self, TileSize).1
    }
}

struct TileSize;

impl DotKernel for TileSize {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<D: DotProduct>(self, _: D) -> (usize, usize) {
        (D::MR, D::NV * D::LANES)
    }
}

struct Taken;

impl DotKernel for Taken {
    type Output = i32;

    #[inline(always)]
    fn run<D: DotProduct>(self, _: D) -> i32 {
        D::TAKEN
    }
}

impl std::fmt::Debug for DotIsa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs a kernel on bytes with an instruction set.
pub fn dispatch_dot<K: DotKernel>(isa: DotIsa, kernel: K) -> K::Output {
    match isa {
        // SAFETY: a token exists only if `detect` found its instructions.
        #[cfg(target_arch = "x86_64")]
        DotIsa::Avx512Vnni(token) => unsafe { run_avx512vnni(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        DotIsa::AvxVnni(token) => unsafe { run_avxvnni(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        DotIsa::Avx2(token) => unsafe { run_avx2_bytes(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        DotIsa::NeonI8mm(token) => unsafe { run_neon_i8mm(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        DotIsa::NeonDotprod(token) => unsafe { run_neon_dotprod(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        DotIsa::Neon(token) => unsafe { run_neon_bytes(token, kernel) },
        DotIsa::Portable(token) => kernel.run(token),
    }
}
