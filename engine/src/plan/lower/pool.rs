//! Pools that are layers of their own.

use crate::geometry::PoolGeometry;
use crate::kernels::Number;
use crate::layers::pool::{GlobalAvgPoolLayer, PoolBackward, PoolKind, PoolLayer};
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(
    places: &mut Places,
    time: usize,
    stage: &Stage,
    (kind, geometry): (PoolKind, PoolGeometry),
) -> Box<dyn Layer> {
    let gate = matches!(kind, PoolKind::Max) && places.context.pool_applies_relu(stage.inputs[0]);
    let backward = places.backward_pair::<E, E>(time, stage).map(|(dy, dx)| {
        places.keep::<E>(stage.inputs[0], time);
        places.keep::<E>(stage.output, time);
        PoolBackward { dy, dx, before: places.before(time), gate }
    });
    let (x, y) = places.x_and_y::<E, E>(stage);
    Box::new(PoolLayer { kind, geometry, x, y, backward })
}

/// The mean over an image, in floats.
pub(super) fn lower_mean<E: Placed + Number>(
    places: &mut Places,
    time: usize,
    stage: &Stage,
) -> Box<dyn Layer> {
    let backward = places.backward_pair::<E, f32>(time, stage);
    let backward = backward.map(|(dy, dx)| (dy, dx, places.before(time)));
    let (x, y) = places.x_and_y::<E, f32>(stage);
    let channels = places.context.input_shape(stage).c as usize;
    Box::new(GlobalAvgPoolLayer { channels, x, y, backward })
}
