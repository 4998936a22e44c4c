//! The gradient of the filters through Winograd's transforms.
//!
//! Tiles are transformed in chunks of some tile rows, each a piece of memory of its own so that threads can share the
//! work: `x` as `[N * N][tiles][cin]`, `dy` as `[N * N][panel][tiles][NR]`. Then each of the `N * N` values sums outer
//! products over the tiles of several chunks, in order, so the result does not depend on who did what.

use std::marker::PhantomData;
use std::ops::Range;

use super::tiles::{self, Grid, Input, Place, Spread};
use super::{F2, F4};
use super::{Points, Tile, fits, scatter, with_points};
use crate::geometry::Conv2dGeometry;
use crate::kernels::micro::{Arithmetic, Outer, OuterProducts};
use crate::simd::{Isa, MAX_NR, dispatch};

/// Tiles of a chunk: enough chunks for threads to share, each long enough to be read in a stream.
const CHUNK_TILES: usize = 32;
/// Tiles that one register tile sums before its accumulators go to memory, which then cost under 5 % of its
/// multiply-adds; a panel of `dy` is 8 or 16 KiB.
const CHAIN_TILES: usize = 128;
/// Floats of transformed tiles in flight, 8 MiB, and the fewest tiles: each time the whole sum is read and written.
const BLOCK: usize = 2 << 20;
const MIN_TILES: usize = 256;

/// `dw = conv_backward_weights(x, dy)` of a 3x3 convolution of stride 1, prepared for its geometry.
#[derive(Debug)]
pub struct FilterGradient {
    isa: Isa,
    tile: Tile,
    x: Grid,
    dy: Grid,
    /// Tile rows of a chunk, and chunks of a block.
    lines: usize,
    chunks: usize,
    /// Floats of a transformed tile of `x`, for one value.
    x_tile: usize,
}

impl FilterGradient {
    /// Prepares the gradient of `g`'s filters.
    ///
    /// # Panics
    /// When the geometry does not fit: see [`fits`].
    pub fn new(isa: Isa, g: &Conv2dGeometry, tile: Tile) -> Self {
        assert!(fits(g), "a 3x3 convolution of stride 1");
        let m = tile.outputs();
        let tiles = [g.oh.div_ceil(m), g.ow.div_ceil(m)];
        let x = Grid { h: g.h, w: g.w, c: g.cin, top: g.padding[0], left: g.padding[2], tiles };
        let dy = Grid { h: g.oh, w: g.ow, c: g.cout, top: 0, left: 0, tiles };
        let lines = CHUNK_TILES.div_ceil(tiles[1]);
        // One cache line more than the channels where tiles would fall into few sets of the first-level cache.
        let x_tile = g.cin + if g.cin.is_multiple_of(64) { 16 } else { 0 };
        let mut gradient = FilterGradient { isa, tile, x, dy, lines, chunks: 1, x_tile };
        // As long as with the widest panels, so that every instruction set cuts the sums at the same tiles.
        let widest: usize = gradient.value_steps(MAX_NR).iter().sum();
        let tiles = (BLOCK / (tile.values() * widest / gradient.chunk_tiles())).max(MIN_TILES);
        gradient.chunks = tiles.div_ceil(gradient.chunk_tiles());
        gradient
    }

    fn chunk_tiles(&self) -> usize {
        self.lines * self.x.tiles[1]
    }

    /// Floats of one value of a chunk: of `x`, and of `dy` in panels of `nr` columns.
    fn value_steps(&self, nr: usize) -> [usize; 2] {
        let (tiles, columns) = (self.chunk_tiles(), self.dy.c.next_multiple_of(nr));
        [super::spread_out(tiles * self.x_tile), super::spread_out(tiles * columns)]
    }

    /// Multiply-adds of one image.
    pub fn macs(&self) -> usize {
        self.tile.values() * self.x.tiles[0] * self.x.tiles[1] * self.x.c * self.dy.c
    }

    /// Rows of a value's sums: input channels.
    pub fn rows(&self) -> usize {
        self.x.c
    }

    /// Rows that make a piece of work: half of them where they are many, so that there are more pieces than threads.
    pub fn piece_rows(&self) -> usize {
        if self.x.c >= 128 && self.x.c.is_multiple_of(2) { self.x.c / 2 } else { self.x.c }
    }

    /// Values of a transformed tile.
    pub fn values(&self) -> usize {
        self.tile.values()
    }

    /// Tile rows of a chunk, chunks of a block, and floats of a chunk.
    pub fn chunk_lines(&self) -> usize {
        self.lines
    }

    /// Chunks that are in flight at once.
    pub fn block_chunks(&self) -> usize {
        self.chunks
    }

    /// Floats of a transformed chunk.
    pub fn chunk_len(&self) -> usize {
        self.tile.values() * self.value_steps(self.isa.nr()).iter().sum::<usize>()
    }

    /// Rows of tiles of `images` images.
    pub fn line_count(&self, images: usize) -> usize {
        images * self.x.tiles[0]
    }

    /// Floats of the sums of all values, `[N * N][cin][cout]`.
    pub fn sums_len(&self) -> usize {
        self.tile.values() * self.x.c * self.dy.c
    }

