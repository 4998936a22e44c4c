//! An image's place in its request: who waits for it, since when, and the slot that it takes.

use std::time::{Duration, Instant};

use ocelli_pipeline::{Ask, Prepared};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::answer::Answer;
use crate::http::problem::Problem;

/// Sends the outcome for one image to the request that waits for it.
pub(crate) type Reply = oneshot::Sender<Result<Answer, Problem>>;

/// The place of an image among those that are admitted: by the service, and of its model.
pub(crate) struct Slot {
    pub(crate) _of_service: OwnedSemaphorePermit,
    pub(crate) _of_model: Option<OwnedSemaphorePermit>,
}

/// See the module.
pub(crate) struct Pending {
    pub(crate) ask: Ask,
    pub(crate) admitted: Instant,
    pub(crate) decode: Duration,
    pub(crate) slot: Slot,
    pub(crate) reply: Reply,
}

/// An image that the network can take, and who waits for it.
pub(crate) type Ready = (Prepared, Pending);

impl Pending {
    /// Whether the client has left: nothing more is to be done for this image.
    pub(crate) fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    /// The slot is given back first: a client that has its answer finds room for its next image.
    pub(crate) fn answer(self, outcome: Result<Answer, Problem>) {
        drop(self.slot);
        // An error means that the client left: nobody is there to be told.
        let _ = self.reply.send(outcome);
    }
}
