//! What the last dense layer of a network reads of images, which is where images of one kind lie together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_datasets::ImageSet;
use ocelli_engine::{Inference, Outputs};

use crate::error::PipelineError;
use crate::feed::{Flow, feed};

/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Hears how many images are done, and of how many.
pub(crate) type Tell<'a> = &'a mut (dyn FnMut(usize, usize) -> Result<(), PipelineError> + Send);

/// Features and logits of some images, in their order.
#[derive(Default)]
pub(crate) struct Features {
    /// Features of one image; 0 of a network without a dense layer.
    pub(crate) len: usize,
    /// `[images][len]`
    pub(crate) values: Vec<f32>,
    /// `[images][classes]`
    pub(crate) logits: Vec<f32>,
    /// Means over pixels of the inner values that the network keeps, `[images][inner_len]`.
    pub(crate) inner: Vec<f32>,
    pub(crate) inner_len: usize,
}

/// Images with their classes and what a network makes of them.
#[derive(Default)]
pub(crate) struct Answers {
    /// Their places in the set.
    pub(crate) images: Vec<usize>,
    pub(crate) features: Features,
    /// The class of each image.
    pub(crate) labels: Vec<u32>,
}

impl Answers {
    /// Adds an image whose logits nobody needs.
    pub(crate) fn add(&mut self, image: usize, label: u32, row: &[f32]) {
        self.images.push(image);
        self.labels.push(label);
        self.features.len = row.len();
        self.features.values.extend_from_slice(row);
    }

    /// The class of each image, as an index.
    pub(crate) fn classes(&self) -> Vec<usize> {
        self.labels.iter().map(|&label| label as usize).collect()
    }

    /// Runs the images `indices` of a set, unvaried, through a network.
    ///
    /// # Errors
    /// As [`Features::compute`].
    pub(crate) fn compute(
        inference: &mut Inference,
        (set, indices): (&ImageSet, &[usize]),
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Answers, PipelineError> {
        let features = Features::compute(inference, (set, indices), stop, tell)?;
        let labels = indices.iter().map(|&i| set.class(i)).collect();
        Ok(Answers { images: indices.to_vec(), features, labels })
    }
}

impl Features {
    /// Runs the images `indices` of a set, unvaried, through a network. One without a dense layer gives no features.
    ///
    /// # Errors
    /// Those of the engine and of reading pixels; [`PipelineError::Stopped`].
    pub(crate) fn compute(
        inference: &mut Inference,
        (set, indices): (&ImageSet, &[usize]),
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Features, PipelineError> {
        let len = inference.feature_len().unwrap_or(0);
        let pool = inference.exec().pool.clone();
        let (batch, classes, input) = (inference.batch(), inference.classes(), inference.input_len());
        let inner_len = inference.inner_len();
        let mut features = Features {
            len,
            values: Vec::with_capacity(indices.len() * len),
            logits: Vec::with_capacity(indices.len() * classes),
            inner: Vec::with_capacity(indices.len() * inner_len),
            inner_len,
        };
        let (mut logits, mut rows) = (vec![0.0; batch * classes], vec![0.0; batch * len]);
        let mut inner = vec![0.0; batch * inner_len];
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
                let inner = &mut inner[..n * inner_len];
                inference.run_outputs(x, n, Outputs { logits, features: rows, inner })?;
                features.values.extend_from_slice(rows);
                features.logits.extend_from_slice(logits);
                features.inner.extend_from_slice(inner);
                done += n;
                if told.elapsed() >= REPORT_EVERY {
                    told = Instant::now();
                    tell(done, total)?;
                }
                Ok(Flow::Go)
            },
        )?;
        Ok(features)
    }

    /// The features of one image, by its place.
    pub(crate) fn row(&self, image: usize) -> &[f32] {
        &self.values[image * self.len..][..self.len]
    }
}
