//! Waiting for another thread: spin, then sleep.

use std::hint::spin_loop;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Condvar, Mutex};

/// Calls of `spin_loop` before a thread sleeps: 24 ns each on Zen 3, so 48 us, which is what waking a thread costs (its
/// core starts in 30 us at best); whoever waits then never loses more than twice the best choice. 1000 to 8000 make no
/// difference to training on a quiet machine; on a busy one the longer ones cost up to 0.1 ms a region.
pub(super) const SPINS: u32 = 2000;

/// Wakes those who wait for a change; costs one load when nobody sleeps.
pub(super) struct Bell {
    /// Threads that sleep or are about to.
    asleep: AtomicUsize,
    door: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    pub(super) fn new() -> Self {
        Bell { asleep: AtomicUsize::new(0), door: Mutex::new(()), rung: Condvar::new() }
    }

    /// Spins, then sleeps, until `ready`; see [`Bell::sleep`].
    pub(super) fn wait(&self, ready: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if ready() {
                return;
            }
            spin_loop();
        }
        self.sleep(ready);
    }

    /// Sleeps until `ready`. What makes it so is a sequentially consistent store before [`Bell::ring`], and `ready` is
    /// a load of that kind: either this thread sees the change, or the one that made it sees this one asleep.
    pub(super) fn sleep(&self, ready: impl Fn() -> bool) {
        // The mutex guards nothing, so poison says nothing.
        let mut door = self.door.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.asleep.fetch_add(1, SeqCst);
        while !ready() {
            door = self.rung.wait(door).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.asleep.fetch_sub(1, SeqCst);
    }

    /// Wakes all who sleep, after a change that they may wait for.
    pub(super) fn ring(&self) {
        if self.asleep.load(SeqCst) > 0 {
            // A thread behind the door has not looked yet, or hears the bell.
            drop(self.door.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            self.rung.notify_all();
        }
    }
}
