//! Depthwise convolutions with the pointwise ones around them, at inference.

use super::depthwise;
use crate::kernels::gemm::{self, GemmShape};
use crate::layers::panels::Panels;
use crate::layers::real::Real;
use crate::layers::run::Layer;
use crate::layers::separable::{Pointwise, SeparableLayer};
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Real>(places: &mut Places, stage: &Stage) -> Box<dyn Layer> {
    let expand = stage.expand.as_ref().map(|expand| pointwise(places, expand));
    let depthwise = depthwise::filters(places, stage);
    let project = stage.project.as_ref().expect("a separable stage has a projection");
    let project = pointwise(places, project);
    let (x, y) = places.x_and_y(stage);
    let residual = stage.residual.map(|value| places.value(value));
    let layer = SeparableLayer::<E> { x, y, residual, expand, depthwise, project };
    places.need_scratch_of::<E>(layer.scratch_len());
    Box::new(layer)
}

fn pointwise<E: Placed + Real>(places: &mut Places, stage: &Stage) -> Pointwise<E> {
    let context = places.context;
    let [depth, cols] = [stage.inputs[0], stage.output].map(|value| context.shapes[value].c as usize);
    let shape = GemmShape { depth, cols };
    let filters = context.filters(stage, cols);
    let bias = if filters.has_bias() { shape.cols } else { 0 };
    let packed = places.take_panels(gemm::packed_len(E::products(context.exec.isa), shape), bias);
    places.need_folding(&filters);
    Pointwise { weights: Panels { shape, filters, packed }, act: stage.act }
}
