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
mod program;

use disassembly::{Function, Loop, functions, innermost_loops};
use ocelli_engine::simd::{Avx2, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni, DotProduct, PairProduct, Simd};

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

/// The trampolines of kernels on bytes.
const BYTE_TRAMPOLINES: [Trampoline; 2] = [
    Trampoline { name: "run_avxvnni", bytes: 4 * AvxVnni::LANES, tile: [AvxVnni::MR, AvxVnni::NV] },
    Trampoline {
        name: "run_avx512vnni",
        bytes: 4 * Avx512Vnni::LANES,
        tile: [Avx512Vnni::MR, Avx512Vnni::NV],
    },
];

/// The trampoline of kernels on bf16.
const HALF_TRAMPOLINES: [Trampoline; 1] = [Trampoline {
    name: "run_avx512bf16",
    bytes: 4 * Avx512Bf16::LANES,
    tile: [Avx512Bf16::MR, Avx512Bf16::NV],
}];

/// Kernels with one loop for each tile of `<rows, vectors>`: it reads `rows + vectors` vectors and broadcasts for
/// `rows * vectors` multiply-adds.
const TILES: [[&str; 2]; 2] =
    [["micro::floats::ProductTile", ""], ["micro::outer::OuterTile", "OuterTile<ocelli_engine::simd::Isa"]];

/// The same for bf16, whose outputs are bf16 or floats.
const HALF_TILES: [[&str; 2]; 2] = [["micro::halves::HalfTile", ""], ["micro::outer::OuterTile", ""]];

/// General registers that a tile may keep on the stack: a pointer more in a loop that is bound by multiply-adds.
const TILE_RELOADS: usize = 2;

/// What is demanded of the loops of a kernel that multiply and add.
struct Demand {
    /// The kernel, and its constants: the numbers among its type arguments.
    kernel: &'static str,
    constants: Vec<usize>,
    /// A type among its arguments, if that matters.
    work: &'static str,
    /// Multiply-adds of a round, and the most loads. Every loop does a multiple of one of these in a round, and
    /// for each there is a loop.
    rounds: Vec<[usize; 2]>,
    /// Most vectors that a round reads from the stack or stores there.
    spills: usize,
    /// Most general registers.
    reloads: usize,
}

/// One loop for each tile that the instruction set asks for, of each of some kernels with their work.
fn each_tile(trampoline: &Trampoline, kernels: &'static [[&'static str; 2]]) -> Vec<Demand> {
    let [mr, nv] = trampoline.tile;
    let sizes = (1..=mr).flat_map(|rows| (1..=nv).map(move |vectors| [rows, vectors]));
    let demands = sizes.flat_map(|[rows, vectors]| {
        kernels.iter().map(move |&[kernel, work]| Demand {
            kernel,
            constants: vec![rows, vectors],
            work,
            rounds: vec![[rows * vectors, rows + vectors]],
            spills: 0,
            reloads: TILE_RELOADS,
        })
    });
    demands.collect()
}

/// The tiles of floats, and the row of several panels.
fn tiles(trampoline: &Trampoline) -> Vec<Demand> {
    // A broadcast meets the vectors of several panels.
    let row = Demand {
        kernel: "micro::floats::RowTile",
        constants: vec![4, 2],
        work: "",
        rounds: vec![[8, 9]],
        spills: 0,
        reloads: TILE_RELOADS,
    };
    each_tile(trampoline, &TILES).into_iter().chain([row]).collect()
}

/// The tiles of bf16: as those of floats, with two products a lane.
fn half_tiles(trampoline: &Trampoline) -> Vec<Demand> {
    each_tile(trampoline, &HALF_TILES)
}

/// The tiles of bytes: as those of floats, with four products a lane.
fn byte_tiles(trampoline: &Trampoline) -> Vec<Demand> {
    each_tile(trampoline, &[["micro::bytes::ByteTile", ""]])
}

/// What tiles of depthwise convolutions do with bytes.
const BYTES: &str = "gather::ByteOutputs";

