//! The table of `ocelli_bench`: every kernel on every instruction set of this machine, on one thread and a few on all.
//!
//! Each case is verified against the f64 oracle before it is timed. Criterion keeps its statistics and baselines; the
//! table at the end has the shares of the peak and of the roofline, and how our matrix product compares with
//! `matrixmultiply` and `gemm`, taken in turn. `cargo bench --bench kernels -- conv2d/forward` picks some.

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput};
use ocelli_bench::{
    Budget, CSV_HEADER, Case, Op, Pass, Probe, Row, Team, Variant, header, interleave, measure, probe_lines,
    table,
};
use ocelli_engine::Isa;

/// Multiply-adds up to which the oracle computes all outputs: half a second when measuring, a few milliseconds when
/// each case only runs once.
const ORACLE_LIMITS: [usize; 2] = [300_000_000, 1_000_000];
/// Rounds in which our product and the yardsticks take turns.
const ROUNDS: usize = 31;

/// The portable kernels are for correctness; a full table of them takes minutes and tells nothing.
fn belongs(case: &Case, isa: Isa, best: Isa) -> bool {
    let sample = matches!(case.op, Op::Gemm(p) if p.rows <= 256) || case.op.name() == "depthwise";
    isa.name() == best.name() || !case.variant.is_yardstick() && (isa.name() != "portable" || sample)
}

/// Cases that also run on all cores at once: one that computes, one between caches, one that moves memory.
fn on_all_cores(case: &Case) -> bool {
    let ids = ["gemm/512x512x512", "conv2d/forward/56x56_64to64_k3s1", "batchnorm/affine/8x32x32x64"];
    ids.contains(&case.id().as_str())
}

/// All measurements, and what they are compared with.
struct Bench {
    criterion: Criterion,
    limit: usize,
    probes: Vec<Probe>,
    rows: Vec<Row>,
}

impl Bench {
    fn run(&mut self, case: &Case, isa: Isa) {
        let mut team = None;
        let prepare = || Team::prepare(case, isa, self.limit).unwrap_or_else(|wrong| panic!("{wrong}"));
        let mut group = self.criterion.benchmark_group("kernels");
        group.throughput(Throughput::Elements((case.cost().flops * case.threads) as u64));
        // Nothing is prepared for a case that the filter leaves out.
        group.bench_function(case.full_id(case.unit(isa)), |b| {
            let team = team.get_or_insert_with(prepare);
            b.iter_custom(|calls| Duration::from_secs_f64(team.sample(calls).seconds));
        });
        group.finish();
        if let (Some(mut team), true) = (team, support::is_measuring()) {
            let timing = measure(&mut team, Budget { seconds: 0.25 });
            let probe = self.probe(case.threads);
            let row = Row::new(case, case.unit(isa), &timing, team.error(), probe);
            self.rows.push(row);
        }
    }

    /// The machine's limits for a number of threads, measured when they are needed.
    fn probe(&mut self, threads: usize) -> &Probe {
        let known = self.probes.iter().position(|probe| probe.threads == threads);
        let index = known.unwrap_or_else(|| {
            self.probes.push(Probe::measure(&Isa::available(), threads));
            self.probes.len() - 1
        });
        &self.probes[index]
    }

    /// Prints the table and leaves it as CSV where cargo keeps temporary files.
    #[allow(clippy::print_stdout, reason = "the result of a benchmark")]
    fn report(&self) {
        let width = self.rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
        let mut csv = String::new();
        for (label, text) in self.probes.iter().flat_map(probe_lines) {
            println!("{label:<8} {text}");
            csv += &format!("# {label}: {text}\n");
        }
        println!("\n{}", header(width));
        csv += &format!("{CSV_HEADER}\n");
        for row in &self.rows {
            println!("{}", row.text(&row.id, width));
            csv += &format!("{}\n", row.csv());
        }
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels.csv");
        std::fs::write(&path, csv).expect("cargo's folder for temporary files can be written");
        println!("\nas CSV: {}", path.display());
    }
}

/// Times our product, with weights packed beforehand and in every call, and the yardsticks in turn.
#[allow(clippy::print_stdout, reason = "the result of a benchmark")]
fn compare_with_yardsticks(op: Op, isa: Isa, limit: usize) {
    const OTHERS: [Variant; 2] = [Variant::MatrixMultiply, Variant::GemmCrate];
    let variants = [Variant::Direct, Variant::WithPack, OTHERS[0], OTHERS[1]];
    let mut teams = variants.map(|variant| {
        let case = Case { variant, ..Case::new(op, Pass::Forward) };
        Team::prepare(&case, isa, limit).unwrap_or_else(|wrong| panic!("{wrong}"))
    });
    let times = interleave(&mut teams.each_mut(), ROUNDS);
    for (index, other) in OTHERS.iter().enumerate().map(|(i, other)| (i + 2, other)) {
        println!(
            "gemm/{:<14} {:.2} times as fast as {} with packing, {:.2} times without",
            op.shape(),
            times.ratio(index, 1),
            other.name(),
            times.ratio(index, 0)
        );
    }
}

fn main() {
    let isas = Isa::available();
    let best = Isa::best().expect("an instruction set");
    let limit = ORACLE_LIMITS[usize::from(!support::is_measuring())];
    let mut bench = Bench { criterion: support::criterion(), limit, probes: Vec::new(), rows: Vec::new() };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for &isa in &isas {
        for case in table().iter().filter(|case| belongs(case, isa, best)) {
            bench.run(case, isa);
            if cores > 1 && isa.name() == best.name() && on_all_cores(case) {
                bench.run(&Case { threads: cores, ..*case }, isa);
            }
        }
    }
    bench.criterion.final_summary();
    if !bench.rows.is_empty() {
        bench.report();
        let products = table().into_iter().filter(|case| case.variant == Variant::MatrixMultiply);
        for case in products.filter(|case| bench.rows.iter().any(|row| row.id == case.full_id(best.name()))) {
            compare_with_yardsticks(case.op, best, limit);
        }
    }
}
