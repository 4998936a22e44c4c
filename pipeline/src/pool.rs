//! Work on the pool of threads of the process, and the only file of this crate that names rayon.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, TryRecvError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocelli_engine::Pool;
use rayon::prelude::*;

use crate::error::PipelineError;

/// How long a thread of the pool that waits for another one sleeps before it looks for waiting jobs again.
const PAUSE: Duration = Duration::from_micros(100);

/// `f` of every item, in order, on all threads of a pool.
///
/// # Errors
/// [`PipelineError::Engine`] when the threads of the pool cannot start.
pub fn map<T: Sync, R: Send>(
    pool: &Pool,
    items: &[T],
    f: impl Fn(&T) -> R + Sync + Send,
) -> Result<Vec<R>, PipelineError> {
    // One item a job: an image may take a thousand times as long as its neighbour.
    Ok(pool.install(|| items.par_iter().with_max_len(1).map(f).collect())?)
}

/// Calls `f` on up to `threads` threads of a pool at a time; this thread waits until all calls have returned.
pub(crate) fn on_threads(pool: &Pool, threads: usize, f: impl Fn() + Sync) -> Result<(), PipelineError> {
    let f = &f;
    pool.thread_pool()?.scope(|scope| (0..threads).for_each(|_| scope.spawn(move |_| f())));
    Ok(())
}

/// `f` of every number below `count`, in order, by up to `threads` threads of a pool, each of which lets waiting jobs of the
/// pool go first between two calls. This thread waits.
///
/// # Errors
/// The first one of those of `f`; the rest is left then.
pub(crate) fn numbered<R: Send, E: Send + From<PipelineError>>(
    pool: &Pool,
    (threads, count): (usize, usize),
    f: impl Fn(usize) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let found: Mutex<Vec<Option<R>>> = Mutex::new(std::iter::repeat_with(|| None).take(count).collect());
    let work = || {
        loop {
            yield_to_another();
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            match f(number) {
                Ok(result) => lock(&found)[number] = Some(result),
                Err(error) => {
                    // Others find nothing left to do; the first error is the one to tell.
                    next.store(count, Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                    return;
                }
            }
        }
    };
    on_threads(pool, threads.clamp(1, count.max(1)), work)?;
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let found = std::mem::take(&mut *lock(&found));
    Ok(found.into_iter().map(|result| result.expect("without an error every number had its turn")).collect())
}

/// What a panic left behind is still whole: results are moved in as they are.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On a thread of a pool: lets a waiting job of that pool, such as an image that a client waits for, go first.
pub(crate) fn yield_to_another() {
    rayon::yield_now();
}

/// Runs `work` on the pool; this thread calls `watch` meanwhile, after every `period`.
pub(crate) fn watched<R: Send>(
    pool: &Pool,
    work: impl FnOnce() -> R + Send,
    (period, mut watch): (Duration, impl FnMut()),
) -> Result<R, PipelineError> {
    let threads = pool.thread_pool()?;
    Ok(threads
        .in_place_scope(|scope| {
            let (done, wait) = channel();
            scope.spawn(move |_| done.send(work()).expect("the receiver is alive in this scope"));
            let result = receive(&wait, (period, &mut watch));
            // It panicked; the scope passes that on.
            result.map_err(|RecvError| ())
        })
        .expect("work that did not panic has a result"))
}

/// Calls `f` with every item and its part of `out`, `len` elements each, on all threads of the pool that the caller is on.
/// One job takes at least `least` items.
///
/// # Errors
/// One of those of `f`; the rest is left then.
pub(crate) fn fill<T: Sync, E: Send, F: Send>(
    out: &mut [E],
    len: usize,
    items: &[T],
    least: usize,
    f: impl Fn(&T, &mut [E]) -> Result<(), F> + Sync + Send,
) -> Result<(), F> {
    out.par_chunks_exact_mut(len).zip(items).with_min_len(least).try_for_each(|(part, item)| f(item, part))
}

/// Waits for a message, calling `watch` after every `period`. On a thread of a pool, waiting jobs of that pool are run
/// meanwhile.
pub(crate) fn receive<T>(
    from: &Receiver<T>,
    (period, watch): (Duration, &mut dyn FnMut()),
) -> Result<T, RecvError> {
    loop {
        match from.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => {}
        }
        let pause = match rayon::yield_now() {
            Some(rayon::Yield::Executed) => continue,
            Some(rayon::Yield::Idle) => PAUSE,
            None => period,
        };
        match from.recv_timeout(pause) {
            Ok(message) => return Ok(message),
            Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
            Err(RecvTimeoutError::Timeout) => watch(),
        }
    }
}
