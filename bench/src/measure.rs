//! Timing on a machine that is not ours alone.
//!
//! A sample is half a millisecond of calls, or one call. Right before it every thread measures its peak on registers,
//! so a sample that a neighbour or a lower clock slows down is compared with a peak that was slowed down too, and the
//! fraction of the peak keeps its meaning when times do not. What a thread waits for a core does not count, and a
//! sample with such a gap, or right after one, is left out while enough others remain: its caches were cold. Kernels
//! are compared in turn, A B B A, by the median of the ratios of neighbouring samples.

use std::time::Instant;

use ocelli_engine::Isa;

use crate::cases::{Case, Numbers};
use crate::clock::{seconds, span};
use crate::oracle::Mismatch;
use crate::prepare::{Kernel, prepare};
use crate::probe::{at_once, median, short_peak};

/// Seconds of a sample: hundreds of times what a look at the clock takes, and less than a thread keeps its core on a
/// busy machine.
const SAMPLE: f64 = 5e-4;
/// Fewest samples, whatever they cost.
const MIN_SAMPLES: usize = 5;
/// Most samples: the median has settled long before.
const MAX_SAMPLES: usize = 10_000;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// About how long a case is timed, without preparation.
    pub seconds: f64,
}

/// Copies of a kernel, one for each thread.
#[derive(Debug)]
pub struct Team {
    kernels: Vec<Kernel>,
    isa: Isa,
    /// Those whose peak is the kernel's.
    numbers: Numbers,
}

impl Team {
    /// Prepares and verifies as many copies as the case has threads; see [`prepare`] for `limit`.
    ///
    /// # Errors
    /// [`Mismatch`] when a result is not what the oracle says.
    pub fn prepare(case: &Case, isa: Isa, limit: usize) -> Result<Self, Mismatch> {
        let kernels = (0..case.threads.max(1)).map(|_| prepare(case, isa, limit));
        Ok(Team { kernels: kernels.collect::<Result<_, _>>()?, isa, numbers: case.numbers() })
    }

    /// Largest error of any output in units of the root mean square of its tensor.
    pub fn error(&self) -> f64 {
        self.kernels.iter().map(|kernel| kernel.error).fold(0.0, f64::max)
    }

    /// Calls every copy `calls` times, all at once.
    pub fn sample(&mut self, calls: u64) -> Sample {
        let (isa, numbers, threads) = (self.isa, self.numbers, self.kernels.len() as f64);
        let spans = at_once(&mut self.kernels, |kernel, barrier| {
            span(|| {
                let peak = short_peak(isa, numbers);
                barrier.wait();
                (seconds(|| (0..calls).for_each(|_| kernel.run())), peak)
            })
        });
        let rates: f64 = spans.iter().map(|(_, (seconds, _))| 1.0 / seconds).sum();
        Sample {
            seconds: threads / rates,
            peak: spans.iter().map(|(_, (_, peak))| peak).sum(),
            disturbed: spans.iter().any(|(span, _)| span.is_disturbed()),
        }
    }

    /// Calls that take about a sample's time, after warming up.
    fn calls(&mut self) -> u64 {
        let mut calls = 1;
        loop {
            let seconds = self.sample(calls).seconds;
            if seconds >= SAMPLE / 4.0 {
                return (calls as f64 * SAMPLE / seconds).ceil().max(1.0) as u64;
            }
            calls *= 4;
        }
    }
}

/// One sample of a team.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds that the calls of a thread took, the harmonic mean of all threads.
    pub seconds: f64,
    /// Sum of the peaks that the threads reached right before, in operations a second.
    pub peak: f64,
    /// Whether a thread lost its core for a while.
    pub disturbed: bool,
}

/// The values of samples that were neither disturbed nor follow one that was, or all if few are left.
fn undisturbed<T: Clone>(samples: &[(bool, T)]) -> Vec<T> {
    let calm = |i: &usize| !samples[*i].0 && !i.checked_sub(1).is_some_and(|before| samples[before].0);
    let calm: Vec<usize> = (0..samples.len()).filter(calm).collect();
    if calm.len() < MIN_SAMPLES {
        return samples.iter().map(|(_, value)| value.clone()).collect();
    }
    calm.into_iter().map(|i| samples[i].1.clone()).collect()
}

/// What samples say about one call on every thread.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Number of samples that count.
    pub samples: usize,
    /// Calls in each, on each thread.
    pub calls: u64,
    /// Median time of a call.
    pub seconds: f64,
    /// A tenth of the samples took less.
    pub p10: f64,
    /// A tenth of the samples took more.
    pub p90: f64,
    /// Median peak beside the samples, in operations a second of all threads.
    pub peak: f64,
    /// Median of `1 / (time of a call * peak beside it)`: times the operations of a call on all threads, it is the
    /// fraction of the peak.
    pub calls_per_peak_flop: f64,
    /// The same of the tenth of the samples that did best: what a kernel reaches while nobody else uses the memory.
    pub best_calls_per_peak_flop: f64,
}

