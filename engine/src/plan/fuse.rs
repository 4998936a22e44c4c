//! Which nodes run as one stage.

use super::{Mode, separable};
use crate::geometry::Shape;
use crate::graph::{Activation, Graph, Op};

/// A stage: one node, and those behind it that it takes in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stage {
    /// The node that gives the stage its kind.
    pub(super) node: usize,
    /// The values that it reads.
    pub(super) inputs: Vec<usize>,
    /// The batch normalisation whose statistics fold into the filters, at inference.
    pub(super) norm: Option<usize>,
    /// The value that is added to the output, at inference.
    pub(super) residual: Option<usize>,
    /// The clamp that is applied to the output.
    pub(super) act: Option<Activation>,
    /// The value that it makes.
    pub(super) output: usize,
    /// The pointwise convolutions before and behind a depthwise one that are computed with it, at inference.
    pub(super) expand: Option<Box<Stage>>,
    /// See `expand`; inputs, residual and output above are those of all together.
    pub(super) project: Option<Box<Stage>>,
}

/// The stages of a graph in order, and for every value the one that it is the same memory as.
pub(super) struct Fused {
    pub(super) stages: Vec<Stage>,
    pub(super) alias: Vec<usize>,
}

/// Cuts a graph into stages.
///
/// A convolution or dense layer takes in the batch normalisation behind it (inference), then the residual sum
/// (inference, convolutions, when the other summand is there by then), then a ReLU or ReLU6; a batch normalisation
/// and a sum take in a ReLU or ReLU6. Depthwise convolutions take in pointwise ones (see [`separable`], inference). Only a
/// value that nobody else reads can vanish.
pub(super) fn fuse(graph: &Graph, shapes: &[Shape], mode: Mode, threads: usize) -> Fused {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); shapes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&value| readers[value as usize].push(index));
    }
    let only_reader = |value: usize| match readers[value][..] {
        [reader] => Some(reader),
        _ => None,
    };
    let mut taken = vec![false; graph.nodes.len()];
    let mut alias: Vec<usize> = (0..shapes.len()).collect();
    let mut stages = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if taken[index] {
            continue;
        }
        let inputs: Vec<usize> = node.inputs.iter().map(|&v| v as usize).collect();
        let infer = mode == Mode::Infer;
        let passes = match node.op {
            Op::Flatten => true,
            Op::Dropout { rate } => infer || rate == 0.0,
            _ => false,
        };
        if passes {
            alias[index + 1] = alias[inputs[0]];
            continue;
        }
        let mut stage = Stage {
            node: index,
            inputs,
            norm: None,
            residual: None,
            act: None,
            output: index + 1,
            expand: None,
            project: None,
        };
        let has_filters = matches!(node.op, Op::Conv2d(_) | Op::Dense(_));
        if has_filters && infer {
            if let Some(next) = only_reader(stage.output)
                && matches!(graph.nodes[next].op, Op::BatchNorm(_))
            {
                taken[next] = true;
                (stage.norm, stage.output) = (Some(next), next + 1);
            }
            let depthwise = matches!(&node.op, Op::Conv2d(conv) if conv.groups > 1);
            if let Some(next) = only_reader(stage.output)
                && matches!((&graph.nodes[next].op, &node.op), (Op::Add, Op::Conv2d(_)))
                && !depthwise
            {
                let other = graph.nodes[next].inputs.iter().map(|&v| v as usize).find(|&v| v != stage.output);
                if let Some(other) = other.filter(|&other| other <= index) {
                    taken[next] = true;
                    (stage.residual, stage.output) = (Some(other), next + 1);
                }
            }
        }
        if (has_filters || matches!(node.op, Op::BatchNorm(_) | Op::Add))
            && let Some(next) = only_reader(stage.output)
            && let Op::Activation(act @ (Activation::Relu | Activation::Relu6)) = graph.nodes[next].op
        {
            taken[next] = true;
            (stage.act, stage.output) = (Some(act), next + 1);
        }
        stages.push(stage);
    }
    if mode == Mode::Infer {
        stages = separable::join(stages, graph, (shapes, &alias), threads);
    }
    Fused { stages, alias }
}
