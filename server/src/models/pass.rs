//! One run of the network: the images that take part, and their answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_pipeline::{Answered, Ask, Prepared};

use crate::answer::Answer;
use crate::http::problem::Problem;
use crate::metrics::Metrics;
use crate::models::pending::{Pending, Ready};
use crate::models::stats::Stats;

/// What the model says of some images, in order; or why not, in our own words.
pub(crate) type Predict = Box<dyn FnMut(&[Prepared], Ask) -> Result<Vec<Answered>, String> + Send>;

/// The network of a version, and the images of its next run.
pub(crate) struct Pass {
    predict: Predict,
    images: Vec<Prepared>,
    waiting: Vec<Pending>,
    metrics: Metrics,
    stats: Arc<Stats>,
}

impl Pass {
    pub(crate) fn new(predict: Predict, metrics: Metrics, stats: Arc<Stats>) -> Pass {
        Pass { predict, images: Vec::new(), waiting: Vec::new(), metrics, stats }
    }

    /// Begins with no image, whatever came of the last run.
    pub(crate) fn begin(&mut self) {
        self.images.clear();
        self.waiting.clear();
    }

    /// Images that take part in the next run.
    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// One more of them.
    pub(crate) fn add(&mut self, (image, pending): Ready) {
        self.images.push(image);
        self.waiting.push(pending);
    }

    /// Runs the network and answers all images. Not without any.
    pub(crate) fn run(&mut self) {
        self.metrics.batch(self.images.len());
        let (images, waiting) = (&self.images, self.waiting.drain(..));
        let most = most(waiting.as_slice());
        let started = Instant::now();
        match attempt(&mut self.predict, images, most) {
            Ok(answered) => {
                let compute = started.elapsed();
                self.stats.executed(images.len(), compute);
                for (answered, pending) in answered.into_iter().zip(waiting) {
                    let outcome = Ok(answer(answered, &pending, started, compute));
                    pending.answer(outcome);
                }
            }
            Err(_) if images.len() > 1 => {
                // Only the image that is at fault may fail, not those of other clients beside it.
                for (image, pending) in images.iter().zip(waiting) {
                    let started = Instant::now();
                    let image = std::slice::from_ref(image);
                    let outcome = attempt(&mut self.predict, image, pending.ask).map(|mut one| {
                        let compute = started.elapsed();
                        self.stats.executed(1, compute);
                        answer(one.remove(0), &pending, started, compute)
                    });
                    pending.answer(outcome);
                }
            }
            Err(problem) => waiting.for_each(|pending| pending.answer(Err(problem.clone()))),
        }
        self.images.clear();
    }
}

/// One run answers all: it says as much as the one who asked for the most wants to know.
fn most(waiting: &[Pending]) -> Ask {
    Ask {
        top_k: waiting.iter().map(|pending| pending.ask.top_k).max().unwrap_or(1),
        features: waiting.iter().any(|pending| pending.ask.features),
    }
}

fn answer(answered: Answered, pending: &Pending, started: Instant, compute: Duration) -> Answer {
    let Answered { mut prediction, features } = answered;
    prediction.top.truncate(pending.ask.top_k);
    let features = features.filter(|_| pending.ask.features);
    let queue = started.saturating_duration_since(pending.admitted).saturating_sub(pending.decode);
    Answer { prediction, features, decode: pending.decode, queue, compute }
}

/// Runs the model. A panic is contained: the next run overwrites every buffer, so none of its state is looked
/// at again.
fn attempt(predict: &mut Predict, images: &[Prepared], ask: Ask) -> Result<Vec<Answered>, Problem> {
    match catch_unwind(AssertUnwindSafe(|| predict(images, ask))) {
        Ok(Ok(answered)) if answered.len() == images.len() => Ok(answered),
        Ok(Ok(_)) => Err(Problem::Internal {
            reason: "the model gave another number of predictions than images".into(),
        }),
        Ok(Err(reason)) => Err(Problem::Internal { reason }),
        Err(_) => {
            Err(Problem::Internal { reason: "the model panicked on this image; the service goes on".into() })
        }
    }
}
