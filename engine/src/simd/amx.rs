//! AMX: the instructions, and whether they are there.

use super::tiles::{TILE_BYTES, TILE_SIDE, TileNumbers, TileProducts, TileSums, multiply_plain};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Proof that the processor has AMX for bytes and for bf16, that this process may use it, and that a product of tiles gave
/// what plain Rust gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amx {
    _proof: (),
}

/// The shapes of all tiles: the memory operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// What the loop reads from memory, at fixed offsets.
#[repr(C)]
struct Loop {
    base: *const u8,
    end: *const usize,
    steps: usize,
    a_step: usize,
    b_step: usize,
}

/// The loop over a reduction: `$body` for every step, between `$table`, which points an operand at the next offset, and
/// the end of the offsets.
macro_rules! reduce {
    ($l:expr, $p:expr, $sums:expr, $configuration:expr, $start:literal, $table:literal, $body:expr, $end:literal) => {{
        // SAFETY: the caller vouches for all rows of both operands; the sums have room for four tiles; no tile is in use
        // before, and none is left behind.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                $start,
                "2:",
                $table,
                "add {offset}, 8",
                "lea {a2}, [{a} + {a16}]",
                "mov {step}, [{l} + 16]",
                "3:",
                $body,
                "add {a}, [{l} + 24]",
                "add {a2}, [{l} + 24]",
                "add {b}, [{l} + 32]",
                "dec {step}",
                "jnz 3b",
                "cmp {offset}, [{l} + 8]",
                "jne 2b",
                $end,
                "tilerelease",
                configuration = in(reg) $configuration,
                l = in(reg) &raw const $l,
                offset = inout(reg) $p.offsets.as_ptr() => _,
                a = inout(reg) $p.other => _,
                a2 = out(reg) _,
                a16 = in(reg) TILE_SIDE * $p.a_stride,
                b = inout(reg) $p.other => _,
                a_stride = in(reg) $p.a_stride,
                b_stride = in(reg) $p.b_stride,
                step = inout(reg) TILE_BYTES => _,
                sums = in(reg) $sums,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }};
}

/// [`reduce`] for one kind of numbers, by the operand that the table is and the number of tiles.
macro_rules! tiles {
    ($product:literal, $table:literal, $l:expr, $p:expr, $sums:expr, $configuration:expr) => {
        match ($p.rows > TILE_SIDE, $p.b_tiles > 1) {
            (false, false) => reduce!(
                $l, $p, $sums, $configuration,
                "tilezero tmm0",
                $table,
                concat!(
                    "tileloadd tmm4, [{a} + {a_stride}*1]\n",
                    "tileloadd tmm6, [{b} + {b_stride}*1]\n",
                    $product, " tmm0, tmm4, tmm6",
                ),
                "mov {step}, 64\ntilestored [{sums} + {step}*1], tmm0"
            ),
            (false, true) => reduce!(
                $l, $p, $sums, $configuration,
                "tilezero tmm0\ntilezero tmm1",
                $table,
                concat!(
                    "tileloadd tmm4, [{a} + {a_stride}*1]\n",
                    "tileloadd tmm6, [{b} + {b_stride}*1]\n",
                    $product, " tmm0, tmm4, tmm6\n",
                    "tileloadd tmm7, [{b} + {b_stride}*1 + 64]\n",
                    $product, " tmm1, tmm4, tmm7",
                ),
                "mov {step}, 64\ntilestored [{sums} + {step}*1], tmm0\ntilestored [{sums} + {step}*1 + 1024], tmm1"
            ),
            (true, false) => reduce!(
                $l, $p, $sums, $configuration,
                "tilezero tmm0\ntilezero tmm2",
                $table,
                concat!(
                    "tileloadd tmm6, [{b} + {b_stride}*1]\n",
                    "tileloadd tmm4, [{a} + {a_stride}*1]\n",
                    $product, " tmm0, tmm4, tmm6\n",
                    "tileloadd tmm5, [{a2} + {a_stride}*1]\n",
                    $product, " tmm2, tmm5, tmm6",
                ),
                "mov {step}, 64\ntilestored [{sums} + {step}*1], tmm0\ntilestored [{sums} + {step}*1 + 2048], tmm2"
            ),
            (true, true) => reduce!(
                $l, $p, $sums, $configuration,
                "tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3",
                $table,
                concat!(
                    "tileloadd tmm6, [{b} + {b_stride}*1]\n",
                    "tileloadd tmm4, [{a} + {a_stride}*1]\n",
                    $product, " tmm0, tmm4, tmm6\n",
                    "tileloadd tmm7, [{b} + {b_stride}*1 + 64]\n",
                    $product, " tmm1, tmm4, tmm7\n",
                    "tileloadd tmm5, [{a2} + {a_stride}*1]\n",
                    $product, " tmm2, tmm5, tmm6\n",
                    $product, " tmm3, tmm5, tmm7",
                ),
                "mov {step}, 64\n\
                 tilestored [{sums} + {step}*1], tmm0\n\
                 tilestored [{sums} + {step}*1 + 1024], tmm1\n\
                 tilestored [{sums} + {step}*1 + 2048], tmm2\n\
                 tilestored [{sums} + {step}*1 + 3072], tmm3"
            ),
        }
    };
}

