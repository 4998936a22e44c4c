//! How a network computes in 8 bits: which values and layers, and the scales that calibration found for them.
//!
//! ```text
//! value    x = scale * factor[c] * (q - zero)      q in 0..=255, a factor for each channel or none
//! weight   w = weight_scale[co] / factor[ci] * q   q in -127..=127, for each output channel
//! ```
//! Factors even out channels that differ in their range (Nagel et al., "Data-free quantization through weight equalization
//! and bias correction", 2019); they move into the weights of the layers on both sides, so arithmetic sees one scale.
//! Weights are not stored: they follow from those in f32 and the scales.

use serde::Serialize;

use crate::error::EngineError;
use crate::geometry::Shape;
use crate::graph::{Graph, Op};

/// Largest magnitude of a weight: symmetric, so that a weight and its negative are equally exact.
pub(crate) const MAX_WEIGHT: f32 = 127.0;

/// Scales of the values and layers of one network that are computed in 8 bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quantization {
    /// Values, in the order of their numbers.
    pub values: Vec<ValueScale>,
    /// Convolutions, in the order of their nodes.
    pub layers: Vec<LayerScale>,
}

/// The bytes of a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueScale {
    /// The value: 0 is the network's input, `i + 1` the output of node `i`.
    pub value: u32,
    /// Distance between two bytes, before the factors.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero: u8,
    /// Factors of the scale, one for each channel; empty where all are 1.
    pub factors: Vec<f32>,
}

/// The weights of a convolution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerScale {
    /// The node.
    pub node: u32,
    /// Distance between two weights, for each output channel.
    pub weights: Vec<f32>,
    /// Added to each output channel's bias, for what rounded weights change in its mean; empty where nothing is.
    pub bias: Vec<f32>,
}

impl ValueScale {
    /// The factor of a channel.
    pub(crate) fn factor(&self, channel: usize) -> f32 {
        self.factors.get(channel).copied().unwrap_or(1.0)
    }

    /// The scale of each of `count` channels.
    pub(crate) fn channels(&self, count: usize) -> Vec<f32> {
        (0..count).map(|channel| self.scale * self.factor(channel)).collect()
    }

    /// Whether bytes of both stand for the same numbers.
    pub(crate) fn is_same_scale(&self, other: &ValueScale) -> bool {
        self.scale == other.scale && self.zero == other.zero && self.factors == other.factors
    }
}

impl LayerScale {
    /// Weights `w [..][cin / groups][cout]` as bytes for an input with these scales.
    pub(crate) fn round(&self, w: &[f32], input: &ValueScale, groups: usize, cin: usize) -> Vec<i8> {
        let cout = self.weights.len();
        let (inner, outer) = (cin / groups, cout / groups);
        let byte = |(index, &w): (usize, &f32)| {
            let (row, co) = (index / cout, index % cout);
            let factor = input.factor(co / outer * inner + row % inner);
            (w * factor / self.weights[co]).clamp(-MAX_WEIGHT, MAX_WEIGHT).round_ties_even() as i8
        };
        w.iter().enumerate().map(byte).collect()
    }
}

impl Quantization {
    /// The bytes of a value, if it has some.
    pub(crate) fn value(&self, value: usize) -> Option<&ValueScale> {
        let found = self.values.binary_search_by_key(&value, |scale| scale.value as usize).ok()?;
        Some(&self.values[found])
    }

    /// The weights of a node, if they are bytes.
    pub(crate) fn layer(&self, node: usize) -> Option<&LayerScale> {
        let found = self.layers.binary_search_by_key(&node, |scale| scale.node as usize).ok()?;
        Some(&self.layers[found])
    }

    /// Checks that it belongs to a network. Safe on data from untrusted files.
    ///
    /// # Errors
    /// [`EngineError::Config`] that names the first value or layer which is not there, out of order, of the wrong length or
    /// with a scale that is no positive number.
    pub fn check(&self, graph: &Graph) -> Result<(), EngineError> {
        let shapes = graph.shapes()?;
        let mut next = 0;
        for scale in &self.values {
            let what = format!("value {}", scale.value);
            let shape = self.in_order(&what, scale.value, &mut next, shapes.len())?;
            let channels = shapes[shape].c as usize;
            check_len(&what, "factors", scale.factors.len(), channels)?;
            check_positive(&what, std::iter::once(&scale.scale).chain(&scale.factors))?;
        }
        next = 0;
        for layer in &self.layers {
            let what = format!("layer {}", layer.node);
            let node = &graph.nodes[self.in_order(&what, layer.node, &mut next, graph.nodes.len())?];
            let Op::Conv2d(conv) = &node.op else {
                return Err(wrong(format!("{what}, `{}`, is no convolution", node.name)));
            };
            let channels = conv.filters as usize;
            if layer.weights.len() != channels {
                return Err(wrong(format!(
                    "{what} has scales for {} of {channels} filters",
                    layer.weights.len()
                )));
            }
            check_len(&what, "corrections", layer.bias.len(), channels)?;
            check_positive(&what, &layer.weights)?;
            if !layer.bias.iter().all(|b| b.is_finite()) {
                return Err(wrong(format!("{what} has a correction that is no number")));
            }
        }
        Ok(())
    }

    fn in_order(&self, what: &str, number: u32, next: &mut u32, count: usize) -> Result<usize, EngineError> {
        let number_in = number as usize;
        if number < *next || number_in >= count {
            return Err(wrong(format!("{what} is not there or out of order")));
        }
        *next = number + 1;
        Ok(number_in)
    }

    /// Bytes of weights of the layers that are computed in 8 bits, and of the same in f32.
    pub fn weight_bytes(&self, graph: &Graph) -> Result<[usize; 2], EngineError> {
        let shapes = graph.shapes()?;
        let len = |layer: &LayerScale| weight_count(graph, &shapes, layer.node as usize);
        let count: usize = self.layers.iter().map(len).sum();
        Ok([count, count * size_of::<f32>()])
    }
}

fn weight_count(graph: &Graph, shapes: &[Shape], node: usize) -> usize {
    let node = &graph.nodes[node];
    match &node.op {
        Op::Conv2d(conv) => {
            let cin = shapes[node.inputs[0] as usize].c as usize / conv.groups as usize;
            conv.kernel.iter().map(|&side| side as usize).product::<usize>() * cin * conv.filters as usize
        }
        _ => 0,
    }
}

fn check_len(what: &str, of: &str, found: usize, expected: usize) -> Result<(), EngineError> {
    if found != 0 && found != expected {
        return Err(wrong(format!("{what} has {found} {of} for {expected} channels")));
    }
    Ok(())
}

fn check_positive<'a>(what: &str, scales: impl IntoIterator<Item = &'a f32>) -> Result<(), EngineError> {
    if scales.into_iter().all(|s| s.is_normal() && *s > 0.0) {
        return Ok(());
    }
    Err(wrong(format!("{what} has a scale that is no positive number")))
}

fn wrong(reason: String) -> EngineError {
    EngineError::Config(format!("the int8 scales do not belong to this network: {reason}"))
}
