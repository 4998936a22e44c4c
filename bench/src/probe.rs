//! What this machine can do, measured in the process that measures kernels: multiply-adds on registers alone, and
//! reads from every level of the memory hierarchy.
//!
//! The roofline (Williams, Waterman and Patterson, 2009) of a kernel is the smaller of the peak and its arithmetic
//! intensity times the bandwidth of the level that its operands come from: the smallest that holds all it touches, as
//! calls are repeated on the same operands. Bandwidths are those of reads, so a kernel that mostly writes stays below.

use std::fs;
use std::hint::black_box;
use std::sync::Barrier;

use ocelli_engine::simd::{Bf16Isa, TileNumbers, TileUnit};
use ocelli_engine::simd::{Kernel, Simd, dispatch, limits};
use ocelli_engine::{Buffer, DotIsa, Isa};
use serde::{Serialize, Serializer};

use crate::cases::{Cost, Numbers};
use crate::clock::seconds;

/// Independent chains of fused multiply-adds: two ports of latency 4 need 8, and 12 with two constants fit the 16
/// vector registers.
const CHAINS: usize = 12;
/// Chains of each kind where multiplication and addition are two instructions: two ports of latency 3 or 4 each.
const SPLIT_CHAINS: usize = 7;
/// Rounds of all chains: about a millisecond.
const ROUNDS: usize = 200_000;
/// Rounds of the short probe beside every sample: some 30 microseconds.
const SHORT_ROUNDS: usize = 8_000;
/// Runs of which the median counts.
const RUNS: usize = 9;
/// Seconds of one run of a read.
const READ_SECONDS: f64 = 2e-3;
/// Most memory that is taken to measure memory.
const MAX_MEMORY: usize = 1 << 30;

/// A level of the memory hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// First-level data cache of a core.
    L1,
    /// Second-level cache of a core.
    L2,
    /// Last-level cache, shared by cores.
    L3,
    /// Memory.
    Dram,
}

impl Level {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub fn name(self) -> &'static str {
        match self {
            Level::L1 => "L1",
            Level::L2 => "L2",
            Level::L3 => "L3",
            Level::Dram => "DRAM",
        }
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Floating-point peak of one instruction set.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peak {
    /// Name of the instruction set.
    pub isa: &'static str,
    /// What is multiplied.
    pub precision: Numbers,
    /// Operations a second of all threads together.
    pub flops_per_second: f64,
}

/// Read bandwidth of one level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LevelRead {
    /// The level.
    pub level: Level,
    /// Its capacity in bytes, for one thread where caches belong to a core; absent for memory.
    pub capacity: Option<usize>,
    /// Bytes that each thread read again and again.
    pub working_set: usize,
    /// Bytes a second of all threads together.
    pub bytes_per_second: f64,
}

/// The limits of this machine for a number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// Threads that worked at once.
    pub threads: usize,
    /// One peak for each instruction set.
    pub peaks: Vec<Peak>,
    /// Bandwidths, nearest level first.
    pub levels: Vec<LevelRead>,
}

/// What limits a kernel that does everything else perfectly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The multiply-adds of the processor.
    Compute,
    /// Reads from a level.
    Memory(Level),
}

impl Bound {
    /// `compute` or the name of the level.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Memory(level) => level.name(),
        }
    }
}

/// A kernel's roofline.
#[derive(Clone, Copy, Debug)]
pub struct Roof {
    /// What it is made of.
    pub bound: Bound,
    /// Floating-point operations a second of all threads together.
    pub flops_per_second: f64,
}

