//! Dropout, in training.

use crate::kernels::Number;
use crate::layers::dropout::DropoutLayer;
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(
    places: &mut Places,
    time: usize,
    stage: &Stage,
    rate: f32,
) -> Box<dyn Layer> {
    let backward = places.backward_pair(time, stage);
    let image_len = places.context.input_shape(stage).len();
    let (x, y) = places.x_and_y::<E, E>(stage);
    Box::new(DropoutLayer { rate, node: stage.node as u64, image_len, x, y, backward })
}
