//! What multiplies tiles: AMX, or plain Rust in its place.

use super::Isa;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx::Amx;
use super::tiles::{TILE_BYTES, TILE_SIDE, TileProducts, TileSums, multiply_plain};
use std::sync::OnceLock;

/// What multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileUnit {
    /// AMX.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(Amx),
    /// Plain Rust, with the sums in the order of AMX: for tests.
    Plain,
}

impl TileUnit {
    /// The environment variable that chooses: `off` for none, `emulated` for plain Rust.
    pub const VARIABLE: &'static str = "OCELLI_TILES";

    /// The unit that goes with an instruction set for floats. AMX comes with AVX-512.
    pub(super) fn of(isa: Isa) -> Option<TileUnit> {
        match variable() {
            Some("off") => None,
            Some("emulated") => Some(TileUnit::Plain),
            _ => TileUnit::native(isa),
        }
    }

    /// All units that go with an instruction set for floats.
    pub(super) fn all(isa: Isa) -> Vec<TileUnit> {
        TileUnit::native(isa).into_iter().chain([TileUnit::Plain]).collect()
    }

    #[cfg_attr(
        not(all(target_arch = "x86_64", target_os = "linux")),
        expect(unused_variables, reason = "there is no unit for tiles")
    )]
    fn native(isa: Isa) -> Option<TileUnit> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let Isa::Avx512(_) = isa {
            return Amx::detect().map(TileUnit::Amx);
        }
        None
    }

    /// Whether the processor has instructions for it.
    pub fn is_native(self) -> bool {
        self != TileUnit::Plain
    }

    /// Computes the sums; those of tiles that do not take part are left as they are.
    ///
    /// # Safety
    /// All rows of both operands are readable at every step.
    ///
    /// # Panics
    /// For numbers of rows, bytes, steps or tiles that are not as [`TileProducts`] says.
    pub unsafe fn multiply(self, products: &TileProducts, sums: &mut TileSums) {
        let &TileProducts { offsets, steps, rows, depth, b_tiles, .. } = products;
        assert!(!offsets.is_empty() && steps > 0, "there is a reduction");
        assert!(
            (1..=2 * TILE_SIDE).contains(&rows) && (1..=2).contains(&b_tiles),
            "there are up to four tiles"
        );
        assert!(depth > 0 && depth <= TILE_BYTES && depth.is_multiple_of(4), "a row is whole groups");
        match self {
            // SAFETY: the contract of this function.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            TileUnit::Amx(amx) => unsafe { amx.multiply(products, sums) },
            // SAFETY: the contract of this function.
            TileUnit::Plain => unsafe { multiply_plain(products, sums) },
        }
    }
}

/// The environment variable, which is read once.
fn variable() -> Option<&'static str> {
    static CHOICE: OnceLock<Option<String>> = OnceLock::new();
    CHOICE.get_or_init(|| std::env::var(TileUnit::VARIABLE).ok()).as_deref()
}
