//! Between bytes and floats.

use crate::arena::Slot;
use crate::kernels::bytes;
use crate::layers::run::{Layer, Run};
use crate::layers::split::{PIECE, piece};
use crate::quantization::ValueScale;

/// Bytes of a value that is there in floats.
pub(crate) struct QuantizeLayer {
    pub(crate) x: Slot,
    pub(crate) y: Slot<u8>,
    /// 1 / scale of each channel, or of all.
    inverse: Vec<f32>,
    zero: u8,
}

/// Floats of a value that is there in bytes.
pub(crate) struct DequantizeLayer {
    pub(crate) x: Slot<u8>,
    pub(crate) y: Slot,
    /// Of each channel.
    scale: Vec<f32>,
    zero: u8,
}

/// Numbers of a piece of work: whole pixels of `channels`.
fn pixels(channels: usize) -> usize {
    (PIECE / channels).max(1) * channels
}

impl QuantizeLayer {
    pub(crate) fn new((x, y): (Slot, Slot<u8>), scale: &ValueScale, channels: usize) -> Self {
        let count = if scale.factors.is_empty() { 1 } else { channels };
        let inverse = scale.channels(count).iter().map(|scale| 1.0 / scale).collect();
        QuantizeLayer { x, y, inverse, zero: scale.zero }
    }
}

impl DequantizeLayer {
    pub(crate) fn new((x, y): (Slot<u8>, Slot), scale: &ValueScale, channels: usize) -> Self {
        DequantizeLayer { x, y, scale: scale.channels(channels), zero: scale.zero }
    }
}

impl Layer for QuantizeLayer {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let len = pixels(self.inverse.len());
        threads.pieces(y.len() * 8, y, len, |i, y| {
            let x = piece(x, i, len);
            match self.inverse[..] {
                [inverse] => bytes::quantize(*isa, y, x, (inverse, self.zero)),
                _ => bytes::quantize_channels(y, x, (&self.inverse, self.zero)),
            }
        });
    }

    /// Bytes have no gradients.
    fn backward(&self, _: &mut Run) {}
}

impl Layer for DequantizeLayer {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let len = pixels(self.scale.len());
        threads.pieces(y.len() * 8, y, len, |i, y| {
            bytes::dequantize(*isa, y, piece(x, i, len), (&self.scale, self.zero));
        });
    }

    /// Bytes have no gradients.
    fn backward(&self, _: &mut Run) {}
}
