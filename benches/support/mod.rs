//! What all benchmarks share: the peak of this machine, measured in the same process, and how a case is reported.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ocelli_engine::Isa;
use ocelli_engine::rng::Rng;
use ocelli_engine::simd::{Kernel, Simd, dispatch};

/// Twelve independent chains of multiply-adds on registers alone: more than two ports of latency 4 need.
struct Chains {
    rounds: usize,
    /// First value of every chain: unknown to the compiler, or it would compute the result itself.
    start: f32,
}

const CHAINS: usize = 12;

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        // Values stay near one: no overflow, no denormal.
        let (factor, addend) = (s.splat(0.999), s.splat(0.001));
        let mut chains = [s.splat(self.start); CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = s.mul_add(*chain, factor, addend);
            }
        }
        s.reduce_add(chains.into_iter().reduce(|a, b| s.add(a, b)).expect("there are chains"))
    }
}

/// Floating-point operations a second (2 per multiply-add) of one thread that does nothing else.
pub(crate) fn peak(isa: Isa) -> f64 {
    let rounds = 200_000;
    let lanes = isa.nr() / 2;
    let seconds = median(5, || {
        black_box(dispatch(isa, Chains { rounds, start: black_box(0.5) }));
    });
    (rounds * CHAINS * lanes * 2) as f64 / seconds
}

/// Median seconds of some calls.
pub(crate) fn median(calls: usize, mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Criterion with settings for kernels; an argument of `--test` or none of `--bench` runs each case once.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args()
}

/// Whether `cargo bench` runs this, and not `cargo test`.
pub(crate) fn is_measuring() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// Measures a case that has been verified; criterion's `elem/s` are floating-point operations a second.
#[allow(clippy::print_stdout, reason = "the result of a benchmark")]
pub(crate) fn measure(c: &mut Criterion, isa: Isa, id: &str, flops: usize, mut f: impl FnMut()) {
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function(id, |b| b.iter(&mut f));
    group.finish();
    if is_measuring() {
        let rate = |peak: f64, f: &mut dyn FnMut()| (flops as f64 / median(9, f) / peak, peak);
        let (fraction, peak) = rate(peak(isa), &mut f);
        println!(
            "{id}: {:.0} % of the {:.0} GFLOP/s that one thread reaches on registers\n",
            fraction * 100.0,
            peak / 1e9
        );
    }
}

/// Standard normal floats.
pub(crate) fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, 0);
    (0..len).map(|_| rng.normal()).collect()
}
