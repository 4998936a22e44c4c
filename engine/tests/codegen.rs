//! The inner loops of the hot kernels as the compiler made them: sums stay in vector registers, nothing is called, and
//! memory is read as often as the register tile says. A compiler or a change that breaks one of these costs half of
//! the speed and no other test sees it.
//!
//! The test reads the machine code of its own executable, so AVX-512 is checked on machines without it. `make codegen`
//! checks the code that ships; built with overflow checks, as `cargo test` does, only register tiles are checked,
//! whose loops add no integers that could overflow. `-- --nocapture` prints a table of all loops that were looked at.
#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::print_stdout,
    reason = "a skipped test says so, and the table is for whoever works on a kernel"
)]

mod disassembly;

use disassembly::{Function, Loop, functions, innermost_loops};
use ocelli_engine::simd::{Avx2, Avx512, Simd};

/// A trampoline of `simd::dispatch`, and the vectors of its instruction set.
struct Trampoline {
    name: &'static str,
    /// Bytes of a vector.
    bytes: usize,
    /// Rows and vectors of the largest register tile.
    tile: [usize; 2],
}

const TRAMPOLINES: [Trampoline; 2] = [
    Trampoline { name: "run_avx2", bytes: 4 * Avx2::LANES, tile: [Avx2::MR, Avx2::NV] },
    Trampoline { name: "run_avx512", bytes: 4 * Avx512::LANES, tile: [Avx512::MR, Avx512::NV] },
];

/// Kernels with one loop for each tile: `NAME<rows, vectors>` reads `rows + vectors` vectors and broadcasts for
/// `rows * vectors` multiply-adds.
const TILES: [&str; 2] = ["micro::ProductTile", "micro::OuterTile"];

/// General registers that a tile may keep on the stack: a pointer more in a loop that is bound by multiply-adds.
const TILE_RELOADS: usize = 2;

/// What is demanded of the loops of a kernel that multiply and add.
struct Demand {
    /// The kernel as its trampoline's name has it.
    kernel: String,
    /// Multiply-adds of a round, and the most loads. Every loop does a multiple of one of these in a round, and
    /// for each there is a loop.
    rounds: Vec<[usize; 2]>,
    /// Most vectors that a round reads from the stack or stores there.
    spills: usize,
    /// Most general registers.
    reloads: usize,
}

/// One loop for each tile that the instruction set asks for.
fn tiles(trampoline: &Trampoline) -> Vec<Demand> {
    let [mr, nv] = trampoline.tile;
    let sizes = (1..=mr).flat_map(|rows| (1..=nv).map(move |vectors| [rows, vectors]));
    let demands = sizes.flat_map(|[rows, vectors]| {
        TILES.map(|name| Demand {
            kernel: format!("{name}<{rows}, {vectors}>"),
            rounds: vec![[rows * vectors, rows + vectors]],
            spills: 0,
            reloads: TILE_RELOADS,
        })
    });
    demands.collect()
}

/// The loops of depthwise convolutions: single taps of one and of four vectors, and rows of taps.
fn depthwise() -> Vec<Demand> {
    let mut gather = vec![[1, 2], [4, 8]];
    for (width, step, pixels) in
        [3, 5].iter().flat_map(|w| [1, 2].iter().flat_map(move |s| [2, 4, 6].map(|p| (*w, *s, p))))
    {
        gather.push([pixels * width, (pixels - 1) * step + 2 * width]);
    }
    vec![
        Demand {
            kernel: "depthwise::Gather".to_owned(),
            rounds: gather,
            // The mask of a tail is one vector too many for four pixels of width 5.
            spills: 2,
            // Inputs and weights of a row of taps have up to 20 addresses.
            reloads: 40,
        },
        Demand {
            kernel: "depthwise::WeightGradient".to_owned(),
            rounds: vec![[1, 2], [4, 8], [3, 4], [12, 16], [5, 6], [10, 12]],
            spills: 0,
            reloads: 2,
        },
    ]
}