impl Amx {
    /// The token, if the processor and the system have what it proves; asked once.
    pub(super) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let found = FOUND.get_or_init(|| has_instructions() && has_permission() && is_right());
        found.then_some(Amx { _proof: () })
    }

    /// As [`TileUnit::multiply`](super::TileUnit::multiply), which has checked the numbers.
    ///
    /// # Safety
    /// All rows of both operands are readable at every step.
    pub(super) unsafe fn multiply(self, p: &TileProducts, sums: &mut TileSums) {
        // SAFETY: `self` proves the instructions; the contract of this function.
        unsafe { multiply(p, sums) }
    }
}

/// # Safety
/// The processor has AMX and this process may use it; otherwise as [`Amx::multiply`].
unsafe fn multiply(p: &TileProducts, sums: &mut TileSums) {
    let shapes = configuration(p);
    let configuration = &raw const shapes;
    let l = Loop {
        base: p.base,
        end: p.offsets.as_ptr_range().end,
        steps: p.steps,
        a_step: p.a_step,
        b_step: p.b_step,
    };
    let sums = sums.0.as_mut_ptr();
    match (p.numbers, p.table_is_a) {
        (TileNumbers::Bf16, true) => {
            tiles!(
                "tdpbf16ps",
                "mov {a}, [{offset}]\nadd {a}, {a}\nadd {a}, [{l}]",
                l,
                p,
                sums,
                configuration
            )
        }
        (TileNumbers::Bf16, false) => {
            tiles!(
                "tdpbf16ps",
                "mov {b}, [{offset}]\nadd {b}, {b}\nadd {b}, [{l}]",
                l,
                p,
                sums,
                configuration
            )
        }
        (TileNumbers::Bytes, true) => {
            tiles!("tdpbusd", "mov {a}, [{offset}]\nadd {a}, [{l}]", l, p, sums, configuration)
        }
        (TileNumbers::Bytes, false) => {
            tiles!("tdpbusd", "mov {b}, [{offset}]\nadd {b}, [{l}]", l, p, sums, configuration)
        }
    }
}

/// Tiles 0 to 3 are sums, 4 and 5 are A, 6 and 7 are B.
fn configuration(p: &TileProducts) -> Configuration {
    let mut c =
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let (first, second) = (p.rows.min(TILE_SIDE), p.rows.saturating_sub(TILE_SIDE));
    for a in 0..2 {
        let rows = [first, second][a] as u8;
        for tile in [2 * a, 2 * a + 1, 4 + a] {
            c.rows[tile] = rows;
            c.row_bytes[tile] = match (rows, tile) {
                (0, _) => 0,
                (_, 4..) => p.depth as u16,
                _ => TILE_BYTES as u16,
            };
        }
        (c.rows[6 + a], c.row_bytes[6 + a]) = ((p.depth / 4) as u8, TILE_BYTES as u16);
    }
    c
}

/// CPUID has AMX with both kinds of products, and the system saves the tiles of a thread.
fn has_instructions() -> bool {
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u32 = 1 << 17 | 1 << 18;
    if __cpuid_count(0, 0).eax < 7 || __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return false;
    }
    let saved: u32;
    // SAFETY: OSXSAVE says that there is `xgetbv`, and register 0 exists then; it changes `eax` and `edx` alone.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    __cpuid_count(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8 && saved & TILE_STATE == TILE_STATE
}

/// Asks Linux for the use of tiles, which is given to all threads of the process.
fn has_permission() -> bool {
    /// `arch_prctl`, and its request for a part of the processor's state: that of tile data.
    const ARCH_PRCTL: usize = 158;
    const REQUEST: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let refused: isize;
    // SAFETY: the system call changes what the process may do and touches no memory; it clobbers `rcx` and `r11`.
    unsafe {
        asm!(
            "syscall",
            inout("rax") ARCH_PRCTL => refused,
            in("rdi") REQUEST,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

/// Whether products of tiles give what plain Rust gives.
fn is_right() -> bool {
    // Whole numbers below 32 in bf16: all sums are exact.
    let whole = |i: usize| (crate::bf16::Bf16::from((i * 7 % 31) as f32)).to_bits().to_le_bytes();
    let halves: Vec<u8> = (0..4096).flat_map(whole).collect();
    let bytes: Vec<u8> = (0..8192).map(|i| (i * 37 % 251) as u8).collect();
    [(TileNumbers::Bf16, &halves), (TileNumbers::Bytes, &bytes)].into_iter().all(|(numbers, memory)| {
        [(true, 32, 2), (false, 20, 2), (true, 7, 1), (false, 31, 1)].into_iter().all(
            |(table_is_a, rows, b_tiles)| {
                let products = TileProducts {
                    numbers,
                    base: memory.as_ptr(),
                    offsets: &[0, 64],
                    steps: 2,
                    table_is_a,
                    other: memory[1024..].as_ptr(),
                    a_stride: 68,
                    b_stride: 132,
                    a_step: 48,
                    b_step: 96,
                    rows,
                    depth: 48,
                    b_tiles,
                };
                let [mut found, mut expected] = [const { TileSums([0; _]) }; 2];
                // SAFETY: the processor has AMX and the process may use it; A reaches 31 rows of 68 bytes and B 12 rows of 132
                // behind 1024 + 3 steps of 96 bytes, within 8 KiB.
                unsafe {
                    multiply(&products, &mut found);
                    multiply_plain(&products, &mut expected);
                }
                found.0 == expected.0
            },
        )
    })
}
