//! Batch normalisations that are layers of their own.

use crate::kernels::Number;
use crate::layers::batchnorm::{BatchNormLayer, BatchNormTraining, PARTIALS, Statistics};
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let shape = context.input_shape(stage);
    let channels = shape.c as usize;
    let saved = places.norm_numbers(time);
    let mut training = None;
    if places.has_backward(stage) {
        let now = context.backward_time(time);
        places.keep::<E>(stage.inputs[0], time);
        places.arena.touch(saved, now);
        let partials = places.arena.add(0, PARTIALS * channels, time);
        places.arena.touch(partials, now);
        let dy = places.grad_in(time, stage);
        let maker = context.maker_of_norm(time);
        let statistics = if context.mode.has_running_statistics(stage.node) {
            Statistics::Running
        } else {
            let value = context.alias[stage.inputs[0]];
            Statistics::Batch { moments: maker.map(|maker| places.place_moments(value, (maker, time))) }
        };
        let leaves = maker.is_some_and(|maker| places.has_backward(&context.stages[maker]));
        let dx = if leaves && context.has_one_reader(stage.inputs[0]) {
            places.leave_norm(time, dy);
            None
        } else {
            places.grad_out(time, stage.inputs[0])
        };
        training = Some(BatchNormTraining { dy, dx, statistics, sums: places.sums(stage), partials });
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
