//! Channels in another order, some of them, or some of them more than once.

use super::run::{GradOut, Layer, Run};
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::kernels::Number;

/// `y [n, h, w, i] = x [n, h, w, channels[i]]`
pub(crate) struct ChannelGatherLayer<E> {
    /// Channels of the input.
    cin: usize,
    /// The input channel of each output channel.
    channels: Vec<usize>,
    x: Slot<E>,
    y: Slot<E>,
    backward: Option<ChannelGatherBackward<E>>,
}

/// What the backward pass of a [`ChannelGatherLayer`] needs.
struct ChannelGatherBackward<E> {
    dy: Slot<E>,
    dx: GradOut<E>,
    /// The output channels in the order of the input channels that they are.
    readers: Vec<usize>,
    /// Where those of each input channel begin in `readers`; one more marks the end.
    starts: Vec<usize>,
}

impl<E: Number> ChannelGatherLayer<E> {
    /// The layer for an input of `cin` channels; `gradients` are those of output and input, where the input needs one.
    pub(crate) fn new(
        (cin, channels): (usize, &[u32]),
        (x, y): (Slot<E>, Slot<E>),
        gradients: Option<(Slot<E>, GradOut<E>)>,
    ) -> Self {
        let channels: Vec<usize> = channels.iter().map(|&channel| channel as usize).collect();
        let backward = gradients.map(|(dy, dx)| {
            let mut readers: Vec<usize> = (0..channels.len()).collect();
            // Stable: the sums of an input channel are in the order of the output.
            readers.sort_by_key(|&output| channels[output]);
            let starts = (0..=cin).map(|c| readers.partition_point(|&output| channels[output] < c)).collect();
            ChannelGatherBackward { dy, dx, readers, starts }
        });
        ChannelGatherLayer { cin, channels, x, y, backward }
    }

    /// Pixels of a piece of work.
    fn rows(&self) -> usize {
        (PIECE / self.cin.max(self.channels.len())).max(1)
    }
}

impl<E: Number> Layer for ChannelGatherLayer<E> {
    fn forward(&self, run: &mut Run) {
        let (rows, cin, cout) = (self.rows(), self.cin, self.channels.len());
        let ([y], [x]) = run.arena.split(run.images, [self.y], [self.x]);
        run.threads.pieces(y.len() * 8, y, rows * cout, |i, y| {
            let pixels = y.chunks_exact_mut(cout).zip(piece(x, i, rows * cin).chunks_exact(cin));
            pixels.for_each(|(y, x)| y.iter_mut().zip(&self.channels).for_each(|(y, &c)| *y = x[c]));
        });
    }

    fn backward(&self, run: &mut Run) {
        let Some(ChannelGatherBackward { dy, dx, readers, starts }) = &self.backward else { return };
        let (rows, cin, cout) = (self.rows(), self.cin, self.channels.len());
        let ([out], [dy]) = run.arena.split(run.images, [dx.target()], [*dy]);
        run.threads.pieces(out.len() * 8, out, rows * cin, |i, out| {
            let pixels = out.chunks_exact_mut(cin).zip(piece(dy, i, rows * cout).chunks_exact(cout));
            for (dx, dy) in pixels {
                for (dx, range) in dx.iter_mut().zip(starts.windows(2)) {
                    let sum = |sum: f32, &output: &usize| sum + dy[output].into();
                    *dx = readers[range[0]..range[1]].iter().fold(0.0, sum).into();
                }
            }
        });
        dx.finish(run);
    }
}
