//! Depthwise convolutions.

use crate::kernels::Number;
use crate::layers::depthwise::{DepthwiseBackward, DepthwiseFilters, DepthwiseLayer};
use crate::layers::run::Layer;
use crate::layers::split::weight_chunks;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let depthwise = filters(places, stage);
    let mut backward = None;
    if places.has_backward(stage) {
        let own = &depthwise.filters;
        let partial_len = own.w.len() + own.sums().map_or(0, ExactSizeIterator::len);
        let now = context.backward_time(time);
        let partials = places.arena.add(0, weight_chunks(partial_len) * partial_len, now);
        places.keep::<E>(stage.output, time);
        let dy = places.grad_in(time, stage);
        let dx = places.grad_out(time, stage.inputs[0]).map(|out| (out, places.before(time)));
        backward = Some(DepthwiseBackward { dy, behind: places.behind(time), dx, partials });
    }
    let (input, y, take) =
        (places.input(time), places.value(stage.output), places.take_of_outputs(stage.output));
    let layer = DepthwiseLayer::<E> { depthwise, input, y, take, backward };
    places.need_scratch_of::<E>(layer.scratch_len());
    Box::new(layer)
}

/// The filters of a depthwise convolution, with their place among the packed weights.
pub(super) fn filters(places: &mut Places, stage: &Stage) -> DepthwiseFilters {
    let geometry = places.context.choice(stage).geometry;
    let filters = places.context.filters(stage, geometry.cout);
    let packed = places.take_packed(DepthwiseFilters::len(&filters));
    places.need_folding(&filters);
    DepthwiseFilters { geometry, act: stage.act, filters, packed }
}
