//! Which stages of a network in bf16 compute with bf16, and which values are stored so.

use super::context::Context;
use super::stage::{Form, Kind, Stage};
use crate::exec::{Exec, Mode, Precision};
use crate::graph::Op;
use crate::quantization::Quantization;

/// Whether a plan computes in bf16. Gradients of inner values are in f32: they are looked at one by one.
pub(super) fn wanted(mode: Mode, quantization: Option<&Quantization>, exec: &Exec) -> bool {
    exec.precision == Precision::Bf16 && quantization.is_none() && !matches!(mode, Mode::Gradient { .. })
}

/// The form of every stage. Layers with weights read bf16; what convolutions make stays so until a dense layer or a mean over
/// an image makes floats of it.
pub(super) fn forms(context: &Context) -> Vec<Form> {
    let mut kinds = vec![Kind::Floats; context.shapes.len()];
    let form = |stage: &Stage| {
        let form = form(context, stage, &kinds);
        kinds[stage.output] = form.makes;
        form
    };
    context.stages.iter().map(form).collect()
}

fn form(context: &Context, stage: &Stage, kinds: &[Kind]) -> Form {
    let is_stored = |&value: &usize| kinds[context.alias[value]] == Kind::Halves;
    let of = |stored: bool| if stored { Kind::Halves } else { Kind::Floats };
    let own = is_stored(&stage.inputs[0]);
    match &context.node(stage).op {
        Op::Conv2d(_) => Form::all(Kind::Halves),
        Op::Dense(_) => Form::floats_of(Kind::Halves),
        Op::GlobalAvgPool => Form::floats_of(of(own)),
        Op::Add | Op::Concat => Form::all(of(stage.inputs.iter().all(is_stored))),
        Op::BatchNorm(_)
        | Op::Activation(_)
        | Op::Dropout { .. }
        | Op::MaxPool2d(_)
        | Op::AvgPool2d(_)
        | Op::GlobalMaxPool
        | Op::ChannelScale
        | Op::ChannelGather { .. }
        | Op::Flatten => Form::all(of(own)),
    }
}
