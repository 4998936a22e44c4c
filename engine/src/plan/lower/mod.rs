//! From a stage to its layer: one file per family of layers.

mod activation;
mod add;
mod batchnorm;
mod bytes;
mod channel_gather;
mod channel_scale;
mod concat;
mod conv2d;
mod dense;
mod depthwise;
mod dropout;
mod pool;
mod separable;

use super::place::{Placed, Places};
use super::stage::{Kind, Stage};
use crate::bf16::Bf16;
use crate::geometry::PoolGeometry;
use crate::graph::Op;
use crate::layers::pool::PoolKind;
use crate::layers::real::Real;
use crate::layers::run::Layer;

/// The layer of the stage that runs at `time`, with every place in memory that it uses.
pub(super) fn lower(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let (node, shape) = (places.context.node(stage), places.context.input_shape(stage));
    let is_depthwise = node.op.is_depthwise(shape);
    match (places.context.form(time).reads, &node.op) {
        (Kind::Bytes, _) => bytes::lower(places, stage),
        (Kind::Floats, Op::Conv2d(_)) if stage.project.is_some() => separable::lower::<f32>(places, stage),
        (Kind::Halves, Op::Conv2d(_)) if stage.project.is_some() => separable::lower::<Bf16>(places, stage),
        (Kind::Floats, Op::Conv2d(_)) if !is_depthwise => conv2d::lower(places, time, stage),
        (Kind::Halves, Op::Conv2d(_)) if !is_depthwise => conv2d::lower_halves(places, time, stage),
        (Kind::Floats, _) => lower_of::<f32>(places, time, stage),
        (Kind::Halves, _) => lower_of::<Bf16>(places, time, stage),
    }
}

/// The layer of a stage that is the same on numbers of either kind.
fn lower_of<E: Placed + Real>(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let (node, shape) = (places.context.node(stage), places.context.input_shape(stage));
    let window = |pool| PoolGeometry::new(&node.name, shape, pool).expect("shapes are checked");
    match &node.op {
        Op::Conv2d(_) => depthwise::lower::<E>(places, time, stage),
        Op::Dense(dense) => dense::lower::<E>(places, time, stage, dense),
        Op::BatchNorm(_) => batchnorm::lower::<E>(places, time, stage),
        Op::MaxPool2d(pool) => pool::lower::<E>(places, time, stage, (PoolKind::Max, window(pool))),
        Op::AvgPool2d(pool) => pool::lower::<E>(places, time, stage, (PoolKind::Avg, window(pool))),
        Op::GlobalAvgPool => pool::lower_mean::<E>(places, time, stage),
        Op::GlobalMaxPool => {
            pool::lower::<E>(places, time, stage, (PoolKind::GlobalMax, PoolGeometry::global(shape)))
        }
        Op::Activation(act) => activation::lower::<E>(places, time, stage, *act),
        Op::Dropout { rate } => dropout::lower::<E>(places, time, stage, *rate),
        Op::Add => add::lower::<E>(places, time, stage),
        Op::Concat => concat::lower::<E>(places, time, stage),
        Op::ChannelScale => channel_scale::lower::<E>(places, time, stage),
        Op::ChannelGather { channels } => channel_gather::lower::<E>(places, time, stage, channels),
        Op::Flatten => unreachable!("a flatten is an alias"),
    }
}
