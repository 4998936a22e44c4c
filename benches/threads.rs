//! Regions of the engine against rayon's parallel iterators on two threads: what a region costs, and what it costs after a
//! pause.
//!
//! Before it is timed, a region is verified: every piece is computed, once.

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ocelli_engine::Wait;
use ocelli_engine::parallel::Threads;
use rayon::ThreadPool;
use rayon::prelude::*;

const THREADS: usize = 2;
/// More multiply-adds than any threshold: regions are always shared.
const MUCH: usize = usize::MAX;

/// A pool, seen as the engine sees it.
trait Pool: Sync {
    const NAME: &'static str;
    /// Runs a pass.
    fn pass<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R;
    /// A region of the pass: `f` for each element.
    fn region(&self, out: &mut [u64], f: impl Fn(&mut u64) + Sync);
}

impl Pool for Threads {
    const NAME: &'static str = "own";

    fn pass<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.enter(MUCH, f)
    }

    fn region(&self, out: &mut [u64], f: impl Fn(&mut u64) + Sync) {
        self.pieces(MUCH, out, 1, |_, out| f(&mut out[0]));
    }
}

impl Pool for ThreadPool {
    const NAME: &'static str = "rayon";

    fn pass<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.install(f)
    }

    fn region(&self, out: &mut [u64], f: impl Fn(&mut u64) + Sync) {
        out.par_chunks_mut(1).for_each(|out| f(&mut out[0]));
    }
}

/// A chain of dependent multiplications: arithmetic alone, a few cycles a round.
fn work(seed: u64, rounds: u64) -> u64 {
    (0..rounds).fold(seed, |x, _| black_box(x).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1))
}

/// Rounds of [`work`] that take about `time` here.
fn rounds_of(time: Duration) -> u64 {
    let rounds = 100_000;
    let [_, median] = quantiles(
        21,
        || (),
        || {
            black_box(work(black_box(1), rounds));
        },
    );
    (time.as_secs_f64() * 1e6 / median * rounds as f64) as u64
}

fn verify(pool: &impl Pool) {
    let mut out = vec![0; 100];
    for _ in 0..100 {
        pool.pass(|| pool.region(&mut out, |x| *x = x.wrapping_add(work(1, 3))));
    }
    assert!(out.iter().all(|&x| x == work(1, 3).wrapping_mul(100)), "every piece is computed once");
}

#[allow(clippy::print_stdout, reason = "the result of a benchmark")]
fn measure(c: &mut Criterion, pool: &impl Pool, name: &str, rounds: u64) {
    let mut group = c.benchmark_group(format!("threads/{name}"));
    let mut out = [1; THREADS];
    let mut call = || pool.region(&mut out, |x| *x = if rounds > 0 { work(*x, rounds) } else { *x });
    // Regions of one pass, as the layers of a plan; then passes of one region, back to back.
    group.bench_function("region", |b| pool.pass(|| b.iter(&mut call)));
    group.bench_function("pass", |b| b.iter(|| pool.pass(&mut call)));
    group.finish();
    if support::is_measuring() {
        let regions = pool.pass(|| quantiles(2000, || (), &mut call));
        let passes = quantiles(2000, || (), || pool.pass(&mut call));
        // The pool has gone to sleep, as at a server without much to do.
        let after_pause =
            quantiles(300, || std::thread::sleep(Duration::from_millis(2)), || pool.pass(&mut call));
        println!("threads/{name}, 10 % and 50 % of calls within [us]:");
        println!("region {regions:.2?}, pass {passes:.2?}, pass after 2 ms {after_pause:.2?}\n");
    }
}

/// The microseconds that 10 % and half of some calls stay below; a mean says little where strangers take the cores.
fn quantiles(calls: usize, mut before: impl FnMut(), mut f: impl FnMut()) -> [f64; 2] {
    let once = |_| {
        before();
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..calls).map(once).collect();
    times.sort_by(f64::total_cmp);
    [times[calls / 10], times[calls / 2]]
}

fn main() {
    let mut c = support::criterion();
    let own = Threads::new(&ocelli_engine::Pool::new(THREADS).expect("a sound number"), Wait::Spin, 0)
        .expect("two threads");
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().expect("two threads");
    verify(&own);
    verify(&rayon);
    for (name, time) in [("empty", 0), ("2x20us", 20), ("2x100us", 100)] {
        let rounds = rounds_of(Duration::from_micros(time));
        measure(&mut c, &own, &format!("{name}/{}", <Threads as Pool>::NAME), rounds);
        measure(&mut c, &rayon, &format!("{name}/{}", <ThreadPool as Pool>::NAME), rounds);
    }
    c.final_summary();
}
