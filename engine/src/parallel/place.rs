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

#[cfg(all(test, target_os = "linux", not(loom), not(miri)))]
mod tests {
    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn a_thread_moves_and_may_use_the_same_processors_afterwards() {
        // Any of these threads may be moved by the system as well, so one that stays where it was proves nothing.
        let allowed = sched_getaffinity(None).unwrap();
        let moves = (0..100).filter(|_| {
            let before = processor().unwrap();
            move_from(before) && processor() != Some(before)
        });
        assert_eq!(moves.count() > 0, allowed.count() > 1);
        assert!(sched_getaffinity(None).unwrap() == allowed, "what it may use is as before");
        assert!(!move_from(1 << 20), "no system has so many");
    }
}
