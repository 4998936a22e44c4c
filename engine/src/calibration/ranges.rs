//! What a value is like on some images, and the ranges that follow from it.

use crate::geometry::Shape;
use crate::plan::ByteStage;

/// Bins of a histogram.
const BINS: usize = 2048;
/// Numbers outside of the range of [`Clip::Percentile`], on either side.
const PERCENTILE: f64 = 1e-4;

/// How the range of a value is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clip {
    /// From the least to the largest that was seen.
    Extremes,
    /// The range whose bytes have the least mean squared error.
    SquaredError,
    /// All but one in ten thousand.
    Percentile,
}

/// What was seen of a value.
pub(super) struct Statistics {
    pub(super) value: usize,
    /// Least, largest and sum of each channel.
    low: Vec<f32>,
    pub(super) high: Vec<f32>,
    sums: Vec<f64>,
    pixels: u64,
    /// How often numbers were seen between the least and the largest of all channels.
    bins: Vec<u64>,
}

impl Statistics {
    /// Nothing seen yet of the input, which comes first, and of what the stages read and make.
    pub(super) fn of(stages: &[ByteStage], shapes: &[Shape]) -> Vec<Statistics> {
        let read = stages.iter().flat_map(|stage| stage.inputs.iter().chain([&stage.output]).copied());
        let mut values: Vec<usize> = read.chain([0]).collect();
        values.sort_unstable();
        values.dedup();
        let new = |value: usize| {
            let channels = shapes[value].c as usize;
            Statistics {
                value,
                low: vec![f32::INFINITY; channels],
                high: vec![f32::NEG_INFINITY; channels],
                sums: vec![0.0; channels],
                pixels: 0,
                bins: vec![0; BINS],
            }
        };
        values.into_iter().map(new).collect()
    }

    /// Pixels `[..][channels]` of the first look.
    pub(super) fn see_range(&mut self, pixels: &[f32]) {
        let channels = self.low.len();
        for pixel in pixels.chunks_exact(channels) {
            for (low, &x) in self.low.iter_mut().zip(pixel) {
                *low = low.min(x);
            }
            for (high, &x) in self.high.iter_mut().zip(pixel) {
                *high = high.max(x);
            }
            for (sum, &x) in self.sums.iter_mut().zip(pixel) {
                *sum += f64::from(x);
            }
        }
        self.pixels += (pixels.len() / channels) as u64;
    }

    /// The same pixels again.
    pub(super) fn see_histogram(&mut self, pixels: &[f32]) {
        let (low, high) = self.extremes();
        let scale = BINS as f32 / (high - low).max(f32::MIN_POSITIVE);
        for &x in pixels {
            self.bins[(((x - low) * scale) as usize).min(BINS - 1)] += 1;
        }
    }

    /// Mean of a channel.
    pub(super) fn mean(&self, channel: usize) -> f64 {
        self.sums[channel] / self.pixels.max(1) as f64
    }

    /// Least and largest of all channels.
    fn extremes(&self) -> (f32, f32) {
        let low = self.low.iter().copied().fold(f32::INFINITY, f32::min);
        (low, self.high.iter().copied().fold(f32::NEG_INFINITY, f32::max))
    }

    /// The range by a rule; zero lies in it.
    pub(super) fn range(&self, clip: Clip) -> (f32, f32) {
        let (low, high) = self.extremes();
        let (low, high) = match clip {
            Clip::Extremes => (low, high),
            Clip::Percentile => self.percentile(low, high),
            Clip::SquaredError => self.least_error(low.min(0.0), high.max(0.0)),
        };
        (low.min(0.0), high.max(0.0))
    }

    fn percentile(&self, low: f32, high: f32) -> (f32, f32) {
        let total: u64 = self.bins.iter().sum();
        let outside = (total as f64 * PERCENTILE) as u64;
        let width = (high - low) / BINS as f32;
        let cut = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut seen = 0;
            let past = |&&count: &&u64| {
                seen += count;
                seen <= outside
            };
            bins.take_while(past).count() as f32
        };
        (low + width * cut(&mut self.bins.iter()), high - width * cut(&mut self.bins.iter().rev()))
    }

    /// The part of a range, from all of it to a fifth, that costs the least squared error: a twelfth of a step's square for
    /// numbers inside, the square of the distance for those outside.
    fn least_error(&self, low: f32, high: f32) -> (f32, f32) {
        let (first, last) = self.extremes();
        let width = f64::from(last - first) / BINS as f64;
        let error = |part: f32| {
            let (low, high) = (f64::from(low * part), f64::from(high * part));
            let inside = ((high - low) / 255.0).powi(2) / 12.0;
            let bins = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
            let each = bins.map(|(bin, &count)| {
                let x = f64::from(first) + (bin as f64 + 0.5) * width;
                let outside = if x > high { x - high } else { (low - x).max(0.0) };
                count as f64 * if outside > 0.0 { outside * outside } else { inside }
            });
            each.sum::<f64>()
        };
        let parts = (20..=100).rev().map(|part| part as f32 / 100.0);
        let best = parts.map(|part| (error(part), part)).min_by(|a, b| a.0.total_cmp(&b.0));
        let part = best.map_or(1.0, |(_, part)| part);
        (low * part, high * part)
    }
}
