//! Whether probabilities can be taken at their word: of the images that get 0.9, nine in ten should be right.

use serde::{Deserialize, Serialize};

/// Bins of equal width (Guo et al., 2017, section 2).
const BINS: usize = 15;

/// Fewest images that a temperature is fitted to: with fewer, chance decides it.
const LEAST_IMAGES: usize = 20;

/// Steps of [`fit_temperature`], at most: each halves the bracket or is Newton's.
const MAX_STEPS: usize = 200;

/// Images whose most likely class has a probability within one bin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Probabilities above this one; the first bin also holds 0.
    pub low: f32,
    /// Up to this one.
    pub high: f32,
    /// How many images.
    pub images: u64,
    /// Their mean probability; 0 without images.
    pub confidence: f32,
    /// Part of them that is right; 0 without images.
    pub accuracy: f32,
}

/// How far the probabilities of the most likely classes are from what they promise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What logits are divided by before they become probabilities; 1 where the model holds none.
    pub temperature: f32,
    /// Expected calibration error: the mean distance of accuracy and probability over the bins, by their images.
    pub ece: f32,
    /// What it would be without the temperature; `None` where that changes nothing, or where probabilities are means.
    pub uncalibrated: Option<Uncalibrated>,
    /// The reliability diagram, bin by bin.
    pub bins: Vec<CalibrationBin>,
}

/// The numbers of probabilities that no temperature was applied to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uncalibrated {
    /// Expected calibration error.
    pub ece: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
}

/// Counts while images go by.
#[derive(Clone, Debug, Default)]
pub(super) struct Bins {
    images: [u64; BINS],
    right: [u64; BINS],
    confidence: [f64; BINS],
}

impl Bins {
    /// Counts an image by the probability of its most likely class.
    pub(super) fn add(&mut self, probability: f32, right: bool) {
        let place = (probability * BINS as f32).ceil() as usize;
        let bin = place.clamp(1, BINS) - 1;
        self.images[bin] += 1;
        self.right[bin] += u64::from(right);
        self.confidence[bin] += f64::from(probability);
    }

    /// Expected calibration error; 0 without images.
    pub(super) fn error(&self) -> f32 {
        let all: u64 = self.images.iter().sum();
        let gaps = self.right.iter().zip(&self.confidence).map(|(&right, sum)| (right as f64 - sum).abs());
        (gaps.sum::<f64>() / all.max(1) as f64) as f32
    }

    pub(super) fn rows(&self) -> Vec<CalibrationBin> {
        let row = |bin: usize| {
            let images = self.images[bin];
            let mean = |sum: f64| (sum / images.max(1) as f64) as f32;
            CalibrationBin {
                low: bin as f32 / BINS as f32,
                high: (bin + 1) as f32 / BINS as f32,
                images,
                confidence: mean(self.confidence[bin]),
                accuracy: mean(self.right[bin] as f64),
            }
        };
        (0..BINS).map(row).collect()
    }
}

/// The temperature under which held-out images are likeliest (Guo et al., 2017, section 4.2): rows of logits, each with
/// its class. `None` for fewer than [`LEAST_IMAGES`] images.
///
/// With `b = 1 / temperature` the loss `sum of logsumexp(b z) - b z[class]` is convex in `b`. Where every image is right
/// it has no minimum (it falls for ever as `b` grows), so `b - 1 - ln b` is added: convex, 0 at `b = 1`, weighing as much
/// as one image. The sum is strictly convex and its derivative goes from minus to plus infinity; Newton's method finds
/// the zero within a bracket that is halved where a step would leave it.
pub(crate) fn fit_temperature(logits: &[f32], labels: &[usize]) -> Option<f32> {
    if labels.len() < LEAST_IMAGES {
        return None;
    }
    let classes = logits.len() / labels.len();
    let rows: Vec<(&[f32], usize)> = logits.chunks_exact(classes).zip(labels.iter().copied()).collect();
    // In the logarithm of b: scales are what matters, and steps cannot leave the positive numbers.
    let (mut low, mut high) = (1e-4f64.ln(), 1e4f64.ln());
    let mut u = 0.0f64;
    for _ in 0..MAX_STEPS {
        let b = u.exp();
        let (first, second) = derivatives(&rows, b);
        if first == 0.0 || high - low < 1e-12 {
            break;
        }
        if first > 0.0 {
            high = u
        } else {
            low = u
        }
        // d/du = b d/db; as first' by u is b * second, Newton's step for the zero of `first` is this one.
        let newton = u - first / (b * second);
        let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
        if (next - u).abs() < 1e-10 {
            u = next;
            break;
        }
        u = next;
    }
    let temperature = (-u).exp() as f32;
    (temperature.is_finite() && temperature > 0.0).then_some(temperature)
}

