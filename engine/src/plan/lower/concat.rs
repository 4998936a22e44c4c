//! Joined channels.

use crate::kernels::Number;
use crate::layers::concat::{ConcatLayer, Part};
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let dy = places.has_backward(stage).then(|| places.grad_in::<E>(time, stage));
    let part = |&value: &usize| Part {
        channels: context.shapes[value].c as usize,
        x: places.value(value),
        dx: dy.and_then(|_| places.grad_out(time, value)),
    };
    let parts = stage.inputs.iter().map(part).collect();
    let channels = context.shapes[stage.output].c as usize;
    Box::new(ConcatLayer { parts, channels, y: places.value(stage.output), dy })
}
