//! Pools that are layers of their own.

use crate::geometry::PoolGeometry;
use crate::layers::pool::{PoolBackward, PoolKind, PoolLayer};
use crate::layers::run::Layer;
use crate::plan::place::Places;
use crate::plan::stage::Stage;

pub(super) fn lower(
    places: &mut Places,
    time: usize,
    stage: &Stage,
    (kind, geometry): (PoolKind, PoolGeometry),
) -> Box<dyn Layer> {
    let gate = matches!(kind, PoolKind::Max) && places.context.pool_applies_relu(stage.inputs[0]);
    let backward = places.backward_pair(time, stage).map(|(dy, dx)| {
        places.keep(stage.inputs[0], time);
        places.keep(stage.output, time);
        PoolBackward { dy, dx, gate }
    });
    let (x, y) = places.x_and_y(stage);
    Box::new(PoolLayer { kind, geometry, x, y, backward })
}
