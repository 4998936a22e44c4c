//! Memory for models: how many bytes those that are loaded may take together, and which one goes when another one needs room.
//!
//! A version takes a [`Lease`] before any of its memory is taken, and gives it back when the last request is done with it.
//! Where there is no room, the version that was asked least recently goes first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a load waits for requests that still hold a version which has to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What holds memory for models and can let some of it go.
pub(crate) trait Unload: Send + Sync {
    /// Its name, for the log.
    fn name(&self) -> &str;

    /// The version in memory that was asked least recently and may go, and when that was.
    fn oldest(&self) -> Option<(u64, String)>;

    /// Lets a version go, which ends with its last request; whether it was there.
    fn unload(&self, version: &str) -> bool;
}

/// What is taken of the memory for models, and by whom.
pub(crate) struct Budget {
    limit: u64,
    held: Mutex<HashMap<u64, Held>>,
    /// Told when something was given back.
    freed: Condvar,
    /// All models; what they have loaded may have to go.
    models: Mutex<Vec<Weak<dyn Unload>>>,
    /// Counts uses of versions and leases: a later one has a higher number.
    clock: AtomicU64,
    evicted: AtomicU64,
}

/// What a lease holds.
#[derive(Clone, Copy)]
struct Held {
    bytes: u64,
    /// Given back as soon as the last request is done with it.
    leaving: bool,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// It is more than all models may take together.
    Never,
    /// Requests hold what would have to go.
    Now,
}

/// How much a load needs its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It serves by default: it is loaded whatever the limit is.
    Always,
    /// Others go where there is no room.
    Evicting,
    /// Only what is free.
    Free,
}

/// Bytes of the memory for models, until it is dropped.
pub(crate) struct Lease {
    budget: Arc<Budget>,
    number: u64,
}

impl Budget {
    /// Room for `limit` bytes.
    pub(crate) fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            held: Mutex::default(),
            freed: Condvar::new(),
            models: Mutex::default(),
            clock: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }

    /// What this model has loaded may go from now on.
    pub(crate) fn watch(&self, model: Weak<dyn Unload>) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.strong_count() > 0);
        models.push(model);
    }

    /// The number of what happens now.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes that are taken, and how many may be.
    pub(crate) fn load(&self) -> (u64, u64) {
        (self.held().values().map(|held| held.bytes).sum(), self.limit)
    }

    /// Versions that had to go so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Takes bytes, which may wait until requests are done with what has to go.
    ///
    /// # Errors
    /// [`NoRoom`]; never for [`Need::Always`].
    pub(crate) fn take(self: &Arc<Self>, bytes: u64, need: Need) -> Result<Lease, NoRoom> {
        if bytes > self.limit && need != Need::Always {
            return Err(NoRoom::Never);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut held = self.held();
        loop {
            let fits = |of: &dyn Fn(&&Held) -> bool| {
                let taken: u64 = held.values().filter(of).map(|held| held.bytes).sum();
                taken.saturating_add(bytes) <= self.limit
            };
            if fits(&|_| true) {
                break;
            }
            if need == Need::Free {
                return Err(NoRoom::Now);
            }
            if !fits(&|held| !held.leaving) {
                drop(held);
                let went = self.evict();
                held = self.held();
                if went {
                    continue;
                }
                if need == Need::Always {
                    break;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if need == Need::Always {
                    break;
                }
                return Err(NoRoom::Now);
            }
            held = self.freed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let number = self.tick();
        held.insert(number, Held { bytes, leaving: false });
        drop(held);
        Ok(Lease { budget: self.clone(), number })
    }

    /// Lets the version go that was asked least recently; whether there was one.
    fn evict(&self) -> bool {
        let models: Vec<Arc<dyn Unload>> = {
            let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
            models.iter().filter_map(Weak::upgrade).collect()
        };
        let oldest = models.iter().filter_map(|model| Some((model.oldest()?, model)));
        let Some(((_, version), model)) = oldest.min_by_key(|((used, _), _)| *used) else { return false };
        if model.unload(&version) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
            tracing::info!(model = model.name(), %version, "unloaded: models_memory");
        }
        // Where somebody else was first, there is something new to look at.
        true
    }

    /// The lease of this number is given back as soon as nobody needs it any more.
    pub(crate) fn is_leaving(&self, number: u64) {
        if let Some(held) = self.held().get_mut(&number) {
            held.leaving = true;
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Its number, for [`Budget::is_leaving`].
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Holds so many bytes from now on.
    pub(crate) fn resize(&self, bytes: u64) {
        if let Some(held) = self.budget.held().get_mut(&self.number) {
            held.bytes = bytes;
        }
        self.budget.freed.notify_all();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held().remove(&self.number);
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let budget = Budget::new(100);
        let first = budget.take(60, Need::Evicting).unwrap();
        assert_eq!(budget.take(101, Need::Evicting).err(), Some(NoRoom::Never));
        assert_eq!(budget.take(41, Need::Free).err(), Some(NoRoom::Now));
        let second = budget.take(40, Need::Free).unwrap();
        assert_eq!(budget.load(), (100, 100));
        // What has to be there is there, whatever the limit is.
        drop(budget.take(500, Need::Always).unwrap());
        first.resize(10);
        assert_eq!(budget.load(), (50, 100));
        drop((first, second));
        assert_eq!(budget.load(), (0, 100));
    }

    #[test]
    fn a_load_waits_for_what_requests_still_hold() {
        let budget = Budget::new(100);
        let held = budget.take(80, Need::Evicting).unwrap();
        let waiting = budget.clone();
        let load = std::thread::spawn(move || waiting.take(50, Need::Evicting).is_ok());
        std::thread::sleep(Duration::from_millis(20));
        drop(held);
        assert!(load.join().unwrap());
        assert_eq!(budget.load().0, 0);
    }
}
