//! The one thread that computes heat maps, one after the other.
//!
//! A map takes some passes over the network, by occlusion some hundred. The thread of a version would keep predictions waiting
//! meanwhile, and so would the threads that help it: this one computes alone. It reads the model file again, as what
//! predicts keeps no network to differentiate, and lays the last one aside for the next image.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use ocelli_common::text::chain;
use ocelli_pipeline::explain::{ExplainOptions, Explainer, Explanation};
use ocelli_pipeline::{Compute, ModelFile, PipelineError, Prepared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::http::problem::Problem;

/// Images that are explained or wait for it; the next one is refused.
pub(crate) const PLACES: usize = 4;

/// A network that nobody asked for again is freed after this.
const KEPT: Duration = Duration::from_secs(60);

/// What is full when a request for a map is turned away.
pub(crate) const FULL: &str = "Enough images wait for their maps";

/// The way to the thread. It ends when this is dropped.
pub(crate) struct Explaining {
    places: Arc<Semaphore>,
    thread: Sender<Asked>,
}

/// One image to explain.
pub(crate) struct Question {
    /// The version of the model, and how its file is read, which takes time.
    pub(crate) version: String,
    pub(crate) file: Box<dyn FnOnce() -> Result<ModelFile, Problem> + Send>,
    pub(crate) options: ExplainOptions,
    /// Only direct convolutions.
    pub(crate) exact: bool,
    pub(crate) image: Prepared,
    /// The class that the map is about; the likeliest one for none.
    pub(crate) class: Option<usize>,
}

/// A map, and the layer that it was made from.
pub(crate) struct Explained {
    pub(crate) explanation: Explanation,
    pub(crate) layer: Option<String>,
}

/// A question with whoever waits for the answer.
struct Asked {
    question: Question,
    /// Set when nobody waits any more.
    left: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Explained, Problem>>,
    _place: OwnedSemaphorePermit,
}

/// What the last map was made by.
struct Last {
    version: String,
    options: ExplainOptions,
    explainer: Explainer,
}

impl Explaining {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Explaining> {
        let (thread, questions) = mpsc::channel();
        thread::Builder::new().name("ocelli-explainer".into()).spawn(move || serve(&questions))?;
        Ok(Explaining { places: Arc::new(Semaphore::new(PLACES)), thread })
    }

    /// Takes a place for as long as the permit is held; refused where all are taken.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.places
            .clone()
            .try_acquire_owned()
            .map_err(|_| Problem::busy("enough images wait for their maps"))
    }

    /// Explains an image. Dropping the future gives the work up.
    pub(crate) async fn explain(
        &self,
        place: OwnedSemaphorePermit,
        question: Question,
    ) -> Result<Explained, Problem> {
        let waiting = Waiting(Arc::default());
        let (reply, answer) = oneshot::channel();
        let asked = Asked { question, left: waiting.0.clone(), reply, _place: place };
        self.thread.send(asked).map_err(|_| Problem::panicked())?;
        answer.await.unwrap_or_else(|_| Err(Problem::panicked()))
    }
}

/// A request that waits for its answer.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn serve(questions: &Receiver<Asked>) {
    let mut last = None;
    loop {
        let Asked { question, left, reply, _place } = match questions.recv_timeout(KEPT) {
            Ok(asked) => asked,
            Err(RecvTimeoutError::Timeout) => {
                last = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if left.load(Ordering::Relaxed) {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(&mut last, question, &left)));
        let outcome = outcome.unwrap_or_else(|_| {
            last = None;
            Err(Problem::panicked())
        });
        // A client that has its map finds a place for the next image.
        drop(_place);
        // An error means that the client left.
        let _ = reply.send(outcome);
    }
}

fn answer(last: &mut Option<Last>, question: Question, left: &AtomicBool) -> Result<Explained, Problem> {
    let Question { version, file, options, exact, image, class } = question;
    let own = last.take().filter(|last| (&last.version, &last.options) == (&version, &options));
    let own = match own {
        Some(own) => own,
        None => {
            let file = file()?;
            // Alone: no thread of the pool helps, so that predictions have them.
            let compute = Compute { exact, ..Compute::on(1) };
            let explainer = Explainer::with_batch(&file, &options, compute, 1).map_err(problem)?;
            Last { version, options, explainer }
        }
    };
    let Last { explainer, .. } = last.insert(own);
    let mut explained = explainer.explain(&[image], &[class], left).map_err(problem)?;
    let explanation = explained.pop().expect("one image has one explanation");
    Ok(Explained { explanation, layer: explainer.layer().map(str::to_owned) })
}

/// What a map that cannot be made means to a client.
fn problem(error: PipelineError) -> Problem {
    match error {
        PipelineError::NoMap { reason } => Problem::Conflict(reason),
        error => Problem::Internal { reason: chain(&error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::{bmp, model_file};

    fn question(seed: u64, file: Box<dyn FnOnce() -> Result<ModelFile, Problem> + Send>) -> Question {
        let decoder = ocelli_pipeline::Decoder::new(&model_file().meta);
        let image = decoder.prepare(&bmp(seed)).unwrap();
        let version = "one".to_owned();
        Question { version, file, options: ExplainOptions::default(), exact: false, image, class: None }
    }

    fn on_runtime<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn a_network_is_laid_aside_for_the_next_image_and_given_up_after_a_fault() {
        let explaining = Explaining::start().unwrap();
        let explain = |question| {
            on_runtime(explaining.explain(explaining.place().unwrap(), question))
                .map(|explained| explained.layer)
        };
        let layer = explain(question(1, Box::new(|| Ok(model_file())))).unwrap();
        assert!(layer.is_some());
        // The file is not read again.
        assert_eq!(explain(question(2, Box::new(|| panic!("read again")))), Ok(layer.clone()));
        let other = |question| Question { version: "two".to_owned(), ..question };
        let fault = explain(other(question(3, Box::new(|| panic!("on purpose")))));
        assert!(matches!(fault, Err(Problem::Internal { .. })), "{fault:?}");
        let gone = explain(question(4, Box::new(|| Err(Problem::NotReady))));
        assert_eq!(gone, Err(Problem::NotReady));
        assert_eq!(explain(question(5, Box::new(|| Ok(model_file())))), Ok(layer));
        assert_eq!(explaining.places.available_permits(), PLACES);
    }

    #[test]
    fn places_are_few_and_those_of_clients_that_left_are_free_again() {
        let explaining = Explaining::start().unwrap();
        let places: Vec<_> = (0..PLACES).map(|_| explaining.place().unwrap()).collect();
        assert!(matches!(explaining.place(), Err(Problem::Busy { .. })));
        on_runtime(async {
            for place in places {
                // Sent, and dropped before there is an answer.
                let unread = Box::new(|| Err(Problem::NotReady));
                let mut explain = Box::pin(explaining.explain(place, question(1, unread)));
                let mut once = false;
                std::future::poll_fn(|context| {
                    let polled = explain.as_mut().poll(context).map(drop);
                    if std::mem::replace(&mut once, true) { polled } else { std::task::Poll::Ready(()) }
                })
                .await;
            }
        });
        let answer = loop {
            if let Ok(place) = explaining.place() {
                break on_runtime(explaining.explain(place, question(2, Box::new(|| Ok(model_file())))));
            }
            thread::yield_now();
        };
        assert!(answer.is_ok());
    }
}
