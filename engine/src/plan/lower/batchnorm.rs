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
    let pool = places.norm_pool::<E>(time);
    if let Some(pool) = &pool {
        places.need_scratch_of::<E>(pool.scratch_len());
    }
    let mut training = None;
    if places.has_backward(stage) {
        let now = context.backward_time(time);
        places.keep::<E>(stage.inputs[0], time);
        places.arena.touch(saved, now);
        let partials = places.arena.add(0, PARTIALS * channels, time);
        places.arena.touch(partials, now);
        if let Some(pool) = &pool {
            places.arena.touch(pool.argmax, now);
            places.arena.touch(pool.picked, now);
        }
        let dy = places.grad_in(time, stage);
        let maker = context.maker_of_norm(time);
        let statistics = if context.mode.has_running_statistics(stage.node) {
            Statistics::Running
        } else {
            let value = context.alias[stage.inputs[0]];
            Statistics::Batch { moments: maker.map(|maker| places.place_moments(value, (maker, time))) }
        };
        let takes = |&maker: &usize| {
            let maker = &context.stages[maker];
            maker.act.is_none() && places.has_backward(maker) && context.has_one_reader(stage.inputs[0])
        };
        let dx = match maker.filter(takes) {
            Some(maker) => {
                places.leave_norm(time, maker, dy);
                None
            }
            None => places.grad_out(time, stage.inputs[0]),
        };
        training = Some(BatchNormTraining { dy, dx, statistics, sums: places.sums(stage), partials });
    }
    let x = places.value(stage.inputs[0]);
    let y = (!context.is_made_on_load(time)).then(|| places.value(stage.output));
    Box::new(BatchNormLayer {
        pixels: shape.h as usize * shape.w as usize,
        channels,
        x,
        y,
        act: stage.act,
        pool,
        params: context.norm_params(stage.node),
        saved,
        training,
    })
}
