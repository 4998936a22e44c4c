//! Whether a run starts from the ImageNet weights in this program.

use std::borrow::Cow;

use ocelli_datasets::Source;

use crate::built_in::imagenet_model;
use crate::data::Data;
use crate::error::PipelineError;
use crate::recipe::{IMAGENET_NETWORK, Recipe, Start, is_free};
use crate::train_options::{StartClasses, StartModel, TrainOptions};

/// Shorter median side from which images are photos: smaller ones are digits, icons and thumbnails, which small networks
/// learn better from nothing, and faster.
const PHOTO_SIDE: u32 = 64;

/// The options with the ImageNet weights as the model that training starts from, where the recipe asks for them or leaves
/// them open and the images are photos.
///
/// # Errors
/// [`PipelineError::Recipe`] where the recipe asks for these weights and for another network or gray input;
/// [`PipelineError::NoShippedModel`] where it asks for them and the program was built without.
pub(crate) fn with_start<'a>(
    options: &'a TrainOptions,
    source: &Source,
) -> Result<Cow<'a, TrainOptions>, PipelineError> {
    if options.start.is_some() || !wanted(options, source)? {
        return Ok(Cow::Borrowed(options));
    }
    let file = imagenet_model()?;
    let start = StartModel { version: Start::ImageNet.to_string(), file, classes: StartClasses::Replace };
    Ok(Cow::Owned(TrainOptions { start: Some(start), ..options.clone() }))
}

fn wanted(options: &TrainOptions, source: &Source) -> Result<bool, PipelineError> {
    let TrainOptions { recipe, origins, .. } = options;
    let default = Recipe::default();
    let network_fits = recipe.model == IMAGENET_NETWORK || is_free!(recipe, default, origins, model);
    match recipe.start {
        Some(Start::Fresh) => Ok(false),
        Some(Start::ImageNet) if !network_fits => {
            let reason = format!(
                "{} weights are of {IMAGENET_NETWORK}, and the network is {}",
                Start::ImageNet,
                recipe.model
            );
            Err(PipelineError::recipe("start", reason))
        }
        Some(Start::ImageNet) if !matches!(recipe.channels, None | Some(3)) => {
            Err(PipelineError::recipe("channels", "the imagenet weights take colours: 3, or leave it out"))
        }
        Some(Start::ImageNet) => Ok(true),
        None => {
            let open = is_free!(recipe, default, origins, model)
                && is_free!(recipe, default, origins, normalize)
                && matches!(recipe.channels, None | Some(3))
                && options.data != Data::Bundled;
            let (width, height) = source.native_shape().median;
            Ok(open && width.min(height) >= PHOTO_SIDE)
        }
    }
}
