//! How a model is trained.

use crate::error::EngineError;
use crate::exec::Norms;
use crate::optim::{AdamConfig, Decay, Optimizer};

/// What is made small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// The cross-entropy of the softmax: an image has one class, or two of which each has a share.
    #[default]
    CrossEntropy,
    /// The binary cross-entropy of each logit's sigmoid: an image may have any number of classes.
    Sigmoid,
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Most images of a step.
    pub batch: usize,
    /// How parameters follow their gradients.
    pub optimizer: Optimizer,
    /// Largest global norm of the gradients.
    pub clip_norm: Option<f32>,
    /// Factor of the learning rate for each node of the graph; 1 for all when empty. What a node with factor 0 has learnt
    /// stays as it is, bit for bit.
    pub rates: Vec<f32>,
    /// What the optimiser's weight decay applies to.
    pub decay: Decay,
    /// Decay of a running average of all parameters, running statistics included, in `0..1`; in step `t` it is at most
    /// `(1 + t) / (10 + t)`, so that the average soon forgets where it started. No average is kept without it.
    pub ema: Option<f32>,
    /// What is made small.
    pub loss: Loss,
    /// Share of the target that is spread over all classes, in `0..1` (Szegedy et al., 2016); with [`Loss::Sigmoid`] the
    /// share of each target that is replaced by a half.
    pub label_smoothing: f32,
    /// Weight of each class in the loss.
    pub class_weights: Option<Vec<f32>>,
    /// Seed of dropout.
    pub seed: u64,
    /// The statistics of the batch normalisations that learn.
    pub norms: Norms,
    /// The first so many nodes of the graph do not learn: see [`Learning::frozen`](crate::Learning::frozen).
    pub frozen: usize,
}

impl Default for TrainConfig {
    /// Batches of up to 32 images, Adam, nothing else.
    fn default() -> Self {
        TrainConfig {
            batch: 32,
            optimizer: Optimizer::Adam(AdamConfig::default()),
            clip_norm: None,
            rates: Vec::new(),
            decay: Decay::All,
            ema: None,
            loss: Loss::CrossEntropy,
            label_smoothing: 0.0,
            class_weights: None,
            seed: 0,
            norms: Norms::Batch,
            frozen: 0,
        }
    }
}

impl TrainConfig {
    /// Refuses settings that are out of range on any network.
    ///
    /// # Errors
    /// [`EngineError::Config`] that names the setting.
    pub(super) fn validate(&self) -> Result<(), EngineError> {
        let err = |reason: &str| Err(EngineError::Config(reason.to_owned()));
        self.optimizer.validate()?;
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return err("label smoothing must be in 0..1");
        }
        if self.clip_norm.is_some_and(|norm| norm.is_nan() || norm <= 0.0) {
            return err("the clipping norm must be positive");
        }
        if self.ema.is_some_and(|decay| !(0.0..1.0).contains(&decay)) {
            return err("the decay of the average must be in 0..1");
        }
        Ok(())
    }

    /// Refuses class weights that are not one number for each of `classes` classes.
    ///
    /// # Errors
    /// [`EngineError::Config`].
    pub(super) fn check_class_weights(&self, classes: usize) -> Result<(), EngineError> {
        let sound = |weights: &Vec<f32>| {
            weights.len() == classes && weights.iter().all(|w| w.is_finite() && *w >= 0.0)
        };
        if self.class_weights.as_ref().is_some_and(|weights| !sound(weights)) {
            let reason = "class weights must be one number for each class, none negative";
            return Err(EngineError::Config(reason.to_owned()));
        }
        Ok(())
    }
}
