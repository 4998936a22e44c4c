//! Whether a new model may replace the one that serves.
//!
//! Both are asked about the same images, which the candidate was not trained on: those held out from its data set, and
//! those that the serving version was judged on, its reference set. The second keeps a new data set from moving the
//! ground: a candidate that is better on its own images and worse on the old ones stays where it is.
//!
//! What is held out is test and val together. Val chose the best epoch of the candidate, which favours it slightly, but
//! twice as many images find more of what it lost; the tests of every class and the reference set bound the favour.
//!
//! # A class must not be lost
//!
//! Accuracy says nothing about a class of 20 images among 2,000. So each class that serves is looked at alone, twice:
//!
//! * A fall of its recall that chance does not explain keeps the candidate: McNemar's exact test on the paired answers
//!   (`mcnemar.rs`), one-sided, 5 %, Holm over the classes.
//! * With few images that test cannot see a loss: five of five images lost have p = 1/32, and Holm multiplies that by the
//!   number of classes. So a class that keeps less than half of what the serving model had right, of two images or more,
//!   keeps the candidate whatever the test says. That is too strict where two images of a class are all there are; such
//!   a class has too few images to promote anything by itself anyway.
//!
//! An image of a class that a model does not know counts as one that it gets wrong, because to its users it is.

mod ask;
mod decide;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;

use ocelli_engine::model_file::ModelFile;

use crate::compute::Compute;
use crate::error::PipelineError;
pub use rules::{Candidate, ClassVerdict, Compared, Gate, GateMode, Question, QuestionSet, Rules, Verdict};

impl Gate {
    /// Compares a candidate with the serving model (its version and file) on images that the candidate was not trained
    /// on. Copies of an image count once; images that cannot be read are left out and counted.
    ///
    /// # Errors
    /// [`PipelineError::Probe`] for a model that is broken, those of compiling the networks, [`PipelineError::Stopped`].
    pub fn judge(
        &self,
        candidate: &Candidate<'_>,
        serving: Option<(&str, &ModelFile)>,
        questions: &[Question],
        rules: &Rules,
        (compute, stop): (Compute, &AtomicBool),
    ) -> Result<Verdict, PipelineError> {
        self.judge_told(candidate, serving, (questions, rules), (compute, stop), &mut |_, _| {})
    }

    /// As [`Gate::judge`]; `told` hears before each batch how many images are done, and of how many.
    ///
    /// # Errors
    /// Those of [`Gate::judge`].
    pub fn judge_told(
        &self,
        candidate: &Candidate<'_>,
        serving: Option<(&str, &ModelFile)>,
        (questions, rules): (&[Question], &Rules),
        (compute, stop): (Compute, &AtomicBool),
        told: &mut dyn FnMut(usize, usize),
    ) -> Result<Verdict, PipelineError> {
        let exec = compute.exec()?;
        let models = (candidate.file, serving.map(|(_, file)| file));
        let answers = ask::ask(models.0, models.1, questions, exec, (stop, told))?;
        Ok(decide::decide(self, candidate, serving, &answers, rules))
    }
}