/// Times a team for about the seconds of the budget.
pub fn measure(team: &mut Team, budget: Budget) -> Timing {
    let calls = team.calls();
    let start = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < MIN_SAMPLES
        || (start.elapsed().as_secs_f64() < budget.seconds && samples.len() < MAX_SAMPLES)
    {
        let sample = team.sample(calls);
        samples.push((sample.disturbed, sample));
    }
    let samples = undisturbed(&samples);
    let mut times: Vec<f64> = samples.iter().map(|sample| sample.seconds / calls as f64).collect();
    let mut fractions: Vec<f64> =
        samples.iter().zip(&times).map(|(sample, time)| 1.0 / (time * sample.peak)).collect();
    times.sort_by(f64::total_cmp);
    fractions.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
    Timing {
        samples: times.len(),
        calls,
        seconds: at(&times, 0.5),
        p10: at(&times, 0.1),
        p90: at(&times, 0.9),
        peak: median(samples.iter().map(|sample| sample.peak)),
        calls_per_peak_flop: at(&fractions, 0.5),
        best_calls_per_peak_flop: at(&fractions, 0.9),
    }
}

/// Times of several teams, taken in turn.
#[derive(Clone, Debug)]
pub struct Interleaved {
    /// Seconds of one call: `[round][team]`.
    rounds: Vec<Vec<f64>>,
}

impl Interleaved {
    /// Median of `time of a / time of b` over rounds: above 1, `b` is faster.
    pub fn ratio(&self, a: usize, b: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[a] / round[b]))
    }

    /// Median time of a call of one team.
    pub fn seconds(&self, team: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[team]))
    }
}

/// Times teams in turn, forwards and backwards: a machine that slows down or speeds up favours none of them.
pub fn interleave(teams: &mut [&mut Team], rounds: usize) -> Interleaved {
    let calls: Vec<u64> = teams.iter_mut().map(|team| team.calls()).collect();
    let round = |round: usize| {
        let (mut times, mut disturbed) = (vec![0.0; teams.len()], false);
        for step in 0..teams.len() {
            let index = if round.is_multiple_of(2) { step } else { teams.len() - 1 - step };
            let sample = teams[index].sample(calls[index]);
            times[index] = sample.seconds / calls[index] as f64;
            disturbed |= sample.disturbed;
        }
        (disturbed, times)
    };
    let rounds: Vec<_> = (0..rounds.max(1)).map(round).collect();
    Interleaved { rounds: undisturbed(&rounds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Op, Pass, Product};

    fn team(threads: usize, side: usize) -> Team {
        let op = Op::Gemm(Product { rows: side, depth: side, cols: side });
        let case = Case { threads, ..Case::new(op, Pass::Forward) };
        Team::prepare(&case, Isa::available()[0], 1 << 20).unwrap()
    }

    #[test]
    fn times_are_positive_and_ordered() {
        for threads in [1, 3] {
            let timing = measure(&mut team(threads, 16), Budget { seconds: 0.0 });
            assert!(timing.samples > 0);
            assert!(timing.calls > 0 && 0.0 < timing.p10, "{timing:?}");
            assert!(timing.p10 <= timing.seconds && timing.seconds <= timing.p90, "{timing:?}");
            assert!(timing.peak > 0.0 && timing.calls_per_peak_flop > 0.0, "{timing:?}");
            assert!(timing.calls_per_peak_flop <= timing.best_calls_per_peak_flop, "{timing:?}");
        }
    }

    #[test]
    fn disturbed_samples_are_left_out_while_others_remain() {
        let samples = |disturbed: &[usize], len: usize| -> Vec<usize> {
            undisturbed(&(0..len).map(|i| (disturbed.contains(&i), i)).collect::<Vec<_>>())
        };
        assert_eq!(samples(&[], 3), [0, 1, 2]);
        assert_eq!(samples(&[2, 5], 9), [0, 1, 4, 7, 8]);
        assert_eq!(samples(&[2, 5, 8], 9), (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn ratios_are_those_of_rounds() {
        let rounds = vec![vec![2.0, 1.0], vec![30.0, 10.0], vec![8.0, 4.0]];
        let times = Interleaved { rounds };
        assert_eq!((times.ratio(0, 1), times.ratio(1, 0), times.seconds(1)), (2.0, 0.5, 4.0));
        let (mut a, mut b) = (team(1, 8), team(1, 16));
        let times = interleave(&mut [&mut a, &mut b], 2);
        assert!(!times.rounds.is_empty());
        assert!(times.rounds.iter().flatten().all(|&seconds| seconds > 0.0), "{times:?}");
    }
}
