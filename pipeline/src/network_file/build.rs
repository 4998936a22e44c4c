//! From layers to a graph, and errors that say where and with which shapes.

use ocelli_engine::graph::Node;
use ocelli_engine::{EngineError, Graph, Op, ParamLayout, Shape};

use super::layer::{CLASSES, NetworkFile};
use crate::error::PipelineError;

/// Sides that are tried for the smallest image that a network takes.
const TRIED_SIDES: u32 = 256;

impl NetworkFile {
    /// The network for images of a shape and a number of classes.
    ///
    /// # Errors
    /// [`PipelineError::Network`] for the first layer that does not fit the shapes before it, a last layer that does not
    /// give one value for each class, and a network of more than 2^28 parameters.
    pub fn build(&self, input: Shape, classes: usize) -> Result<Graph, PipelineError> {
        let mut graph = Graph::new(input);
        for layer in &self.layers {
            let mut op = layer.op.clone();
            if layer.of_classes {
                set_outputs(&mut op, u32::try_from(classes).unwrap_or(u32::MAX));
            }
            graph.nodes.push(Node { name: layer.name.clone(), op, inputs: layer.inputs.clone() });
        }
        let shapes = graph.shapes().map_err(|error| self.located(&graph, error))?;
        let outputs = shapes[shapes.len() - 1].c as usize;
        if outputs != classes {
            let reason = format!(
                "the last layer gives {outputs} values, and there are {classes} classes: give it units = \"{CLASSES}\" (a \
                 convolution filters = \"{CLASSES}\")"
            );
            return Err(self.layer_error(self.layers.len() - 1, reason));
        }
        ParamLayout::new(&graph).map_err(|error| self.located(&graph, error))?;
        Ok(graph)
    }

    /// The least side of square images in colour that the network takes; 1 where none of those that are tried will do.
    pub(crate) fn smallest_input(&self) -> u32 {
        let takes = |&side: &u32| self.build_any(Shape { h: side, w: side, c: 3 }).is_ok();
        (1..=TRIED_SIDES).find(takes).unwrap_or(1)
    }

    /// As [`NetworkFile::build`], with as many classes as the last layer gives values.
    fn build_any(&self, input: Shape) -> Result<Graph, PipelineError> {
        let last = &self.layers[self.layers.len() - 1];
        let classes = match &last.op {
            _ if last.of_classes => 2,
            Op::Dense(dense) => dense.units as usize,
            _ => 2,
        };
        self.build(input, classes)
    }

    /// An error of the engine at the layer that it names, with the shapes that the layer reads where they are not said.
    fn located(&self, graph: &Graph, error: EngineError) -> PipelineError {
        let EngineError::Graph { node, reason } = error else { return error.into() };
        let Some(number) = self.layers.iter().position(|layer| layer.name == node) else {
            let (file, reason) = (self.file.clone(), format!("{node}: {reason}"));
            return PipelineError::Network { file, line: None, layer: None, reason };
        };
        let shapes = shapes_before(graph, number);
        let inputs: Vec<String> = self.layers[number]
            .inputs
            .iter()
            .filter_map(|&value| shapes.get(value as usize).map(Shape::to_string))
            .filter(|shape| !reason.contains(shape.as_str()))
            .collect();
        match inputs.is_empty() {
            true => self.layer_error(number, reason),
            false => self.layer_error(number, format!("{reason} (it reads {})", inputs.join(" and "))),
        }
    }
}

/// Gives the operation as many filters or units.
fn set_outputs(op: &mut Op, count: u32) {
    match op {
        Op::Conv2d(conv) => conv.filters = count,
        Op::Dense(dense) => dense.units = count,
        _ => unreachable!("only convolutions and dense layers are read with a number of classes"),
    }
}

/// Shapes of the image and of the layers before layer `number`, as far as they can be.
fn shapes_before(graph: &Graph, number: usize) -> Vec<Shape> {
    let mut shapes = vec![graph.input];
    for node in &graph.nodes[..number] {
        let x: Option<Vec<Shape>> =
            node.inputs.iter().map(|&value| shapes.get(value as usize).copied()).collect();
        let y = x.and_then(|x| node.op.output(&node.name, &x).ok());
        let Some(y) = y.and_then(|y| y.check(&node.name).ok()) else { break };
        shapes.push(y);
    }
    shapes
}
