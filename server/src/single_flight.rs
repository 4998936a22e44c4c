//! The same work asked for by many at the same time is done once, and all get what came of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::problem::Problem;

/// Work under way, by what it is about.
pub(crate) struct Flights<T> {
    under_way: Mutex<HashMap<String, Outcome<T>>>,
}

/// What came of it, once that is known.
type Outcome<T> = watch::Receiver<Option<Result<T, Problem>>>;

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights { under_way: Mutex::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// What comes of the work about `key` that is under way; of `work`, on a thread that may block, where there is none.
    /// The work goes on to its end when those who asked for it have left, so that it is never begun twice.
    pub(crate) async fn run(
        self: &Arc<Self>,
        key: &str,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let mut outcome = self.outcome(key, work);
        let ended = outcome.wait_for(Option::is_some).await;
        let result = ended.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| {
            Err(Problem::Internal {
                reason: "this request failed inside the service; the service goes on".into(),
            })
        })
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
        let entry = Entry { flights: self.clone(), key: key.to_owned() };
        spawn_blocking(move || {
            let result = work();
            // First, so that whoever asks from now on gets a result of its own time.
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
    flights: Arc<Flights<T>>,
    key: String,
}

impl<T: Clone + Send + Sync + 'static> Drop for Entry<T> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
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
    fn many_askers_cause_one_piece_of_work() {
        on_runtime(async {
            let (flights, count) = (Arc::new(Flights::default()), Arc::new(AtomicUsize::new(0)));
            let (open, gate) = mpsc::channel::<()>();
            let gate = Arc::new(Mutex::new(gate));
            let ask = |key: &'static str| {
                let (flights, count, gate) = (flights.clone(), count.clone(), gate.clone());
                tokio::spawn(async move {
                    let work = move || {
                        gate.lock().unwrap().recv().unwrap();
                        Ok(count.fetch_add(1, Ordering::Relaxed))
                    };
                    flights.run(key, work).await
                })
            };
            let askers: Vec<_> = (0..100).map(|_| ask("a")).collect();
            // Those who leave end nothing for the others.
            askers.iter().take(50).for_each(|asker| asker.abort());
            let other = ask("b");
            open.send(()).unwrap();
            open.send(()).unwrap();
            let mut results = Vec::new();
            for asker in askers {
                results.extend(asker.await.ok().map(Result::unwrap));
            }
            let b = other.await.unwrap().unwrap();
            assert!(results.len() >= 50 && results.iter().all(|&a| a + b == 1), "{results:?} {b}");
            assert_eq!(count.load(Ordering::Relaxed), 2);
            // Later is another time.
            open.send(()).unwrap();
            assert_eq!(ask("a").await.unwrap(), Ok(2));
            assert!(flights.lock().is_empty());
        });
    }

    #[test]
    fn failures_are_everybodys_and_not_kept() {
        on_runtime(async {
            let flights = Arc::new(Flights::<u32>::default());
            assert_eq!(flights.run("a", || Err(Problem::NoImage)).await, Err(Problem::NoImage));
            let failed = flights.run("a", || panic!("inside")).await;
            assert!(matches!(failed, Err(Problem::Internal { .. })), "{failed:?}");
            assert_eq!(flights.run("a", || Ok(7)).await, Ok(7));
        });
    }
}
