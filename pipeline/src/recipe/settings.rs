//! The settings and their defaults.

use ocelli_datasets::{AugmentLevel, Fit, SplitFractions};
use ocelli_engine::{Exec, Precision};
use serde::{Deserialize, Serialize};

use super::rate;
use super::words::{
    Balance, Decay, Normalize, Norms, Numbers, OptimizerKind, Quality, Schedule, Start, Task,
};
use crate::compute::Compute;
use crate::error::PipelineError;

/// What a recipe calls a network that has no name: that of the model that training starts from.
pub(crate) const START_NETWORK: &str = "start";

/// Everything that decides what a training run does, apart from the data.
///
/// `size`, `channels` and `hflip` are chosen from the data where they are `None`. `batch`, `epochs` and `augment` are
/// adapted to the number of images where they hold the default and no origin says that somebody chose it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// How much time it may take for how good a model: decides what is left open.
    pub quality: Quality,
    /// The weights that training starts from, where it is not another model; chosen from the data where it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// What an image has: one class, or any number of labels; where it is `None`, one class unless a table of labels shows
    /// images with several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Name of the network: one of [`NAMES`](ocelli_engine::zoo::NAMES), or `start` for the network of the model that
    /// training starts from, where that has no name.
    pub model: String,
    /// Width and height of the network's input in pixels.
    pub size: Option<(u32, u32)>,
    /// Progressive resizing: shorter side of the training images at the begin of the run, from where they grow to `size`; 0
    /// for the full size from the begin.
    pub first_size: u32,
    /// 1 for gray, 3 for RGB, another number for TIFF files with as many samples a pixel.
    pub channels: Option<u8>,
    /// How an image of another shape is brought to the size.
    pub fit: Fit,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images in a step.
    pub batch: u32,
    /// Highest learning rate; `None`, written `auto`, for the one that a range test before training finds.
    #[serde(with = "rate")]
    pub lr: Option<f32>,
    /// Factor on the learning rate of all layers but the last, for weights that are trained already.
    pub body_rate: f32,
    /// Passes over the images in which the last layer alone is trained, on features that are computed once; 0 for none.
    pub head_epochs: u32,
    /// What batch normalisations go by.
    pub norms: Norms,
    /// The rule that turns gradients into steps.
    pub optimizer: OptimizerKind,
    /// Momentum of `sgd` and `muon`.
    pub momentum: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// What weight decay is applied to.
    pub decay: Decay,
    /// Share of the old average that the moving average of the weights keeps in a step; the average is what is validated
    /// and kept. 0 for no average.
    pub ema: f32,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// Part of the run in which the learning rate rises.
    pub warmup: f32,
    /// Part of the target that is spread over all classes.
    pub label_smoothing: f32,
    /// Longest gradient, by its Euclidean norm; 0 for no limit.
    pub clip_norm: f32,
    /// How strongly training images are varied.
    pub augment: AugmentLevel,
    /// Whether images are mirrored too; by default where they have colours, as digits and letters have none.
    pub hflip: Option<bool>,
    /// Mixup: alpha of the distribution Beta(alpha, alpha) that the shares of blended pairs are drawn from; 0 for none.
    pub mixup: f32,
    /// `CutMix`: alpha of the distribution of the areas that pairs exchange; 0 for none. With mixup, every batch takes one
    /// of the two.
    pub cutmix: f32,
    /// What is done about classes with few images.
    #[serde(alias = "class_weights")]
    pub balance: Balance,
    /// Epochs without a better validation result after which training stops; 0 for never.
    pub patience: u32,
    /// The epoch after which training ends, while the schedule is that of all `epochs`; 0 for the last one.
    pub end_after: u32,
    /// Part of the images for validation, where the data set declares none.
    pub val_split: f32,
    /// Part of the images for the test, where the data set declares none.
    pub test_split: f32,
    /// Cross-validation: which fold (from 1) of how many is the test; the others are divided by `val_split`, and images that
    /// the data set declares for the test are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<(u32, u32)>,
    /// SHA-256 of the model that learns further classes, in hexadecimal; the other settings are those that it was trained
    /// with, but for those that decide the new images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_classes: Option<String>,
    /// Seconds that the run may take, with loading and evaluation; 0 for no limit. The learning rate follows the clock then.
    pub time_budget: u32,
    /// Seed of initial weights, order, augmentation, dropout and split.
    pub seed: u64,
    /// Threads; 0 for all cores. Changes the time, not the result.
    pub threads: u32,
    /// Only direct convolutions, without Winograd's transforms; changes results in their last bits.
    pub exact: bool,
    /// The numbers between layers.
    #[serde(skip_serializing_if = "is_f32")]
    pub precision: Numbers,
    /// Most images of a pass over the network, which computes a batch in parts where no layer joins its images; as many
    /// as suit the caches where it is left out. Fewer take less memory. Changes results in their last bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u32>,
    /// Part of the images of known classes that may be called unknown; 0 for a model that calls none so.
    pub false_rejects: f32,
    /// Part of the images that may be unreadable.
    pub max_bad: f32,
    /// What is done to the pixel values.
    pub normalize: Normalize,
}

