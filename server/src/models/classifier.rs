//! Admission, and the way to the network and back.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ocelli_pipeline::{Ask, Pool, Prepared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::answer::Answer;
use crate::config::Config;
use crate::http::problem::Problem;
use crate::models::batcher::{Entry, Image};
use crate::models::decode::{Decoding, Encoded};
use crate::models::model::Model;
use crate::models::pending::{Pending, Slot};
use crate::models::serving::Serving;

/// The model and the version of it that a request is answered by.
pub(crate) struct Asked {
    pub(crate) model: Arc<Model>,
    pub(crate) serving: Arc<Serving>,
}

/// Slots for the images of a request.
pub(crate) struct Slots {
    of_service: OwnedSemaphorePermit,
    of_model: Option<OwnedSemaphorePermit>,
}

impl From<OwnedSemaphorePermit> for Slots {
    /// Slots of something else than the service: of a shadow.
    fn from(own: OwnedSemaphorePermit) -> Slots {
        Slots { of_service: own, of_model: None }
    }
}

impl Slots {
    /// The slot of the next image.
    fn next(&mut self) -> Slot {
        let split =
            |permit: &mut OwnedSemaphorePermit| permit.split(1).expect("one slot was taken for each image");
        Slot { _of_service: split(&mut self.of_service), _of_model: self.of_model.as_mut().map(split) }
    }
}

/// Takes encoded images, gives predictions. Any number of requests at a time, whichever version they ask.
pub(crate) struct Classifier {
    /// One slot per admitted image, from before it is decoded until it is answered.
    slots: Arc<Semaphore>,
    capacity: usize,
    decoding: Decoding,
}

impl Classifier {
    pub(crate) fn new(config: &Config, pool: Pool) -> Self {
        Classifier {
            slots: Arc::new(Semaphore::new(config.queue)),
            capacity: config.queue,
            decoding: Decoding::new(config.decode_threads, pool),
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
        asked: &Asked,
        images: Vec<Bytes>,
        memory: OwnedSemaphorePermit,
        ask: Ask,
    ) -> Result<Vec<Answer>, Problem> {
        let slots = self.admit(asked, images.len())?;
        classify_in(slots, &self.decoding, &asked.serving, (images, memory, ask)).await
    }

    /// As [`Classifier::classify`] with the shadow of a model, which takes nobody's place: none where it is busy.
    pub(crate) async fn classify_aside(
        &self,
        slots: Slots,
        shadow: &Serving,
        (images, memory): (Vec<Bytes>, OwnedSemaphorePermit),
    ) -> Result<Vec<Answer>, Problem> {
        classify_in(slots, &self.decoding, shadow, (images, memory, Ask { top_k: 1, features: false })).await
    }

    /// As [`Classifier::classify`], for pixels that need no decoding.
    pub(crate) async fn classify_prepared(
        &self,
        asked: &Asked,
        images: Vec<Prepared>,
        ask: Ask,
    ) -> Result<Vec<Answer>, Problem> {
        let mut slots = self.admit(asked, images.len())?;
        let admitted = Instant::now();
        let (mut waiting, mut entries) = (Vec::with_capacity(images.len()), Vec::with_capacity(images.len()));
        for image in images {
            let slot = slots.next();
            let (reply, answer) = oneshot::channel();
            let pending = Pending { ask, admitted, decode: Default::default(), slot, reply };
            entries.push((image, pending).into());
            waiting.push(answer);
        }
        asked.serving.queue.run(entries).await;
        collect(&asked.serving, admitted, waiting).await
    }

    /// Takes a slot for every image of a request, or none.
    fn admit(&self, asked: &Asked, images: usize) -> Result<Slots, Problem> {
        let count = u32::try_from(images).expect("the number of images in a request is limited");
        if images > asked.model.config().queue {
            return Err(Problem::TooManyImages { limit: asked.model.config().queue });
        }
        let of_service = self.slots.clone().try_acquire_many_owned(count);
        let of_service = of_service.map_err(|_| Problem::busy("the queue is full"))?;
        let of_model = asked.model.slots().clone().try_acquire_many_owned(count);
        let of_model = of_model.map_err(|_| Problem::busy("the queue of this model is full"))?;
        Ok(Slots { of_service, of_model: Some(of_model) })
    }

    /// Runs work too long for a thread that serves connections where decoding is done, as bounded.
    pub(crate) async fn on_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, result) = oneshot::channel();
        // An error means that the client left while the work ran.
        self.decoding.start(move || drop(reply.send(work()))).await;
        result.await.unwrap_or_else(|_| Err(decode_panicked()))
    }

    /// As [`Classifier::on_pool`], for work that waits for a disk.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, result) = oneshot::channel();
        self.decoding.start_blocking(move || drop(reply.send(work()))).await;
        result.await.unwrap_or_else(|_| Err(decode_panicked()))
    }
}

fn decode_panicked() -> Problem {
    Problem::Internal { reason: "reading this request failed inside the service; the service goes on".into() }
}

/// Classifies all images or none.
async fn classify_in(
    mut slots: Slots,
    decoding: &Decoding,
    serving: &Serving,
    (images, memory, ask): (Vec<Bytes>, OwnedSemaphorePermit, Ask),
) -> Result<Vec<Answer>, Problem> {
    let admitted = Instant::now();
    let memory = Arc::new(memory);
    let total = images.len();
    let (mut waiting, mut small) = (Vec::with_capacity(total), Vec::with_capacity(total));
    for (index, bytes) in images.into_iter().enumerate() {
        let slot = slots.next();
        let (reply, answer) = oneshot::channel();
        let decoder = serving.decoder.clone();
        let image = Encoded { bytes, index, images: total, decoder, _memory: memory.clone() };
        let pending = Pending { ask, admitted, decode: Default::default(), slot, reply };
        if image.is_small() {
            small.push(Entry { image: Image::Encoded(image), pending });
        } else {
            let queue = serving.queue.clone();
            image.decode_on(decoding, pending, move |ready| queue.push(ready.into())).await;
        }
        waiting.push(answer);
    }
    drop(memory);
    serving.queue.run(small).await;
    collect(serving, admitted, waiting).await
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
