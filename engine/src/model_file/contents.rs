//! What a model file holds.

pub use ocelli_common::preprocessing::{Fit, Preprocessing};
use serde::{Deserialize, Serialize};

use crate::params::Model;
use crate::quantization::Quantization;

/// Largest number of classes.
pub const MAX_CLASSES: usize = 1 << 16;
/// Largest length of a class name in bytes of UTF-8.
pub const MAX_CLASS_NAME_BYTES: usize = 256;
/// Most probe images of a file: enough to touch every class of a usual model, few enough to cost a load nothing.
pub const MAX_PROBES: usize = 8;

/// How well the model does on images that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Fraction of images whose best class is the right one, in `0..=1`.
    pub accuracy: f32,
    /// Fraction of images whose right class is among the best five, in `0..=1`.
    pub top5: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// The split that was measured: `val` or `test`.
    pub split: String,
    /// Number of images in it.
    pub images: u64,
}

/// Where the model comes from, so that it can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It was trained by this program.
    Trained(Trained),
    /// It was converted from a file of another program.
    Imported(Imported),
}

/// The file of another program that a model was converted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Format of the file: `onnx`, `keras` and so on.
    pub format: String,
    /// The program that wrote the file, with its version, as the file says; may be empty.
    pub producer: String,
    /// The file's name without its folder.
    pub file: String,
    /// SHA-256 of the file.
    pub file_hash: [u8; 32],
    /// Version of the program that converted it.
    pub version: String,
    /// Time of the conversion in seconds since 1970-01-01 UTC.
    pub created: u64,
}

/// The training that a model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// Version of the program that trained it.
    pub version: String,
    /// Seed of the run.
    pub seed: u64,
    /// Name of the data set.
    pub data_name: String,
    /// SHA-256 of the data set's content.
    pub data_hash: [u8; 32],
    /// The resolved recipe as TOML text.
    pub recipe: String,
    /// Time of the training in seconds since 1970-01-01 UTC.
    pub created: u64,
    /// Epochs that were run.
    pub epochs: u32,
    /// Version of the model whose weights it started from.
    pub parent: Option<String>,
}

/// Most floats of class means and whitening of a [`Rejection`] together (16 MiB).
pub const MAX_MEANS: usize = 1 << 22;

/// When an image shows none of a model's classes, and how well that was told on held-out images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// What is compared with the threshold.
    pub score: RejectionScore,
    /// Images with a larger score are unknown; finite.
    pub threshold: f32,
    /// Part of the images of known classes that was to be called unknown at most, in `0..1`.
    pub false_rejects: f32,
    /// Held-out images of known classes that the threshold was chosen by.
    pub images: u64,
    /// Probability that a strange image has a larger score than a known one, as measured, in `0..=1`.
    pub area: f32,
    /// Part of the strange images above the threshold, as measured, in `0..=1`.
    pub detected: f32,
    /// Images of no class that both were measured on; where there were none, each class in turn was taken for strange,
    /// which is easier than images that the network has never seen.
    pub strange: u64,
    /// Mean direction of the features of each class `[classes][features]` of [`RejectionScore::Distance`], finite; empty for
    /// every other score.
    pub means: Vec<f32>,
    /// The inner values of [`RejectionScore::Inner`], in their order; empty for every other score.
    pub inner: Vec<InnerValue>,
}

/// How the training images lie around their classes in an inner value of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InnerValue {
    /// One of [`Graph::inner_values`](crate::Graph::inner_values), of which the mean over its pixels is looked at.
    pub value: u32,
    /// What its distances are divided by; positive.
    pub scale: f32,
    /// Lower triangle of the matrix that gives all directions the same spread around the classes, row by row:
    /// `channels (channels + 1) / 2` floats, finite.
    pub whitening: Vec<f32>,
    /// Means of the classes behind that matrix `[classes][channels]`, finite.
    pub means: Vec<f32>,
}