/// The trampolines in this executable; `None`, and says why, when there is nothing to read. `OCELLI_REQUIRE_CODEGEN`
/// makes that a failure.
fn trampolines() -> Option<Vec<Function>> {
    // What is not reachable is not linked.
    std::hint::black_box([
        ocelli_engine::Trainer::new as *const (),
        ocelli_engine::Trainer::step as *const (),
    ]);
    let found =
        functions(|name| TRAMPOLINES.iter().any(|t| name.contains(&format!("simd::dispatch::{}", t.name))));
    let found = found.and_then(|found| match &found[..] {
        [] => Err("the executable has no symbols".to_owned()),
        [first, ..] if !first.name.contains("::<") => {
            Err("symbols lack type arguments: RUSTFLAGS replaced the flag of .cargo/config.toml".to_owned())
        }
        _ => Ok(found),
    });
    found.map_err(|reason| skip(&reason)).ok()
}

fn skip(reason: &str) {
    assert!(
        std::env::var_os("OCELLI_REQUIRE_CODEGEN").is_none(),
        "OCELLI_REQUIRE_CODEGEN is set, but {reason}"
    );
    println!("SKIP: {reason}");
}

/// Whether integers are checked: loops that compute addresses then call what panics.
fn has_overflow_checks() -> bool {
    std::panic::catch_unwind(|| std::hint::black_box(u8::MAX) + std::hint::black_box(1)).is_err()
}

/// Whether a function is a trampoline with this kernel, whatever type arguments follow those that it names.
fn is_instance(function: &str, trampoline: &Trampoline, kernel: &str) -> bool {
    let kernel = kernel.trim_end_matches('>');
    let ends = |at: usize| function[at + kernel.len()..].starts_with(['>', ',']);
    function.contains(&format!("::{}::<", trampoline.name))
        && function.match_indices(kernel).any(|(at, _)| ends(at))
}

/// What is wrong with the loops of a kernel.
fn violations(demand: &Demand, bytes: usize, loops: &[Loop]) -> Vec<String> {
    let loops: Vec<&Loop> = loops.iter().filter(|l| !l.multiply_adds.is_empty()).collect();
    let multiply_adds = |l: &Loop| l.multiply_adds.get(&bytes).copied().unwrap_or(0);
    let fits = |l: &Loop, [round, loads]: [usize; 2]| {
        let rounds = multiply_adds(l) / round;
        rounds > 0 && multiply_adds(l) == rounds * round && l.loads <= rounds * loads
    };
    let mut found = Vec::new();
    for &[round, loads] in &demand.rounds {
        if !loops.iter().any(|l| fits(l, [round, loads])) {
            found.push(format!("no loop with {round} multiply-adds and at most {loads} loads"));
        }
    }
    for l in loops {
        let mut wrong = |what: String| found.push(format!("loop at {:x}: {what}", l.address));
        if l.multiply_adds.len() > 1 || !l.multiply_adds.contains_key(&bytes) {
            wrong(format!("multiply-adds by bytes of the vector {:?}", l.multiply_adds));
        } else if !demand.rounds.iter().any(|&round| fits(l, round)) {
            wrong(format!("{} multiply-adds with {} loads fit no tile", multiply_adds(l), l.loads));
        }
        for (kind, instructions, most) in [
            ("spilled", &l.spills, demand.spills),
            ("reloaded", &l.reloads, demand.reloads),
            ("foreign", &l.foreign, 0),
        ] {
            if instructions.len() > most {
                let shown = instructions[..instructions.len().min(3)].join("; ");
                wrong(format!("{} {kind}, at most {most}: {shown}", instructions.len()));
            }
        }
    }
    found
}

fn print(name: &str, trampoline: &Trampoline, loops: &[Loop]) {
    for l in loops.iter().filter(|l| !l.multiply_adds.is_empty()) {
        let adds: usize = l.multiply_adds.values().sum();
        println!(
            "{:<10} {name:<28} {:>3} instructions {adds:>3} multiply-adds {:>3} loads {:>3} spills {:>3} reloads",
            trampoline.name,
            l.instructions,
            l.loads,
            l.spills.len(),
            l.reloads.len()
        );
    }
}

