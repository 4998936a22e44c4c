//! `ocelli bench kernels`: every kernel against the limits of this machine.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use ocelli_bench::{
    Budget, CSV_HEADER, Case, Faster, Probe, Row, Team, header, id_width, interleave, measure, probe_lines,
    table,
};
use ocelli_engine::Isa;
use serde::Serialize;

use super::common::{DEBUG_BUILD, parse_seconds};
use crate::doctor;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::progress::duration;

/// Seconds of a case where nobody says otherwise.
const SECONDS: f64 = 0.25;
/// The same under `--quick`.
const QUICK_SECONDS: f64 = 0.02;
/// Multiply-adds up to which the oracle computes all outputs of a case; about ten milliseconds.
const ORACLE_LIMIT: usize = 4_000_000;
/// Most copies that may run at once.
const MAX_THREADS: usize = 256;
/// Rounds in which two kernels take turns to see whether one is worth a closer look, and to be sure of it.
const ROUNDS: [usize; 2] = [3, 25];
/// How fast another kernel has to look for that.
const PROMISING: f64 = 0.9;
/// How much faster another kernel has to be before it is worth a word: more than what this way of measuring gives for
/// a kernel and itself.
const WORTH_A_WARNING: f64 = 1.05;
/// Kernels that are named in warnings before the rest is counted.
const MAX_WARNINGS: usize = 10;
/// Load of the last minute, per thread of the machine, that disturbs a measurement.
const BUSY: f64 = 0.5;

/// Measure every kernel against the peak and bandwidths of this machine
///
/// First come the machine's limits: multiply-adds on registers for each instruction set, reads from every cache level
/// and memory. Then each kernel is compared with its definition in f64 and timed: GFLOP/s (2 operations per
/// multiply-add), share of the peak by the median and in the best tenth of the samples, operations per byte that has to
/// be moved, what bounds the kernel (compute, or the cache level that holds its operands), share of that bound, and the
/// largest error in units of the root mean square of the outputs. All of it takes about a minute; --filter picks some.
///
/// A warning names kernels that another instruction set of this machine runs more than 5 % faster than the one that the
/// program chooses.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only kernels whose name contains this, e.g. conv2d/forward or gemm/64
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// Instruction set; the one that the program chooses if left out
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Copies of each kernel that run at once, each on operands of its own; rates are those of all together
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// About how long to time each kernel
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds, conflicts_with = "quick")]
    seconds: Option<f64>,
    /// A rough table, in less than half a minute
    #[arg(long)]
    quick: bool,
    /// JSON objects on standard output, one a line: the machine, then every kernel
    #[arg(long)]
    json: bool,
    /// CSV on standard output, in the form of benches/record
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Serialize)]
struct Machine<'a> {
    schema: u32,
    r#type: &'static str,
    version: &'static str,
    processor: Option<String>,
    /// Instruction sets of this machine, fastest first.
    available: Vec<&'static str>,
    /// The one that the program chooses.
    chosen: &'static str,
    /// The one that is measured, and the rows and columns of its register tile.
    isa: &'static str,
    tile: [usize; 2],
    kernels: usize,
    debug_build: bool,
    #[serde(flatten)]
    probe: &'a Probe,
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    #[serde(flatten)]
    row: &'a Row,
}

/// Where results go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Csv,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let chosen = Isa::best()?;
    let isa = match &args.isa {
        None => chosen,
        Some(name) => Isa::by_name(name).map_err(|error| {
            Failure::usage(
                format!("--isa: {error}"),
                format!("`--isa {}` is what runs by default", chosen.name()),
            )
        })?,
    };
    if !(1..=MAX_THREADS).contains(&args.threads) {
        let text = format!("--threads {} is not in 1..={MAX_THREADS}", args.threads);
        return Err(Failure::usage(
            text,
            "1 measures kernels, the number of cores how they share the machine",
        ));
    }
    let cases: Vec<Case> = table()
        .into_iter()
        .map(|case| Case { threads: args.threads, ..case })
        // Builds for tests and benches have them.
        .filter(|case| !case.variant.is_yardstick() && case.id().contains(&args.filter))
        .collect();
    if cases.is_empty() {
        let text = format!("no kernel's name contains `{}`", args.filter);
        let mut families: Vec<_> = table().iter().map(|case| case.op.name()).collect();
        families.dedup();
        return Err(Failure::usage(text, format!("names begin with one of {}", families.join(", "))));
    }
    let format = match (args.json, args.csv) {
        (true, _) => Format::Json,
        (_, true) => Format::Csv,
        _ => Format::Text,
    };
    let seconds = if args.quick { QUICK_SECONDS } else { args.seconds.unwrap_or(SECONDS) };
    let mut job = Job { isa, chosen, budget: Budget { seconds }, format, out };
    job.announce(&cases);
    let mut isas = vec![isa];
    isas.extend(Isa::available().into_iter().filter(|other| other.name() != isa.name()));
    let probe = Probe::measure(&isas, args.threads);
    job.machine(&probe, cases.len())?;
    job.measure(&cases, &probe)
}

