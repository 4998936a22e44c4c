//! Values whose channels are those of another value, in another order or number.

use crate::kernels::Number;
use crate::layers::channel_gather::ChannelGatherLayer;
use crate::layers::run::Layer;
use crate::plan::place::{Placed, Places};
use crate::plan::stage::Stage;

pub(super) fn lower<E: Placed + Number>(
    places: &mut Places,
    time: usize,
    stage: &Stage,
    channels: &[u32],
) -> Box<dyn Layer> {
    let input = stage.inputs[0];
    let cin = places.context.shapes[input].c as usize;
    let dy = places.has_backward(stage).then(|| places.grad_in::<E>(time, stage));
    let gradients = dy.and_then(|dy| Some((dy, places.grad_out(time, input)?)));
    let (x, y) = (places.value(input), places.value(stage.output));
    Box::new(ChannelGatherLayer::new((cin, channels), (x, y), gradients))
}
