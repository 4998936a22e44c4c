//! A row of results as text, JSON and CSV.

use serde::Serialize;

use crate::cases::{Case, Numbers};
use crate::measure::Timing;
use crate::probe::{Bound, Probe};

/// What was measured of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Operation, pass, shape, variant, instruction set and threads.
    pub id: String,
    /// Name of the operation.
    pub op: &'static str,
    /// Name of the pass.
    pub pass: &'static str,
    /// Its shape.
    pub shape: String,
    /// Name of the kernel.
    pub variant: &'static str,
    /// Name of the instruction set; `own` where the kernel chooses it.
    pub isa: &'static str,
    /// Copies that ran at once.
    pub threads: usize,
    /// Operations of one call of one copy, 2 per multiply-add.
    pub flops: usize,
    /// Bytes that one call of one copy has to move.
    pub bytes: usize,
    /// Operations per byte.
    pub intensity: f64,
    /// Median time of a call in microseconds.
    pub microseconds: f64,
    /// Operations a second of all copies, in billions, by the median time.
    pub gflops: f64,
    /// The rate that nine tenths of the samples reached.
    pub gflops_p10: f64,
    /// The rate that a tenth of the samples reached.
    pub gflops_p90: f64,
    /// Peak beside the samples, in billions.
    pub peak_gflops: f64,
    /// Share of the peak, by the median of ratios of neighbours in time.
    pub fraction_of_peak: f64,
    /// Share of the peak that a tenth of the samples reached.
    pub best_fraction_of_peak: f64,
    /// What the roofline is made of: `compute`, `L1`, `L2`, `L3` or `DRAM`.
    pub bound: &'static str,
    /// Operations a second that the roofline allows, in billions.
    pub roofline_gflops: f64,
    /// Share of the roofline.
    pub fraction_of_roofline: f64,
    /// Largest error against the oracle in units of the root mean square of the outputs.
    pub error: f64,
    /// Number of samples.
    pub samples: usize,
    /// Calls in each sample.
    pub calls: u64,
    /// The fastest other kernel of ours on this machine, where it is faster.
    pub faster: Option<Faster>,
}

/// A kernel that beats the one of the row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faster {
    /// Name of its instruction set.
    pub isa: &'static str,
    /// Name of the kernel.
    pub variant: &'static str,
    /// Time of the row's kernel over its time, the median of ratios of samples taken in turn.
    pub ratio: f64,
}

/// The line above the rows of a CSV file.
pub const CSV_HEADER: &str = "id,gflop_per_second,p10,p90,peak_gflop_per_second,percent_of_peak,best_percent_of_peak,flop_per_byte,\
                              bound,percent_of_roofline,error";

/// The heads of a text row's numbers.
const NUMBERS: &str = " GFLOP/s  of peak   best  FLOP/B  bound   of roof   error";

impl Row {
    /// What a timing says about a case on an instruction set; `error` is that of its verification.
    pub fn new(case: &Case, isa: &'static str, timing: &Timing, error: f64, probe: &Probe) -> Self {
        let cost = case.cost();
        let all = (cost.flops * case.threads) as f64;
        let isa = if case.variant.is_yardstick() { "own" } else { isa };
        let roof = probe.roof(isa, &cost);
        let gflops = |seconds: f64| all / seconds / 1e9;
        // Of what is executed: rates are by definition, so that those of transforms compare.
        let executed = all * case.executed();
        let fraction_of_peak = executed * timing.calls_per_peak_flop;
        // A roof of the processor moves with its clock as the samples do; that of a cache is what it was.
        let fraction_of_roofline = match roof.bound {
            Bound::Compute => fraction_of_peak,
            Bound::Memory(_) => executed / timing.seconds / roof.flops_per_second,
        };
        Row {
            id: case.full_id(isa),
            op: case.op.name(),
            pass: case.pass.name(),
            shape: case.op.shape(),
            variant: case.variant.name(),
            isa,
            threads: case.threads,
            flops: cost.flops,
            bytes: cost.bytes,
            intensity: cost.intensity(),
            microseconds: timing.seconds * 1e6,
            gflops: gflops(timing.seconds),
            gflops_p10: gflops(timing.p90),
            gflops_p90: gflops(timing.p10),
            peak_gflops: timing.peak / 1e9,
            fraction_of_peak,
            best_fraction_of_peak: executed * timing.best_calls_per_peak_flop,
            bound: roof.bound.name(),
            roofline_gflops: roof.flops_per_second / 1e9,
            fraction_of_roofline,
            error,
            samples: timing.samples,
            calls: timing.calls,
            faster: None,
        }
    }

    /// One line of the table under [`header`]; `id` is as much of the row's as the table does not say anyway.
    pub fn text(&self, id: &str, id_width: usize) -> String {
        format!(
            "{id:<id_width$} {:>7.1}  {:>5.1} %  {:>3.0} %  {:>6}  {:<7}  {:>4.0} %  {:>6}",
            self.gflops,
            100.0 * self.fraction_of_peak,
            100.0 * self.best_fraction_of_peak,
            three_digits(self.intensity),
            self.bound,
            100.0 * self.fraction_of_roofline,
            if self.error == 0.0 { "exact".to_owned() } else { format!("{:.1e}", self.error) }
        )
    }

    /// One line of a CSV file under [`CSV_HEADER`].
    pub fn csv(&self) -> String {
        format!(
            "{},{:.2},{:.2},{:.2},{:.1},{:.1},{:.1},{:.3},{},{:.1},{:.1e}",
            self.id,
            self.gflops,
            self.gflops_p10,
            self.gflops_p90,
            self.peak_gflops,
            100.0 * self.fraction_of_peak,
            100.0 * self.best_fraction_of_peak,
            self.intensity,
            self.bound,
            100.0 * self.fraction_of_roofline,
            self.error
        )
    }
}