/// Tiles of depthwise convolutions, `Walk<pixels, width, step, rate, work>`: for each row of taps they read the columns
/// of a window and the taps. At rate 2 every second tap meets a pixel.
///
/// The 16 registers of AVX2 are too few for taps of width 5, above all at stride 2, where pixels share few columns.
fn depthwise(trampoline: &Trampoline) -> Vec<Demand> {
    // Bytes take a register more until they are floats.
    let spills = |work, width, step| match (trampoline.bytes, width, step) {
        (32, 3, 2) if work == BYTES => 6,
        (32, 5, 1) => 4,
        (32, 5, 2) => {
            if work == BYTES {
                20
            } else {
                15
            }
        }
        _ => 0,
    };
    let tile = |work, [pixels, width, step, rate]: [usize; 4]| {
        let columns = (step * (pixels - 1) + width - 1) / rate + 1;
        Demand {
            kernel: "depthwise::tiles::Walk",
            constants: vec![pixels, width, step, rate],
            work,
            rounds: vec![[pixels * width / rate, columns + width]],
            spills: spills(work, width, step),
            // A pointer for each column at an edge, and what it is stepped by.
            reloads: if work == BYTES { 5 } else { 4 },
        }
    };
    let shared = [[7, 3, 1, 1], [8, 3, 1, 1], [7, 3, 2, 1], [7, 5, 1, 1], [8, 5, 1, 1], [7, 5, 2, 1]];
    let gathered = shared
        .into_iter()
        .chain([[8, 3, 1, 2], [8, 5, 1, 2]])
        .map(|form| tile("gather::RealOutputs<f32>", form));
    let bytes = shared.map(|form| tile(BYTES, form));
    let summed = shared.map(|form| tile("weights::WeightGradient<f32>", form));
    gathered.chain(bytes).chain(summed).collect()
}

/// The functions of this executable that pass `filter`, or `None`, and says why, when there is nothing to read:
/// `OCELLI_REQUIRE_CODEGEN` makes that a failure.
fn linked(filter: impl Fn(&str) -> bool) -> Option<Vec<Function>> {
    // What is not reachable is not linked.
    std::hint::black_box([
        ocelli_engine::Trainer::new as *const (),
        ocelli_engine::Trainer::step as *const (),
    ]);
    let is_trampoline = |name: &str| {
        let mut all = TRAMPOLINES.iter().chain(&BYTE_TRAMPOLINES).chain(&HALF_TRAMPOLINES);
        all.any(|t| name.contains(&format!("dispatch::{}", t.name)))
    };
    let found = functions(|name| is_trampoline(name) || filter(name));
    let found = found.and_then(|found| match found.iter().find(|f| is_trampoline(&f.name)) {
        None => Err("the executable has no symbols".to_owned()),
        Some(first) if !first.name.contains("::<") => {
            Err("symbols lack type arguments: RUSTFLAGS replaced the flag of .cargo/config.toml".to_owned())
        }
        Some(_) => Ok(found.into_iter().filter(|f| filter(&f.name)).collect()),
    });
    found.map_err(|reason| skip(&reason)).ok()
}

fn trampolines(of: &[Trampoline]) -> Option<Vec<Function>> {
    linked(|name| of.iter().any(|t| name.contains(&format!("dispatch::{}::<", t.name))))
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

/// The constants of a kernel in the name of a function, if it is there.
fn constants(function: &str, kernel: &str) -> Option<Vec<usize>> {
    let rest = &function[function.find(kernel)? + kernel.len()..];
    if rest.starts_with('>') {
        return Some(Vec::new());
    }
    let (mut depth, mut arguments) = (0, vec![String::new()]);
    for c in rest.strip_prefix('<')?.chars() {
        match c {
            '>' if depth == 0 => break,
            ',' if depth == 0 => arguments.push(String::new()),
            _ => arguments.last_mut()?.push(c),
        }
        depth += i32::from(c == '<') - i32::from(c == '>');
    }
    Some(arguments.iter().filter_map(|argument| argument.trim().parse().ok()).collect())
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

/// The functions that run with an instruction set.
fn instances<'a>(functions: &'a [Function], trampoline: &Trampoline) -> impl Iterator<Item = &'a Function> {
    let name = format!("::{}::<", trampoline.name);
    functions.iter().filter(move |f| f.name.contains(&name))
}

/// The name of a trampoline without the modules that all have in common.
fn short(name: &str) -> String {
    name.replace("ocelli_engine::simd::dispatch::", "").replace("ocelli_engine::kernels::", "")
}

fn print(name: &str, loops: &[Loop]) {
    for l in loops.iter().filter(|l| !l.multiply_adds.is_empty()) {
        let adds: usize = l.multiply_adds.values().sum();
        println!(
            "{name:<56} {:>3} instructions {adds:>3} multiply-adds {:>3} loads {:>3} spills {:>3} reloads",
            l.instructions,
            l.loads,
            l.spills.len(),
            l.reloads.len()
        );
    }
}

