//! What the folds say, in numbers and files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::suspects::{Suspicion, suspects};
use crate::csv;
use crate::error::PipelineError;
use crate::metrics::{Evaluation, Mistake, PredictionRow, Tally};
use crate::probability::probabilities;
use crate::run_folder::write_atomic;

/// Mistakes that the report lists.
const WORST: usize = 25;

/// Mean, standard deviation and range over the folds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f32,
    /// Standard deviation, with the number of folds minus one below the sum.
    pub deviation: f32,
    /// The lowest.
    pub low: f32,
    /// The highest.
    pub high: f32,
}

impl Spread {
    fn of(values: impl Iterator<Item = f32>) -> Spread {
        let values: Vec<f64> = values.map(f64::from).collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread {
            mean: mean as f32,
            deviation: (squares / values.len().saturating_sub(1).max(1) as f64).sqrt() as f32,
            low: values.iter().copied().fold(f64::INFINITY, f64::min) as f32,
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max) as f32,
        }
    }
}

/// What one fold came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoldReport {
    /// Its number, from 1.
    pub fold: usize,
    /// Its run.
    pub run: PathBuf,
    /// Its images.
    pub images: usize,
    /// Part of them that is right.
    pub accuracy: f32,
    /// Mean F1 over its classes.
    pub macro_f1: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
}

/// An image whose label is probably wrong, by models that were not trained on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suspect {
    /// Name of the image within its data set.
    pub name: String,
    /// The label that it has.
    pub label: String,
    /// The class that it is taken for.
    pub suggested: String,
    /// Probability of its label.
    pub probability: f32,
    /// Probability of the class that it is taken for.
    pub suggested_probability: f32,
}

/// A cross-validation. `cross_validation.json` holds it without the predictions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CrossValidation {
    /// One row a fold.
    pub folds: Vec<FoldReport>,
    /// Accuracy over the folds.
    pub accuracy: Spread,
    /// Macro F1 over the folds.
    pub macro_f1: Spread,
    /// All images, each answered by the model that was not trained on it.
    pub out_of_fold: Evaluation,
    /// Probably wrong labels, the most suspicious first.
    pub suspects: Vec<Suspect>,
    /// The run of the model that was trained on all images, where one was asked for.
    pub final_run: Option<PathBuf>,
    /// The fold of each of the predictions, from 1.
    #[serde(skip)]
    fold_of: Vec<usize>,
}

/// Answers while they come.
pub(super) struct OutOfFold {
    classes: Vec<String>,
    pub(super) folds: Vec<Evaluation>,
    rows: Vec<PredictionRow>,
    fold_of: Vec<usize>,
    labels: Vec<usize>,
    /// `[images][classes]`, divided by the temperature of their model.
    logits: Vec<f32>,
}

impl OutOfFold {
    pub(super) fn new(classes: Vec<String>, images: usize) -> OutOfFold {
        OutOfFold {
            logits: Vec::with_capacity(images * classes.len()),
            classes,
            folds: Vec::new(),
            rows: Vec::with_capacity(images),
            fold_of: Vec::with_capacity(images),
            labels: Vec::with_capacity(images),
        }
    }

    /// Takes the answer for one image of a class.
    pub(super) fn add(&mut self, name: &str, fold: usize, (logits, class): (Vec<f32>, usize)) {
        self.rows.push(PredictionRow {
            name: name.to_owned(),
            label: self.classes[class].clone(),
            predicted: String::new(),
            probability: 0.0,
            loss: 0.0,
        });
        self.fold_of.push(fold + 1);
        self.labels.push(class);
        self.logits.extend(logits);
    }

