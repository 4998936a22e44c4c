//! Dense layers.

use crate::graph::Dense;
use crate::kernels::gemm::{self, GemmShape};
use crate::layers::dense::{DenseBackward, DenseDataGradient, DenseLayer};
use crate::layers::panels::Panels;
use crate::layers::real::Real;
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Real>(
    places: &mut Places,
    time: usize,
    stage: &Stage,
    dense: &Dense,
) -> Box<dyn Layer> {
    let context = places.context;
    let isa = context.exec.isa;
    let numbers = E::products(isa);
    let shape = GemmShape { depth: context.input_shape(stage).len(), cols: dense.units as usize };
    let filters = context.filters(stage, shape.cols);
    let bias = if filters.has_bias() { shape.cols } else { 0 };
    let packed = places.take_panels::<E>(gemm::packed_len(numbers, shape), bias);
    places.need_folding(&filters);
    // Zeros behind the rows of what a product reads, where it reads further than these reach.
    let padded = |places: &mut Places, shape: GemmShape, time: usize| {
        let depth = gemm::depth(numbers, shape);
        (depth > shape.depth).then(|| places.arena.add::<E>(depth, 0, time))
    };
    let mut backward = None;
    if places.has_backward(stage) {
        let now = context.backward_time(time);
        places.keep::<E>(stage.inputs[0], time);
        places.keep::<f32>(stage.output, time);
        let dy = places.grad_in(time, stage);
        let narrowed = E::NARROW.then(|| places.arena.add::<E>(shape.cols, 0, now));
        places.need_scratch_of::<E>(gemm::weight_gradient_scratch(numbers));
        let transposed = GemmShape { depth: shape.cols, cols: shape.depth };
        let dx = places.grad_out(time, stage.inputs[0]).map(|out| DenseDataGradient {
            out,
            packed: places.take_panels(gemm::packed_len(numbers, transposed), 0),
            padded: padded(places, transposed, now),
        });
        backward = Some(DenseBackward { dy, narrowed, dx });
    }
    let padded = padded(places, shape, time);
    let (x, y) = places.x_and_y(stage);
    let weights = Panels { shape, filters, packed };
    Box::new(DenseLayer { weights, x, padded, y, act: stage.act, backward })
}
