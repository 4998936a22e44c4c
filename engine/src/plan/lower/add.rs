//! Sums of two values.

use crate::kernels::Number;
use crate::layers::add::{AddBackward, AddLayer};
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let (first, second) = (stage.inputs[0], stage.inputs[1]);
    let mut backward = None;
    if places.has_backward(stage) {
        let dy = places.grad_in(time, stage);
        let dx = [places.grad_out(time, first), places.grad_out(time, second)];
        if stage.act.is_some() {
            places.keep::<E>(stage.output, time);
        }
        backward = Some(AddBackward { dy, dx });
    }
    let (a, y) = places.x_and_y::<E, E>(stage);
    Box::new(AddLayer { a, b: places.value(second), y, act: stage.act, backward })
}
