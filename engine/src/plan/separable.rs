//! Which depthwise convolutions run as one stage with the pointwise ones around them.

use super::stage::Stage;
use crate::bf16::Bf16;
use crate::exec::{Exec, Mode};
use crate::geometry::Shape;
use crate::graph::{Conv2d, Graph, Op, Padding};
use crate::kernels::gemm::{self, GemmShape};
use crate::layers::real::Real;

/// Bytes of an image from which on a tensor is better not written: a smaller one stays in a second-level cache by itself, and
/// its weights would be read once for every band of rows.
const WIDE: usize = 256 * 1024;

/// One in so many rows may be expanded twice when an image is cut for all threads: those that windows of both read.
const REPEATED: usize = 12;

/// Joins stages that are computed as at inference: a depthwise convolution with a wide input takes in the pointwise convolution behind it, and
/// the one before it, where nobody else reads what is between them and none of that is to `keep`.
pub(super) fn join(
    mut stages: Vec<Stage>,
    graph: &Graph,
    (shapes, alias): (&[Shape], &[usize]),
    (mode, keep): (Mode, &[usize]),
    (exec, halves): (&Exec, bool),
) -> Vec<Stage> {
    let threads = exec.threads();
    let number = if halves { size_of::<Bf16>() } else { size_of::<f32>() };
    let mut readers = vec![0; shapes.len()];
    let read = stages.iter().flat_map(|s| s.inputs.iter().chain(&s.residual));
    read.chain(keep).for_each(|&v| readers[alias[v]] += 1);
    let conv = |stage: &Stage| match &graph.nodes[stage.node].op {
        Op::Conv2d(conv) => Some(conv),
        _ => None,
    };
    let infers = |stage: &Stage| mode.of(stage.node) == Mode::Infer;
    // Rows of pixels lie side by side: no zeros between them.
    let numbers = Bf16::products(exec.isa);
    let is_unpadded = |stage: &Stage| {
        let depth = shapes[alias[stage.inputs[0]]].c as usize;
        !halves || gemm::depth(numbers, GemmShape { depth, cols: 1 }) == depth
    };
    let is_pointwise = |stage: &Stage| {
        infers(stage) && conv(stage).is_some_and(is_pointwise) && stage.pool.is_none() && is_unpadded(stage)
    };
    for index in 0..stages.len() {
        let depthwise = &stages[index];
        let input = alias[depthwise.inputs[0]];
        let is_depthwise = graph.nodes[depthwise.node].op.is_depthwise(shapes[input]);
        if !is_depthwise
            || !infers(depthwise)
            || depthwise.project.is_some()
            || shapes[input].len() * number < WIDE
        {
            continue;
        }
        let reads = |stage: &Stage, value: usize| stage.inputs.iter().any(|&v| alias[v] == value);
        let project = stages.iter().position(|s| reads(s, depthwise.output) && is_pointwise(s));
        let Some(project) = project.filter(|_| readers[depthwise.output] == 1) else { continue };
        let expand = stages.iter().position(|s| s.output == input);
        let expand = expand
            .filter(|&e| readers[input] == 1 && is_pointwise(&stages[e]) && stages[e].residual.is_none());
        let overlap = conv(depthwise).map_or(0, |conv| {
            ((conv.kernel[0] - 1) * conv.dilation[0] + 1).saturating_sub(conv.stride[0]) as usize
        });
        if expand.is_some() && threads > 1 && overlap * REPEATED * threads > shapes[input].h as usize {
            continue;
        }
        let expand = expand.map(|e| Box::new(stages[e].clone()));
        let project_stage = stages[project].clone();
        // The place of the last one: all that it reads is there by then.
        stages[project] = Stage {
            inputs: expand.as_ref().map_or(&stages[index], |expand| &**expand).inputs.clone(),
            residual: project_stage.residual,
            output: project_stage.output,
            expand,
            project: Some(Box::new(project_stage)),
            ..stages[index].clone()
        };
    }
    let inner: Vec<usize> = stages
        .iter()
        .filter_map(|stage| stage.project.as_ref().map(|project| (stage, project)))
        .flat_map(|(stage, project)| {
            [Some(alias[project.inputs[0]]), stage.expand.as_ref().map(|expand| expand.output)]
        })
        .flatten()
        .collect();
    stages.retain(|stage| !inner.contains(&stage.output));
    stages
}

/// Whether a convolution treats pixels one by one.
fn is_pointwise(conv: &Conv2d) -> bool {
    let unpadded = matches!(conv.padding, Padding::Same | Padding::Valid | Padding::Explicit([0, 0, 0, 0]));
    conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.groups == 1 && unpadded
}
