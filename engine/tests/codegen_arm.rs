//! The register tiles on 64-bit ARM as the compiler made them: an inner loop holds its products and the loads that the tile needs,
//! nothing is spilled, nothing called. As `codegen.rs` does for x86, the test reads the machine code of its own executable;
//! `-- --nocapture` prints a table of all loops.
#![cfg(target_arch = "aarch64")]
#![allow(
    clippy::print_stdout,
    reason = "a skipped test says so, and the table is for whoever works on a kernel"
)]

mod program;

use ocelli_engine::simd::{DotProduct, MAX_MR, Neon, NeonBytes, NeonDotprod, NeonI8mm, Simd};
use program::{Function, functions};

/// Tiles of `<rows, vectors>` on one instruction set.
struct Unit {
    kernel: &'static str,
    /// The instruction that adds products to sums: bits that all of its forms share, and which these are.
    product: [u32; 2],
    name: &'static str,
    /// How many of it a vector of sums takes.
    per_vector: usize,
    /// Rows and vectors of the largest tile.
    tile: [usize; 2],
}

/// One element by a vector, whatever the registers and the element.
const BY_ELEMENT: u32 = 0xFFC0_F400;

const UNITS: [Unit; 4] = [
    Unit {
        kernel: "floats::ProductTile<",
        product: [BY_ELEMENT, 0x4F80_1000],
        name: "fmla",
        per_vector: 1,
        tile: [Neon::MR, Neon::NV],
    },
    Unit {
        kernel: "bytes::ByteTile<",
        product: [BY_ELEMENT, 0x4F00_F000],
        name: "sudot",
        per_vector: 1,
        tile: [NeonI8mm::MR, NeonI8mm::NV],
    },
    Unit {
        kernel: "bytes::ByteTile<",
        product: [BY_ELEMENT, 0x4F80_E000],
        name: "sdot",
        per_vector: 1,
        tile: [NeonDotprod::MR, NeonDotprod::NV],
    },
    Unit {
        kernel: "bytes::ByteTile<",
        product: [0xFFFF_FC00, 0x4E60_6800],
        name: "sadalp",
        per_vector: 2,
        tile: [NeonBytes::MR, NeonBytes::NV],
    },
];

/// The product of two vectors of floats, which the compiler takes where it loads a float into all lanes.
const FMLA_OF_VECTORS: [u32; 2] = [0xFFE0_FC00, 0x4E20_CC00];

