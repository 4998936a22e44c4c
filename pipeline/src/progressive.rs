//! Progressive resizing: training begins on small images, which take less time, and ends on those of the full size.

use ocelli_engine::{Graph, Shape};

use crate::error::PipelineError;
use crate::recipe::Recipe;

/// Part of a run in which images grow; behind it, all are of the full size, which the weights must suit in the end.
const GROWING: f64 = 0.6;
/// Sizes go in steps of this, as most networks halve the image five times; images below [`SMALL`] in steps of 4.
const STEP: u32 = 32;
/// Sides below this are of networks for small images.
const SMALL: u32 = 64;

/// Width and height of the training images where a run is a part `progress` (0 to 1) of its way.
pub(crate) fn size_at(recipe: &Recipe, progress: f64) -> (u32, u32) {
    let (width, height) = recipe.size.expect("the recipe is resolved");
    let full = width.min(height);
    if recipe.first_size == 0 || recipe.first_size >= full {
        return (width, height);
    }
    let grown = (progress / GROWING).min(1.0);
    let step = if full < SMALL { 4 } else { STEP };
    let wanted = f64::from(recipe.first_size) + f64::from(full - recipe.first_size) * grown;
    // Down, so that the full size comes where growing ends and not before.
    let short = (wanted as u32 / step * step).clamp(recipe.first_size, full);
    let scaled = |side: u32| (f64::from(side) * f64::from(short) / f64::from(full)).round() as u32;
    if grown >= 1.0 { (width, height) } else { (scaled(width), scaled(height)) }
}

/// Refuses a first size for a network whose weights fit one size of images alone.
///
/// # Errors
/// [`PipelineError::Recipe`].
pub(crate) fn check(recipe: &Recipe, graph: &Graph) -> Result<(), PipelineError> {
    let mut sizes: Vec<_> = (0..=100).map(|at| size_at(recipe, f64::from(at) / 100.0)).collect();
    sizes.dedup();
    for (w, h) in sizes {
        let size = Shape { w, h, ..graph.input };
        if let Some(error) = (size != graph.input).then(|| graph.with_input(size).err()).flatten() {
            let reason =
                format!("{} cannot be trained on images of {w}x{h} ({error}); leave it out", recipe.model);
            return Err(PipelineError::recipe("first_size", reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_engine::zoo;

    #[test]
    fn images_grow_from_the_first_size_to_the_full_one() {
        for (size, first) in [((224, 224), 128), ((256, 192), 96), ((32, 32), 24), ((224, 224), 100)] {
            let recipe = Recipe { size: Some(size), first_size: first, ..Recipe::default() };
            let sizes: Vec<_> = (0..=100).map(|at| size_at(&recipe, f64::from(at) / 100.0)).collect();
            assert_eq!(sizes[0].0.min(sizes[0].1), first);
            assert!(sizes.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
            assert!(sizes[..60].iter().all(|&small| small < size));
            assert!(sizes[60..].iter().all(|&full| full == size));
        }
        let off = Recipe { size: Some((48, 40)), ..Recipe::default() };
        assert_eq!(size_at(&off, 0.0), (48, 40));
    }

    #[test]
    fn a_network_of_one_size_is_refused() {
        let network = |name| zoo::build(name, Shape::new(64, 64, 3), 3).unwrap();
        let recipe = |name: &str, first_size| Recipe {
            model: name.to_owned(),
            size: Some((64, 64)),
            first_size,
            ..Recipe::default()
        };
        check(&recipe("keras-cnn", 0), &network("keras-cnn")).unwrap();
        let message = check(&recipe("keras-cnn", 32), &network("keras-cnn")).unwrap_err().to_string();
        assert!(
            message.starts_with("first_size: keras-cnn cannot be trained on images of 32x32"),
            "{message}"
        );
        check(&recipe("resnet9", 32), &network("resnet9")).unwrap();
    }
}
