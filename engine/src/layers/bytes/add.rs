//! Residual sums of bytes.

use crate::arena::Slot;
use crate::kernels::bytes;
use crate::layers::run::{Layer, Run};
use crate::layers::split::{PIECE, piece};
use crate::quantization::ValueScale;

/// `y = act(a + b)`, all of them bytes.
pub(crate) struct AddBytesLayer {
    x: [Slot<u8>; 2],
    y: Slot<u8>,
    /// Steps of the output in a step of each input.
    factors: [f32; 2],
    offset: f32,
}

impl AddBytesLayer {
    /// The sum of values with one scale for all channels.
    pub(crate) fn new(x: [(Slot<u8>, &ValueScale); 2], (y, scale): (Slot<u8>, &ValueScale)) -> Self {
        let factors = x.map(|(_, x)| x.scale / scale.scale);
        let zeros = f32::from(x[0].1.zero) * factors[0] + f32::from(x[1].1.zero) * factors[1];
        AddBytesLayer { x: x.map(|(slot, _)| slot), y, factors, offset: f32::from(scale.zero) - zeros }
    }
}

impl Layer for AddBytesLayer {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], x) = arena.split(*images, [self.y], self.x);
        threads.pieces(y.len() * 4, y, PIECE, |i, y| {
            bytes::add(*isa, y, x.map(|x| piece(x, i, PIECE)), self.factors, self.offset);
        });
    }

    /// Bytes have no gradients.
    fn backward(&self, _: &mut Run) {}
}
