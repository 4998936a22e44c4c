//! Instruction sets for products of bytes, and their run-time dispatch.

use super::Isa;
#[cfg(target_arch = "x86_64")]
use super::dispatch::{run_avx2_bytes, run_avx512vnni, run_avxvnni};
#[cfg(target_arch = "aarch64")]
use super::dispatch::{run_neon_bytes, run_neon_dotprod, run_neon_i8mm};
use super::dot::{DotKernel, DotProduct, PortableBytes};
#[cfg(target_arch = "aarch64")]
use super::neon_dot::{NeonBytes, NeonDotprod, NeonI8mm};
use super::tile_unit::TileUnit;
use super::tiles::TILE_SIDE;
#[cfg(target_arch = "x86_64")]
use super::vnni::{Avx2Bytes, Avx512Vnni, AvxVnni};

/// An instruction set of this processor for products of bytes.
#[derive(Clone, Copy)]
pub struct DotIsa {
    vectors: Vectors,
    /// What multiplies tiles, if that is not done by vectors.
    tiles: Option<TileUnit>,
}

#[derive(Clone, Copy)]
enum Vectors {
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
        DotIsa { vectors: vectors(isa)[0], tiles: TileUnit::of(isa) }
    }

    /// All of this processor with vectors as long as those of an instruction set for floats or, for AVX-512 without byte
    /// products, of AVX2; those that plans choose first. Tiles in plain Rust are among them.
    pub fn all(isa: Isa) -> Vec<DotIsa> {
        let vectors = vectors(isa);
        let tiles =
            TileUnit::all(isa).into_iter().map(|unit| DotIsa { vectors: vectors[0], tiles: Some(unit) });
        tiles.chain(vectors.iter().map(|&vectors| DotIsa { vectors, tiles: None })).collect()
    }

    /// What multiplies tiles, if something does.
    pub fn tiles(self) -> Option<TileUnit> {
        self.tiles
    }

    /// `amx-int8`, `tiles-int8` (the same in plain Rust), `avx512-vnni`, `avx-vnni`, `avx2-int8`, `neon-i8mm`,
    /// `neon-dotprod`, `neon-int8` or `portable-int8`.
    pub fn name(self) -> &'static str {
        match (self.tiles, self.vectors) {
            (Some(unit), _) if unit.is_native() => "amx-int8",
            (Some(_), _) => "tiles-int8",
            (None, Vectors::Portable(_)) => "portable-int8",
            #[cfg(target_arch = "x86_64")]
            (None, Vectors::Avx2(_)) => "avx2-int8",
            #[cfg(target_arch = "x86_64")]
            (None, Vectors::AvxVnni(_)) => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            (None, Vectors::Avx512Vnni(_)) => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            (None, Vectors::Neon(_)) => "neon-int8",
            #[cfg(target_arch = "aarch64")]
            (None, Vectors::NeonDotprod(_)) => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            (None, Vectors::NeonI8mm(_)) => "neon-i8mm",
        }
    }

    /// Whether the processor has instructions for it, which make int8 faster than f32.
    pub fn is_native(self) -> bool {
        match (self.tiles, self.vectors) {
            (Some(unit), _) => unit.is_native(),
            (None, Vectors::Portable(_)) => false,
            #[cfg(target_arch = "x86_64")]
            (None, Vectors::Avx2(_)) => false,
            #[cfg(target_arch = "x86_64")]
            (None, Vectors::AvxVnni(_) | Vectors::Avx512Vnni(_)) => true,
            #[cfg(target_arch = "aarch64")]
            (None, Vectors::Neon(_)) => false,
            #[cfg(target_arch = "aarch64")]
            (None, Vectors::NeonDotprod(_) | Vectors::NeonI8mm(_)) => true,
        }
    }

    /// Adds to the start of each sum what its products lack on this instruction set: nothing where bytes are multiplied as they
    /// are, else a multiple of the sum of its weights. `w` is `[rows][columns]`, with a start for each column.
    pub fn complete(self, start: &mut [i32], w: &[i8]) {
        // Tiles multiply bytes as they are.
        let taken = if self.tiles.is_some() { 0 } else { dispatch_dot(self, Taken) };
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
        if self.tiles.is_some() { 2 * TILE_SIDE } else { dispatch_dot(self, TileSize).0 }
    }

    /// Columns of the register tile: the width of a packed weight panel.
    pub fn nr(self) -> usize {
        if self.tiles.is_some() { 2 * TILE_SIDE } else { dispatch_dot(self, TileSize).1 }
    }
}

/// The vectors that go with an instruction set for floats, fastest first.
fn vectors(isa: Isa) -> Vec<Vectors> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => {
            let own = Avx512Vnni::detect().map(Vectors::Avx512Vnni);
            own.into_iter().chain(vectors(Isa::Avx2(token.avx2()))).collect()
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => {
            let own = AvxVnni::detect().map(Vectors::AvxVnni);
            own.into_iter().chain([Vectors::Avx2(Avx2Bytes::of(token))]).collect()
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(token) => {
            let own = NeonI8mm::detect().map(Vectors::NeonI8mm);
            let signed = NeonDotprod::detect().map(Vectors::NeonDotprod);
            own.into_iter().chain(signed).chain([Vectors::Neon(NeonBytes::of(token))]).collect()
        }
        // Its products of pairs of 16-bit numbers would be its bytes; plain Rust does them meanwhile.
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::Simd128(_) => vec![Vectors::Portable(PortableBytes)],
        #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
        Isa::Portable(_) => vec![Vectors::Portable(PortableBytes)],
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

/// Runs a kernel on bytes with the vectors of an instruction set.
pub fn dispatch_dot<K: DotKernel>(isa: DotIsa, kernel: K) -> K::Output {
    match isa.vectors {
        // SAFETY: a token exists only if `detect` found its instructions.
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx512Vnni(token) => unsafe { run_avx512vnni(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Vectors::AvxVnni(token) => unsafe { run_avxvnni(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx2(token) => unsafe { run_avx2_bytes(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Vectors::NeonI8mm(token) => unsafe { run_neon_i8mm(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Vectors::NeonDotprod(token) => unsafe { run_neon_dotprod(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Vectors::Neon(token) => unsafe { run_neon_bytes(token, kernel) },
        Vectors::Portable(token) => kernel.run(token),
    }
}
