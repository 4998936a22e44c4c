//! From a stage to its layer: one file per family of layers.

mod activation;
mod add;
mod batchnorm;
mod bytes;
mod channel_scale;
mod concat;
mod conv2d;
mod dense;
mod depthwise;
mod dropout;
mod pool;
mod separable;

use super::place::Places;
use super::stage::Stage;
use crate::geometry::PoolGeometry;
use crate::graph::Op;
use crate::layers::pool::PoolKind;
use crate::layers::run::Layer;

/// The layer of the stage that runs at `time`, with every place in memory that it uses.
pub(super) fn lower(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    if places.context.form(time).reads_bytes() {
        return bytes::lower(places, stage);
    }
    let (node, shape) = (places.context.node(stage), places.context.input_shape(stage));
    let window = |pool| PoolGeometry::new(&node.name, shape, pool).expect("shapes are checked");
    match &node.op {
        Op::Conv2d(_) if stage.project.is_some() => separable::lower(places, stage),
        Op::Conv2d(_) if node.op.is_depthwise(shape) => depthwise::lower(places, time, stage),
        Op::Conv2d(_) => conv2d::lower(places, time, stage),
        Op::Dense(dense) => dense::lower(places, time, stage, dense),
        Op::BatchNorm(_) => batchnorm::lower(places, time, stage),
        Op::MaxPool2d(pool) => pool::lower(places, time, stage, (PoolKind::Max, window(pool))),
        Op::AvgPool2d(pool) => pool::lower(places, time, stage, (PoolKind::Avg, window(pool))),
        Op::GlobalAvgPool => {
            pool::lower(places, time, stage, (PoolKind::GlobalAvg, PoolGeometry::global(shape)))
        }
        Op::GlobalMaxPool => {
            pool::lower(places, time, stage, (PoolKind::GlobalMax, PoolGeometry::global(shape)))
        }
        Op::Activation(act) => activation::lower(places, time, stage, *act),
        Op::Dropout { rate } => dropout::lower(places, time, stage, *rate),
        Op::Add => add::lower(places, time, stage),
        Op::Concat => concat::lower(places, time, stage),
        Op::ChannelScale => channel_scale::lower(places, time, stage),
        Op::Flatten => unreachable!("a flatten is an alias"),
    }
}
