//! The same work asked for several times at once is done once, and all callers get its result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::http::problem::Problem;

/// Work under way, by what it is about.
pub(crate) struct SingleFlight<T> {
    under_way: Mutex<HashMap<String, Outcome<T>>>,
}

/// Its result, once that is known.
type Outcome<T> = watch::Receiver<Option<Result<T, Problem>>>;

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        SingleFlight { under_way: Mutex::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// The result of the work about `key` that is under way; of `work`, on a thread that may block, where there is none.
    /// The work goes on to its end when those who asked for it have left, so that it is never begun twice.
    pub(crate) async fn run(
        self: &Arc<Self>,
        key: &str,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let mut outcome = self.outcome(key, work);
        let ended = outcome.wait_for(Option::is_some).await;
        let result = ended.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| Err(Problem::panicked()))
    }

    fn outcome(
        self: &Arc<Self>,
        key: &str,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Outcome<T> {
        let mut under_way = self.lock();
        if let Some(outcome) = under_way.get(key) {
            return outcome.clone();
        }
        let (sender, outcome) = watch::channel(None);
        under_way.insert(key.to_owned(), outcome.clone());
        drop(under_way);
        let entry = Entry { flight: self.clone(), key: key.to_owned() };
        spawn_blocking(move || {
            let result = work();
            // First, so that a caller from now on starts new work and gets no older result.
            drop(entry);
            sender.send_replace(Some(result));
        });
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Outcome<T>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry that is gone when its work is, whether that came to its end or panicked.
struct Entry<T: Clone + Send + Sync + 'static> {
    flight: Arc<SingleFlight<T>>,
    key: String,
}

impl<T: Clone + Send + Sync + 'static> Drop for Entry<T> {
    fn drop(&mut self) {
        self.flight.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn on_runtime(work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        runtime.unwrap().block_on(work);
    }

    #[test]
    fn concurrent_callers_share_one_execution() {
        on_runtime(async {
            let (flight, count) = (Arc::new(SingleFlight::default()), Arc::new(AtomicUsize::new(0)));
            let (open, gate) = mpsc::channel::<()>();
            let gate = Arc::new(Mutex::new(gate));
            let waiting = Arc::new(AtomicUsize::new(0));
            let ask = |key: &'static str, stays: bool| {
                let (flight, count, gate) = (flight.clone(), count.clone(), gate.clone());
                let waiting = waiting.clone();
                tokio::spawn(async move {
                    let work = move || {
                        gate.lock().unwrap().recv().unwrap();
                        Ok(count.fetch_add(1, Ordering::Relaxed))
                    };
                    let mut run = std::pin::pin!(flight.run(key, work));
                    let mut first = stays;
                    std::future::poll_fn(|context| {
                        let polled = run.as_mut().poll(context);
                        if std::mem::take(&mut first) {
                            waiting.fetch_add(1, Ordering::SeqCst);
                        }
                        polled
                    })
                    .await
                })
            };
            let callers: Vec<_> = (0..100).map(|caller| ask("a", caller >= 50)).collect();
            // Callers who leave end nothing for the others.
            callers.iter().take(50).for_each(|caller| caller.abort());
            let other = ask("b", true);
            // A caller who came when the others had their answer would begin anew.
            while waiting.load(Ordering::SeqCst) < 51 {
                tokio::task::yield_now().await;
            }
            open.send(()).unwrap();
            open.send(()).unwrap();
            let mut results = Vec::new();
            for caller in callers {
                results.extend(caller.await.ok().map(Result::unwrap));
            }
            let b = other.await.unwrap().unwrap();
            assert!(results.len() >= 50 && results.iter().all(|&a| a + b == 1), "{results:?} {b}");
            assert_eq!(count.load(Ordering::Relaxed), 2);
            // What is asked for later is done again.
            open.send(()).unwrap();
            assert_eq!(ask("a", false).await.unwrap(), Ok(2));
            assert!(flight.lock().is_empty());
        });
    }

    #[test]
    fn a_failure_reaches_all_callers_and_is_not_kept() {
        on_runtime(async {
            let flight = Arc::new(SingleFlight::<u32>::default());
            assert_eq!(flight.run("a", || Err(Problem::NoImage)).await, Err(Problem::NoImage));
            let failed = flight.run("a", || panic!("inside")).await;
            assert!(matches!(failed, Err(Problem::Internal { .. })), "{failed:?}");
            assert_eq!(flight.run("a", || Ok(7)).await, Ok(7));
        });
    }
}
