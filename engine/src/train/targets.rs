//! What a step is to learn, and its loss.

use std::ops::Range;

use super::config::{Loss, TrainConfig};
use crate::error::EngineError;
use crate::kernels::sigmoid_loss::{BinaryLossConfig, binary_cross_entropy};
use crate::kernels::softmax::{self, Labels, LossConfig, LossSums};

/// Two classes for each image of a batch, as mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019) make them.
#[derive(Clone, Copy, Debug)]
pub struct Mixed<'a> {
    /// A class for each image.
    pub labels: &'a [u32],
    /// Another class for each image, which may be the same one.
    pub others: &'a [u32],
    /// Share of the first class for each image, in `0..=1`.
    pub share: &'a [f32],
}

/// The targets of a batch.
#[derive(Clone, Copy)]
pub(super) enum Targets<'a> {
    /// Classes, for [`Loss::CrossEntropy`].
    Classes(Labels<'a>),
    /// A number in `0..=1` for each image and class, for [`Loss::Sigmoid`].
    Each(&'a [f32]),
}

impl<'a> From<Mixed<'a>> for Targets<'a> {
    fn from(Mixed { labels, others, share }: Mixed<'a>) -> Self {
        Targets::Classes(Labels::Two { labels, others, share })
    }
}

impl Targets<'_> {
    /// Checks them against the network and the loss; gives the number of images.
    ///
    /// # Errors
    /// [`EngineError::Config`] for targets of the other loss or numbers that are none of their range,
    /// [`EngineError::Shape`], [`EngineError::Label`].
    pub(super) fn check(&self, loss: Loss, classes: usize) -> Result<usize, EngineError> {
        let within = |values: &[f32]| values.iter().all(|value| (0.0..=1.0).contains(value));
        let known = |labels: &[u32]| match labels.iter().find(|&&label| label as usize >= classes) {
            Some(&label) => Err(EngineError::Label { label, classes }),
            None => Ok(()),
        };
        match (self, loss) {
            (Targets::Classes(Labels::One(labels)), Loss::CrossEntropy) => {
                known(labels)?;
                Ok(labels.len())
            }
            (Targets::Classes(Labels::Two { labels, others, share }), Loss::CrossEntropy) => {
                if others.len() != labels.len() || share.len() != labels.len() {
                    return Err(EngineError::Shape {
                        what: "labels",
                        expected: format!("another label and a share for each of {}", labels.len()),
                        found: format!("{} labels and {} shares", others.len(), share.len()),
                    });
                }
                if !within(share) {
                    return Err(EngineError::Config("the share of a label must be in 0..=1".to_owned()));
                }
                known(labels)?;
                known(others)?;
                Ok(labels.len())
            }
            (Targets::Each(targets), Loss::Sigmoid) => {
                if !targets.len().is_multiple_of(classes) {
                    return Err(EngineError::Shape {
                        what: "targets",
                        expected: format!("{classes} numbers for each image"),
                        found: targets.len().to_string(),
                    });
                }
                if !within(targets) {
                    return Err(EngineError::Config("targets must be in 0..=1".to_owned()));
                }
                Ok(targets.len() / classes)
            }
            (Targets::Classes(_), Loss::Sigmoid) => Err(EngineError::Config(
                "the sigmoid loss needs a target for each class, not one label".to_owned(),
            )),
            (Targets::Each(_), Loss::CrossEntropy) => Err(EngineError::Config(
                "the cross-entropy needs labels, not a target for each class".to_owned(),
            )),
        }
    }

    /// What the summed loss of the whole batch is divided by.
    pub(super) fn denominator(&self, config: &TrainConfig) -> f64 {
        match self {
            Targets::Classes(labels) => softmax::weight_sum(*labels, config.class_weights.as_deref()),
            Targets::Each(targets) => targets.len() as f64,
        }
    }

    /// Summed loss of the images `range` of the batch, and the gradient of their logits.
    pub(super) fn loss(
        &self,
        range: Range<usize>,
        (dlogits, logits): (&mut [f32], &[f32]),
        config: &TrainConfig,
        denominator: f32,
    ) -> LossSums {
        let classes = logits.len() / range.len();
        let (smoothing, class_weights) = (config.label_smoothing, config.class_weights.as_deref());
        match self {
            Targets::Classes(labels) => {
                let config = LossConfig { classes, smoothing, class_weights, denominator };
                softmax::cross_entropy(dlogits, logits, labels.slice(range), config)
            }
            Targets::Each(targets) => {
                let targets = &targets[range.start * classes..range.end * classes];
                let config = BinaryLossConfig { classes, smoothing, class_weights, denominator };
                binary_cross_entropy(dlogits, logits, targets, config)
            }
        }
    }
}