impl Probe {
    /// Measures peaks of the instruction sets and bandwidths with the first of them, in under two seconds.
    ///
    /// # Panics
    /// When `isas` is empty.
    pub fn measure(isas: &[Isa], threads: usize) -> Self {
        let mut peaks: Vec<Peak> = isas
            .iter()
            .map(|&isa| Peak {
                isa: isa.name(),
                precision: Numbers::F32,
                flops_per_second: at_once_on(threads, || chains(isa, ROUNDS)),
            })
            .collect();
        let mut add = |isa: &'static str, precision, rate: &dyn Fn() -> f64| {
            if !peaks.iter().any(|peak| peak.isa == isa) {
                peaks.push(Peak { isa, precision, flops_per_second: rate() });
            }
        };
        // What plain Rust stands in for is no limit of a processor.
        let is_real = |tiles: Option<TileUnit>| tiles.is_none_or(TileUnit::is_native);
        for &isa in isas {
            let half = Bf16Isa::of(isa);
            add(half.name(), Numbers::Bf16, &|| at_once_on(threads, || half_chains(half, ROUNDS)));
            for own in DotIsa::all(isa).into_iter().filter(|own| is_real(own.tiles())) {
                add(own.name(), Numbers::Int8, &|| at_once_on(threads, || byte_chains(own, ROUNDS)));
            }
        }
        let levels = working_sets(&caches(), threads)
            .into_iter()
            .map(|(level, capacity, working_set)| LevelRead {
                level,
                capacity,
                working_set,
                bytes_per_second: read(isas[0], threads, working_set),
            })
            .collect();
        Probe { threads, peaks, levels }
    }

    /// The peak of an instruction set; the best one for other people's kernels.
    pub fn peak(&self, isa: &str) -> f64 {
        // The first is that of the fastest instruction set for floats.
        let own = self.peaks.iter().find(|peak| peak.isa == isa).or(self.peaks.first());
        own.map_or(0.0, |peak| peak.flops_per_second)
    }

    /// The level that operands come from when copies that touch `footprint` bytes each run again and again.
    fn home(&self, footprint: usize) -> &LevelRead {
        let holds = |level: &&LevelRead| {
            let sharing = if level.level == Level::L3 { self.threads } else { 1 };
            level.capacity.is_none_or(|capacity| footprint * sharing <= capacity)
        };
        self.levels.iter().find(holds).unwrap_or(&self.levels[self.levels.len() - 1])
    }

    /// The roofline of a cost on an instruction set, for as many copies as there are threads.
    pub fn roof(&self, isa: &str, cost: &Cost) -> Roof {
        let (peak, home) = (self.peak(isa), self.home(cost.footprint));
        let fed = cost.intensity() * home.bytes_per_second;
        if peak <= fed {
            Roof { bound: Bound::Compute, flops_per_second: peak }
        } else {
            Roof { bound: Bound::Memory(home.level), flops_per_second: fed }
        }
    }
}

/// Floating-point operations a second, 2 per multiply-add, that `threads` threads reach at once on registers alone.
pub fn peak(isa: Isa, threads: usize) -> f64 {
    at_once_on(threads, || chains(isa, ROUNDS))
}

/// The rates of `threads` threads that measure theirs at once, added up.
fn at_once_on(threads: usize, rate: impl Fn() -> f64 + Sync) -> f64 {
    let mut team = vec![(); threads];
    median((0..RUNS).map(|_| at_once(&mut team, |(), _| rate()).iter().sum()))
}

/// The peak of this thread right now.
pub(crate) fn short_peak(isa: Isa, numbers: Numbers) -> f64 {
    match numbers {
        Numbers::F32 => chains(isa, SHORT_ROUNDS),
        Numbers::Bf16 => half_chains(Bf16Isa::of(isa), SHORT_ROUNDS),
        Numbers::Int8 => byte_chains(DotIsa::of(isa), SHORT_ROUNDS),
    }
}

