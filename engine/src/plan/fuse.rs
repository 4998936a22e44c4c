//! Which nodes run as one stage.

use super::choice::Choice;
use super::separable;
use super::stage::{Kind, Stage};
use crate::bf16::Bf16;
use crate::exec::{Exec, Mode};
use crate::geometry::{PoolGeometry, Shape};
use crate::graph::{Graph, Op};
use crate::layers::conv2d::Pooled;
use crate::layers::norm_pool::NormPool;

/// The stages of a graph in order, and for every value the one that it is the same memory as.
pub(super) struct Fused {
    pub(super) stages: Vec<Stage>,
    pub(super) alias: Vec<usize>,
}

/// Cuts a graph into stages.
///
/// A convolution or dense layer takes in the batch normalisation behind it (if that has running statistics), then the
/// residual sum (inference, convolutions, when the other summand is there by then), then a ReLU or ReLU6, then
/// (convolutions) a max pool that [fits](Pooled::fits); a batch normalisation and a sum take in a ReLU or ReLU6, and a batch
/// normalisation that trains then a max pool that [fits](NormPool::fits). Depthwise
/// convolutions take in pointwise ones (inference, see [`separable`]). Only a value that nobody else reads can vanish, and
/// none of those to `keep`. In bytes pools and depthwise convolutions stay apart, in bf16 pools behind convolutions.
/// Frozen nodes are fused as at inference.
pub(super) fn fuse(
    graph: &Graph,
    shapes: &[Shape],
    choices: &[Option<Choice>],
    (mode, keep): (Mode, &[usize]),
    (exec, kind): (&Exec, Kind),
) -> Fused {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); shapes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&value| readers[value as usize].push(index));
    }
    let only_reader = |value: usize| match readers[value][..] {
        [reader] if !keep.contains(&value) => Some(reader),
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
        let own = mode.of(index);
        if node.op.is_identity(own.learns()) {
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
        let takes = Takes::of(&node.op);
        if takes.norm
            && let Some(next) = only_reader(stage.output)
            && matches!(graph.nodes[next].op, Op::BatchNorm(_))
            && mode.has_running_statistics(next)
            && mode.of(next) == own
        {
            taken[next] = true;
            (stage.norm, stage.output) = (Some(next), next + 1);
        }
        if takes.sum
            && own == Mode::Infer
            && let Some(next) = only_reader(stage.output)
            && matches!(graph.nodes[next].op, Op::Add)
        {
            let other = graph.nodes[next].inputs.iter().map(|&v| v as usize).find(|&v| v != stage.output);
            if let Some(other) = other.filter(|&other| other <= index) {
                taken[next] = true;
                (stage.residual, stage.output) = (Some(other), next + 1);
            }
        }
        if takes.clamp
            && let Some(next) = only_reader(stage.output)
            && let Op::Activation(act) = graph.nodes[next].op
            && act.clamp_range().is_some()
        {
            taken[next] = true;
            (stage.act, stage.output) = (Some(act), next + 1);
        }
        if let (Some(choice), Some(next), Kind::Floats) = (&choices[index], only_reader(stage.output), kind) {
            let pool = pool_behind(choice, graph, shapes, next).filter(|pool| {
                let method = choice.forward(exec.isa);
                Pooled::fits(&method, pool, own, exec.threads())
            });
            if pool.is_some() {
                taken[next] = true;
                (stage.pool, stage.output) = (pool, next + 1);
            }
        }
        if let (Op::BatchNorm(_), Mode::Train(_), Some(next)) = (&node.op, own, only_reader(stage.output)) {
            let pool = max_pool(graph, shapes, next).filter(|pool| match kind {
                Kind::Floats => NormPool::<f32>::fits(pool, stage.act),
                Kind::Halves => NormPool::<Bf16>::fits(pool, stage.act),
                Kind::Bytes => false,
            });
            if pool.is_some() {
                taken[next] = true;
                (stage.pool, stage.output) = (pool, next + 1);
            }
        }
        stages.push(stage);
    }
    if kind != Kind::Bytes {
        let halves = kind == Kind::Halves;
        stages = separable::join(stages, graph, (shapes, &alias), (mode, keep), (exec, halves));
    }
    Fused { stages, alias }
}

/// What a node may take in from those behind it.
struct Takes {
    /// A batch normalisation with running statistics.
    norm: bool,
    /// A sum with another value, at inference.
    sum: bool,
    /// An activation that clamps.
    clamp: bool,
}

impl Takes {
    fn of(op: &Op) -> Self {
        match op {
            Op::Conv2d(conv) => Takes { norm: true, sum: conv.groups == 1, clamp: true },
            Op::Dense(_) => Takes { norm: true, sum: false, clamp: true },
            Op::BatchNorm(_) | Op::Add => Takes { norm: false, sum: false, clamp: true },
            Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Activation(_)
            | Op::Dropout { .. }
            | Op::Flatten
            | Op::Concat
            | Op::ChannelGather { .. }
            | Op::ChannelScale => Takes { norm: false, sum: false, clamp: false },
        }
    }
}

/// The max pool `next` over the outputs of a convolution; `None` for other nodes and behind depthwise convolutions.
fn pool_behind(choice: &Choice, graph: &Graph, shapes: &[Shape], next: usize) -> Option<PoolGeometry> {
    if choice.geometry.is_depthwise() { None } else { max_pool(graph, shapes, next) }
}

/// The max pool `next`; `None` for other nodes.
fn max_pool(graph: &Graph, shapes: &[Shape], next: usize) -> Option<PoolGeometry> {
    let node = &graph.nodes[next];
    let Op::MaxPool2d(pool) = &node.op else { return None };
    PoolGeometry::new(&node.name, shapes[node.inputs[0] as usize], pool).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Learning;
    use crate::graph::{Activation, Conv2d, Dense, Padding, Pool2d};
    use crate::kernels::testing::for_each_isa;
    use crate::plan::choice::choose;

    /// Whether a convolution takes in the pool behind it.
    fn takes_pool(exec: &Exec, input: [usize; 3], layers: (Conv2d, Activation, Pool2d), mode: Mode) -> bool {
        let ([h, w, c], (conv, act, pool)) = (input, layers);
        let mut g = Graph::new(Shape::new(h, w, c));
        g.then("conv", Op::Conv2d(conv));
        g.then("act", Op::Activation(act));
        g.then("pool", Op::MaxPool2d(pool));
        g.then("flatten", Op::Flatten);
        g.then("dense", Op::Dense(Dense { units: 2, bias: true }));
        let shapes = g.shapes().unwrap();
        let Fused { stages, .. } =
            fuse(&g, &shapes, &choose(&g, &shapes, (mode, false), exec), (mode, &[]), (exec, Kind::Floats));
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
            for mode in [Mode::Infer, Mode::Train(Learning::default())] {
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
