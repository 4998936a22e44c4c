//! Filling the next batches while the engine works on the current one, on the same threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ocelli_engine::Pool;

use ocelli_datasets::DatasetError;

use crate::error::PipelineError;
use crate::pool;

/// Batches in memory: one in work, one ready, one being filled.
pub(crate) const BUFFERS: usize = 3;

/// Floats of images that one job fills at least: some 100 us of work.
const LEAST_FLOATS: usize = 32 * 1024;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// With the next batch.
    Go,
    /// Leave the rest.
    Stop,
}

/// Calls `consume` with each batch of `order`: the indices and their images, `image_len` floats each, written by
/// `fill(index, image)` on the threads of the pool. Batches arrive in order; the last may be shorter.
///
/// Called on a thread of the pool, that thread fills as well while it has no batch to consume. The time in which it had
/// none is what this returns.
///
/// # Errors
/// The first error of `fill` or `consume`, and [`PipelineError::Engine`] when the threads of the pool cannot start.
pub(crate) fn feed(
    pool: &Pool,
    (order, batch): (&[usize], usize),
    image_len: usize,
    fill: impl Fn(usize, &mut [f32]) -> Result<(), DatasetError> + Sync,
    consume: impl FnMut(&[usize], &mut [f32]) -> Result<Flow, PipelineError>,
) -> Result<Duration, PipelineError> {
    feed_batches(pool, &order.chunks(batch).collect::<Vec<_>>(), image_len, fill, consume)
}

/// As [`feed`], for batches of any length each, none included.
///
/// # Errors
/// As [`feed`].
pub(crate) fn feed_batches(
    pool: &Pool,
    batches: &[impl AsRef<[usize]> + Sync],
    image_len: usize,
    fill: impl Fn(usize, &mut [f32]) -> Result<(), DatasetError> + Sync,
    mut consume: impl FnMut(&[usize], &mut [f32]) -> Result<Flow, PipelineError>,
) -> Result<Duration, PipelineError> {
    let longest = batches.iter().map(|batch| batch.as_ref().len()).max().unwrap_or(0);
    let (fill, over) = (&fill, &AtomicBool::new(false));
    let least = (LEAST_FLOATS / image_len.max(1)).max(1);
    pool.thread_pool()?.in_place_scope(|scope| {
        // Dropped however this closure is left: batches that nobody waits for are not filled.
        let _over = Over(over);
        let (ready, filled) = channel();
        let mut coming = batches.iter().map(AsRef::as_ref).enumerate();
        let mut start = |mut images: Vec<f32>| {
            let Some((number, indices)) = coming.next() else { return };
            let ready = ready.clone();
            scope.spawn(move |_| {
                let floats = &mut images[..indices.len() * image_len];
                let fill = |&index: &usize, image: &mut [f32]| {
                    if over.load(Ordering::Relaxed) { Ok(()) } else { fill(index, image) }
                };
                let outcome =
                    catch_unwind(AssertUnwindSafe(|| pool::fill(floats, image_len, indices, least, fill)));
                // Nobody waits for it any more when this fails.
                let _ = ready.send((number, outcome.map(|filled| filled.map(|()| images))));
            });
        };
        for _ in 0..BUFFERS {
            start(vec![0.0; longest * image_len]);
        }
        let mut early = BTreeMap::new();
        let mut waited = Duration::ZERO;
        for (number, indices) in batches.iter().map(AsRef::as_ref).enumerate() {
            let wanted = Instant::now();
            while !early.contains_key(&number) {
                let (number, images) = pool::receive(&filled, (Duration::MAX, &mut || ()))
                    .expect("the sender is alive in this function");
                early.insert(number, images);
            }
            let mut images = early
                .remove(&number)
                .expect("it has arrived")
                .unwrap_or_else(|panic| resume_unwind(panic))?;
            waited += wanted.elapsed();
            if consume(indices, &mut images[..indices.len() * image_len])? == Flow::Stop {
                break;
            }
            start(images);
        }
        Ok(waited)
    })
}

/// Says that no batch is wanted any more.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Runs `test` on a thread of a pool and outside of it.
    fn inside_and_outside(threads: usize, test: impl Fn(&Pool) + Sync) {
        let pool = Pool::new(threads).unwrap();
        pool.install(|| test(&pool)).unwrap();
        test(&pool);
    }

    #[test]
    fn every_image_arrives_once_and_in_order() {
        for threads in [1, 2, 5] {
            inside_and_outside(threads, |pool| {
                for n in [0usize, 1, 2, 5, 16, 17, 100] {
                    for batch in [1, 2, 16, 200] {
                        let order: Vec<usize> = (0..n).rev().collect();
                        let mut seen = Vec::new();
                        let fill = |i, x: &mut [f32]| {
                            x.fill(i as f32);
                            Ok(())
                        };
                        feed(pool, (&order, batch), 3, fill, |indices, x| {
                            assert_eq!(x.len(), indices.len() * 3);
                            assert!(indices.len() <= batch);
                            for (&i, x) in indices.iter().zip(x.chunks_exact(3)) {
                                assert_eq!(x, [i as f32; 3]);
                                seen.push(i);
                            }
                            Ok(Flow::Go)
                        })
                        .unwrap();
                        assert_eq!(seen, order);
                    }
                }
            });
        }
    }

    #[test]
    fn stopping_and_failing_end_it() {
        inside_and_outside(2, |pool| {
            let order: Vec<usize> = (0..1000).collect();
            let mut batches = 0;
            feed(
                pool,
                (&order, 2),
                1,
                |_, _| Ok(()),
                |_, _| {
                    batches += 1;
                    Ok(if batches == 3 { Flow::Stop } else { Flow::Go })
                },
            )
            .unwrap();
            assert_eq!(batches, 3);
            let failing = feed(pool, (&order, 2), 1, |_, _| Ok(()), |_, _| Err(PipelineError::Stopped));
            assert!(matches!(failing, Err(PipelineError::Stopped)));
        });
    }

    #[test]
    fn no_more_than_the_next_batches_are_filled() {
        inside_and_outside(3, |pool| {
            let order: Vec<usize> = (0..100).collect();
            let (filled, mut consumed) = (AtomicUsize::new(0), 0);
            let fill = |_, _: &mut [f32]| {
                filled.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            feed(pool, (&order, 5), 1, fill, |_, _| {
                // This one and those behind it.
                assert!(filled.load(Ordering::SeqCst) <= (consumed + BUFFERS) * 5);
                consumed += 1;
                Ok(Flow::Go)
            })
            .unwrap();
            assert_eq!((consumed, filled.into_inner()), (20, 100));
        });
    }

    #[test]
    fn a_panic_while_filling_reaches_the_caller() {
        inside_and_outside(2, |pool| {
            let order: Vec<usize> = (0..50).collect();
            let fill = |i, _: &mut [f32]| {
                assert_ne!(i, 31, "image 31");
                Ok(())
            };
            let run = || feed(pool, (&order, 4), 1, fill, |_, _| Ok(Flow::Go));
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert!(panic.downcast::<String>().unwrap().contains("image 31"));
        });
    }
}