fn check(functions: &[Function], demands: impl Fn(&Trampoline) -> Vec<Demand>) {
    let mut wrong = Vec::new();
    for trampoline in &TRAMPOLINES {
        for demand in demands(trampoline) {
            let instances = functions.iter().filter(|f| is_instance(&f.name, trampoline, &demand.kernel));
            let loops: Vec<Vec<Loop>> = instances.map(innermost_loops).collect();
            if loops.is_empty() {
                wrong.push(format!("{} {}: no such function", trampoline.name, demand.kernel));
            }
            for loops in loops {
                print(&demand.kernel, trampoline, &loops);
                let found = violations(&demand, trampoline.bytes, &loops);
                wrong.extend(
                    found.iter().map(|what| format!("{} {}: {what}", trampoline.name, demand.kernel)),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn register_tiles_stay_in_registers() {
    let Some(functions) = trampolines() else { return };
    check(&functions, tiles);
}

#[test]
fn depthwise_rows_stay_in_registers() {
    let Some(functions) = trampolines() else { return };
    if has_overflow_checks() {
        return skip("built with overflow checks, which depthwise loops pay for");
    }
    check(&functions, |_| depthwise());
}

/// All other kernels: a loop over whole vectors calls nothing, keeps to AVX and spills nothing.
#[test]
fn no_loop_over_vectors_leaves_them() {
    let Some(functions) = trampolines() else { return };
    if has_overflow_checks() {
        return skip("built with overflow checks, which some kernels pay for");
    }
    let (mut wrong, mut loops) = (Vec::new(), 0);
    for trampoline in &TRAMPOLINES {
        let all = functions.iter().filter(|f| f.name.contains(&format!("::{}::<", trampoline.name)));
        // These have demands of their own.
        let own = ["depthwise::", "micro::"];
        for function in all.filter(|f| !own.iter().any(|own| f.name.contains(own))) {
            for l in innermost_loops(function).iter().filter(|l| l.widest == trampoline.bytes) {
                loops += 1;
                if !l.foreign.is_empty() || !l.spills.is_empty() {
                    wrong.push(format!("{}: {:?} {:?}", function.name, l.foreign, l.spills));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} loops:\n{}", wrong.len(), wrong.join("\n"));
    assert!(loops > 80, "only {loops} loops were found");
}

/// Code made by hand: the analyser finds what it is there to find.
mod analyser {
    use super::*;

    /// ```text
    ///  0  xor ecx, ecx
    ///  2  vmovups ymm0, [rsi]              vectors and broadcast: two loads
    ///  6  vbroadcastss ymm1, [rdi]
    ///  b  vfmadd231ps ymm2, ymm1, ymm0
    /// 10  vmovups [rsp + 0x20], ymm2       a spill
    /// 16  call 0
    /// 1b  add rdi, [rsp + 8]               a reload
    /// 20  dec rcx
    /// 23  jne 2
    /// 25  ret
    /// ```
    const BAD: &str = "31c9 c5fc1006 c4e27d180f c4e275b8d0 c5fc11542420 e8e5ffffff 48037c2408 48ffc9 75dd c3";

    /// The same without spill, call and reload, inside of a loop that has spill and call.
    /// ```text
    ///  0  mov rcx, rax
    ///  3  vmovups ymm0, [rsi]
    ///  7  vbroadcastss ymm1, [rdi]
    ///  c  vfmadd231ps ymm2, ymm1, ymm0
    /// 11  dec rcx
    /// 14  jne 3
    /// 16  vmovups [rsp + 0x20], ymm2
    /// 1c  call 0
    /// 21  dec rdx
    /// 24  jne 0
    /// 26  ret
    /// ```
    const NESTED: &str =
        "4889c1 c5fc1006 c4e27d180f c4e275b8d0 48ffc9 75ed c5fc11542420 e8dfffffff 48ffca 75da c3";

    /// A frame pointer, two widths of vectors, and instructions that do not belong there.
    /// ```text
    ///  0  push rbp
    ///  1  mov rbp, rsp
    ///  4  vbroadcastss zmm1, [rbp - 8]      a spilled float
    ///  b  vfmadd231ps zmm2, zmm1, [rsi]
    /// 11  vfmadd231ps ymm3, ymm1, [rdi]
    /// 16  addps xmm4, xmm5
    /// 19  fld dword [rax]
    /// 1b  vzeroupper
    /// 1e  jmp 0x21
    /// 20  ret
    /// 21  dec rcx
    /// 24  jne 4
    /// 26  ret
    /// ```
    const FOREIGN: &str =
        "55 4889e5 62f27d48184dfe 62f27548b816 c4e275b81f 0f58e5 d900 c5f877 eb01 c3 48ffc9 75de c3";

    /// A loop behind a jump through a table, with its exit in the middle and without a frame pointer.
    /// ```text
    ///  0  jmp rax
    ///  2  lea r8, [rsp + 8]                 no access
    ///  7  vfmadd231ps ymm2, ymm1, [rbp]
    ///  d  dec rcx
    /// 10  je 0x14
    /// 12  jmp 2
    /// 14  ret
    /// ```
    const TABLE: &str = "ffe0 4c8d442408 c4e275b85500 48ffc9 7402 ebee c3";

    fn loops(hex: &str) -> Vec<Loop> {
        let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        let byte =
            |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex digits");
        let code = digits.chunks(2).map(byte).collect();
        innermost_loops(&Function { name: "by hand".to_owned(), address: 0, code })
    }

    fn demand() -> Demand {
        Demand { kernel: String::new(), rounds: vec![[1, 2]], spills: 0, reloads: 0 }
    }

    #[test]
    fn spills_calls_and_reloads_are_found() {
        let [found] = &loops(BAD)[..] else { panic!("one loop") };
        assert_eq!((found.address, found.instructions, found.loads, found.widest), (2, 8, 2, 32));
        assert_eq!(found.multiply_adds, [(32, 1)].into());
        assert_eq!((found.spills.len(), found.reloads.len(), found.foreign.len()), (1, 1, 1), "{found:?}");
        let wrong = violations(&demand(), 32, std::slice::from_ref(found));
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("1 spilled") && wrong[2].contains("call"), "{wrong:?}");
    }

    #[test]
    fn only_the_innermost_loop_counts() {
        let [found] = &loops(NESTED)[..] else { panic!("one innermost loop") };
        assert_eq!((found.address, found.instructions, found.loads), (3, 5, 2));
        assert_eq!(violations(&demand(), 32, std::slice::from_ref(found)), Vec::<String>::new());
    }

    #[test]
    fn foreign_instructions_and_widths_are_found() {
        let [found] = &loops(FOREIGN)[..] else { panic!("one loop") };
        assert_eq!((found.loads, found.spills.len(), found.widest), (2, 1, 64));
        assert_eq!(found.multiply_adds, [(32, 1), (64, 1)].into());
        assert_eq!(found.foreign.len(), 3, "addps, fld, vzeroupper: {:?}", found.foreign);
        assert!(!violations(&demand(), 64, std::slice::from_ref(found)).is_empty());
    }

    #[test]
    fn loops_behind_tables_are_found() {
        let [found] = &loops(TABLE)[..] else { panic!("one loop") };
        assert_eq!((found.address, found.instructions, found.loads), (2, 5, 1));
        assert_eq!((found.spills.len(), found.reloads.len()), (0, 0), "rbp is no frame here: {found:?}");
    }

    #[test]
    fn missing_and_oversized_loops_are_violations() {
        assert_eq!(violations(&demand(), 32, &[]).len(), 1, "no loop at all");
        let nested = loops(NESTED);
        let two_rows = Demand { rounds: vec![[2, 3]], ..demand() };
        assert_eq!(
            violations(&two_rows, 32, &nested).len(),
            2,
            "neither a tile of two rows nor a fit for one"
        );
        let fewer_loads = Demand { rounds: vec![[1, 1]], ..demand() };
        assert_eq!(violations(&fewer_loads, 32, &nested).len(), 2, "too many loads");
        assert!(!violations(&demand(), 64, &nested).is_empty(), "vectors of half the width");
    }
}