    /// Transforms tile rows `lines`, counted over all images, into a chunk; missing tiles become zeros.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives.
    pub fn transform(&self, chunk: &mut [f32], x: &[f32], dy: &[f32], lines: Range<usize>) {
        let images = x.len() / (self.x.h * self.x.w * self.x.c);
        assert_eq!(x.len(), images * self.x.h * self.x.w * self.x.c, "x holds whole images");
        assert_eq!(dy.len(), images * self.dy.h * self.dy.w * self.dy.c, "dy holds as many images");
        assert!(lines.end <= self.line_count(images) && lines.len() <= self.lines, "the lines exist");
        assert_eq!(chunk.len(), self.chunk_len(), "a chunk has its length");
        if lines.len() < self.lines {
            chunk.fill(0.0);
        }
        with_points!(self.tile, transform(self, chunk, x, dy, lines));
    }

    /// Adds the outer products of `chunks` to rows `rows` of value `value` of the sums: `sums` is `[rows][cout]`.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives.
    pub fn accumulate(&self, sums: &mut [f32], chunks: &[f32], value: usize, rows: Range<usize>) {
        let chunk_len = self.chunk_len();
        let (nr, cols, tiles) = (self.isa.nr(), self.dy.c, self.chunk_tiles());
        assert!(chunks.len().is_multiple_of(chunk_len), "whole chunks");
        assert_eq!(sums.len(), rows.len() * cols, "sums hold the rows");
        assert!(rows.end <= self.x.c && value < self.tile.values(), "rows and value exist");
        let [x_value, dy_value] = self.value_steps(nr);
        let x_at = value * x_value + rows.start;
        let dy_at = self.tile.values() * x_value + value * dy_value;
        let chain = CHAIN_TILES.div_ceil(tiles);
        for chained in chunks.chunks(chain * chunk_len) {
            // A panel of `dy` stays in the first-level cache while all rows of `x` pass by.
            for panel in 0..cols.div_ceil(nr) {
                let row_tiles = rows.len().div_ceil(self.isa.tile_rows(cols - panel * nr));
                for tile in 0..row_tiles {
                    let (begin, end) = (tile * rows.len() / row_tiles, (tile + 1) * rows.len() / row_tiles);
                    let outer = Outer {
                        x: chained[x_at + begin..].as_ptr(),
                        dy: chained[dy_at + panel * tiles * nr..].as_ptr(),
                        count: [chained.len() / chunk_len, 1, tiles],
                        x_step: [chunk_len, 0, self.x_tile],
                        dy_step: [chunk_len, 0, nr],
                        dw: sums[begin * cols + panel * nr..].as_mut_ptr(),
                        dw_step: cols,
                        cols: nr.min(cols - panel * nr),
                    };
                    // SAFETY: every tile of every chunk has `cin` channels of `x` and whole panels of `dy` for this
                    // value; rows and columns were checked; an even split makes no tile larger than MR.
                    unsafe { self.isa.outer(end - begin, &outer) }
                }
            }
        }
    }

    /// Turns sums into the gradient of the filters `first ..` of `[cin * cout]`: `dw` are these of each tap, overwritten
    /// or, with `added`, added to.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives.
    pub fn finish(&self, dw: [&mut [f32]; 9], sums: &[f32], first: usize, added: bool) {
        assert_eq!(sums.len(), self.sums_len(), "the sums of all values");
        with_points!(self.tile, finish(self.isa, dw, sums, (first, added)));
    }
}

fn transform<F: Points<M, N>, const M: usize, const N: usize>(
    gradient: &FilterGradient,
    chunk: &mut [f32],
    x: &[f32],
    dy: &[f32],
    lines: Range<usize>,
) {
    let [x_value, dy_value] = gradient.value_steps(gradient.isa.nr());
    let (isa, cin) = (gradient.isa, gradient.x.c);
    let (pixels, gradients) = chunk.split_at_mut(N * N * x_value);
    let place = Place { value: x_value, tile: gradient.x_tile, group: cin, group_step: 0 };
    // SAFETY: the lines exist, and a chunk has room for every value of every tile.
    unsafe {
        let out = (pixels.as_mut_ptr(), place);
        scatter::<(Input<F>, [(); M]), N, N>(isa, out, x, (&gradient.x, M), (lines.clone(), 0..cin));
    }
    let nr = isa.nr();
    let place = Place { value: dy_value, tile: nr, group: nr, group_step: gradient.chunk_tiles() * nr };
    // SAFETY: as above; columns go into panels of NR.
    unsafe {
        let out = (gradients.as_mut_ptr(), place);
        scatter::<(Spread<F>, [(); M]), M, N>(isa, out, dy, (&gradient.dy, M), (lines, 0..gradient.dy.c));
    }
}

fn finish<F: Points<M, N>, const M: usize, const N: usize>(
    isa: Isa,
    dw: [&mut [f32]; 9],
    du: &[f32],
    (first, added): (usize, bool),
) {
    dispatch(isa, tiles::FilterGradient::<F, M, N> { dw, du, first, added, points: PhantomData });
}