/// Runs `f` on each item on a thread of its own, all started at once; without a thread for a single one. `f` may wait
/// for the others at the barrier.
pub(crate) fn at_once<T: Send, R: Send>(items: &mut [T], f: impl Fn(&mut T, &Barrier) -> R + Sync) -> Vec<R> {
    let barrier = &Barrier::new(items.len());
    if let [item] = items {
        return vec![f(item, barrier)];
    }
    let f = &f;
    std::thread::scope(|scope| {
        let start = |item| {
            scope.spawn(move || {
                barrier.wait();
                f(item, barrier)
            })
        };
        let handles: Vec<_> = items.iter_mut().map(start).collect();
        handles.into_iter().map(|handle| handle.join().expect("measured code does not panic")).collect()
    })
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Chains `x = x factor + addend`, fused.
struct FusedChains {
    rounds: usize,
    /// First value of all chains, their factor and addend: unknown to the compiler, or it would compute the result
    /// itself. Values stay near one: no overflow, no denormal.
    operands: [f32; 3],
}

impl Kernel for FusedChains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let [start, factor, addend] = self.operands.map(|x| s.splat(x));
        let mut chains = [start; CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = s.mul_add(*chain, factor, addend);
            }
        }
        s.reduce_add(chains.into_iter().reduce(|a, b| s.add(a, b)).expect("there are chains"))
    }
}

/// Chains `x = x factor` beside chains `y = y + addend`: where a multiply-add is two instructions, chains of both
/// have twice the latency and need more registers than there are.
struct SplitChains {
    rounds: usize,
    operands: [f32; 3],
}

impl Kernel for SplitChains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let [start, factor, addend] = self.operands.map(|x| s.splat(x));
        let (mut products, mut sums) = ([start; SPLIT_CHAINS], [start; SPLIT_CHAINS]);
        for _ in 0..self.rounds {
            for (product, sum) in products.iter_mut().zip(&mut sums) {
                *product = s.mul(*product, factor);
                *sum = s.add(*sum, addend);
            }
        }
        let all = products.into_iter().chain(sums);
        s.reduce_add(all.reduce(|a, b| s.add(a, b)).expect("there are chains"))
    }
}

/// Floating-point operations a second of this thread.
fn chains(isa: Isa, rounds: usize) -> f64 {
    let lanes = isa.nr() / dispatch(isa, VectorsInRow);
    let (seconds, chains) = match isa {
        Isa::Portable(_) => {
            let kernel = SplitChains { rounds, operands: black_box([0.5, 1.0, 0.0]) };
            (seconds(|| dispatch(isa, kernel)), SPLIT_CHAINS)
        }
        #[allow(unreachable_patterns, reason = "the portable set is the only one of some processors")]
        _ => {
            let kernel = FusedChains { rounds, operands: black_box([0.5, 0.999, 0.001]) };
            (seconds(|| dispatch(isa, kernel)), CHAINS)
        }
    };
    (2 * rounds * chains * lanes) as f64 / seconds
}

/// Operations a second of this thread on bytes.
fn byte_chains(isa: DotIsa, rounds: usize) -> f64 {
    operations(|| match isa.tiles() {
        Some(unit) => limits::multiply_tiles(unit, TileNumbers::Bytes, rounds),
        None => limits::multiply_bytes(isa, rounds).0,
    })
}

/// Operations a second of this thread on bf16.
fn half_chains(isa: Bf16Isa, rounds: usize) -> f64 {
    operations(|| match isa.tiles() {
        Some(unit) => limits::multiply_tiles(unit, TileNumbers::Bf16, rounds),
        None => limits::multiply_pairs(isa, rounds).0,
    })
}

/// Two operations for each of the products that `multiply` does, in a second.
fn operations(multiply: impl Fn() -> usize) -> f64 {
    let mut products = 0;
    let seconds = seconds(|| products = black_box(multiply()));
    2.0 * products as f64 / seconds
}

/// Vectors in a row of the register tile.
struct VectorsInRow;

impl Kernel for VectorsInRow {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::NV
    }
}

/// Floats of a round of reads on the longest vectors.
const READ_BLOCK: usize = 128;

