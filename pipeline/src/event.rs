//! What a run tells its observer, one JSON object a line in `events.jsonl`.

use serde::{Deserialize, Serialize};

use crate::added::AddedClasses;
use crate::metrics::{Confusion, PredictionRow};

/// Version of the JSON form; raised when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// Who is told. Training tells from a thread of its pool.
pub type Observe<'a> = &'a mut (dyn FnMut(&Event) + Send);

/// One thing that happened. Times are seconds, accuracies and rates fractions of one, epochs and steps count from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Images are being read and decoded.
    Loading {
        /// Images done.
        done: usize,
        /// Images in all.
        total: usize,
    },
    /// The data set is in memory and split.
    Dataset {
        /// Layout that was found, e.g. `class folders`.
        kind: String,
        /// Short name.
        name: String,
        /// Class names, by index.
        classes: Vec<String>,
        /// Images to train on.
        train: usize,
        /// Images that choose the best epoch.
        val: usize,
        /// Images for the final result.
        test: usize,
        /// Unreadable images that were left out.
        skipped: usize,
        /// What the reader noticed.
        notes: Vec<String>,
        /// Width of the network's input in pixels.
        width: u32,
        /// Height of the network's input in pixels.
        height: u32,
        /// Channels of the network's input.
        channels: u8,
    },
    /// The network is built.
    Model {
        /// Its name.
        name: String,
        /// Learnable numbers.
        parameters: usize,
        /// Where the run's files are.
        run_dir: String,
    },
    /// A step of a test of learning rates was done; at most ten a second are reported.
    RangeTest {
        /// The step.
        step: usize,
        /// Steps of the test, which may end earlier.
        steps: usize,
        /// Its learning rate.
        lr: f32,
        /// Loss of its batch.
        loss: f32,
    },
    /// A step was done; at most ten a second are reported.
    Step {
        /// The epoch.
        epoch: u32,
        /// Epochs of the run.
        epochs: u32,
        /// The step within the epoch.
        step: usize,
        /// Steps of an epoch.
        steps: usize,
        /// Mean training loss of the epoch so far.
        loss: f32,
        /// Training images a second over this epoch so far.
        images_per_second: f32,
        /// Seconds until the last epoch ends: steps at the speed of this epoch, later epochs as long as past ones.
        eta_s: f32,
    },
    /// The loss of a step's batch, on all ranks; told of every step where that was asked for.
    StepLoss {
        /// The epoch.
        epoch: u32,
        /// The step within the epoch.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// What the ranks that train together said to each other in the steps of an epoch, as rank 0 saw it.
    Communication {
        /// The epoch.
        epoch: u32,
        /// How many ranks there are.
        ranks: usize,
        /// Seconds of the epoch's steps.
        steps_s: f32,
        /// Seconds in which gradients or statistics were on their way, waiting for slower ranks included.
        total_s: f32,
        /// Of these, seconds in which a step waited for them; computing hid the others.
        exposed_s: f32,
    },
    /// Scales for 8 bits are being found.
    Calibrating {
        /// Hundredths done.
        done: usize,
        /// A hundred.
        total: usize,
    },
    /// Images of a split are being run through a model; at most ten a second are reported.
    Evaluating {
        /// The split.
        split: String,
        /// Images done.
        done: usize,
        /// Images in all.
        total: usize,
    },
    /// Features of training images are being computed, for the last layer; at most ten a second are reported.
    Features {
        /// Images done.
        done: usize,
        /// Images in all.
        total: usize,
    },
    /// What the network is wrong about after an epoch, on the validation images; said where it is wrong about any.
    Mistakes {
        /// The epoch.
        epoch: u32,
        /// The pairs of classes that are mixed up most often, most frequent first; at most five.
        pairs: Vec<Confusion>,
        /// The images with the highest loss, highest first; at most eight.
        images: Vec<PredictionRow>,
    },
    /// An epoch was done and its weights saved.
    Epoch {
        /// The epoch.
        epoch: u32,
        /// Epochs of the run.
        epochs: u32,
        /// Learning rate of the last step.
        lr: f32,
        /// Mean training loss, on augmented images while the weights moved.
        train_loss: f32,
        /// Training accuracy, on the same.
        train_accuracy: f32,
        /// Mean validation loss, where there are validation images.
        val_loss: Option<f32>,
        /// Validation accuracy, where there are validation images.
        val_accuracy: Option<f32>,
        /// Mean average precision on the validation images, where images have several labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        val_map: Option<f32>,
        /// Time of the epoch, validation included.
        seconds: f32,
        /// Training images a second, validation left out.
        images_per_second: f32,
        /// Part of the time of its steps in which they waited for images.
        #[serde(default)]
        waited: f32,
        /// Whether these are the best weights so far.
        best: bool,
    },
    /// Training was stopped from outside; the state after `epoch` is saved.
    Interrupted {
        /// The last finished epoch, 0 for none.
        epoch: u32,
    },
    /// A model was evaluated.
    Evaluated {
        /// `train`, `val`, `test` or `all`.
        split: String,
        /// Images evaluated.
        images: usize,
        /// Part of them whose most likely class is right; of which exactly the right labels are said, where they have several.
        accuracy: f32,
        /// Part of them whose class is among the five most likely; absent where images have several labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        top5: Option<f32>,
        /// Mean average precision, where images have several labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mean_average_precision: Option<f32>,
        /// Mean cross-entropy.
        loss: f32,
    },
    /// A run has finished and its reports are written.
    Done {
        /// Where the run's files are.
        run_dir: String,
        /// The split of `accuracy`.
        split: String,
        /// Accuracy of the best weights on that split; the part of the images of which exactly the right labels are said, where
        /// they have several.
        accuracy: f32,
        /// Mean average precision on that split, where images have several labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mean_average_precision: Option<f32>,
        /// The epoch of the best weights.
        best_epoch: u32,
        /// Epochs that were run.
        epochs: u32,
        /// Training time of the run, interruptions left out.
        seconds: f32,
        /// Part of the time of all steps behind the first epoch in which they waited for images, or of that one where there
        /// are no others; since the run was last taken up.
        #[serde(default)]
        waited: f32,
    },
    /// A model has learnt further classes.
    ClassesAdded {
        /// Which, and what became of the old ones.
        added: AddedClasses,
    },
    /// Something a person should know.
    Note {
        /// One line.
        text: String,
    },
    /// Something that may make the model or its figures worth less, and what to do about it.
    Warning {
        /// One line.
        text: String,
    },
}

impl Event {
    /// The event as one line of JSON without a line break: `{"schema":1,"type":"epoch",...}`.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            schema: u32,
            #[serde(flatten)]
            event: &'a Event,
        }
        serde_json::to_string(&Line { schema: SCHEMA, event: self }).expect("events hold plain values only")
    }

    /// A note for people.
    pub fn note(text: impl Into<String>) -> Event {
        Event::Note { text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_with_schema_and_type_and_reads_back() {
        let events = [
            Event::note("two\nlines \"quoted\""),
            Event::Warning { text: "classes are out of balance".to_owned() },
            Event::Step {
                epoch: 1,
                epochs: 4,
                step: 2,
                steps: 3,
                loss: 0.1,
                images_per_second: 5.5,
                eta_s: 0.0,
            },
            Event::Interrupted { epoch: 0 },
        ];
        for event in events {
            let line = event.to_json();
            assert!(line.starts_with("{\"schema\":1,\"type\":\"") && !line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }
}
