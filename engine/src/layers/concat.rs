//! Joined channels.

use super::run::{GradOut, Layer, Run};
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::kernels::Number;

/// `y [n, h, w, c]`: every pixel's channels are those of all parts, one after the other.
pub(crate) struct ConcatLayer<E> {
    pub(crate) parts: Vec<Part<E>>,
    /// Channels of all parts.
    pub(crate) channels: usize,
    pub(crate) y: Slot<E>,
    /// Gradient of the output.
    pub(crate) dy: Option<Slot<E>>,
}

/// One of the joined values.
pub(crate) struct Part<E> {
    pub(crate) channels: usize,
    pub(crate) x: Slot<E>,
    pub(crate) dx: Option<GradOut<E>>,
}

impl<E: Number> ConcatLayer<E> {
    /// The parts, each with its first channel in the output.
    fn parts(&self) -> impl Iterator<Item = (usize, &Part<E>)> {
        let firsts = self.parts.iter().scan(0, |next, part| {
            *next += part.channels;
            Some(*next - part.channels)
        });
        firsts.zip(&self.parts)
    }

    /// Pixels of a piece of work.
    fn rows(&self) -> usize {
        (PIECE / self.channels).max(1)
    }
}

impl<E: Number> Layer for ConcatLayer<E> {
    fn forward(&self, run: &mut Run) {
        let (channels, rows) = (self.channels, self.rows());
        for (first, &Part { channels: own, x, .. }) in self.parts() {
            let ([y], [x]) = run.arena.split(run.images, [self.y], [x]);
            run.threads.pieces(x.len() * 8, y, rows * channels, |i, y| {
                let pixels = y.chunks_exact_mut(channels).zip(piece(x, i, rows * own).chunks_exact(own));
                pixels.for_each(|(y, x)| y[first..first + own].copy_from_slice(x));
            });
        }
    }

    fn backward(&self, run: &mut Run) {
        let Some(dy) = self.dy else { return };
        let (channels, rows) = (self.channels, self.rows());
        for (first, &Part { channels: own, dx, .. }) in self.parts() {
            let Some(dx) = dx else { continue };
            let ([out], [dy]) = run.arena.split(run.images, [dx.target()], [dy]);
            run.threads.pieces(out.len() * 8, out, rows * own, |i, out| {
                let pixels =
                    out.chunks_exact_mut(own).zip(piece(dy, i, rows * channels).chunks_exact(channels));
                pixels.for_each(|(dx, dy)| dx.copy_from_slice(&dy[first..first + own]));
            });
            dx.finish(run);
        }
    }
}
