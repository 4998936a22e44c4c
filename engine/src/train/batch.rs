//! What a batch must be before a plan takes it.

use ndarray::ArrayView4;

use crate::error::EngineError;
use crate::geometry::Shape;
use crate::plan::Plan;

/// Checks that images `x [n, h, w, c]` have the shape of a network's input.
pub(crate) fn check_images(input: Shape, x: &ArrayView4<f32>) -> Result<(), EngineError> {
    let (n, h, w, c) = x.dim();
    if Shape::new(h, w, c) != input {
        return Err(EngineError::Shape {
            what: "input",
            expected: format!("images of {input}"),
            found: format!("{n} of {}", Shape::new(h, w, c)),
        });
    }
    Ok(())
}

/// Checks that `x` is a batch of `images` images that the plan takes.
pub(crate) fn check_batch(plan: &Plan, x: &[f32], images: usize) -> Result<usize, EngineError> {
    if images == 0 || images > plan.batch() {
        return Err(EngineError::Shape {
            what: "batch",
            expected: format!("1 to {} images", plan.batch()),
            found: images.to_string(),
        });
    }
    if x.len() != images * plan.input_len() {
        return Err(EngineError::Shape {
            what: "input",
            expected: format!("{} floats for {images} images", images * plan.input_len()),
            found: x.len().to_string(),
        });
    }
    Ok(images)
}
