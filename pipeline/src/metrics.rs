//! From logits to the numbers of a report.

use ocelli_engine::model_file::Metrics;
use serde::{Deserialize, Serialize};

use crate::csv;
use crate::error::PipelineError;

/// Most classes of a run: the confusion matrix holds their square (128 MiB at the limit).
pub(crate) const MAX_CLASSES: usize = 4096;

/// How well a class is told apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// The class.
    pub name: String,
    /// Part of the images called so that are so; 0 where none is called so.
    pub precision: f32,
    /// Part of the images that are so that are called so; 0 where there are none.
    pub recall: f32,
    /// Harmonic mean of the two.
    pub f1: f32,
    /// Images of the class.
    pub support: u64,
}

/// What the model says about one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// Name of the image within its data set.
    pub name: String,
    /// Its class.
    pub label: String,
    /// The most likely class.
    pub predicted: String,
    /// Probability of the most likely class.
    pub probability: f32,
}

/// A pair of classes that is mixed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The class of the images.
    pub label: String,
    /// What they are taken for.
    pub predicted: String,
    /// How many.
    pub images: u64,
}

/// How well a model does on a set of images. `evaluation.json` holds all but the predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `train`, `val`, `test` or `all`.
    pub split: String,
    /// Images evaluated.
    pub images: usize,
    /// Part of them whose most likely class is right.
    pub accuracy: f32,
    /// 95 % confidence interval of the accuracy (Wilson, 1927).
    pub interval: (f32, f32),
    /// Part of them whose class is among the five most likely, or among all where there are fewer.
    pub top5: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// Mean F1 over the classes that have images.
    pub macro_f1: f32,
    /// One row a class, in the order of the model.
    pub per_class: Vec<ClassReport>,
    /// Images by class (row) and most likely class (column).
    pub confusion: Vec<Vec<u64>>,
    /// One row an image.
    #[serde(skip)]
    pub predictions: Vec<PredictionRow>,
    /// Unreadable images that were left out, with reasons.
    pub skipped: Vec<SkippedImage>,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
    /// Time spent in the network, loading left out.
    pub seconds: f32,
    /// Images a second in that time.
    pub images_per_second: f32,
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SkippedImage {
    /// Name of the image within its data set.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl Evaluation {
    /// The pairs that are mixed up most often, most frequent first.
    pub fn most_confused(&self, limit: usize) -> Vec<Confusion> {
        let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
        for (label, row) in self.confusion.iter().enumerate() {
            let wrong = row.iter().enumerate().filter(|&(predicted, &n)| predicted != label && n > 0);
            pairs.extend(wrong.map(|(predicted, &n)| (n, label, predicted)));
        }
        pairs.sort_by_key(|&(n, label, predicted)| (std::cmp::Reverse(n), label, predicted));
        let name = |class: usize| self.per_class[class].name.clone();
        let rows = pairs.into_iter().take(limit);
        rows.map(|(images, l, p)| Confusion { label: name(l), predicted: name(p), images }).collect()
    }

    /// `name,label,predicted,probability,correct`, one line an image.
    pub fn predictions_csv(&self) -> String {
        let mut text = String::from("name,label,predicted,probability,correct\n");
        for row in &self.predictions {
            csv::field(&mut text, &row.name);
            text.push(',');
            csv::field(&mut text, &row.label);
            text.push(',');
            csv::field(&mut text, &row.predicted);
            text.push_str(&format!(",{},{}\n", row.probability, row.label == row.predicted));
        }
        text
    }

    /// The confusion matrix: a header of predicted classes, then one line a class.
    pub fn confusion_csv(&self) -> String {
        let mut text = String::from("label\\predicted");
        for class in &self.per_class {
            text.push(',');
            csv::field(&mut text, &class.name);
        }
        text.push('\n');
        for (class, row) in self.per_class.iter().zip(&self.confusion) {
            csv::field(&mut text, &class.name);
            for count in row {
                text.push_str(&format!(",{count}"));
            }
            text.push('\n');
        }
        text
    }
}

/// The `k` classes with the largest logits, largest first; the lower index of equals. Training, evaluation and
/// prediction all rank by it.
pub(crate) fn ranking(logits: &[f32], k: usize) -> Vec<usize> {
    let order = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    let k = k.min(classes.len());
    if k < classes.len() {
        classes.select_nth_unstable_by(k, order);
        classes.truncate(k);
    }
    classes.sort_unstable_by(order);
    classes
}

/// Place of a class in the ranking, from 0.
pub(crate) fn rank_of(logits: &[f32], class: usize) -> usize {
    let ahead = |(other, logit): (usize, &f32)| {
        logit.total_cmp(&logits[class]).is_gt() || (other < class && logit.total_cmp(&logits[class]).is_eq())
    };
    logits.iter().enumerate().filter(|&x| ahead(x)).count()
}

/// Cross-entropy of one image in nats.
pub(crate) fn cross_entropy(logits: &[f32], class: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&z| f64::from(z - max).exp()).sum();
    sum.ln() - f64::from(logits[class] - max)
}

/// Counts while images go by.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    confusion: Vec<Vec<u64>>,
    images: u64,
    top5: u64,
    loss: f64,
}

impl Tally {
    /// # Errors
    /// [`PipelineError::TooManyClasses`] above [`MAX_CLASSES`].
    pub(crate) fn new(classes: usize) -> Result<Self, PipelineError> {
        check_classes(classes)?;
        Ok(Tally { confusion: vec![vec![0; classes]; classes], images: 0, top5: 0, loss: 0.0 })
    }

