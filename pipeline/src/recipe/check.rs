//! Ranges of settings.

use ocelli_datasets::{MAX_CHANNELS, MAX_INPUT_SIDE};
use ocelli_engine::zoo;

use super::settings::{Recipe, START_NETWORK};
use super::words::unknown;
use crate::error::PipelineError;
use crate::input;
use crate::network_file::is_network_file;

/// Longest run, in epochs: the history of every epoch stays in memory and in each checkpoint.
pub(crate) const MAX_EPOCHS: u32 = 100_000;
/// Largest batch.
const MAX_BATCH: u32 = 65_536;
/// Most passes of the last layer alone.
const MAX_HEAD_EPOCHS: u32 = 1000;
/// Most threads that can be asked for.
const MAX_THREADS: u32 = 256;
/// Fewest and most folds of a cross-validation.
pub(crate) const MIN_FOLDS: u32 = 2;
pub(crate) const MAX_FOLDS: u32 = 20;
/// Alphas of mixing: below, every share is 0 or 1, above, one half.
const MIN_ALPHA: f32 = 0.01;
const MAX_ALPHA: f32 = 100.0;
/// TOML integers are signed.
pub(super) const MAX_SEED: u64 = i64::MAX as u64;

impl Recipe {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] for the first setting outside of its range, with the range.
    pub fn validate(&self) -> Result<(), PipelineError> {
        let fail = |field, reason: String| Err(PipelineError::recipe(field, reason));
        let known = self.model == START_NETWORK || is_network_file(&self.model);
        if !known && !zoo::NAMES.contains(&self.model.as_str()) {
            return fail("model", unknown(&self.model, &zoo::NAMES));
        }
        if let Some((width, height)) = self.size {
            let allowed = 1..=MAX_INPUT_SIDE;
            if !allowed.contains(&width) || !allowed.contains(&height) {
                return fail(
                    "size",
                    format!("{width}x{height} is not in 1..={MAX_INPUT_SIDE} a side; try 64"),
                );
            }
        }
        let least = input::least(&self.model);
        let most = self.size.map_or(MAX_INPUT_SIDE, |(width, height)| width.min(height));
        if self.first_size > 0 && !(least..=most).contains(&self.first_size) {
            return fail(
                "first_size",
                format!("{} is not in {least}..={most}; leave it out for the full size", self.first_size),
            );
        }
        if let Some((width, height)) = self.size.filter(|&(width, height)| width.min(height) < least) {
            let model = &self.model;
            return fail(
                "size",
                format!(
                    "{width}x{height} is too small for {model}, which needs {least}x{least} at least; leave it out for one that suits the images"
                ),
            );
        }
        if let Some(channels) = self.channels.filter(|c| !(1..=MAX_CHANNELS).contains(c)) {
            return fail(
                "channels",
                format!(
                    "{channels} is not in 1..={MAX_CHANNELS}; 1 is gray, 3 is RGB, others are for TIFF files"
                ),
            );
        }
        let counts = [
            ("epochs", self.epochs, 1, MAX_EPOCHS),
            ("batch", self.batch, 1, MAX_BATCH),
            ("patience", self.patience, 0, MAX_EPOCHS),
            ("end_after", self.end_after, 0, MAX_EPOCHS),
            ("threads", self.threads, 0, MAX_THREADS),
            ("head_epochs", self.head_epochs, 0, MAX_HEAD_EPOCHS),
            ("chunk", self.chunk.unwrap_or(1), 1, MAX_BATCH),
        ];
        for (field, value, low, high) in counts {
            if !(low..=high).contains(&value) {
                return fail(
                    field,
                    format!("{value} is not in {low}..={high}; leave it out for the default"),
                );
            }
        }
        if let Some((fold, folds)) = self.fold.filter(|&(fold, folds)| {
            !(MIN_FOLDS..=MAX_FOLDS).contains(&folds) || !(1..=folds).contains(&fold)
        }) {
            let range = format!("folds go from {MIN_FOLDS} to {MAX_FOLDS} and are counted from 1");
            return fail("fold", format!("{fold} of {folds}: {range}"));
        }
        if self.seed > MAX_SEED {
            return fail("seed", format!("{} is above {MAX_SEED}", self.seed));
        }
        if let Some(lr) = self.lr.filter(|&lr| !(lr > 0.0 && lr <= 100.0)) {
            return fail("lr", format!("{lr} must be above 0 and at most 100, or auto; try 0.001"));
        }
        let fractions = [
            ("momentum", self.momentum, false),
            ("warmup", self.warmup, false),
            ("ema", self.ema, false),
            ("body_rate", self.body_rate, true),
            ("label_smoothing", self.label_smoothing, false),
            ("val_split", self.val_split, false),
            ("test_split", self.test_split, false),
            ("false_rejects", self.false_rejects, false),
            ("max_bad", self.max_bad, true),
        ];
        for (field, value, one) in fractions {
            if !((0.0..1.0).contains(&value) || one && value == 1.0) {
                return fail(
                    field,
                    format!("{value} must be 0 or more and {} 1", if one { "at most" } else { "below" }),
                );
            }
        }
        if self.val_split + self.test_split >= 1.0 {
            let sum = self.val_split + self.test_split;
            return fail(
                "val_split",
                format!("with test_split it takes {sum} of the images and leaves none to train on"),
            );
        }
        for (field, value) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if !(0.0..=MAX_ALPHA).contains(&value) || value > 0.0 && value < MIN_ALPHA {
                return fail(
                    field,
                    format!("{value} must be 0 for none, or in {MIN_ALPHA}..={MAX_ALPHA}; try 0.2"),
                );
            }
        }
        for (field, value) in [("weight_decay", self.weight_decay), ("clip_norm", self.clip_norm)] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(field, format!("{value} must be 0 or more"));
            }
        }
        Ok(())
    }
}