/// Bytes a second that `threads` threads read at once, each from `working_set` bytes of its own.
fn read(isa: Isa, threads: usize, working_set: usize) -> f64 {
    // Buffers begin at a cache line; an unwritten page would be one and the same page of zeros.
    let mut buffers = vec![Buffer::zeros(working_set / size_of::<f32>()); threads];
    buffers.iter_mut().for_each(|buffer| buffer.fill(1.0));
    let read = |numbers: &[f32], passes| {
        seconds(|| {
            black_box(limits::read(isa, numbers, passes));
        })
    };
    let once = read(&buffers[0], 1).max(1e-9);
    let passes = (READ_SECONDS / once).clamp(1.0, 1e6) as usize;
    let rate = |numbers: &mut Buffer, barrier: &Barrier| {
        // Caches hold what this thread reads, not what it did before.
        read(numbers, 1);
        barrier.wait();
        (passes * size_of_val(&numbers[..])) as f64 / read(numbers, passes)
    };
    median((0..RUNS).map(|_| at_once(&mut buffers, rate).iter().sum()))
}

/// Capacities in bytes: data caches of the first core by level, nearest first.
fn caches() -> Vec<(Level, usize)> {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    let read = |index: usize, file: &str| {
        fs::read_to_string(format!("{folder}/index{index}/{file}")).map(|text| text.trim().to_owned())
    };
    let mut found = Vec::new();
    for index in 0..8 {
        let (Ok(kind), Ok(level), Ok(size)) =
            (read(index, "type"), read(index, "level"), read(index, "size"))
        else {
            continue;
        };
        let level = match (kind.as_str(), level.as_str()) {
            ("Data" | "Unified", "1") => Level::L1,
            ("Data" | "Unified", "2") => Level::L2,
            ("Data" | "Unified", "3") => Level::L3,
            _ => continue,
        };
        found.extend(bytes(&size).map(|size| (level, size)));
    }
    found.sort_unstable();
    found.dedup_by_key(|(level, _)| *level);
    if found.is_empty() {
        // Systems that do not say: common sizes.
        return vec![(Level::L1, 32 << 10), (Level::L2, 512 << 10), (Level::L3, 16 << 20)];
    }
    found
}

/// `32K` or `8M` in bytes.
fn bytes(size: &str) -> Option<usize> {
    let (digits, unit) = match size.strip_suffix('K') {
        Some(digits) => (digits, 10),
        None => (size.strip_suffix('M')?, 20),
    };
    digits.parse::<usize>().ok()?.checked_shl(unit).filter(|&size| size > 0)
}

