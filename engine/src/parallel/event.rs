//! Waiting for a change that another thread makes: in a loop at first, then asleep.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;

use super::spin::{SPIN, Spin};
use super::sync::{AtomicUsize, Condvar, Mutex, fence_of_the_model};

/// Wakes those who wait for a change; costs one load when nobody sleeps.
pub(super) struct Event {
    /// Threads that sleep or are about to.
    asleep: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Event {
    pub(super) fn new() -> Self {
        Event { asleep: AtomicUsize::new(0), lock: Mutex::new(()), changed: Condvar::new() }
    }

    /// Waits until `ready`. What makes it so is a sequentially consistent store before [`Event::notify`], and `ready` is
    /// a load of that kind: either this thread sees the change, or the one that made it sees this one asleep.
    pub(super) fn wait(&self, ready: impl Fn() -> bool) {
        let mut spin = Spin::new();
        while spin.round().is_none_or(|time| time < SPIN) {
            if ready() {
                return;
            }
        }
        // The mutex guards nothing, so poison says nothing.
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, SeqCst);
        fence_of_the_model();
        while !ready() {
            lock = self.changed.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, SeqCst);
    }

    /// Wakes all who sleep, after a change that they may wait for.
    pub(super) fn notify(&self) {
        fence_of_the_model();
        if self.asleep.load(SeqCst) > 0 {
            // Whoever has the lock before this thread has not looked yet, or sleeps and is woken.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }
}
