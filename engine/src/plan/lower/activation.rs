//! Activations that are layers of their own.

use crate::graph::Activation;
use crate::kernels::Number;
use crate::layers::activation::ActivationLayer;
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(
    places: &mut Places,
    time: usize,
    stage: &Stage,
    act: Activation,
) -> Box<dyn Layer> {
    let saved = if act.keeps_output() { stage.output } else { stage.inputs[0] };
    let backward = places.backward_pair::<E, E>(time, stage);
    if backward.is_some() {
        places.keep::<E>(saved, time);
    }
    let (x, y) = places.x_and_y(stage);
    Box::new(ActivationLayer { act, x, y, saved: places.value(saved), backward })
}
