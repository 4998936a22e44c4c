//! What the last dense layer of a network reads of images, which is where images of one kind lie together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_datasets::ImageSet;
use ocelli_engine::Inference;

use crate::error::PipelineError;
use crate::feed::{Flow, feed};

/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Hears how many images are done, and of how many.
pub(crate) type Tell<'a> = &'a mut (dyn FnMut(usize, usize) -> Result<(), PipelineError> + Send);

/// Features and logits of some images, in their order.
pub(crate) struct Features {
    /// Features of one image.
    pub(crate) len: usize,
    /// `[images][len]`
    pub(crate) values: Vec<f32>,
    /// `[images][classes]`
    pub(crate) logits: Vec<f32>,
}

impl Features {
    /// Runs the images `indices` of a set, unvaried, through a network; `None` where it has no dense last layer.
    ///
    /// # Errors
    /// Those of the engine and of reading pixels; [`PipelineError::Stopped`].
    pub(crate) fn compute(
        inference: &mut Inference,
        (set, indices): (&ImageSet, &[usize]),
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Option<Features>, PipelineError> {
        let Some(len) = inference.feature_len() else { return Ok(None) };
        let pool = inference.exec().pool.clone();
        let (batch, classes, input) = (inference.batch(), inference.classes(), inference.input_len());
        let mut features = Features {
            len,
            values: Vec::with_capacity(indices.len() * len),
            logits: Vec::with_capacity(indices.len() * classes),
        };
        let (mut logits, mut rows) = (vec![0.0; batch * classes], vec![0.0; batch * len]);
        let (mut done, total, mut told) = (0, indices.len(), Instant::now());
        feed(
            &pool,
            (indices, batch),
            input,
            |index, x| set.fill(index, x),
            |indices, x| {
                if stop.load(Ordering::Relaxed) {
                    return Err(PipelineError::Stopped);
                }
                let n = indices.len();
                let (logits, rows) = (&mut logits[..n * classes], &mut rows[..n * len]);
                inference.run_features(x, n, logits, rows)?;
                features.values.extend_from_slice(rows);
                features.logits.extend_from_slice(logits);
                done += n;
                if told.elapsed() >= REPORT_EVERY {
                    told = Instant::now();
                    tell(done, total)?;
                }
                Ok(Flow::Go)
            },
        )?;
        Ok(Some(features))
    }

    /// The features of one image, by its place.
    pub(crate) fn row(&self, image: usize) -> &[f32] {
        &self.values[image * self.len..][..self.len]
    }
}
