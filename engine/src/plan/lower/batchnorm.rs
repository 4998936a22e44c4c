//! Batch normalisations that are layers of their own.

use crate::arena::Slot;
use crate::graph::Op;
use crate::kernels::Number;
use crate::layers::batchnorm::{BatchNormLayer, BatchNormTraining, PARTIALS, SAVED, Statistics};
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let shape = context.input_shape(stage);
    let channels = shape.c as usize;
    let saved = places.arena.add(0, SAVED * channels, time);
    let mut training = None;
    if places.has_backward(stage) {
        let now = context.backward_time(time);
        places.keep::<E>(stage.inputs[0], time);
        places.arena.touch(saved, now);
        let partials = places.arena.add(0, PARTIALS * channels, time);
        places.arena.touch(partials, now);
        let dy = places.grad_in(time, stage);
        let statistics = if context.mode.has_running_statistics(stage.node) {
            Statistics::Running
        } else {
            Statistics::Batch { moments: input_moments(places, time, stage) }
        };
        let dx = places.grad_out(time, stage.inputs[0]);
        training = Some(BatchNormTraining { dy, dx, statistics, partials });
    }
    let (x, y) = places.x_and_y::<E, E>(stage);
    Box::new(BatchNormLayer {
        pixels: shape.h as usize * shape.w as usize,
        channels,
        x,
        y,
        act: stage.act,
        params: context.norm_params(stage.node),
        saved,
        training,
    })
}

/// A place for the moments of a batch normalisation's input, if a convolution makes it and can take them.
fn input_moments(places: &mut Places, time: usize, stage: &Stage) -> Option<Slot> {
    let context = places.context;
    let value = context.alias[stage.inputs[0]];
    let maker = context.stages.iter().position(|s| s.output == value)?;
    let conv = &context.stages[maker];
    let op = &context.node(conv).op;
    let takes =
        matches!(op, Op::Conv2d(_)) && !op.is_depthwise(context.input_shape(conv)) && conv.pool.is_none();
    takes.then(|| places.place_moments(value, (maker, time)))
}