/// How strange an image is: larger for stranger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectionScore {
    /// Cosine distance of its features to the nearest class mean.
    Distance,
    /// One minus the largest of its probabilities, without a temperature.
    Probability,
    /// Sum over inner values of the network of the distance to the nearest class mean, in units of the spread around the
    /// classes (Mahalanobis, 1936) and of the value's scale.
    Inner,
}

/// What a model needs that says of every class by itself whether an image has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiLabel {
    /// For each class the probability, the sigmoid of its logit, from which an image has it; in `0..=1`.
    pub thresholds: Vec<f32>,
    /// Quality on held-out images, where it was measured.
    pub quality: Option<LabelQuality>,
}

/// How well a model with several labels an image does on images that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelQuality {
    /// Mean of the average precisions of the labels that have images, in `0..=1`.
    pub mean_average_precision: f32,
    /// F1 of all labels of all images together, in `0..=1`.
    pub micro_f1: f32,
    /// Mean F1 of the labels that have images, in `0..=1`.
    pub macro_f1: f32,
    /// The split that was measured: `val` or `test`.
    pub split: String,
    /// Number of images in it.
    pub images: u64,
}

/// All of a model file that is not weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelMeta {
    /// Name for people; not a file name: it may hold any character.
    pub name: String,
    /// Class names in the order of the logits: unique, of 1 to [`MAX_CLASS_NAME_BYTES`] bytes.
    pub classes: Vec<String>,
    /// How an image becomes the input.
    pub preprocessing: Preprocessing,
    /// Quality on held-out images, where it was measured.
    pub metrics: Option<Metrics>,
    /// What logits are divided by before they become probabilities, finite and positive; `None` leaves them as they are.
    pub temperature: Option<f32>,
    /// When an image is called unknown; `None` for a model that never says so.
    pub rejection: Option<Rejection>,
    /// For a model of images with any number of labels; `None` for one of images with one class each.
    pub multi_label: Option<MultiLabel>,
    /// Where the model comes from.
    pub origin: Origin,
}

impl ModelMeta {
    /// The training that it comes from; `None` for an imported model.
    pub fn trained(&self) -> Option<&Trained> {
        match &self.origin {
            Origin::Trained(trained) => Some(trained),
            Origin::Imported(_) => None,
        }
    }

    /// As [`ModelMeta::trained`], to change.
    pub fn trained_mut(&mut self) -> Option<&mut Trained> {
        match &mut self.origin {
            Origin::Trained(trained) => Some(trained),
            Origin::Imported(_) => None,
        }
    }
}

/// What a resumed run needs besides the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// Name of the optimiser that the moments belong to.
    pub optimizer: String,
    /// Steps taken so far.
    pub step: u64,
    /// The optimiser's buffers, each [`ParamLayout::trainable`](crate::ParamLayout::trainable) floats in the
    /// layout of the parameters; floats between tensors are not stored and come back as zero.
    pub moments: Vec<Vec<f32>>,
    /// Text of the caller, returned as it was given.
    pub extra: String,
}

/// A model with everything that its file holds.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The network and its weights.
    pub model: Model,
    /// How the file stores the weights of convolutions and dense layers.
    pub weights: WeightType,
    /// All that is not weights.
    pub meta: ModelMeta,
    /// What a resumed run needs; `None` in a file that only predicts.
    pub training: Option<TrainingState>,
    /// What the model answered when the file was written; `None` where nobody asked it.
    pub probes: Option<Probes>,
    /// How it computes in 8 bits; `None` where it cannot.
    pub quantization: Option<Quantization>,
}

/// How a file stores the weights of convolutions and dense layers; all else is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WeightType {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16: half of the bytes, for weights that are such numbers (see [`ModelFile::with_f16_weights`]).
    F16,
}

/// Images that a model was asked about when its file was written, with its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Probes {
    /// [`ModelFile::answering_hash`] of the model that was asked.
    pub asked: [u8; 32],
    /// One to [`MAX_PROBES`] of them.
    pub images: Vec<Probe>,
}

/// One image with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// `height * width * channels` values: resized, not normalised yet, 255 being white.
    pub pixels: Vec<u8>,
    /// One finite number a class.
    pub logits: Vec<f32>,
}
