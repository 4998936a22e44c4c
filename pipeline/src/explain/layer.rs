//! Which layer of a network a map is made from.

use ocelli_engine::Graph;

use super::near::nearest;
use crate::error::PipelineError;

/// A layer whose output has more than one pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) name: String,
    /// The value that it makes.
    pub(super) value: usize,
}

impl Layer {
    /// The layer of this name; without a name the last one whose output has more than one pixel, which is what a global pool or the
    /// first dense layer behind the convolutions reads.
    ///
    /// # Errors
    /// [`PipelineError::NoMap`] for a network, or a layer, with one pixel; [`PipelineError::UnknownName`].
    pub(super) fn choose(graph: &Graph, name: Option<&str>) -> Result<Layer, PipelineError> {
        let values = graph.spatial_values();
        let layer = |value: usize| Layer { name: graph.nodes[value - 1].name.clone(), value };
        let Some(&last) = values.last() else {
            let reason = "no layer of the network has an output of more than one pixel, which a heat map needs; the method \
                          occlusion works with every network";
            return Err(PipelineError::NoMap { reason: reason.to_owned() });
        };
        let Some(name) = name else { return Ok(layer(last)) };
        let named = graph.nodes.iter().position(|node| node.name == name);
        match named.map(|node| node + 1) {
            Some(value) if values.contains(&value) => Ok(layer(value)),
            Some(_) => {
                let reason = format!(
                    "the output of the layer {name:?} has a single pixel, or is its input; the last layer with more pixels is \
                     {:?}",
                    layer(last).name
                );
                Err(PipelineError::NoMap { reason })
            }
            None => {
                let names = values.iter().map(|&value| graph.nodes[value - 1].name.as_str());
                Err(PipelineError::UnknownName {
                    what: "layer",
                    name: name.to_owned(),
                    near: nearest(name, names),
                })
            }
        }
    }
}
