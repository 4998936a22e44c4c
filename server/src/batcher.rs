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

use ocelli_pipeline::{Prediction, Prepared};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::decode::Encoded;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::stats::Stats;

/// Predictions of some images with their best `top_k` classes, in order; or why not, in our own words.
pub(crate) type Predict = Box<dyn FnMut(&[Prepared], usize) -> Result<Vec<Prediction>, String> + Send>;

/// Sends the outcome for one image to the request that waits for it.
pub(crate) type Reply = oneshot::Sender<Result<Answer, Problem>>;

/// The outcome for one image, and where its time went.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) prediction: Prediction,
    pub(crate) decode: Duration,
    /// Waiting for a decoding thread and for the model.
    pub(crate) queue: Duration,
    /// The forward pass of the whole batch this image was part of.
    pub(crate) compute: Duration,
}

/// An image in the queue.
pub(crate) struct Entry {
    pub(crate) image: Image,
    pub(crate) ticket: Ticket,
}

/// How far it is.
pub(crate) enum Image {
    Prepared(Prepared),
    /// A small one, decoded when its turn comes.
    Encoded(Encoded),
}

/// The way to the thread. It ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Queue(Sender<Entry>);

impl Queue {
    /// Queues an image; answers it here in the case that the thread is gone.
    pub(crate) fn push(&self, entry: Entry) {
        if let Err(refused) = self.0.send(entry) {
            let reason = "the classifier has stopped".into();
            refused.0.ticket.answer(Err(Problem::Internal { reason }));
        }
    }
}

/// What belongs to an image besides its pixels.
pub(crate) struct Ticket {
    pub(crate) top_k: usize,
    pub(crate) admitted: Instant,
    pub(crate) decode: Duration,
    pub(crate) slot: OwnedSemaphorePermit,
    pub(crate) reply: Reply,
}

impl Ticket {
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
fn prepare(entry: Entry) -> Option<(Prepared, Ticket)> {
    let Entry { image, ticket } = entry;
    if ticket.reply.is_closed() {
        return None;
    }
    match image {
        Image::Prepared(image) => Some((image, ticket)),
        Image::Encoded(image) => image.decode_small(ticket),
    }
}

fn answer_batch(predict: &mut Predict, batch: Vec<(Prepared, Ticket)>, stats: &Stats) {
    let (images, tickets): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let most = tickets.iter().map(|ticket| ticket.top_k).max().unwrap_or(1);
    let started = Instant::now();
    match attempt(predict, &images, most) {
        Ok(predictions) => {
            let compute = started.elapsed();
            stats.executed(images.len(), compute);
            for (prediction, ticket) in predictions.into_iter().zip(tickets) {
                let outcome = Ok(answer(prediction, &ticket, started, compute));
                ticket.answer(outcome);
            }
        }
        Err(_) if images.len() > 1 => {
            // Only the image that is at fault may fail, not those of other clients beside it.
            for (image, ticket) in images.iter().zip(tickets) {
                let started = Instant::now();
                let outcome = attempt(predict, std::slice::from_ref(image), ticket.top_k).map(|mut one| {
                    let compute = started.elapsed();
                    stats.executed(1, compute);
                    answer(one.remove(0), &ticket, started, compute)
                });
                ticket.answer(outcome);
            }
        }
        Err(problem) => tickets.into_iter().for_each(|ticket| ticket.answer(Err(problem.clone()))),
    }
}

fn answer(mut prediction: Prediction, ticket: &Ticket, started: Instant, compute: Duration) -> Answer {
    prediction.top.truncate(ticket.top_k);
    let queue = started.saturating_duration_since(ticket.admitted).saturating_sub(ticket.decode);
    Answer { prediction, decode: ticket.decode, queue, compute }
}

/// Runs the model. A panic is contained: the next run overwrites every buffer, so none of its state is looked
/// at again.
fn attempt(predict: &mut Predict, images: &[Prepared], top_k: usize) -> Result<Vec<Prediction>, Problem> {
    match catch_unwind(AssertUnwindSafe(|| predict(images, top_k))) {
        Ok(Ok(predictions)) if predictions.len() == images.len() => Ok(predictions),
        Ok(Ok(_)) => {
            Err(Problem::Internal { reason: "the model answered for another number of images".into() })
        }
        Ok(Err(reason)) => Err(Problem::Internal { reason }),
        Err(_) => {
            Err(Problem::Internal { reason: "the model panicked on this image; the service goes on".into() })
        }
    }
}
