//! Filling the next batches on a thread of its own while the engine works on the current one.

use std::sync::mpsc::{channel, sync_channel};

use crate::error::PipelineError;

/// Batches that may wait: one in work, one ready, one being filled.
pub(crate) const BUFFERS: usize = 3;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// With the next batch.
    Go,
    /// Leave the rest.
    Stop,
}

/// Calls `consume` with each batch of `order`: the indices and their images, `image_len` floats each, written by
/// `fill(index, image)` on another thread. Batches arrive in order; the last may be shorter.
///
/// # Errors
/// The first error of `consume`.
pub(crate) fn feed(
    order: &[usize],
    batch: usize,
    image_len: usize,
    fill: impl Fn(usize, &mut [f32]) + Send,
    mut consume: impl FnMut(&[usize], &[f32]) -> Result<Flow, PipelineError>,
) -> Result<(), PipelineError> {
    let chunks = || order.chunks(batch);
    let (ready_tx, ready) = sync_channel::<Vec<f32>>(BUFFERS);
    let (empty, empty_rx) = channel::<Vec<f32>>();
    for _ in 0..BUFFERS.min(chunks().len()) {
        empty
            .send(vec![0.0; batch.min(order.len()) * image_len])
            .expect("the receiver is alive in this function");
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for indices in chunks() {
                // Either end hangs up when the consumer has had enough.
                let Ok(mut images) = empty_rx.recv() else { return };
                for (&index, image) in indices.iter().zip(images.chunks_exact_mut(image_len)) {
                    fill(index, image);
                }
                if ready_tx.send(images).is_err() {
                    return;
                }
            }
        });
        // Owned by this closure, so that leaving it hangs up before the scope waits for the thread.
        let (ready, empty) = (ready, empty);
        for indices in chunks() {
            // The filling thread is gone without being asked only if it panicked; the scope passes that on.
            let Ok(images) = ready.recv() else { return Ok(()) };
            if consume(indices, &images[..indices.len() * image_len])? == Flow::Stop {
                return Ok(());
            }
            let _ = empty.send(images);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_arrives_once_and_in_order() {
        for n in [0usize, 1, 2, 5, 16, 17, 100] {
            for batch in [1, 2, 16, 200] {
                let order: Vec<usize> = (0..n).rev().collect();
                let mut seen = Vec::new();
                feed(
                    &order,
                    batch,
                    3,
                    |i, x| x.fill(i as f32),
                    |indices, x| {
                        assert_eq!(x.len(), indices.len() * 3);
                        assert!(indices.len() <= batch);
                        for (&i, x) in indices.iter().zip(x.chunks_exact(3)) {
                            assert_eq!(x, [i as f32; 3]);
                            seen.push(i);
                        }
                        Ok(Flow::Go)
                    },
                )
                .unwrap();
                assert_eq!(seen, order);
            }
        }
    }

    #[test]
    fn stopping_and_failing_end_the_thread() {
        let order: Vec<usize> = (0..1000).collect();
        let mut batches = 0;
        feed(
            &order,
            2,
            1,
            |_, _| {},
            |_, _| {
                batches += 1;
                Ok(if batches == 3 { Flow::Stop } else { Flow::Go })
            },
        )
        .unwrap();
        assert_eq!(batches, 3);
        assert!(feed(&order, 2, 1, |_, _| {}, |_, _| Err(PipelineError::Stopped)).is_err());
    }
}
