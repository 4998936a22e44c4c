//! Pictures with heat maps over them, for reports.

use std::sync::atomic::AtomicBool;

use ocelli_datasets::Prepared;
use ocelli_engine::model_file::ModelFile;

use super::explainer::{ExplainOptions, Explainer};
use super::picture::Picture;
use crate::compute::Compute;
use crate::error::PipelineError;

/// Pixels that the longer side of a picture has at least.
const LEAST_SIDE: usize = 96;

/// For each image, as the model sees it, a PNG of it with a map over it of what speaks for a class: the one that `classes`
/// names, or the likeliest one. By Grad-CAM, in batches: the time of some passes over the images.
///
/// # Errors
/// As [`Explainer::new`] and [`Explainer::explain`]: [`PipelineError::NoMap`] for a network without a layer whose output has more than one pixel.
///
/// # Panics
/// When there are not as many classes as images.
pub fn overlays(
    file: &ModelFile,
    images: &[Prepared],
    classes: &[Option<usize>],
    compute: Compute,
) -> Result<Vec<Vec<u8>>, PipelineError> {
    let mut explainer = Explainer::new(file, &ExplainOptions::default(), compute)?;
    let explained = explainer.explain(images, classes, &AtomicBool::new(false))?;
    let pre = &file.meta.preprocessing;
    let png = |(image, map)| Picture::of(image, pre).enlarged(LEAST_SIDE).overlaid(map).png();
    Ok(images.iter().zip(explained.iter().map(|explained| &explained.map)).map(png).collect())
}
