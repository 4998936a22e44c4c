//! The report of an evaluation.

use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use crate::csv;

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
    /// Cross-entropy in nats: how surprising its class is to the model.
    pub loss: f32,
}

/// An image that the model is wrong about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// What the model says.
    #[serde(flatten)]
    pub row: PredictionRow,
    /// The image as the network sees it, a PNG; empty in a report that was read from a file.
    #[serde(skip)]
    pub png: Vec<u8>,
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
    /// Mean recall over the classes that have images: what the accuracy would be if all classes had as many.
    #[serde(default)]
    pub balanced_accuracy: f32,
    /// Part of them whose class is among the five most likely, or among all where there are fewer.
    pub top5: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// Mean F1 over the classes that have images.
    pub macro_f1: f32,
    /// Whether probabilities can be taken at their word.
    #[serde(default)]
    pub calibration: Calibration,
    /// One row a class, in the order of the model.
    pub per_class: Vec<ClassReport>,
    /// Images by class (row) and most likely class (column).
    pub confusion: Vec<Vec<u64>>,
    /// The mistakes with the highest loss, highest first.
    #[serde(default)]
    pub worst: Vec<Mistake>,
    /// One row an image.
    #[serde(skip)]
    pub predictions: Vec<PredictionRow>,
    /// How many images are called unknown, where the data has images of other classes and the model calls any so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Rejections>,
    /// Unreadable images that were left out, with reasons.
    pub skipped: Vec<SkippedImage>,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
    /// Time spent in the network, loading left out.
    pub seconds: f32,
    /// Images a second in that time.
    pub images_per_second: f32,
}

/// How many images a model calls unknown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rejections {
    /// Images of the model's classes.
    pub known_images: usize,
    /// Part of them that is called unknown, wrongly.
    pub known_rejected: f32,
    /// Images of other classes.
    pub unknown_images: usize,
    /// Part of them that is called unknown, rightly.
    pub unknown_found: f32,
}

impl std::fmt::Display for Rejections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (found, rejected) = (100.0 * self.unknown_found, 100.0 * self.known_rejected);
        write!(
            f,
            "called unknown: {found:.1} % of {} images of other classes, and {rejected:.1} % of {} images of known ones",
            self.unknown_images, self.known_images
        )
    }
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

    /// `name,label,predicted,probability,correct,loss`, one line an image.
    pub fn predictions_csv(&self) -> String {
        self.csv_rows().join("\n") + "\n"
    }

    /// The lines of [`Evaluation::predictions_csv`], the header first.
    pub(crate) fn csv_rows(&self) -> Vec<String> {
        let line = |row: &PredictionRow| {
            let mut text = String::new();
            for field in [&row.name, &row.label, &row.predicted] {
                csv::field(&mut text, field);
                text.push(',');
            }
            text + &format!("{},{},{}", row.probability, row.label == row.predicted, row.loss)
        };
        let header = "name,label,predicted,probability,correct,loss".to_owned();
        std::iter::once(header).chain(self.predictions.iter().map(line)).collect()
    }

    /// `class,precision,recall,f1,images`, one line a class.
    pub fn per_class_csv(&self) -> String {
        let mut text = String::from("class,precision,recall,f1,images\n");
        for class in &self.per_class {
            csv::field(&mut text, &class.name);
            text.push_str(&format!(",{},{},{},{}\n", class.precision, class.recall, class.f1, class.support));
        }
        text
    }

    /// Places in [`Evaluation::predictions`] of the mistakes with the highest loss, highest first.
    pub(crate) fn worst_mistakes(predictions: &[PredictionRow], limit: usize) -> Vec<usize> {
        let wrong = |&i: &usize| predictions[i].label != predictions[i].predicted;
        let mut places: Vec<usize> = (0..predictions.len()).filter(wrong).collect();
        places.sort_by(|&a, &b| predictions[b].loss.total_cmp(&predictions[a].loss).then(a.cmp(&b)));
        places.truncate(limit);
        places
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
