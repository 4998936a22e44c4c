//! Which stages of a quantised network compute with bytes, and which values are stored as bytes.

use super::context::Context;
use super::stage::{Form, Kind, Stage};
use crate::geometry::Conv2dGeometry;
use crate::graph::{Activation, Op};
use crate::layers::filters::Filters;
use crate::quantization::ValueScale;

/// Products that a sum may have: 255 * 127 of each fill half of what an `i32` holds.
const MAX_PRODUCTS: usize = 1 << 15;

/// The form of every stage. What has no scales, or scales that do not fit what it computes, stays in floats, so that a network
/// whose stages are cut in another way still answers.
pub(super) fn forms(context: &Context) -> Vec<Form> {
    let mut in_bytes = vec![false; context.shapes.len()];
    let form = |stage: &Stage| {
        let form = form(context, stage, &in_bytes);
        in_bytes[stage.output] = form.makes == Kind::Bytes;
        form
    };
    context.stages.iter().map(form).collect()
}

/// A stage that can be computed in 8 bits.
pub(crate) struct ByteStage {
    /// The values that it reads, a residual among them, and the one that it makes.
    pub(crate) inputs: Vec<usize>,
    pub(crate) output: usize,
    /// The largest output that its activation lets through.
    pub(crate) high: f32,
    /// What it computes, if it is a convolution.
    pub(crate) convolution: Option<ByteConvolution>,
    /// Whether the output has the scale of the input: a max pool.
    pub(crate) keeps_scale: bool,
}

/// The convolution of a [`ByteStage`].
pub(crate) struct ByteConvolution {
    pub(crate) node: usize,
    pub(crate) geometry: Conv2dGeometry,
    pub(crate) filters: Filters,
}

/// The stages that are computed in 8 bits where a network has scales for all of them.
pub(super) fn candidates(context: &Context) -> Vec<ByteStage> {
    let mut stages: Vec<ByteStage> = Vec::new();
    for stage in &context.stages {
        let root = |&value: &usize| context.alias[value];
        let made = |value: usize| stages.iter().any(|stage| stage.output == value);
        let range = stage.act.map_or(Some((0.0, f32::INFINITY)), Activation::clamp_range);
        let inputs: Vec<usize> = stage.inputs.iter().chain(&stage.residual).map(root).collect();
        let (takes, keeps_scale) = match context.node(stage).op {
            Op::Conv2d(_) => (true, false),
            Op::Add => (inputs.iter().all(|&value| made(value)), false),
            Op::MaxPool2d(_) => (made(inputs[0]), true),
            _ => (false, false),
        };
        if let (true, Some((_, high))) = (takes, range) {
            let convolution = context.choices[stage.node].as_ref().map(|choice| ByteConvolution {
                node: stage.node,
                geometry: choice.geometry,
                filters: context.filters(stage, choice.geometry.cout),
            });
            stages.push(ByteStage { inputs, output: stage.output, high, convolution, keeps_scale });
        }
    }
    stages
}

fn form(context: &Context, stage: &Stage, in_bytes: &[bool]) -> Form {
    let (floats, bytes) = (Form::all(Kind::Floats), Form::all(Kind::Bytes));
    let Some(quantization) = context.quantization else { return floats };
    let root = |value: usize| context.alias[value];
    let scale = |value: usize| quantization.value(root(value));
    let stored = |value: usize| in_bytes[root(value)];
    let input = stage.inputs[0];
    match &context.node(stage).op {
        Op::Conv2d(conv) => {
            let (Some(_), Some(x), Some(y)) =
                (quantization.layer(stage.node), scale(input), scale(stage.output))
            else {
                return floats;
            };
            let residual = match stage.residual {
                Some(value) => scale(value).is_some_and(has_one_scale) && stored(value),
                None => true,
            };
            let geometry = &context.choice(stage).geometry;
            let products = geometry.kernel[0] * geometry.kernel[1] * geometry.cin / conv.groups as usize;
            // Nothing is added for the padding of a depthwise convolution: its zero must be 0.
            let padding = !geometry.is_depthwise() || (x.zero == 0 && stage.residual.is_none());
            let fits = products <= MAX_PRODUCTS && padding && residual && is_cut_off(stage.act, y);
            if fits { bytes } else { floats }
        }
        Op::Add => {
            let scales = [scale(input), scale(stage.inputs[1]), scale(stage.output)];
            let fits = scales.iter().all(|s| s.is_some_and(has_one_scale))
                && stage.inputs.iter().all(|&value| stored(value))
                && scale(stage.output).is_some_and(|y| is_cut_off(stage.act, y));
            if fits { bytes } else { floats }
        }
        Op::MaxPool2d(_) => {
            let same = scale(input).zip(scale(stage.output)).is_some_and(|(x, y)| x.is_same_scale(y));
            if same && stored(input) { bytes } else { floats }
        }
        Op::GlobalAvgPool | Op::GlobalMaxPool if stored(input) => Form::floats_of(Kind::Bytes),
        _ => floats,
    }
}

fn has_one_scale(scale: &ValueScale) -> bool {
    scale.factors.is_empty()
}

/// Whether the range of the output's bytes is that of the activation, or lies within it: then storing applies it.
fn is_cut_off(act: Option<Activation>, y: &ValueScale) -> bool {
    let everything = Some((f32::NEG_INFINITY, f32::INFINITY));
    let Some((low, high)) = act.map_or(everything, Activation::clamp_range) else { return false };
    let largest = y.factors.iter().copied().fold(if y.factors.is_empty() { 1.0 } else { 0.0 }, f32::max);
    let step = f64::from(y.scale) * f64::from(largest);
    // Scales are rounded to floats.
    let slack = 1.0 + 1e-6;
    (low == f32::NEG_INFINITY || (low == 0.0 && y.zero == 0))
        && f64::from(255 - y.zero) * step <= f64::from(high) * slack
}
