//! Admission, decoding and the way to the batcher.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use bytes::Bytes;
use ocelli_pipeline::{Decoder, Prepared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;

use crate::batcher::{Answer, Entry, Reply, Ticket};
use crate::config::Config;
use crate::problem::Problem;
use crate::serving::Serving;

/// Takes encoded images, gives predictions. Any number of requests at a time, whichever version they ask.
pub(crate) struct Classifier {
    /// One slot per admitted image, from before it is decoded until it is answered.
    slots: Arc<Semaphore>,
    capacity: usize,
    decoding: Arc<Semaphore>,
}

impl Classifier {
    pub(crate) fn new(config: &Config) -> Self {
        Classifier {
            slots: Arc::new(Semaphore::new(config.queue)),
            capacity: config.queue,
            decoding: Arc::new(Semaphore::new(config.decode_threads)),
        }
    }

    /// Images admitted and not yet answered, and how many there may be.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.capacity - self.slots.available_permits(), self.capacity)
    }

    /// Whether a request that comes now would be turned away.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// Classifies all images or none, in order. `memory` is held until the last of them is decoded.
    ///
    /// Dropping the future gives up what has not been computed yet.
    pub(crate) async fn classify(
        &self,
        model: &Serving,
        images: Vec<Bytes>,
        memory: OwnedSemaphorePermit,
        top_k: usize,
    ) -> Result<Vec<Answer>, Problem> {
        let mut slots = self.admit(images.len())?;
        let admitted = Instant::now();
        let memory = Arc::new(memory);
        let total = images.len();
        let mut waiting = Vec::with_capacity(total);
        for (index, bytes) in images.into_iter().enumerate() {
            let slot = slots.split(1).expect("one slot was taken for each image");
            let (reply, answer) = oneshot::channel();
            let image = Encoded { bytes, index, total, _memory: memory.clone() };
            let ticket = Ticket { top_k, admitted, decode: Default::default(), slot, reply };
            let (decoder, queue) = (model.decoder.clone(), model.queue.clone());
            self.start(move || image.decode(&decoder, ticket, &queue)).await;
            waiting.push(answer);
        }
        collect(model, admitted, waiting).await
    }

    /// As [`Classifier::classify`], for pixels that need no decoding.
    pub(crate) async fn classify_prepared(
        &self,
        model: &Serving,
        images: Vec<Prepared>,
        top_k: usize,
    ) -> Result<Vec<Answer>, Problem> {
        let mut slots = self.admit(images.len())?;
        let admitted = Instant::now();
        let mut waiting = Vec::with_capacity(images.len());
        for image in images {
            let slot = slots.split(1).expect("one slot was taken for each image");
            let (reply, answer) = oneshot::channel();
            let ticket = Ticket { top_k, admitted, decode: Default::default(), slot, reply };
            hand_over(Entry { image, ticket }, &model.queue);
            waiting.push(answer);
        }
        collect(model, admitted, waiting).await
    }

    /// Takes a slot for every image of a request, or none.
    fn admit(&self, images: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let count = u32::try_from(images).expect("the number of images in a request is limited");
        let slots = self.slots.clone().try_acquire_many_owned(count);
        slots.map_err(|_| Problem::Busy { what: "the queue is full" })
    }

    /// Runs work too long for a thread that serves connections where decoding is done, as bounded.
    pub(crate) async fn on_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, result) = oneshot::channel();
        // An error means that the client left while the work ran.
        self.start(move || drop(reply.send(work()))).await;
        result.await.unwrap_or_else(|_| Err(decode_panicked()))
    }

    /// Waits for one of the decoding permits and starts `work`; the permit lives as long as the work.
    async fn start(&self, work: impl FnOnce() + Send + 'static) {
        let permit = self.decoding.clone().acquire_owned().await.expect("this semaphore is never closed");
        spawn_blocking(move || {
            let _permit = permit;
            work();
        });
    }
}

fn decode_panicked() -> Problem {
    Problem::Internal { reason: "reading this request failed inside the service; the service goes on".into() }
}

struct Encoded {
    bytes: Bytes,
    index: usize,
    total: usize,
    _memory: Arc<OwnedSemaphorePermit>,
}

impl Encoded {
    /// Decodes and hands over to the batcher, or answers right here that it cannot be read.
    fn decode(self, decoder: &Decoder, mut ticket: Ticket, batcher: &Sender<Entry>) {
        if ticket.reply.is_closed() {
            return;
        }
        let started = Instant::now();
        match decoder.prepare(&self.bytes) {
            Ok(image) => {
                ticket.decode = started.elapsed();
                hand_over(Entry { image, ticket }, batcher);
            }
            Err(error) => {
                let Ticket { slot, reply, .. } = ticket;
                drop(slot);
                let reason = error.to_string();
                refuse(reply, Problem::Undecodable { index: self.index, images: self.total, reason });
            }
        }
    }
}

async fn collect(
    model: &Serving,
    admitted: Instant,
    waiting: Vec<oneshot::Receiver<Result<Answer, Problem>>>,
) -> Result<Vec<Answer>, Problem> {
    let mut answers = Vec::with_capacity(waiting.len());
    for answer in waiting {
        // The sender vanishes without a word only when decoding panicked.
        match answer.await.unwrap_or_else(|_| Err(decode_panicked())) {
            Ok(answer) => answers.push(answer),
            Err(problem) => {
                model.stats.failed(admitted.elapsed());
                return Err(problem);
            }
        }
    }
    model.stats.succeeded(admitted.elapsed(), &answers);
    Ok(answers)
}

fn hand_over(entry: Entry, queue: &Sender<Entry>) {
    if let Err(refused) = queue.send(entry) {
        let problem = Problem::Internal { reason: "the classifier has stopped".into() };
        refuse(refused.0.ticket.reply, problem);
    }
}

fn refuse(reply: Reply, problem: Problem) {
    // An error means that the client left: nobody is there to be told.
    let _ = reply.send(Err(problem));
}