    /// The numbers of all. `runs` lie in `folder`.
    pub(super) fn report(
        mut self,
        folder: &Path,
        runs: &[PathBuf],
    ) -> Result<CrossValidation, PipelineError> {
        let n = self.classes.len();
        let mut tally = Tally::new(n, 1.0)?;
        let mut all = vec![0.0; self.logits.len()];
        let answers = self.logits.chunks_exact(n).zip(all.chunks_exact_mut(n)).zip(&self.labels);
        for (row, ((logits, of_image), &class)) in self.rows.iter_mut().zip(answers) {
            probabilities(logits, 1.0, of_image);
            let answer = tally.add(logits, class);
            row.predicted.clone_from(&self.classes[answer.predicted]);
            (row.probability, row.loss) = (answer.probability, answer.loss);
        }
        let suspect = |found: Suspicion| {
            let row = &all[found.image * n..][..n];
            Suspect {
                name: self.rows[found.image].name.clone(),
                label: self.rows[found.image].label.clone(),
                suggested: self.classes[found.suggested].clone(),
                probability: row[self.labels[found.image]],
                suggested_probability: row[found.suggested],
            }
        };
        let suspects = suspects(&all, &self.labels, n).into_iter().map(suspect).collect();
        let within = |run: &PathBuf| run.strip_prefix(folder).map_or_else(|_| run.clone(), Path::to_owned);
        let folds: Vec<FoldReport> = self
            .folds
            .iter()
            .zip(runs)
            .zip(1..)
            .map(|((e, run), fold)| FoldReport {
                fold,
                run: within(run),
                images: e.images,
                accuracy: e.accuracy,
                macro_f1: e.macro_f1,
                loss: e.loss,
            })
            .collect();
        let report = tally.report("out of fold", &self.classes);
        let worst = Evaluation::worst_mistakes(&self.rows, WORST).into_iter();
        let worst = worst.map(|place| Mistake { row: self.rows[place].clone(), png: Vec::new() }).collect();
        Ok(CrossValidation {
            accuracy: Spread::of(folds.iter().map(|fold| fold.accuracy)),
            macro_f1: Spread::of(folds.iter().map(|fold| fold.macro_f1)),
            folds,
            out_of_fold: Evaluation { worst, predictions: self.rows, ..report },
            suspects,
            final_run: None,
            fold_of: self.fold_of,
        })
    }
}

impl CrossValidation {
    /// `name,label,predicted,probability,correct,loss,fold`, one line an image.
    pub fn out_of_fold_csv(&self) -> String {
        let mut text = String::new();
        let folds = std::iter::once("fold".to_owned()).chain(self.fold_of.iter().map(usize::to_string));
        for (line, fold) in self.out_of_fold.csv_rows().into_iter().zip(folds) {
            writeln!(text, "{line},{fold}").expect("writing to a string cannot fail");
        }
        text
    }

    /// `name,label,suggested,probability,suggested_probability`, one line a suspect.
    pub fn suspects_csv(&self) -> String {
        let mut text = String::from("name,label,suggested,probability,suggested_probability\n");
        for suspect in &self.suspects {
            for field in [&suspect.name, &suspect.label, &suspect.suggested] {
                csv::field(&mut text, field);
                text.push(',');
            }
            writeln!(text, "{},{}", suspect.probability, suspect.suggested_probability)
                .expect("writing to a string cannot fail");
        }
        text
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), PipelineError> {
        let json = serde_json::to_string_pretty(self).expect("plain values with text keys") + "\n";
        let files = [
            ("out_of_fold.csv", self.out_of_fold_csv()),
            ("suspects.csv", self.suspects_csv()),
            ("confusion_matrix.csv", self.out_of_fold.confusion_csv()),
            ("cross_validation.json", json),
        ];
        files.iter().try_for_each(|(file, text)| write_atomic(&folder.join(file), text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_a_sample() {
        let found = Spread::of([0.8, 0.9, 1.0].into_iter());
        assert!((found.mean - 0.9).abs() < 1e-6 && (found.deviation - 0.1).abs() < 1e-6, "{found:?}");
        assert_eq!((found.low, found.high), (0.8, 1.0));
        assert_eq!(Spread::of([0.5].into_iter()).deviation, 0.0);
    }
}
