//! Dense layers.

use crate::graph::Dense;
use crate::kernels::gemm::{self, GemmShape};
use crate::layers::dense::{DenseBackward, DenseLayer};
use crate::layers::panels::Panels;
use crate::layers::run::Layer;
use crate::plan::place::Places;
use crate::plan::stage::Stage;

pub(super) fn lower(places: &mut Places, time: usize, stage: &Stage, dense: &Dense) -> Box<dyn Layer> {
    let context = places.context;
    let isa = context.exec.isa;
    let shape = GemmShape { depth: context.input_shape(stage).len(), cols: dense.units as usize };
    let filters = context.filters(stage, shape.cols);
    let packed = places.take_packed(Panels::len(isa, shape, &filters));
    places.need_folding(&filters);
    let mut backward = None;
    if places.has_backward(stage) {
        places.keep(stage.inputs[0], time);
        places.keep(stage.output, time);
        let dy = places.grad_in(time, stage);
        places.need_scratch(gemm::weight_gradient_scratch(isa));
        let transposed = GemmShape { depth: shape.cols, cols: shape.depth };
        let dx = places.grad_out(time, stage.inputs[0]);
        let dx = dx.map(|out| (out, places.take_packed(gemm::packed_len(isa, transposed))));
        backward = Some(DenseBackward { dy, dx });
    }
    let (x, y) = places.x_and_y(stage);
    let weights = Panels { shape, filters, packed };
    Box::new(DenseLayer { weights, x, y, act: stage.act, backward })
}
