//! Instruction sets for products of bf16, and their run-time dispatch.

#[cfg(target_arch = "x86_64")]
use super::avx512_bf16::Avx512Bf16;
#[cfg(target_arch = "x86_64")]
use super::dispatch::run_avx512bf16;
use super::dispatch::{Kernel, dispatch};
use super::pairs::{PairKernel, PairProduct, Widened};
use super::tile_unit::TileUnit;
use super::tiles::TILE_SIDE;
use super::{Isa, Simd};

/// An instruction set of this processor for products of bf16.
#[derive(Clone, Copy)]
pub struct Bf16Isa {
    vectors: Vectors,
    /// What multiplies tiles, if that is not done by vectors.
    tiles: Option<TileUnit>,
}

#[derive(Clone, Copy)]
enum Vectors {
    /// Multiply-adds of floats.
    Widened(Isa),
    /// The products of AVX-512 BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
}

impl Bf16Isa {
    /// The one that goes with an instruction set for floats.
    pub fn of(isa: Isa) -> Bf16Isa {
        Bf16Isa { vectors: Bf16Isa::vectors(isa)[0], tiles: TileUnit::of(isa) }
    }

    /// All that go with an instruction set for floats, those that plans choose first. Tiles in plain Rust are among them.
    pub fn all(isa: Isa) -> Vec<Bf16Isa> {
        let vectors = Bf16Isa::vectors(isa);
        let tiles =
            TileUnit::all(isa).into_iter().map(|unit| Bf16Isa { vectors: vectors[0], tiles: Some(unit) });
        tiles.chain(vectors.iter().map(|&vectors| Bf16Isa { vectors, tiles: None })).collect()
    }

    fn vectors(isa: Isa) -> Vec<Vectors> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if let Isa::Avx512(_) = isa {
            found.extend(Avx512Bf16::detect().map(Vectors::Avx512Bf16));
        }
        found.push(Vectors::Widened(isa));
        found
    }

    /// What multiplies tiles, if something does.
    pub fn tiles(self) -> Option<TileUnit> {
        self.tiles
    }

    /// `amx-bf16`, `tiles-bf16` (the same in plain Rust), `avx512-bf16`, or, where f32 does the work, `avx512-f32-bf16` and the
    /// like.
    pub fn name(self) -> &'static str {
        match (self.tiles, self.vectors) {
            (Some(unit), _) if unit.is_native() => "amx-bf16",
            (Some(_), _) => "tiles-bf16",
            #[cfg(target_arch = "x86_64")]
            (None, Vectors::Avx512Bf16(_)) => "avx512-bf16",
            (None, Vectors::Widened(isa)) => match isa.name() {
                "avx512" => "avx512-f32-bf16",
                "avx2" => "avx2-f32-bf16",
                "neon" => "neon-f32-bf16",
                "simd128" => "simd128-f32-bf16",
                _ => "portable-f32-bf16",
            },
        }
    }

    /// Whether the processor has instructions for it.
    pub fn is_native(self) -> bool {
        match (self.tiles, self.vectors) {
            (Some(unit), _) => unit.is_native(),
            #[cfg(target_arch = "x86_64")]
            (None, Vectors::Avx512Bf16(_)) => true,
            (None, Vectors::Widened(_)) => false,
        }
    }

    /// Whether it is so much faster than f32 that a network whose numbers nobody chose should be computed with it. Products by
    /// AVX-512 BF16 are not: some processors do them at half of the speed of f32, and plain sums of 3x3 filters by it are
    /// about as fast as Winograd's in f32.
    pub fn is_faster(self) -> bool {
        self.tiles.is_some_and(TileUnit::is_native)
    }

    /// Rows of the register tile.
    pub fn mr(self) -> usize {
        if self.tiles.is_some() { 2 * TILE_SIDE } else { dispatch_pairs(self, TileSize).0 }
    }

    /// Columns of the register tile: the width of a packed weight panel.
    pub fn nr(self) -> usize {
        if self.tiles.is_some() { 2 * TILE_SIDE } else { dispatch_pairs(self, TileSize).1 }
    }
}

struct TileSize;

impl PairKernel for TileSize {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<P: PairProduct>(self, _: P) -> (usize, usize) {
        (P::MR, P::NV * P::LANES)
    }
}

impl std::fmt::Debug for Bf16Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs a kernel on pairs of bf16 with the vectors of an instruction set.
pub fn dispatch_pairs<K: PairKernel>(isa: Bf16Isa, kernel: K) -> K::Output {
    match isa.vectors {
        // SAFETY: a token exists only if `detect` found its instructions.
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx512Bf16(token) => unsafe { run_avx512bf16(token, kernel) },
        Vectors::Widened(isa) => dispatch(isa, OnFloats(kernel)),
    }
}

/// A kernel on pairs as one on floats.
struct OnFloats<K>(K);

impl<K: PairKernel> Kernel for OnFloats<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.0.run(Widened(s))
    }
}