/// Instructions of 32 bits, and where each lies.
fn instructions(function: &Function) -> Vec<u32> {
    function.code.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

/// A signed field of an instruction.
fn signed(instruction: u32, shift: u32, bits: u32) -> i64 {
    i64::from((instruction << (32 - shift - bits)) as i32 >> (32 - bits))
}

/// How many instructions further a jump leads.
fn jump(i: u32) -> Option<i64> {
    match i {
        _ if i & 0xFC00_0000 == 0x1400_0000 => Some(signed(i, 0, 26)),
        // On a condition; on a register that is zero or not.
        _ if i & 0xFF00_0010 == 0x5400_0000 || i & 0x7E00_0000 == 0x3400_0000 => Some(signed(i, 5, 19)),
        // On one bit of a register.
        _ if i & 0x7E00_0000 == 0x3600_0000 => Some(signed(i, 5, 14)),
        _ => None,
    }
}

fn is_call(i: u32) -> bool {
    i & 0xFC00_0000 == 0x9400_0000 || i & 0xFFFF_FC1F == 0xD63F_0000
}

/// The register that an access to memory is relative to; 31 is the stack pointer, 29 the frame pointer.
fn base(i: u32) -> Option<u32> {
    let is_access = i & 0x0A00_0000 == 0x0800_0000;
    let is_literal = i & 0x3B00_0000 == 0x1800_0000;
    (is_access && !is_literal).then_some(i >> 5 & 31)
}

/// Loops by their first and last instruction, that have no other one inside.
fn innermost(code: &[u32]) -> Vec<[usize; 2]> {
    let back = |at: usize| {
        let head = at as i64 + jump(code[at])?;
        (0..=at as i64).contains(&head).then_some([head as usize, at])
    };
    let loops: Vec<[usize; 2]> = (0..code.len()).filter_map(back).collect();
    let inside = |a: &[usize; 2], b: &[usize; 2]| a != b && b[0] <= a[0] && a[1] <= b[1];
    loops.iter().filter(|outer| !loops.iter().any(|inner| inside(inner, outer))).copied().collect()
}

/// What is wrong with the loops of a tile; `found` is set by a loop that is as it should be.
fn check(unit: &Unit, [rows, vectors]: [usize; 2], function: &Function, found: &mut bool) -> Vec<String> {
    let code = instructions(function);
    let is = |[mask, bits]: [u32; 2], i: u32| i & mask == bits;
    let is_product = |&&i: &&u32| is(unit.product, i) || (unit.name == "fmla" && is(FMLA_OF_VECTORS, i));
    let mut wrong = Vec::new();
    for [first, last] in innermost(&code) {
        let body = &code[first..=last];
        let products = body.iter().filter(is_product).count();
        if products == 0 {
            continue;
        }
        let on_stack = body.iter().filter(|&&i| matches!(base(i), Some(29 | 31))).count();
        let loads = body.iter().filter(|&&i| base(i).is_some()).count();
        let calls = body.iter().filter(|&&i| is_call(i)).count();
        let length = body.len();
        println!(
            "{:<6} {rows:>2} x {vectors}: {length:>3} instructions {products:>2} products {loads:>2} accesses \
             {on_stack} on the stack",
            unit.name
        );
        let rounds = products / (rows * vectors * unit.per_vector);
        let fits = rounds > 0 && products == rounds * rows * vectors * unit.per_vector;
        if fits && loads <= rounds * (rows + vectors) && on_stack + calls == 0 {
            *found = true;
        } else {
            let at = function.address + 4 * first as u64;
            wrong.push(format!(
                "{} {rows} x {vectors} at {at:x}: {products} products, {loads} accesses, {on_stack} of them on the stack, \
                 {calls} calls",
                unit.name
            ));
        }
    }
    wrong
}

#[test]
fn register_tiles_stay_in_registers() {
    // What is not reachable is not linked.
    std::hint::black_box([
        ocelli_engine::Trainer::new as *const (),
        ocelli_engine::Trainer::step as *const (),
        ocelli_engine::Inference::quantized as *const (),
    ]);
    let tiles = functions(|name| UNITS.iter().any(|unit| name.contains(unit.kernel))).expect("readable code");
    if tiles.is_empty() {
        assert!(std::env::var_os("OCELLI_REQUIRE_CODEGEN").is_none(), "symbols lack type arguments");
        return println!(
            "SKIP: symbols lack type arguments: RUSTFLAGS replaced the flag of .cargo/config.toml"
        );
    }
    let mut wrong = Vec::new();
    for unit in &UNITS {
        for vectors in 1..=unit.tile[1] {
            // One vector of columns leaves room for twice the rows.
            for rows in 1..=(unit.tile[0] * unit.tile[1] / vectors).min(MAX_MR) {
                let constants = format!(", {rows}, {vectors}>");
                let same = |f: &&Function| f.name.contains(unit.kernel) && f.name.contains(&constants);
                let mut found = false;
                for function in tiles.iter().filter(same) {
                    wrong.extend(check(unit, [rows, vectors], function, &mut found));
                }
                if !found {
                    wrong.push(format!("{} {rows} x {vectors}: no such loop", unit.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
}

/// Code by hand: `ldr s0, [x1]`, `str q0, [sp]`, `bl`, `sdot v4.4s, v1.16b, v0.4b[0]`, `b.ne` to the first.
#[test]
fn spills_and_calls_are_found() {
    let words = [0xBD40_0020u32, 0x3D80_03E0, 0x9400_0010, 0x4F80_E024, 0x54FF_FF81, 0xD65F_03C0];
    let code = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let function = Function { name: "by hand".to_owned(), address: 0, code };
    assert_eq!(innermost(&words), [[0, 4]]);
    let mut found = false;
    let wrong = check(&UNITS[2], [1, 1], &function, &mut found);
    assert_eq!((wrong.len(), found), (1, false));
    assert!(wrong[0].contains("2 accesses, 1 of them on the stack, 1 calls"), "{wrong:?}");
}
