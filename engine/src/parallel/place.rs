//! On which processor a thread runs. Systems other than Linux do not say, and nothing is moved there.

/// The processor on which this thread is right now.
#[cfg(all(target_os = "linux", not(loom), not(miri)))]
pub(super) fn processor() -> Option<usize> {
    Some(rustix::thread::sched_getcpu())
}

/// Moves this thread to another of the processors that it may use, and says whether there is one.
///
/// The system chooses which, and may move the thread again at any time: what it may use is the same afterwards.
#[cfg(all(target_os = "linux", not(loom), not(miri)))]
pub(super) fn move_from(processor: usize) -> bool {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    // Fails where there are more processors than a set holds.
    let Ok(allowed) = sched_getaffinity(None) else { return false };
    if processor >= CpuSet::MAX_CPU {
        return false;
    }
    let mut others = allowed;
    others.unset(processor);
    let moved = others.count() > 0 && sched_setaffinity(None, &others).is_ok();
    moved && sched_setaffinity(None, &allowed).is_ok()
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
pub(super) fn processor() -> Option<usize> {
    None
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
pub(super) fn move_from(_processor: usize) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::thread::available_parallelism;

    use super::*;

    #[test]
    fn a_thread_moves_and_may_use_the_same_processors_afterwards() {
        let count = || available_parallelism().unwrap().get();
        let allowed = count();
        // The system may move the thread back before it looks, so one of these may seem to stay where it was.
        let moves = (0..100).filter(|_| {
            let before = processor();
            before.is_some_and(move_from) && processor() != before
        });
        assert_eq!(moves.count() > 0, processor().is_some() && allowed > 1);
        assert_eq!(count(), allowed, "what it may use is as before");
        assert!(!move_from(1 << 20), "no system has so many");
    }
}
