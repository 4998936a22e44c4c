//! Features of the images of a data set.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_datasets::Prepared;
use ocelli_engine::Pool;

use super::images::Images;
use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::metrics::SkippedImage;
use crate::pool;
use crate::predict::{Decoder, Predictor};

/// Images that are decoded at a time, then computed as one batch.
const CHUNK: usize = 64;

/// Features of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Version of the model that gave them.
    pub model: String,
    /// Floats of one image.
    pub len: usize,
    /// Names of the images within their data set, or paths.
    pub names: Vec<String>,
    /// Class names of the data; empty where the images have no labels.
    pub classes: Vec<String>,
    /// The class of each image, an index into `classes`; empty where the images have no labels.
    pub labels: Vec<u32>,
    /// `[images][len]`
    pub features: Vec<f32>,
    /// Images that could not be read.
    pub skipped: Vec<SkippedImage>,
    /// What a user should know about the data. One line each.
    pub notes: Vec<String>,
}

impl Embeddings {
    /// Features of all images at a path, in the order of their names: of a data set with labels as training reads it, of an
    /// image file, or of all image files in a folder whose images have no labels. Images that cannot be read are left out
    /// and named.
    ///
    /// # Errors
    /// Those of reading the data; [`PipelineError::Stopped`]; [`PipelineError::Engine`] for a model without a dense layer.
    pub fn of(
        path: &Path,
        predictor: &mut Predictor,
        stop: &AtomicBool,
        observe: Observe<'_>,
    ) -> Result<Self, PipelineError> {
        let images = Images::open(path)?;
        let mut found = Embeddings {
            model: predictor.version().to_owned(),
            len: predictor.feature_len()?,
            names: Vec::new(),
            classes: images.classes().to_vec(),
            labels: Vec::new(),
            features: Vec::new(),
            skipped: Vec::new(),
            notes: images.notes(),
        };
        let (decoder, pool) = (predictor.decoder(), predictor.exec().pool.clone());
        let total = images.len();
        for start in (0..total).step_by(CHUNK) {
            if stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped);
            }
            observe(&Event::Loading { done: start, total });
            let indices: Vec<usize> = (start..total.min(start + CHUNK)).collect();
            let mut prepared = Vec::with_capacity(indices.len());
            for (index, image) in indices.iter().zip(decode(&images, &indices, &decoder, &pool)?) {
                let name = images.name(*index);
                match image {
                    Ok(image) => {
                        prepared.push(image);
                        found.names.push(name);
                        found.labels.extend(images.label(*index));
                    }
                    Err(reason) => found.skipped.push(SkippedImage { name, reason }),
                }
            }
            predictor.features(&prepared, &mut found.features)?;
        }
        observe(&Event::Loading { done: total, total });
        Ok(found)
    }

    /// How many images there are.
    pub fn images(&self) -> usize {
        self.names.len()
    }

    /// The features of an image.
    ///
    /// # Panics
    /// When `index` is not below the number of images.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.features[index * self.len..][..self.len]
    }

    /// The class of an image, where it has one.
    pub fn class(&self, index: usize) -> Option<&str> {
        self.labels.get(index).map(|&label| self.classes[label as usize].as_str())
    }
}

fn decode(
    images: &Images,
    indices: &[usize],
    decoder: &Decoder,
    pool: &Pool,
) -> Result<Vec<Result<Prepared, String>>, PipelineError> {
    pool::map(pool, indices, |&index| images.prepare(index, decoder))
}
