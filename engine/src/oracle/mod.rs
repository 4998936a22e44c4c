//! Does this machine compute a network as it is defined? Every layer's values by the engine, in f32 with all of its
//! kernels and plans, beside the same values in f64 by code that shares nothing with them (`network`).
//!
//! The engine's value of a layer is the output of a plan of the graph up to that layer (`prefix`), so that layers are
//! fused as in the network itself. The first layer whose values differ by more than rounding explains is where to look.

mod network;
mod prefix;

use crate::error::EngineError;
use crate::exec::Exec;
use crate::infer::Inference;
use crate::params::Model;

/// How far a value may be from that of f64, in the standard deviations that `network` estimates: an error of one sum
/// exceeds so many with a probability below 3e-14 (Higham and Mary, 2019, theorem 2.4: 2 exp(-8^2 / 2)).
pub const DEVIATIONS: f64 = 8.0;

/// The values of one layer, by the engine beside f64.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerDifference {
    /// The layer's name.
    pub layer: String,
    /// Height, width and channels of its output.
    pub shape: [usize; 3],
    /// The largest magnitude in f64.
    pub largest: f64,
    /// The largest distance between the engine's value and that of f64.
    pub difference: f64,
    /// The largest distance as a part of what rounding may explain: above 1 something is wrong.
    pub part_of_bound: f64,
}

impl LayerDifference {
    /// The largest distance as a part of the largest magnitude.
    pub fn relative(&self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { self.difference / self.largest }
    }

    /// Whether rounding explains every value.
    pub fn is_explained(&self) -> bool {
        // A NaN is explained by nothing.
        self.part_of_bound <= 1.0
    }

    /// Takes in the values of the same layer for another image.
    pub fn take_in(&mut self, other: &LayerDifference) {
        self.largest = self.largest.max(other.largest);
        self.difference = largest(self.difference, other.difference);
        self.part_of_bound = largest(self.part_of_bound, other.part_of_bound);
    }

    fn add(&mut self, value: f32, exact: f64, deviation: f64) {
        let difference = (f64::from(value) - exact).abs();
        let bound = DEVIATIONS * deviation + f64::from(f32::MIN_POSITIVE);
        self.largest = self.largest.max(exact.abs());
        self.difference = largest(self.difference, difference);
        self.part_of_bound = largest(self.part_of_bound, difference / bound);
    }
}

/// The larger number; a NaN is larger than all.
fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// Runs an image `[h, w, c]`, normalised as the model was trained, through every layer in both ways; layers come in the
/// order of the graph.
///
/// # Errors
/// Those of [`Inference::new`] and [`Inference::run`].
pub fn compare(model: &Model, image: &[f32], exec: &Exec) -> Result<Vec<LayerDifference>, EngineError> {
    compare_with(model, model, image, exec)
}

/// As [`compare`], with `defined` in f64, which has the graph of `model`.
fn compare_with(
    model: &Model,
    defined: &Model,
    image: &[f32],
    exec: &Exec,
) -> Result<Vec<LayerDifference>, EngineError> {
    let graph = model.graph();
    let shapes = graph.shapes()?;
    // Asked first, as it checks the length of the image.
    let outputs = (0..graph.nodes.len()).map(|node| {
        let mut inference = Inference::new(&prefix::model(model, node)?, 1, exec)?;
        let mut output = vec![0.0; inference.classes()];
        inference.run(image, 1, &mut output)?;
        Ok(output)
    });
    let outputs: Vec<Vec<f32>> = outputs.collect::<Result<_, EngineError>>()?;
    let values = network::values(defined, &shapes, image, exec.exact);
    let layers = graph.nodes.iter().zip(&shapes[1..]).zip(outputs.iter().zip(&values[1..]));
    Ok(layers
        .map(|((node, shape), (output, value))| {
            let shape = [shape.h, shape.w, shape.c].map(|side| side as usize);
            let mut found = LayerDifference {
                layer: node.name.clone(),
                shape,
                largest: 0.0,
                difference: 0.0,
                part_of_bound: 0.0,
            };
            for (i, &y) in output.iter().enumerate() {
                found.add(y, value.exact[i], value.variance[i].sqrt());
            }
            found
        })
        .collect())
}

#[cfg(test)]
mod tests;