    /// Counts one image and returns its most likely class.
    pub(crate) fn add(&mut self, logits: &[f32], class: usize) -> usize {
        let predicted = ranking(logits, 1)[0];
        self.confusion[class][predicted] += 1;
        self.images += 1;
        self.top5 += u64::from(rank_of(logits, class) < 5);
        self.loss += cross_entropy(logits, class);
        predicted
    }

    /// The numbers that a model file holds.
    pub(crate) fn metrics(&self, split: &str) -> Metrics {
        Metrics {
            accuracy: fraction(self.correct(), self.images),
            top5: fraction(self.top5, self.images),
            loss: if self.images == 0 { 0.0 } else { (self.loss / self.images as f64) as f32 },
            split: split.to_owned(),
            images: self.images,
        }
    }

    fn correct(&self) -> u64 {
        (0..self.confusion.len()).map(|c| self.confusion[c][c]).sum()
    }

    /// The report, without predictions, skipped images, notes and times.
    pub(crate) fn report(self, split: &str, classes: &[String]) -> Evaluation {
        let per_class: Vec<ClassReport> =
            (0..classes.len()).map(|c| self.class_report(c, &classes[c])).collect();
        let with_images: Vec<f64> =
            per_class.iter().filter(|c| c.support > 0).map(|c| f64::from(c.f1)).collect();
        let macro_f1 = with_images.iter().sum::<f64>() / with_images.len().max(1) as f64;
        let Metrics { accuracy, top5, loss, split, .. } = self.metrics(split);
        Evaluation {
            split,
            images: self.images as usize,
            accuracy,
            interval: wilson(self.correct(), self.images),
            top5,
            loss,
            macro_f1: macro_f1 as f32,
            per_class,
            confusion: self.confusion,
            predictions: Vec::new(),
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
fn wilson(hits: u64, images: u64) -> (f32, f32) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits with the largest value at `class`.
    fn says(class: usize, classes: usize) -> Vec<f32> {
        (0..classes).map(|c| if c == class { 2.0 } else { -(c as f32) }).collect()
    }

    #[test]
    fn matches_values_computed_by_hand() {
        // label -> said: a: a a a b; b: b a; c: b
        let mut tally = Tally::new(3).unwrap();
        for (label, said) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 1)] {
            assert_eq!(tally.add(&says(said, 3), label), said);
        }
        let names = ["a", "b", "c"].map(str::to_owned);
        let e = tally.report("test", &names);
        let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
        assert_eq!(e.confusion, [[3, 1, 0], [1, 1, 0], [0, 1, 0]]);
        close(e.accuracy, 4.0 / 7.0);
        assert_eq!(e.top5, 1.0);
        close(e.per_class[0].precision, 3.0 / 4.0);
        close(e.per_class[0].recall, 3.0 / 4.0);
        close(e.per_class[1].precision, 1.0 / 3.0);
        close(e.per_class[1].recall, 1.0 / 2.0);
        close(e.per_class[1].f1, 0.4);
        assert_eq!((e.per_class[2].precision, e.per_class[2].recall, e.per_class[2].f1), (0.0, 0.0, 0.0));
        close(e.macro_f1, (0.75 + 0.4) / 3.0);
        assert_eq!(e.per_class.iter().map(|c| c.support).collect::<Vec<_>>(), [4, 2, 1]);
        let worst = e.most_confused(2);
        assert_eq!((worst[0].label.as_str(), worst[0].predicted.as_str(), worst[0].images), ("a", "b", 1));
        assert_eq!(e.confusion_csv(), "label\\predicted,a,b,c\na,3,1,0\nb,1,1,0\nc,0,1,0\n");
    }

    #[test]
    fn cross_entropy_of_known_logits() {
        // Softmax of ln 1, ln 2, ln 5 is 1/8, 2/8, 5/8; a shift changes nothing, even a huge one.
        for shift in [0.0, 40.0, -40.0] {
            let logits = [1f32.ln() + shift, 2f32.ln() + shift, 5f32.ln() + shift];
            assert!((cross_entropy(&logits, 1) - 4f64.ln()).abs() < 1e-5);
        }
        assert_eq!(cross_entropy(&[1000.0, 0.0], 1), 1000.0);
    }

    #[test]
    fn ranking_and_rank_agree_for_all_k_and_break_ties_by_index() {
        let logits = [0.5, 2.0, -1.0, 2.0, 0.0, 0.5, 3.0];
        let full = ranking(&logits, 99);
        assert_eq!(full, [6, 1, 3, 0, 5, 4, 2]);
        for k in 0..=logits.len() {
            assert_eq!(ranking(&logits, k), full[..k]);
        }
        for (place, &class) in full.iter().enumerate() {
            assert_eq!(rank_of(&logits, class), place);
        }
    }

    #[test]
    fn wilson_matches_published_values() {
        // 81 of 263: 0.2553 to 0.3662 (Newcombe, 1998, method 3); 0 of 20 and 20 of 20 from the closed form.
        let (low, high) = wilson(81, 263);
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        let (low, high) = wilson(0, 20);
        assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5, "{high}");
        let (low, high) = wilson(20, 20);
        assert!((low - 0.8389).abs() < 5e-5 && high == 1.0, "{low}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn no_images_give_numbers_and_too_many_classes_an_error() {
        let e = Tally::new(2).unwrap().report("val", &["a".to_owned(), "b".to_owned()]);
        assert_eq!((e.accuracy, e.loss, e.macro_f1), (0.0, 0.0, 0.0));
        assert!(Tally::new(MAX_CLASSES + 1).is_err());
    }
}
