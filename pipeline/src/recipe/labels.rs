//! The settings of images with any number of labels.

use super::settings::Recipe;
use super::text::{Origins, choose, is_free, is_open};
use super::words::{Balance, Task};
use crate::error::PipelineError;

impl Recipe {
    /// Takes over what suits images with any number of labels, where nobody chose a setting, and refuses what means nothing for
    /// them.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] for class balance and for folds.
    pub(crate) fn suit_labels(&mut self, origins: &mut Origins) -> Result<(), PipelineError> {
        if self.task.is_none() {
            self.task = Some(Task::MultiLabel);
            origins.insert("task".to_owned(), "images have several labels".to_owned());
        }
        let reason = "for images with several labels";
        match self.balance {
            Balance::Auto | Balance::None => {
                self.balance = Balance::None;
                origins.entry("balance".to_owned()).or_insert_with(|| reason.to_owned());
            }
            Balance::Weights | Balance::Sampling => {
                let why = "images with several labels belong to no one class: leave it out; rare labels are made up for by a \
                           threshold for each label";
                return Err(PipelineError::recipe("balance", why));
            }
        }
        if self.fold.is_some() {
            let why = "cross-validation is for images with one class each; train once, with more images in val_split and \
                       test_split";
            return Err(PipelineError::recipe("fold", why));
        }
        // What was chosen for one class: a target of which a half is spread makes rare labels likelier than they are.
        let chosen =
            origins.get("label_smoothing").is_some_and(|origin| origin == "for the imagenet weights");
        if chosen || is_open(origins, "label_smoothing") {
            self.label_smoothing = 0.0;
            origins.insert("label_smoothing".to_owned(), reason.to_owned());
        }
        if self.false_rejects != 0.0 && !is_free!(self, Recipe::default(), origins, false_rejects) {
            let why = "an image may have none of the labels, so none is unknown: leave it out";
            return Err(PipelineError::recipe("false_rejects", why));
        }
        choose!(self, origins, false_rejects = 0.0, reason);
        Ok(())
    }
}
