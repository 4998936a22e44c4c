//! Admission, decoding and the way to the batcher.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use bytes::Bytes;
use ocelli_pipeline::Decoder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;

use crate::batcher::{self, Answer, Entry, Predict, Reply, Ticket};
use crate::config::Config;
use crate::error::ServerError;
use crate::problem::Problem;

/// Takes encoded images, gives predictions. Any number of requests at a time.
pub(crate) struct Classifier {
    decoder: Arc<Decoder>,
    /// One slot per admitted image, from before it is decoded until it is answered.
    slots: Arc<Semaphore>,
    capacity: usize,
    decoding: Arc<Semaphore>,
    batcher: Sender<Entry>,
}

impl Classifier {
    /// Starts the batcher's thread.
    pub(crate) fn new(decoder: Decoder, predict: Predict, config: &Config) -> Result<Self, ServerError> {
        Ok(Classifier {
            decoder: Arc::new(decoder),
            slots: Arc::new(Semaphore::new(config.queue)),
            capacity: config.queue,
            decoding: Arc::new(Semaphore::new(config.decode_threads)),
            batcher: batcher::spawn(predict, config.max_batch).map_err(ServerError::Thread)?,
        })
    }

    /// Images admitted and not yet answered, and how many there may be.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.capacity - self.slots.available_permits(), self.capacity)
    }

    /// Classifies all images or none, in order. `memory` is held until the last of them is decoded.
    ///
    /// Dropping the future gives up what has not been computed yet.
    pub(crate) async fn classify(
        &self,
        images: Vec<Bytes>,
        memory: OwnedSemaphorePermit,
        top_k: usize,
    ) -> Result<Vec<Answer>, Problem> {
        let count = u32::try_from(images.len()).expect("the number of images in a request is limited");
        let mut slots = self
            .slots
            .clone()
            .try_acquire_many_owned(count)
            .map_err(|_| Problem::Busy { what: "the queue is full" })?;
        let admitted = Instant::now();
        let memory = Arc::new(memory);
        let total = images.len();
        let mut waiting = Vec::with_capacity(total);
        for (index, bytes) in images.into_iter().enumerate() {
            let slot = slots.split(1).expect("one slot was taken for each image");
            let (reply, answer) = oneshot::channel();
            let image = Encoded { bytes, index, total, _memory: memory.clone() };
            let ticket = Ticket { top_k, admitted, decode: Default::default(), slot, reply };
            let (decoder, batcher) = (self.decoder.clone(), self.batcher.clone());
            self.start(move || image.decode(&decoder, ticket, &batcher)).await;
            waiting.push(answer);
        }
        let mut answers = Vec::with_capacity(total);
        for answer in waiting {
            // The sender vanishes without a word only when decoding panicked.
            answers.push(answer.await.unwrap_or_else(|_| Err(decode_panicked()))?);
        }
        Ok(answers)
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
                if let Err(refused) = batcher.send(Entry { image, ticket }) {
                    refuse(
                        refused.0.ticket.reply,
                        Problem::Internal { reason: "the classifier has stopped".into() },
                    );
                }
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

fn refuse(reply: Reply, problem: Problem) {
    // An error means that the client left: nobody is there to be told.
    let _ = reply.send(Err(problem));
}