struct Job<'a> {
    isa: Isa,
    /// What the program uses by itself.
    chosen: Isa,
    budget: Budget,
    format: Format,
    out: &'a mut Output,
}

impl Job<'_> {
    /// What is about to happen, and what will spoil it.
    fn announce(&self, cases: &[Case]) {
        if cfg!(debug_assertions) {
            self.out.warn(DEBUG_BUILD);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        if let Some(load) = load().filter(|load| *load > BUSY * cores) {
            self.out.say(format_args!("note: this machine is busy (load {load:.1}): rates are less certain"));
        }
        // Preparation and the oracle take about as long as the timing of a case; comparisons less.
        let total = cases.len() as f64 * (self.budget.seconds + 0.15 * cases[0].threads as f64) + 1.0;
        let kernels = if cases.len() == 1 { "1 kernel" } else { &format!("{} kernels", cases.len()) };
        self.out.say(format_args!("measuring {kernels}, about {}", duration(total as f32)));
    }

    fn machine(&mut self, probe: &Probe, kernels: usize) -> Result<(), Failure> {
        let available: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
        let (isa, chosen) = (self.isa.name(), self.chosen.name());
        let tile = [self.isa.mr(), self.isa.nr()];
        let processor = doctor::processor_name();
        match self.format {
            Format::Json => self.out.json(&Machine {
                schema: 1,
                r#type: "machine",
                version: env!("CARGO_PKG_VERSION"),
                processor,
                available,
                chosen,
                isa,
                tile,
                kernels,
                debug_build: cfg!(debug_assertions),
                probe,
            }),
            Format::Csv => {
                let processor = processor.unwrap_or_else(|| "unknown processor".to_owned());
                let version = env!("CARGO_PKG_VERSION");
                self.out.line(format_args!(
                    "# {}; ocelli {version}, {isa}",
                    ocelli_common::text::printable(&processor)
                ))?;
                for (label, text) in probe_lines(probe) {
                    self.out.line(format_args!("# {label}: {text}"))?;
                }
                self.out.line(CSV_HEADER)
            }
            Format::Text => {
                let processor = processor.unwrap_or_else(|| "unknown".to_owned());
                let why = match (isa == chosen, std::env::var_os("OCELLI_ISA").is_some()) {
                    (false, _) => format!("asked for; the program chooses {chosen}"),
                    (true, true) => "the program's choice, set by OCELLI_ISA".to_owned(),
                    (true, false) => "the program's choice".to_owned(),
                };
                let [rows, columns] = tile;
                let kernels = format!("{isa}, register tiles of {rows}x{columns}: {why}");
                let mut lines =
                    vec![("machine", ocelli_common::text::printable(&processor)), ("kernels", kernels)];
                lines.extend(probe_lines(probe));
                for (label, text) in lines {
                    let label = self.out.paint.apply(Style::Bold, format_args!("{label:<8}"));
                    self.out.line(format_args!("{label} {text}"))?;
                }
                self.out.line("")?;
                self.out.flush()
            }
        }
    }

    fn measure(&mut self, cases: &[Case], probe: &Probe) -> Result<(), Failure> {
        let width = id_width(cases);
        if self.format == Format::Text {
            let head = self.out.paint.apply(Style::Bold, header(width));
            self.out.line(head)?;
        }
        let bar = Bar::new(self.out, cases.len());
        let mut slower = Vec::new();
        for case in cases {
            bar.show(case);
            let row = self.row(case, probe)?;
            let line = match self.format {
                Format::Text => row.text(&case.id(), width),
                Format::Csv => row.csv(),
                Format::Json => {
                    let record = Record { schema: 1, r#type: "kernel", row: &row };
                    serde_json::to_string(&record).map_err(|error| Failure::stdout(error.into()))?
                }
            };
            // At once: somebody is waiting for it.
            bar.above(|| self.out.line(line).and_then(|()| self.out.flush()))?;
            slower.extend(row.faster.map(|faster| (case, faster)));
        }
        bar.finish();
        self.warn(&slower);
        Ok(())
    }

    /// Says where the program's choice is not the fastest.
    fn warn(&self, slower: &[(&Case, Faster)]) {
        for (case, Faster { isa, variant, ratio }) in slower.iter().take(MAX_WARNINGS) {
            let (percent, own, ours) = (100.0 * (ratio - 1.0), case.variant.name(), self.isa.name());
            let text = format!("{case}: {variant} on {isa} is {percent:.0} % faster than {own} on {ours}");
            self.out.warn(text);
        }
        if slower.len() > MAX_WARNINGS {
            self.out.warn(format_args!("and so it is for {} more kernels", slower.len() - MAX_WARNINGS));
        }
        let other = slower.iter().map(|(_, faster)| faster.isa).find(|isa| *isa != self.chosen.name());
        if let Some(other) = other {
            self.out.say(format_args!(
                "hint: `OCELLI_ISA={other}` makes the program choose {other}; time a whole network both ways"
            ));
        }
    }

    fn row(&self, case: &Case, probe: &Probe) -> Result<Row, Failure> {
        let mut team = self.team(case, self.isa)?;
        let timing = measure(&mut team, self.budget);
        let mut row = Row::new(case, case.unit(self.isa), &timing, team.error(), probe);
        // Somebody who asks for an instruction set knows that there are others, and kernels that no plan chooses for a shape are
        // there to be compared.
        if self.isa.name() == self.chosen.name() && case.is_chosen() {
            row.faster = self.fastest_other(case, &mut team)?;
        }
        Ok(row)
    }

    /// Prepares a kernel; one that is wrong is a bug, and nothing that follows would mean anything.
    fn team(&self, case: &Case, isa: Isa) -> Result<Team, Failure> {
        Team::prepare(case, isa, ORACLE_LIMIT).map_err(|wrong| {
            Failure::failed(format!("wrong result: {wrong}"), "please report this machine as a bug")
        })
    }

    /// The fastest other kernel for a case, where it beats the one of `team`.
    fn fastest_other(&self, case: &Case, team: &mut Team) -> Result<Option<Faster>, Failure> {
        let mut best: Option<Faster> = None;
        for isa in Isa::available() {
            for &variant in case.alternatives() {
                let same_isa = isa.name() == self.isa.name() || !case.depends_on_isa();
                if same_isa && variant == case.variant {
                    continue;
                }
                let mut other = self.team(&Case { variant, ..*case }, isa)?;
                let least = best.as_ref().map_or(WORTH_A_WARNING, |best| best.ratio);
                let mut ratio = |rounds| interleave(&mut [&mut *team, &mut other], rounds).ratio(0, 1);
                if ratio(ROUNDS[0]) < PROMISING {
                    continue;
                }
                let ratio = ratio(ROUNDS[1]);
                if ratio > least {
                    best = Some(Faster { isa: isa.name(), variant: variant.name(), ratio });
                }
            }
        }
        Ok(best)
    }
}

/// Load of the last minute, where the system tells.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// How far the table is, on a terminal.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(out: &Output, cases: usize) -> Self {
        let shown = !out.quiet() && std::io::stderr().is_terminal();
        Bar(shown.then(|| ProgressBar::new(cases as u64).with_style(bar_style())))
    }

    fn show(&self, case: &Case) {
        if let Some(bar) = &self.0 {
            bar.set_message(case.id());
            bar.inc(1);
        }
    }

    /// Prints with the bar out of the way.
    fn above<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn bar_style() -> ProgressStyle {
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len}  {msg}");
    style.expect("the template is constant, and a test parses it").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_can_be_drawn() {
        let bar = Bar(Some(ProgressBar::hidden().with_style(bar_style())));
        bar.show(&table()[0]);
        assert_eq!(bar.above(|| 7), 7);
        bar.finish();
    }
}
