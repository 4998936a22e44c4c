//! Which nodes run as one stage.

use super::choice::Choice;
use super::separable;
use crate::exec::{Exec, Mode};
use crate::geometry::{Conv2dGeometry, PoolGeometry, Shape};
use crate::graph::{Activation, Graph, Op};
use crate::layers::conv2d::Pooled;

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
    /// The max pool over the output of a convolution.
    pub(super) pool: Option<PoolGeometry>,
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
/// (inference, convolutions, when the other summand is there by then), then a ReLU or ReLU6, then (convolutions) a max
/// pool that [fits](Pooled::fits); a batch normalisation and a sum take in a ReLU or ReLU6. Depthwise convolutions take in
/// pointwise ones (inference, see [`separable`]). Only a value that nobody else reads can vanish.
pub(super) fn fuse(graph: &Graph, shapes: &[Shape], mode: Mode, exec: &Exec) -> Fused {
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
            pool: None,
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
        if let Some(next) = only_reader(stage.output) {
            let pool = pool_behind(graph, shapes, (index, next), mode, exec);
            if pool.is_some() {
                taken[next] = true;
                (stage.pool, stage.output) = (pool, next + 1);
            }
        }
        stages.push(stage);
    }
    if mode == Mode::Infer {
        stages = separable::join(stages, graph, (shapes, &alias), exec.threads);
    }
    Fused { stages, alias }
}

/// The pool `next` that the convolution `index` takes in; `None` for other nodes and where it does not fit.
fn pool_behind(
    graph: &Graph,
    shapes: &[Shape],
    (index, next): (usize, usize),
    mode: Mode,
    exec: &Exec,
) -> Option<PoolGeometry> {
    let (node, pool_node) = (&graph.nodes[index], &graph.nodes[next]);
    let (Op::Conv2d(conv), Op::MaxPool2d(pool)) = (&node.op, &pool_node.op) else { return None };
    let conv = Conv2dGeometry::new(&node.name, shapes[node.inputs[0] as usize], conv).ok()?;
    let pool = PoolGeometry::new(&pool_node.name, shapes[index + 1], pool).ok()?;
    if conv.is_depthwise() {
        return None;
    }
    let method = Choice::new(&conv, mode, exec).forward(exec.isa, &conv);
    Pooled::fits(&method, &pool, mode, exec.threads).then_some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv2d, Dense, Padding, Pool2d};
    use crate::kernels::testing::for_each_isa;

    /// Whether a convolution takes in the pool behind it.
    fn takes_pool(exec: &Exec, input: [usize; 3], layers: (Conv2d, Activation, Pool2d), mode: Mode) -> bool {
        let ([h, w, c], (conv, act, pool)) = (input, layers);
        let mut g = Graph::new(Shape::new(h, w, c));
        g.then("conv", Op::Conv2d(conv));
        g.then("act", Op::Activation(act));
        g.then("pool", Op::MaxPool2d(pool));
        g.then("flatten", Op::Flatten);
        g.then("dense", Op::Dense(Dense { units: 2, bias: true }));
        let Fused { stages, .. } = fuse(&g, &g.shapes().unwrap(), mode, exec);
        stages[0].pool.is_some()
    }

    for_each_isa! {
        fn a_convolution_takes_in_a_pool_that_fits(isa: Isa) {
            let exec = &Exec::with_isa(isa, 2).unwrap();
            let overlapping = || Pool2d { kernel: [3; 2], stride: [2; 2], padding: Padding::Same };
            let (few, many) = ([20, 20, 3], [32, 32, 64]);
            let takes = |input, conv, pool, mode| takes_pool(exec, input, (conv, Activation::Relu, pool), mode);
            let direct = |input, pool, mode| takes(input, Conv2d::new(8, 3), pool, mode);
            let tiles = |pool, mode| takes(many, Conv2d::new(64, 3), pool, mode);
            for mode in [Mode::Infer, Mode::Train] {
                assert!(direct(few, Pool2d::new(2), mode) && tiles(Pool2d::new(2), mode));
                // Windows of three rows cross lines of tiles.
                assert!(direct(few, Pool2d::new(3), mode) && !tiles(Pool2d::new(3), mode));
                assert_eq!(direct(few, overlapping(), mode), mode == Mode::Infer);
                // Of few rows, two threads would compute too many twice.
                assert!(!direct([9, 9, 3], overlapping(), mode));
                // Two rows are more than a cache holds.
                assert!(!direct([4, 9000, 1], Pool2d::new(2), mode));
                let gelu = (Conv2d::new(8, 3), Activation::Gelu, Pool2d::new(2));
                assert!(!takes_pool(exec, few, gelu, mode));
                let depthwise = Conv2d { groups: 3, ..Conv2d::new(3, 3) };
                assert!(!takes(few, depthwise, Pool2d::new(2), mode));
            }
        }
    }
}