/// First and second derivative by `b` of the loss that [`fit_temperature`] minimises.
fn derivatives(rows: &[(&[f32], usize)], b: f64) -> (f64, f64) {
    let (mut first, mut second) = (1.0 - 1.0 / b, 1.0 / (b * b));
    for &(logits, class) in rows {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
        for &logit in logits {
            let z = f64::from(logit) - f64::from(max);
            let weight = (b * z).exp();
            sum += weight;
            mean += weight * z;
            square += weight * z * z;
        }
        let mean = mean / sum;
        first += mean - (f64::from(logits[class]) - f64::from(max));
        second += (square / sum - mean * mean).max(0.0);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_datasets::rng::Rng;

    /// The loss itself, for a search that knows no derivative.
    fn objective(logits: &[f32], labels: &[usize], b: f64) -> f64 {
        let classes = logits.len() / labels.len();
        let rows = logits.chunks_exact(classes).zip(labels);
        let loss = rows.map(|(row, &class)| {
            let sum: f64 = row.iter().map(|&z| (b * f64::from(z)).exp()).sum();
            sum.ln() - b * f64::from(row[class])
        });
        loss.sum::<f64>() + b - 1.0 - b.ln()
    }

    /// Labels that are drawn from the probabilities of `logits`; what is returned are the logits times `scale`.
    fn drawn(images: usize, classes: usize, scale: f64, seed: u64) -> (Vec<f32>, Vec<usize>) {
        let mut rng = Rng::new(seed);
        let mut uniform = || (rng.below(1 << 30) as f64 + 0.5) / f64::from(1 << 30);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..images {
            let row: Vec<f64> = (0..classes).map(|_| 6.0 * uniform() - 3.0).collect();
            let all: f64 = row.iter().map(|z| z.exp()).sum();
            let mut left = uniform() * all;
            let class = row.iter().position(|z| {
                left -= z.exp();
                left <= 0.0
            });
            labels.push(class.unwrap_or(classes - 1));
            logits.extend(row.iter().map(|z| (z * scale) as f32));
        }
        (logits, labels)
    }

    #[test]
    fn finds_the_scale_that_logits_were_multiplied_by() {
        for (scale, seed) in [(0.25, 1), (0.5, 2), (1.0, 3), (2.0, 4), (5.0, 5)] {
            let (logits, labels) = drawn(4000, 5, scale, seed);
            let found = f64::from(fit_temperature(&logits, &labels).unwrap());
            assert!((found / scale - 1.0).abs() < 0.1, "{scale}: {found}");
        }
    }

    #[test]
    fn no_other_temperature_has_a_lower_loss() {
        for (images, classes, scale) in [(20, 2, 1.0), (57, 3, 3.0), (300, 11, 0.2), (40, 2, 20.0)] {
            let (logits, labels) = drawn(images, classes, scale, images as u64);
            let temperature = f64::from(fit_temperature(&logits, &labels).unwrap());
            let least = objective(&logits, &labels, 1.0 / temperature);
            for step in -400..=400 {
                let other = (f64::from(step) / 100.0).exp() / temperature;
                let loss = objective(&logits, &labels, other);
                assert!(loss >= least - 1e-5 * least.abs(), "{images}: {temperature} {other} {loss} {least}");
            }
        }
    }

    #[test]
    fn images_that_are_all_right_or_all_wrong_give_a_finite_temperature() {
        let logits: Vec<f32> = (0..40).flat_map(|_| [6.0f32, 0.0, -2.0]).collect();
        let right = fit_temperature(&logits, &[0; 40]).unwrap();
        assert!((0.05..1.0).contains(&right), "{right}");
        let wrong = fit_temperature(&logits, &[2; 40]).unwrap();
        assert!(wrong > 5.0 && wrong.is_finite(), "{wrong}");
        // Equal logits say nothing at any temperature.
        assert_eq!(fit_temperature(&[0.5; 60], &[0; 20]), Some(1.0));
        // Huge logits overflow nothing.
        let huge: Vec<f32> = (0..30).flat_map(|_| [3e38f32, -3e38]).collect();
        assert!(fit_temperature(&huge, &[1; 30]).is_none_or(|t| t.is_finite() && t > 0.0));
    }

    #[test]
    fn too_few_images_give_no_temperature() {
        let (logits, labels) = drawn(LEAST_IMAGES, 3, 2.0, 9);
        assert!(fit_temperature(&logits, &labels).is_some());
        assert!(fit_temperature(&logits[3..], &labels[1..]).is_none());
        assert!(fit_temperature(&[], &[]).is_none());
    }

    #[test]
    fn bins_hold_their_upper_edge_and_the_error_is_as_by_hand() {
        let mut bins = Bins::default();
        // 3 images at 0.9 of which 1 is right, 1 at 0.5 that is right: (|1 - 2.7| + |1 - 0.5|) / 4.
        for right in [true, false, false] {
            bins.add(0.9, right);
        }
        bins.add(0.5, true);
        assert!((bins.error() - 0.55).abs() < 1e-6, "{}", bins.error());
        let rows = bins.rows();
        assert_eq!(rows.iter().map(|row| row.images).sum::<u64>(), 4);
        assert_eq!(rows.iter().find(|row| row.images == 3).map(|row| row.accuracy), Some(1.0 / 3.0));
        for (value, bin) in [(0.0, 0), (1e-9, 0), (0.2, 2), (0.6001, 9), (1.0, 14), (f32::NAN, 0)] {
            let mut bins = Bins::default();
            bins.add(value, true);
            assert_eq!(bins.images.iter().position(|&n| n == 1), Some(bin), "{value}");
        }
        assert_eq!(Bins::default().error(), 0.0);
    }
}
