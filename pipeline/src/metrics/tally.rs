//! Counts while images go by.

use ocelli_engine::model_file::Metrics;

use super::calibration::{Bins, Calibration, Uncalibrated};
use super::evaluation::{ClassReport, Evaluation};
use crate::error::PipelineError;
use crate::probability::{probabilities, ranking};
/// Most classes of a run: the confusion matrix holds their square (128 MiB at the limit).
pub(crate) const MAX_CLASSES: usize = 4096;

/// Place of a class in the ranking, from 0.
pub(crate) fn rank_of(logits: &[f32], class: usize) -> usize {
    let ahead = |(other, logit): (usize, &f32)| {
        logit.total_cmp(&logits[class]).is_gt() || (other < class && logit.total_cmp(&logits[class]).is_eq())
    };
    logits.iter().enumerate().filter(|&x| ahead(x)).count()
}

/// Cross-entropy of one image in nats, with logits divided by a temperature.
pub(crate) fn cross_entropy(logits: &[f32], class: usize, temperature: f32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scaled = |z: f32| f64::from(z - max) / f64::from(temperature);
    let sum: f64 = logits.iter().map(|&z| scaled(z).exp()).sum();
    sum.ln() - scaled(logits[class])
}

/// What the model says about one image.
pub(crate) struct Answer {
    /// The most likely class.
    pub(crate) predicted: usize,
    /// Its probability.
    pub(crate) probability: f32,
    /// Cross-entropy in nats.
    pub(crate) loss: f32,
}

/// Counts while images go by.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// What logits are divided by before they become probabilities.
    temperature: f32,
    confusion: Vec<Vec<u64>>,
    images: u64,
    top5: u64,
    loss: f64,
    bins: Bins,
    /// Loss and bins at a temperature of 1.
    plain: (f64, Bins),
    /// Room for one image.
    probabilities: Vec<f32>,
}

impl Tally {
    /// # Errors
    /// [`PipelineError::TooManyClasses`] above [`MAX_CLASSES`].
    pub(crate) fn new(classes: usize, temperature: f32) -> Result<Self, PipelineError> {
        check_classes(classes)?;
        Ok(Tally {
            temperature,
            confusion: vec![vec![0; classes]; classes],
            images: 0,
            top5: 0,
            loss: 0.0,
            bins: Bins::default(),
            plain: (0.0, Bins::default()),
            probabilities: vec![0.0; classes],
        })
    }

    /// Counts one image.
    pub(crate) fn add(&mut self, logits: &[f32], class: usize) -> Answer {
        let predicted = ranking(logits, 1)[0];
        let right = predicted == class;
        self.confusion[class][predicted] += 1;
        self.images += 1;
        self.top5 += u64::from(rank_of(logits, class) < 5);
        let loss = cross_entropy(logits, class, self.temperature);
        self.loss += loss;
        probabilities(logits, self.temperature, &mut self.probabilities);
        let probability = self.probabilities[predicted];
        self.bins.add(probability, right);
        if self.temperature != 1.0 {
            self.plain.0 += cross_entropy(logits, class, 1.0);
            probabilities(logits, 1.0, &mut self.probabilities);
            self.plain.1.add(self.probabilities[predicted], right);
        }
        Answer { predicted, probability, loss: loss as f32 }
    }

    /// The numbers that a model file holds.
    pub(crate) fn metrics(&self, split: &str) -> Metrics {
        Metrics {
            accuracy: fraction(self.correct(), self.images),
            top5: fraction(self.top5, self.images),
            loss: self.mean(self.loss),
            split: split.to_owned(),
            images: self.images,
        }
    }

    fn mean(&self, sum: f64) -> f32 {
        if self.images == 0 { 0.0 } else { (sum / self.images as f64) as f32 }
    }

    fn correct(&self) -> u64 {
        (0..self.confusion.len()).map(|c| self.confusion[c][c]).sum()
    }

    /// The report, without predictions, worst mistakes, skipped images, notes and times.
    pub(crate) fn report(self, split: &str, classes: &[String]) -> Evaluation {
        let per_class: Vec<ClassReport> =
            (0..classes.len()).map(|c| self.class_report(c, &classes[c])).collect();
        let mean = |value: fn(&ClassReport) -> f32| {
            let there = || per_class.iter().filter(|class| class.support > 0);
            let sum: f64 = there().map(|class| f64::from(value(class))).sum();
            (sum / there().count().max(1) as f64) as f32
        };
        let Metrics { accuracy, top5, loss, split, .. } = self.metrics(split);
        let calibration = Calibration {
            temperature: self.temperature,
            ece: self.bins.error(),
            uncalibrated: (self.temperature != 1.0)
                .then(|| Uncalibrated { ece: self.plain.1.error(), loss: self.mean(self.plain.0) }),
            bins: self.bins.rows(),
        };
        Evaluation {
            split,
            images: self.images as usize,
            accuracy,
            interval: interval(self.correct(), self.images),
            balanced_accuracy: mean(|class| class.recall),
            top5,
            loss,
            macro_f1: mean(|class| class.f1),
            calibration,
            per_class,
            confusion: self.confusion,
            worst: Vec::new(),
            predictions: Vec::new(),
            unknown: None,
            skipped: Vec::new(),
            notes: Vec::new(),
            seconds: 0.0,
            images_per_second: 0.0,
        }
    }

    fn class_report(&self, class: usize, name: &str) -> ClassReport {
        let hits = self.confusion[class][class];
        let support: u64 = self.confusion[class].iter().sum();
        let called: u64 = self.confusion.iter().map(|row| row[class]).sum();
        ClassReport {
            name: name.to_owned(),
            precision: fraction(hits, called),
            recall: fraction(hits, support),
            f1: fraction(2 * hits, support + called),
            support,
        }
    }
}

/// # Errors
/// [`PipelineError::TooManyClasses`] above [`MAX_CLASSES`].
pub(crate) fn check_classes(found: usize) -> Result<(), PipelineError> {
    if found > MAX_CLASSES {
        return Err(PipelineError::TooManyClasses { found, limit: MAX_CLASSES });
    }
    Ok(())
}

fn fraction(part: u64, whole: u64) -> f32 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64) as f32 }
}

/// 95 % interval of a proportion (Wilson, 1927): sensible near 0 and 1 and for few images, unlike the normal one.
pub(crate) fn interval(hits: u64, images: u64) -> (f32, f32) {
    if images == 0 {
        return (0.0, 1.0);
    }
    // The 97.5 % point of the standard normal.
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (images as f64, hits as f64 / images as f64);
    let denominator = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / denominator;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / denominator;
    ((centre - half).max(0.0) as f32, (centre + half).min(1.0) as f32)
}
