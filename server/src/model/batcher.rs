//! The thread that owns the model.
//!
//! It is work-conserving: a batch is whatever has queued up while the previous one was computed, so an idle
//! service answers a single image at once and a busy one fills its batches. There is no timer to tune.
//! Entries whose client has gone are dropped before they cost anything.
//!
//! The queue itself is unbounded; it stays short since every entry carries one of a fixed number of slots.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_pipeline::{Answered, Ask, Prepared};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::answer::Answer;
use crate::http::problem::Problem;
use crate::metrics::Metrics;
use crate::model::stats::Stats;

/// What the model says of some images, in order; or why not, in our own words.
pub(crate) type Predict = Box<dyn FnMut(&[Prepared], Ask) -> Result<Vec<Answered>, String> + Send>;

/// Sends the outcome for one image to the request that waits for it.
pub(crate) type Reply = oneshot::Sender<Result<Answer, Problem>>;

/// An image in the queue.
pub(crate) struct Entry {
    pub(crate) image: Image,
    pub(crate) pending: Pending,
}

/// How far it is.
pub(crate) enum Image {
    Prepared(Prepared),
    /// A small one, decoded when its turn comes.
    Encoded(Decode),
}

/// Gives the pixels of an image; none where that has answered it, or has handed it to another thread.
pub(crate) type Decode = Box<dyn FnOnce(Pending) -> Option<(Prepared, Pending)> + Send>;

/// The way to the thread. It ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Queue(Sender<Entry>);

impl Queue {
    /// Queues an image; answers it here in the case that the thread is gone.
    pub(crate) fn push(&self, entry: Entry) {
        if let Err(refused) = self.0.send(entry) {
            let reason = "the classifier has stopped".into();
            refused.0.pending.answer(Err(Problem::Internal { reason }));
        }
    }
}

/// An image's place in its request: who waits for it, since when, and the slot that it takes.
pub(crate) struct Pending {
    pub(crate) ask: Ask,
    pub(crate) admitted: Instant,
    pub(crate) decode: Duration,
    pub(crate) slot: OwnedSemaphorePermit,
    pub(crate) reply: Reply,
}

impl Pending {
    /// The slot is given back first: a client that has its answer finds room for its next image.
    pub(crate) fn answer(self, outcome: Result<Answer, Problem>) {
        drop(self.slot);
        // An error means that the client left: nobody is there to be told.
        let _ = self.reply.send(outcome);
    }
}

/// Starts the thread.
pub(crate) fn spawn(
    predict: Predict,
    max_batch: usize,
    metrics: Metrics,
    stats: Arc<Stats>,
) -> io::Result<Queue> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("ocelli-batcher".into())
        .spawn(move || serve(&receiver, predict, max_batch, &metrics, &stats))?;
    Ok(Queue(sender))
}

fn serve(queue: &Receiver<Entry>, mut predict: Predict, max_batch: usize, metrics: &Metrics, stats: &Stats) {
    while let Ok(first) = queue.recv() {
        let mut batch = Vec::new();
        batch.extend(prepare(first));
        while batch.len() < max_batch
            && let Ok(next) = queue.try_recv()
        {
            batch.extend(prepare(next));
        }
        if !batch.is_empty() {
            metrics.batch(batch.len());
            answer_batch(&mut predict, batch, stats);
        }
    }
}

/// The pixels of an entry whose client still waits.
fn prepare(entry: Entry) -> Option<(Prepared, Pending)> {
    let Entry { image, pending } = entry;
    if pending.reply.is_closed() {
        return None;
    }
    match image {
        Image::Prepared(image) => Some((image, pending)),
        Image::Encoded(decode) => decode(pending),
    }
}

fn answer_batch(predict: &mut Predict, batch: Vec<(Prepared, Pending)>, stats: &Stats) {
    let (images, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    // One pass answers all: it says as much as the one who asked for the most wants to know.
    let most = Ask {
        top_k: waiting.iter().map(|pending| pending.ask.top_k).max().unwrap_or(1),
        features: waiting.iter().any(|pending| pending.ask.features),
    };
    let started = Instant::now();
    match attempt(predict, &images, most) {
        Ok(answered) => {
            let compute = started.elapsed();
            stats.executed(images.len(), compute);
            for (answered, pending) in answered.into_iter().zip(waiting) {
                let outcome = Ok(answer(answered, &pending, started, compute));
                pending.answer(outcome);
            }
        }
        Err(_) if images.len() > 1 => {
            // Only the image that is at fault may fail, not those of other clients beside it.
            for (image, pending) in images.iter().zip(waiting) {
                let started = Instant::now();
                let outcome = attempt(predict, std::slice::from_ref(image), pending.ask).map(|mut one| {
                    let compute = started.elapsed();
                    stats.executed(1, compute);
                    answer(one.remove(0), &pending, started, compute)
                });
                pending.answer(outcome);
            }
        }
        Err(problem) => waiting.into_iter().for_each(|pending| pending.answer(Err(problem.clone()))),
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
