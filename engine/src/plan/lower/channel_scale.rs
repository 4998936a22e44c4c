//! Values whose channels are scaled by another value.

use crate::geometry::Conv2dGeometry;
use crate::kernels::Number;
use crate::layers::channel_scale::{ChannelScaleBackward, ChannelScaleLayer};
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let (x, s) = (stage.inputs[0], stage.inputs[1]);
    let mut backward = None;
    if places.has_backward(stage) {
        let dy = places.grad_in(time, stage);
        let (dx, ds) = (places.grad_out(time, x), places.grad_out(time, s));
        if dx.is_some() {
            places.keep::<f32>(s, time);
        }
        if ds.is_some() {
            places.keep::<E>(x, time);
        }
        backward = Some(ChannelScaleBackward { dy, dx, ds });
    }
    let geometry = Conv2dGeometry::per_channel(places.context.input_shape(stage));
    let (x, s, y) = (places.value::<E>(x), places.value(s), places.value(stage.output));
    Box::new(ChannelScaleLayer { geometry, x, s, y, backward })
}