/// What recipes do not say, as those of older versions do not.
fn is_f32(precision: &Numbers) -> bool {
    *precision == Numbers::F32
}

impl Default for Recipe {
    fn default() -> Self {
        let SplitFractions { val, test } = SplitFractions::default();
        Recipe {
            quality: Quality::Standard,
            start: None,
            task: None,
            model: "keras-cnn".to_owned(),
            size: None,
            first_size: 0,
            channels: None,
            fit: Fit::default(),
            epochs: 8,
            batch: 128,
            lr: Some(3e-3),
            body_rate: 1.0,
            head_epochs: 0,
            norms: Norms::Batch,
            optimizer: OptimizerKind::AdamW,
            momentum: 0.9,
            weight_decay: 0.01,
            decay: Decay::Weights,
            ema: 0.0,
            schedule: Schedule::OneCycle,
            warmup: 0.25,
            label_smoothing: 0.0,
            clip_norm: 0.0,
            augment: AugmentLevel::Light,
            hflip: None,
            mixup: 0.0,
            cutmix: 0.0,
            balance: Balance::Auto,
            patience: 0,
            end_after: 0,
            val_split: val,
            test_split: test,
            fold: None,
            add_classes: None,
            time_budget: 0,
            seed: 42,
            threads: 0,
            exact: false,
            precision: Numbers::F32,
            chunk: None,
            false_rejects: 0.05,
            max_bad: 0.05,
            normalize: Normalize::Dataset,
        }
    }
}

impl Recipe {
    /// The epoch after which training ends.
    pub(crate) fn last_epoch(&self) -> u32 {
        if self.end_after == 0 { self.epochs } else { self.end_after.min(self.epochs) }
    }

    /// How the run computes.
    pub(crate) fn compute(&self) -> Compute {
        let precision = match self.precision {
            Numbers::F32 => Precision::F32,
            Numbers::Bf16 => Precision::Bf16,
        };
        Compute { threads: self.threads as usize, exact: self.exact, precision }
    }

    /// Where the run trains.
    ///
    /// # Errors
    /// Those of [`Compute::exec`].
    pub(crate) fn exec(&self) -> Result<Exec, PipelineError> {
        Ok(self.compute().exec()?.chunk(self.chunk.unwrap_or(0) as usize))
    }

    /// Threads that decode and train.
    pub(crate) fn threads_used(&self) -> u64 {
        let all = || std::thread::available_parallelism().map_or(1, usize::from) as u64;
        if self.threads == 0 { all() } else { self.threads.into() }
    }

    /// Fractions of the split.
    pub(crate) fn fractions(&self) -> SplitFractions {
        SplitFractions { val: self.val_split, test: self.test_split }
    }
}
