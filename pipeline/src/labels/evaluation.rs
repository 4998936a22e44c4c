//! The report of an evaluation of images with any number of labels.

use serde::{Deserialize, Serialize};

use super::scores::{Counts, Scores};
use crate::csv;
use crate::metrics::SkippedImage;

/// How well a label is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelReport {
    /// The label.
    pub name: String,
    /// Sum over the falling probabilities of `(recall - recall before) * precision`, without interpolation; `None` for a label
    /// that no image has.
    pub average_precision: Option<f32>,
    /// The probability from which it is said.
    pub threshold: f32,
    /// Part of the images of which it is said that have it; 0 where it is never said.
    pub precision: f32,
    /// Part of the images that have it of which it is said; 0 where there are none.
    pub recall: f32,
    /// Harmonic mean of the two.
    pub f1: f32,
    /// Images that have it.
    pub positives: u64,
}

/// Precision, recall and F1 over several labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelMean {
    /// Part of what is said that is so.
    pub precision: f32,
    /// Part of what is so that is said.
    pub recall: f32,
    /// F1: of all labels together, or the mean of those of the labels.
    pub f1: f32,
}

/// What the model says of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelRow {
    /// Name of the image within its data set.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// The labels that are said of it.
    pub predicted: Vec<String>,
    /// Mean binary cross-entropy over all labels in nats: how surprising its labels are to the model.
    pub loss: f32,
}

/// An image of which wrong labels are said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelMistake {
    /// What the model says.
    #[serde(flatten)]
    pub row: LabelRow,
    /// The image as the network sees it, a PNG; empty in a report that was read from a file.
    #[serde(skip)]
    pub png: Vec<u8>,
}

/// How well a model does on images with any number of labels. `evaluation.json` holds all but the predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelEvaluation {
    /// `multi-label`, which tells this report from one of images with one class each.
    pub task: String,
    /// `train`, `val`, `test` or `all`.
    pub split: String,
    /// Images evaluated.
    pub images: usize,
    /// Mean of the average precisions of the labels that images have.
    pub mean_average_precision: f32,
    /// 95 % interval of it, over drawings of the images with putting back; absent where that would take long.
    pub interval: Option<(f32, f32)>,
    /// Over all labels of all images together.
    pub micro: LabelMean,
    /// Means over the labels that images have.
    pub macro_mean: LabelMean,
    /// Part of the images of which exactly the right labels are said.
    pub subset_accuracy: f32,
    /// Part of all answers, one for each image and label, that are wrong.
    pub hamming_loss: f32,
    /// Mean binary cross-entropy in nats.
    pub loss: f32,
    /// One row a label, in the order of the model.
    pub per_label: Vec<LabelReport>,
    /// The mistakes with the highest loss, highest first.
    #[serde(default)]
    pub worst: Vec<LabelMistake>,
    /// One row an image.
    #[serde(skip)]
    pub predictions: Vec<LabelRow>,
    /// Unreadable images that were left out, with reasons.
    pub skipped: Vec<SkippedImage>,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
    /// Time spent in the network, loading left out.
    pub seconds: f32,
    /// Images a second in that time.
    pub images_per_second: f32,
}

impl LabelEvaluation {
    /// The numbers, without images, notes and times; `loss` is the mean over the images.
    pub(super) fn of(
        scores: &Scores,
        (split, loss): (&str, f64),
        labels: &[String],
        thresholds: &[f32],
    ) -> LabelEvaluation {
        let precisions = scores.average_precisions();
        let counts: Vec<Counts> = thresholds
            .iter()
            .enumerate()
            .map(|(label, &threshold)| scores.counts(label, threshold))
            .collect();
        let report = |label: usize| LabelReport {
            name: labels[label].clone(),
            average_precision: precisions[label].map(|value| value as f32),
            threshold: thresholds[label],
            precision: counts[label].precision() as f32,
            recall: counts[label].recall() as f32,
            f1: counts[label].f1() as f32,
            positives: counts[label].positives(),
        };
        let mut all = Counts::default();
        counts.iter().for_each(|&counts| all.add(counts));
        let present: Vec<&Counts> = counts.iter().filter(|counts| counts.positives() > 0).collect();
        let mean = |value: fn(&Counts) -> f64| {
            let sum: f64 = present.iter().map(|counts| value(counts)).sum();
            (sum / present.len().max(1) as f64) as f32
        };
        let answers = scores.images() * labels.len();
        LabelEvaluation {
            task: "multi-label".to_owned(),
            split: split.to_owned(),
            images: scores.images(),
            mean_average_precision: scores.mean_average_precision() as f32,
            interval: scores.interval().map(|(low, high)| (low as f32, high as f32)),
            micro: LabelMean {
                precision: all.precision() as f32,
                recall: all.recall() as f32,
                f1: all.f1() as f32,
            },
            macro_mean: LabelMean {
                precision: mean(Counts::precision),
                recall: mean(Counts::recall),
                f1: mean(Counts::f1),
            },
            subset_accuracy: scores.subset_accuracy(thresholds) as f32,
            hamming_loss: ((all.false_alarms + all.misses) as f64 / answers.max(1) as f64) as f32,
            loss: loss as f32,
            per_label: (0..labels.len()).map(report).collect(),
            worst: Vec::new(),
            predictions: Vec::new(),
            skipped: Vec::new(),
            notes: Vec::new(),
            seconds: 0.0,
            images_per_second: 0.0,
        }
    }

    /// `name,labels,predicted,correct,loss`, one line an image, labels between bars.
    pub fn predictions_csv(&self) -> String {
        let mut text = String::from("name,labels,predicted,correct,loss\n");
        for row in &self.predictions {
            for field in [&row.name, &row.labels.join("|"), &row.predicted.join("|")] {
                csv::field(&mut text, field);
                text.push(',');
            }
            text.push_str(&format!("{},{}\n", row.labels == row.predicted, row.loss));
        }
        text
    }

    /// `label,average_precision,threshold,precision,recall,f1,positives`, one line a label.
    pub fn per_label_csv(&self) -> String {
        let mut text = String::from("label,average_precision,threshold,precision,recall,f1,positives\n");
        for label in &self.per_label {
            csv::field(&mut text, &label.name);
            let precision = label.average_precision.map_or_else(String::new, |value| value.to_string());
            let LabelReport { threshold, precision: p, recall, f1, positives, .. } = label;
            text.push_str(&format!(",{precision},{threshold},{p},{recall},{f1},{positives}\n"));
        }
        text
    }

    /// Places in [`LabelEvaluation::predictions`] of the mistakes with the highest loss, highest first.
    pub(super) fn worst_mistakes(&self, limit: usize) -> Vec<usize> {
        let rows = &self.predictions;
        let mut places: Vec<usize> =
            (0..rows.len()).filter(|&i| rows[i].labels != rows[i].predicted).collect();
        places.sort_by(|&a, &b| rows[b].loss.total_cmp(&rows[a].loss).then(a.cmp(&b)));
        places.truncate(limit);
        places
    }
}
