//! Pools of bytes.

use crate::arena::Slot;
use crate::geometry::PoolGeometry;
use crate::kernels::bytes::{self, Global};
use crate::layers::run::{Layer, Run};
use crate::layers::split::{by_rows, piece};

/// `y [n, oh, ow, c] = max pool(x [n, h, w, c])`, both of them bytes of one scale.
pub(crate) struct MaxPoolBytesLayer {
    pub(crate) geometry: PoolGeometry,
    pub(crate) x: Slot<u8>,
    pub(crate) y: Slot<u8>,
}

impl Layer for MaxPoolBytesLayer {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let all = &self.geometry;
        by_rows(threads, all.x_len() * *images, (y, *images), (all.oh, 1), |image, y, rows| {
            let (g, read) = all.band(rows);
            let row = g.w * g.c;
            let x = &piece(x, image, all.x_len())[read.start * row..read.end * row];
            bytes::max_pool(*isa, y, x, &g);
        });
    }

    /// Bytes have no gradients.
    fn backward(&self, _: &mut Run) {}
}

/// `y [n, c] = mean or max over the pixels of x [n, h, w, c]`: floats of bytes.
pub(crate) struct GlobalPoolBytesLayer {
    pub(crate) what: Global,
    pub(crate) x: Slot<u8>,
    pub(crate) y: Slot,
    /// Of each channel.
    pub(crate) scale: Vec<f32>,
    pub(crate) zero: u8,
}

impl Layer for GlobalPoolBytesLayer {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let (x_len, work) = (x.len() / *images, x.len() * 2);
        threads.pieces(work, y, self.scale.len(), |image, y| {
            let x = piece(x, image, x_len);
            bytes::global_pool(*isa, y, x, (&self.scale, self.zero), self.what);
        });
    }

    /// Bytes have no gradients.
    fn backward(&self, _: &mut Run) {}
}