/// The line above the rows of a text table.
pub fn header(id_width: usize) -> String {
    format!("{:<id_width$}{NUMBERS}", "kernel")
}

/// Width of the ids of some cases.
pub fn id_width(cases: &[Case]) -> usize {
    cases.iter().map(|case| case.id().len()).max().unwrap_or(0)
}

/// What was measured of the machine, as lines of label and text.
pub fn probe_lines(probe: &Probe) -> [(&'static str, String); 4] {
    let threads =
        if probe.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", probe.threads) };
    let peak = |peak: &crate::Peak| format!("{} {}", peak.isa, three_digits(peak.flops_per_second / 1e9));
    let peaks = |numbers: Numbers| {
        let own = probe.peaks.iter().filter(|peak| peak.precision == numbers);
        own.map(peak).collect::<Vec<String>>().join(", ")
    };
    let level = |level: &crate::LevelRead| {
        let size = level.capacity.map_or(String::new(), |bytes| format!(" ({})", binary(bytes)));
        format!("{}{size} {}", level.level.name(), three_digits(level.bytes_per_second / 1e9))
    };
    let levels: Vec<String> = probe.levels.iter().map(level).collect();
    [
        ("peak", format!("{} GFLOP/s on registers, {threads}", peaks(Numbers::F32))),
        ("bf16", format!("{} GFLOP/s", peaks(Numbers::Bf16))),
        ("int8", format!("{} GOP/s", peaks(Numbers::Int8))),
        ("reads", format!("{} GB/s, {threads}", levels.join(", "))),
    ]
}

/// Bytes in binary units.
fn binary(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

/// `0.25`, `12.3`, `512`.
fn three_digits(x: f64) -> String {
    match x {
        ..10.0 => format!("{x:.2}"),
        ..100.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Level, LevelRead, Peak};
    use crate::table::table;

    fn row(case: &Case) -> Row {
        let level = LevelRead { level: Level::Dram, capacity: None, working_set: 1, bytes_per_second: 20e9 };
        let peaks = vec![Peak { isa: "avx2", precision: Numbers::F32, flops_per_second: 100e9 }];
        let probe = Probe { threads: 1, peaks, levels: vec![level] };
        let seconds = 2e-2;
        let timing = Timing {
            samples: 9,
            calls: 3,
            seconds,
            p10: 1e-2,
            p90: 4e-2,
            peak: 100e9,
            calls_per_peak_flop: 1.0 / (seconds * 100e9),
            best_calls_per_peak_flop: 1.0 / (1e-2 * 100e9),
        };
        Row::new(case, "avx2", &timing, 1.5e-6, &probe)
    }

    #[test]
    fn rows_fit_a_terminal_and_the_header() {
        let table = table();
        let width = id_width(&table);
        for case in &table {
            let text = row(case).text(&case.id(), width);
            assert!(text.starts_with(&case.id()) && text.chars().count() <= 110, "{text}");
        }
        let (head, text) = (header(width), row(&table[0]).text("", width));
        assert_eq!(head.len(), text.len(), "\n{head}\n{text}");
    }

    #[test]
    fn all_units_of_a_processor_fit_a_terminal() {
        use Numbers::{Bf16, F32, Int8};
        let units = [
            (F32, &["avx512", "avx2", "portable"][..]),
            (Bf16, &["amx-bf16", "avx512-bf16", "avx2-f32-bf16", "portable-f32-bf16"]),
            (Int8, &["amx-int8", "avx512-vnni", "avx-vnni", "avx2-int8", "portable-int8"]),
        ];
        let peaks_of = |(precision, names): &(Numbers, &[&'static str])| {
            let peak = |isa| Peak { isa, precision: *precision, flops_per_second: 12_345.6e9 };
            names.iter().map(|&isa| peak(isa)).collect::<Vec<_>>()
        };
        let level = LevelRead {
            level: Level::L2,
            capacity: Some(1280 << 10),
            working_set: 1,
            bytes_per_second: 1234e9,
        };
        let levels = vec![level; 4];
        let probe = Probe { threads: 128, peaks: units.iter().flat_map(peaks_of).collect(), levels };
        for (label, text) in probe_lines(&probe) {
            assert!(format!("{label:<9}{text}").chars().count() <= 110, "{label} {text}");
        }
    }

    #[test]
    fn rates_follow_from_times() {
        let case = table().into_iter().find(|case| case.id() == "gemm/512x512x512").unwrap();
        let row = row(&case);
        assert_eq!(row.flops, 2 << 27);
        assert!(
            (row.gflops - 13.42).abs() < 0.01 && row.gflops_p10 < row.gflops && row.gflops < row.gflops_p90
        );
        assert!((row.fraction_of_peak - 0.1342).abs() < 1e-4);
        assert!((row.best_fraction_of_peak - 0.2684).abs() < 1e-4);
        assert_eq!((row.bound, row.fraction_of_roofline), ("compute", row.fraction_of_peak));
        let adam = table().into_iter().find(|case| case.id().starts_with("adam")).unwrap();
        let adam = super::tests::row(&adam);
        assert_eq!(adam.bound, "DRAM");
        assert!((adam.roofline_gflops - 10.0).abs() < 1e-9, "half an operation a byte: {adam:?}");
    }

    #[test]
    fn csv_has_a_field_for_every_column() {
        let line = row(&table()[0]).csv();
        assert_eq!(line.split(',').count(), CSV_HEADER.split(',').count());
        assert!(line.starts_with("gemm/64x64x64/avx2/t1,"), "{line}");
    }
}
