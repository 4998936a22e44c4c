//! Values whose channels are scaled by another value.

use crate::geometry::Conv2dGeometry;
use crate::layers::channel_scale::{ChannelScaleBackward, ChannelScaleLayer};
use crate::layers::run::Layer;
use crate::plan::place::Places;
use crate::plan::stage::Stage;

pub(super) fn lower(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let (x, s) = (stage.inputs[0], stage.inputs[1]);
    let mut backward = None;
    if places.has_backward(stage) {
        let dy = places.grad_in(time, stage);
        let [dx, ds] = [x, s].map(|value| places.grad_out(time, value));
        if dx.is_some() {
            places.keep(s, time);
        }
        if ds.is_some() {
            places.keep(x, time);
        }
        backward = Some(ChannelScaleBackward { dy, dx, ds });
    }
    let geometry = Conv2dGeometry::per_channel(places.context.input_shape(stage));
    let [x, s, y] = [x, s, stage.output].map(|value| places.value(value));
    Box::new(ChannelScaleLayer { geometry, x, s, y, backward })
}