fn check(functions: &[Function], trampolines: &[Trampoline], demands: impl Fn(&Trampoline) -> Vec<Demand>) {
    let mut wrong = Vec::new();
    for trampoline in trampolines {
        for demand in demands(trampoline) {
            let wanted = |f: &&Function| {
                let same = constants(&f.name, demand.kernel).as_ref() == Some(&demand.constants);
                same && f.name.contains(demand.work)
            };
            let mut found = instances(functions, trampoline).filter(wanted).peekable();
            if found.peek().is_none() {
                wrong
                    .push(format!("{} {} {:?}: not there", trampoline.name, demand.kernel, demand.constants));
            }
            for function in found {
                let loops = innermost_loops(function);
                let name = short(&function.name);
                print(&name, &loops);
                let violations = violations(&demand, trampoline.bytes, &loops);
                wrong.extend(violations.iter().map(|what| format!("{name}: {what}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn register_tiles_stay_in_registers() {
    let Some(functions) = trampolines(&TRAMPOLINES) else { return };
    check(&functions, &TRAMPOLINES, tiles);
}

#[test]
fn register_tiles_of_bytes_stay_in_registers() {
    let Some(functions) = trampolines(&BYTE_TRAMPOLINES) else { return };
    check(&functions, &BYTE_TRAMPOLINES, byte_tiles);
}

#[test]
fn register_tiles_of_bf16_stay_in_registers() {
    let Some(functions) = trampolines(&HALF_TRAMPOLINES) else { return };
    check(&functions, &HALF_TRAMPOLINES, half_tiles);
}

#[test]
fn depthwise_rows_stay_in_registers() {
    let Some(functions) = trampolines(&TRAMPOLINES) else { return };
    if has_overflow_checks() {
        return skip("built with overflow checks, which depthwise loops pay for");
    }
    check(&functions, &TRAMPOLINES, depthwise);
}

/// All other kernels: a loop over whole vectors calls nothing, keeps to AVX and spills nothing that it made itself.
/// Constants of a loop may lie on the stack, as they would lie in memory elsewhere.
#[test]
fn no_loop_over_vectors_leaves_them() {
    let Some(functions) = trampolines(&TRAMPOLINES) else { return };
    if has_overflow_checks() {
        return skip("built with overflow checks, which some kernels pay for");
    }
    let (mut wrong, mut loops) = (Vec::new(), 0);
    for trampoline in &TRAMPOLINES {
        // These have demands of their own.
        let own = ["depthwise::", "micro::"];
        for function in
            instances(&functions, trampoline).filter(|f| !own.iter().any(|own| f.name.contains(own)))
        {
            // Tiles of these wait in a buffer on the stack between their two transforms.
            let buffered = function.name.contains("winograd::");
            for l in innermost_loops(function).iter().filter(|l| l.widest == trampoline.bytes) {
                loops += 1;
                if !l.foreign.is_empty() || !(l.spill_stores == 0 || buffered) {
                    wrong.push(format!("{}: {:?} {:?}", short(&function.name), l.foreign, l.spills));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} loops:\n{}", wrong.len(), wrong.join("\n"));
    assert!(loops > 80, "only {loops} loops were found");
}

/// A closure that a kernel hands to a function of the standard library, or a function that the compiler did not inline,
/// is compiled without the features of the instruction set: every operation on a vector becomes a call.
#[test]
fn only_trampolines_handle_vectors() {
    let words = ["core_arch::x86::__m", "simd::avx2::Avx2", "simd::avx512::Avx512", "simd::vnni::"];
    let Some(found) = linked(|name| words.iter().any(|word| name.contains(word))) else { return };
    if has_overflow_checks() {
        return skip("built with overflow checks, with which less is inlined");
    }
    // Asking the processor takes no vectors.
    let found: Vec<String> =
        found.iter().map(|f| short(&f.name)).filter(|name| !name.contains(">::detect")).collect();
    assert!(found.is_empty(), "{} functions:\n{}", found.len(), found.join("\n"));
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
        Demand { kernel: "", constants: Vec::new(), work: "", rounds: vec![[1, 2]], spills: 0, reloads: 0 }
    }

    #[test]
    fn spills_calls_and_reloads_are_found() {
        let [found] = &loops(BAD)[..] else { panic!("one loop") };
        assert_eq!((found.address, found.instructions, found.loads, found.widest), (2, 8, 2, 32));
        assert_eq!(found.multiply_adds, [(32, 1)].into());
        assert_eq!((found.spills.len(), found.spill_stores), (1, 1), "{found:?}");
        assert_eq!((found.reloads.len(), found.foreign.len()), (1, 1), "{found:?}");
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
        assert_eq!((found.loads, found.spills.len(), found.spill_stores, found.widest), (2, 1, 0, 64));
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

    #[test]
    fn constants_are_read_from_names() {
        let name = "simd::dispatch::run_avx2::<kernels::micro::Tile<kernels::Rows<f32, 4, 5>, 6, 2>>";
        assert_eq!(constants(name, "micro::Tile"), Some(vec![6, 2]));
        assert_eq!(constants("run_avx2::<kernels::pool::Scan>", "pool::Scan"), Some(vec![]));
        assert_eq!(constants("run_avx2::<kernels::pool::Scanner>", "pool::Scan"), None);
        assert_eq!(constants(name, "depthwise::Gather"), None);
    }
}
