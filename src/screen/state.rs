//! What a training has told so far.

use ocelli_common::text::{printable, thousands};
use ocelli_pipeline::{Confusion, Event, PredictionRow};

/// One epoch: its number, losses and accuracies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Epoch {
    pub(super) epoch: u32,
    pub(super) train_loss: f32,
    pub(super) train_accuracy: f32,
    pub(super) val_loss: Option<f32>,
    pub(super) val_accuracy: Option<f32>,
    pub(super) seconds: f32,
    pub(super) best: bool,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// What is being done.
    pub(super) what: String,
    /// Part of it that is done, in 0..=1.
    pub(super) part: f64,
    pub(super) loss: Option<f32>,
    pub(super) images_per_second: Option<f32>,
    /// Seconds to the end of the run.
    pub(super) left: Option<f32>,
}

/// See the module.
#[derive(Default)]
pub(super) struct State {
    pub(super) data: String,
    pub(super) model: String,
    pub(super) run: String,
    pub(super) progress: Progress,
    pub(super) epochs: Vec<Epoch>,
    pub(super) pairs: Vec<Confusion>,
    pub(super) images: Vec<PredictionRow>,
    remarks: Vec<String>,
    /// It was asked to stop.
    pub(super) stopping: bool,
}

impl State {
    /// Warnings and notes, oldest first.
    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Loading { done, total } => self.advance("reading images", (*done, *total)),
            Event::Features { done, total } => self.advance("features", (*done, *total)),
            Event::RangeTest { step, steps, .. } => self.advance("learning rate", (*step, *steps)),
            Event::Calibrating { done, total } => self.advance("finding scales", (*done, *total)),
            Event::Evaluating { split, done, total } => {
                self.advance(&format!("evaluating {split}"), (*done, *total));
            }
            Event::Dataset {
                kind, name, classes, train, val, test, width, height, channels, notes, ..
            } => {
                let [train, val, test] = [train, val, test].map(|&n| thousands(n as u64));
                self.data = format!(
                    "{} ({kind}): {} classes, train {train}, validation {val}, test {test}, read as {width}x{height}x{channels}",
                    printable(name),
                    classes.len()
                );
                self.remarks.extend(notes.iter().map(|note| printable(note)));
            }
            Event::Model { name, parameters, run_dir } => {
                self.model = format!("{name}, {} parameters", thousands(*parameters as u64));
                self.run = printable(run_dir);
                // Another fold of a cross-validation begins anew.
                self.epochs.clear();
            }
            Event::Step { epoch, epochs, step, steps, loss, images_per_second, eta_s } => {
                let done = f64::from(epoch - 1) + *step as f64 / (*steps).max(1) as f64;
                self.progress = Progress {
                    what: format!("epoch {epoch} of {epochs}, step {step} of {steps}"),
                    part: (done / f64::from((*epochs).max(1))).clamp(0.0, 1.0),
                    loss: Some(*loss),
                    images_per_second: Some(*images_per_second),
                    left: Some(*eta_s),
                };
            }
            Event::Mistakes { pairs, images, .. } => {
                self.pairs.clone_from(pairs);
                self.images.clone_from(images);
            }
            Event::Epoch {
                epoch, train_loss, train_accuracy, val_loss, val_accuracy, seconds, best, ..
            } => self.epochs.push(Epoch {
                epoch: *epoch,
                train_loss: *train_loss,
                train_accuracy: *train_accuracy,
                val_loss: *val_loss,
                val_accuracy: *val_accuracy,
                seconds: *seconds,
                best: *best,
            }),
            Event::Note { text } | Event::Warning { text } => self.remarks.push(printable(text)),
            Event::ClassesAdded { added } => self.remarks.push(printable(&added.describe())),
            Event::Communication { .. } | Event::StepLoss { .. } => {}
            Event::Interrupted { .. } | Event::Evaluated { .. } | Event::Done { .. } => {}
        }
    }

    fn advance(&mut self, what: &str, (done, total): (usize, usize)) {
        let part = (done as f64 / total.max(1) as f64).clamp(0.0, 1.0);
        self.progress = Progress { what: format!("{what} {done} of {total}"), part, ..Progress::default() };
    }
}