/// What each thread reads to measure a level, with the level's capacity: half of a core's own cache; a quarter of a
/// shared one, which neighbours use too, but four times what is nearer; four times the largest for memory.
fn working_sets(caches: &[(Level, usize)], threads: usize) -> Vec<(Level, Option<usize>, usize)> {
    const BLOCK: usize = READ_BLOCK * size_of::<f32>();
    let whole = |bytes: usize| (bytes / BLOCK).max(1) * BLOCK;
    let mut sets = Vec::new();
    let mut nearer = 0;
    for &(level, capacity) in caches {
        let set = match level {
            Level::L3 => (capacity / 4 / threads).max(2 * nearer).min(capacity / threads),
            _ => capacity / 2,
        };
        sets.push((level, Some(capacity), whole(set)));
        nearer = capacity;
    }
    let set = (4 * nearer).clamp(64 << 20, MAX_MEMORY) / threads;
    sets.push((Level::Dram, None, whole(set)));
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn limits_are_finite_and_complete() {
        let isas = Isa::available();
        for threads in [1, 2] {
            let probe = Probe::measure(&isas, threads);
            // One peak for each instruction set, and for bf16 and bytes each of theirs.
            let names: BTreeSet<&str> = probe.peaks.iter().map(|peak| peak.isa).collect();
            assert_eq!((probe.threads, names.len()), (threads, probe.peaks.len()));
            assert!(isas.iter().all(|&isa| {
                let own = [isa.name(), Bf16Isa::of(isa).name(), DotIsa::of(isa).name()];
                own.iter().all(|name| names.contains(name))
            }));
            let rates = probe.peaks.iter().map(|peak| peak.flops_per_second);
            for rate in rates.chain(probe.levels.iter().map(|level| level.bytes_per_second)) {
                assert!(rate > 0.0 && rate.is_finite(), "{probe:?}");
            }
            let levels: Vec<Level> = probe.levels.iter().map(|level| level.level).collect();
            assert!(levels.is_sorted() && levels.last() == Some(&Level::Dram), "{levels:?}");
            assert!(probe.peak("somebody else's") >= probe.peak(isas[0].name()));
        }
    }

    /// A machine of round numbers: 100 GFLOP/s, and 200, 100, 40 and 10 GB/s.
    fn machine(threads: usize) -> Probe {
        let level = |level, capacity, rate: f64| LevelRead {
            level,
            capacity,
            working_set: 0,
            bytes_per_second: rate * 1e9,
        };
        Probe {
            threads,
            peaks: vec![Peak { isa: "avx2", precision: Numbers::F32, flops_per_second: 100e9 }],
            levels: vec![
                level(Level::L1, Some(1_000), 200.0),
                level(Level::L2, Some(10_000), 100.0),
                level(Level::L3, Some(100_000), 40.0),
                level(Level::Dram, None, 10.0),
            ],
        }
    }

    #[test]
    fn the_roofline_is_the_lower_of_peak_and_feed() {
        let probe = machine(1);
        let roof = |flops: usize, bytes: usize, footprint: usize| {
            let roof = probe.roof("avx2", &Cost { flops, bytes, footprint });
            (roof.bound, (roof.flops_per_second / 1e9).round())
        };
        // Ten operations a byte are compute bound even from memory.
        assert_eq!(roof(10_000_000, 1_000_000, 1_000_000), (Bound::Compute, 100.0));
        // One operation for four bytes, from each level.
        assert_eq!(roof(250, 1_000, 1_000), (Bound::Memory(Level::L1), 50.0));
        assert_eq!(roof(250, 1_000, 1_001), (Bound::Memory(Level::L2), 25.0));
        assert_eq!(roof(250, 1_000, 100_000), (Bound::Memory(Level::L3), 10.0));
        assert_eq!(roof(250, 1_000, 100_001), (Bound::Memory(Level::Dram), 3.0));
    }

    #[test]
    fn copies_share_the_last_cache_alone() {
        let probe = machine(2);
        assert_eq!(probe.home(1_000).level, Level::L1);
        assert_eq!(probe.home(50_000).level, Level::L3);
        assert_eq!(probe.home(50_001).level, Level::Dram);
    }

    #[test]
    fn sizes_of_caches_are_read() {
        assert_eq!(bytes("32K"), Some(32 << 10));
        assert_eq!(bytes("8M"), Some(8 << 20));
        assert_eq!(["", "K", "32", "0K", "-1K"].map(bytes), [None; 5]);
        let caches = caches();
        assert!(caches.is_sorted() && caches.iter().all(|&(_, size)| size > 0), "{caches:?}");
    }

    #[test]
    fn working_sets_lie_between_the_levels() {
        let caches = [(Level::L1, 32 << 10), (Level::L2, 512 << 10), (Level::L3, 32 << 20)];
        for threads in [1, 2, 8] {
            let sets = working_sets(&caches, threads);
            assert!(sets.windows(2).all(|pair| pair[0].2 < pair[1].2), "{sets:?}");
            assert!(sets[2].2 >= 2 * caches[1].1 && sets[2].2 * threads <= caches[2].1, "{sets:?}");
            assert!(sets[3].2 * threads > caches[2].1, "{sets:?}");
        }
        assert_eq!(working_sets(&caches[..2], 1).len(), 3);
    }
}
