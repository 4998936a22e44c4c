//! Stages that read bytes.

use crate::geometry::PoolGeometry;
use crate::graph::Op;
use crate::kernels::bytes::Global;
use crate::kernels::conv2d::Sweep;
use crate::layers::bytes::{
    AddBytesLayer, ByteFilters, ByteResidual, Conv2dBytesLayer, DepthwiseBytesLayer, GlobalPoolBytesLayer,
    MaxPoolBytesLayer,
};
use crate::layers::run::Layer;
use crate::plan::place::Places;
use crate::plan::stage::Stage;
use crate::simd::DotIsa;

pub(super) fn lower(places: &mut Places, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let (node, shape) = (context.node(stage), context.input_shape(stage));
    let [input, output] = [stage.inputs[0], stage.output];
    let x = places.value(input);
    match &node.op {
        Op::Conv2d(_) => convolution(places, stage),
        Op::Add => {
            let other = stage.inputs[1];
            let x = [(x, context.scale(input)), (places.value(other), context.scale(other))];
            Box::new(AddBytesLayer::new(x, (places.value(output), context.scale(output))))
        }
        Op::MaxPool2d(pool) => {
            let geometry = PoolGeometry::new(&node.name, shape, pool).expect("shapes are checked");
            Box::new(MaxPoolBytesLayer { geometry, x, y: places.value(output) })
        }
        op => {
            let what = if matches!(op, Op::GlobalMaxPool) { Global::Max } else { Global::Mean };
            let scale = context.scale(input);
            let (y, zero) = (places.value(output), scale.zero);
            Box::new(GlobalPoolBytesLayer { what, x, y, scale: scale.channels(shape.c as usize), zero })
        }
    }
}

fn convolution(places: &mut Places, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let geometry = context.choice(stage).geometry;
    let filters = ByteFilters {
        filters: context.filters(stage, geometry.cout),
        scales: context.layer_scale(stage).clone(),
        input: context.scale(stage.inputs[0]).clone(),
        output: context.scale(stage.output).clone(),
        groups: geometry.groups,
        cin: geometry.cin,
    };
    places.need_folding(&filters.filters);
    let (x, y) = (places.value(stage.inputs[0]), places.value(stage.output));
    if geometry.is_depthwise() {
        let packed = places.take_packed(DepthwiseBytesLayer::packed_len(&filters));
        return Box::new(DepthwiseBytesLayer { geometry, x, y, filters, packed });
    }
    let residual = stage.residual.map(|value| {
        let scale = context.scale(value);
        ByteResidual {
            slot: places.value(value),
            scale: scale.scale / filters.output.scale,
            zero: scale.zero,
        }
    });
    let sweep = Sweep::forward(DotIsa::of(context.exec.isa), &geometry);
    let packed = places.take_packed(Conv2dBytesLayer::packed_len(&sweep));
    places.need_scratch(Conv2dBytesLayer::scratch_len(&sweep));
    Box::new(Conv2dBytesLayer { x, y, residual, filters, sweep, packed })
}
