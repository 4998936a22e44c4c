//! One image with few tiles, in three steps that threads share.
//!
//! Cut into tiles, each thread would read all filters for a handful of tiles. So the work is cut another way in each
//! step, always into pieces of memory of their own: pixels are transformed by groups of channels into
//! `[group][N * N][tiles][CHANNELS]`, products are computed by values into `[N * N][tiles][cout]`, and outputs by rows of
//! tiles. Sums run over channels in the same order as in a block of tiles, to the same bits.

use std::ops::Range;

use super::points::{F2, F4, Points};
use super::tiles::{Input, Place};
use super::{Tile, Winograd, gather, scatter, with_points};
use crate::kernels::conv2d::SweepArgs;
use crate::kernels::micro::{self, Epilogue, Product, Strided};
use crate::kernels::pack::panel_width;

/// Channels of a group: a multiple of every vector, few enough for more groups than threads.
const CHANNELS: usize = 32;
/// Most tiles of an image that is cut this way; with more, blocks of tiles share filters well enough.
const MAX_TILES: usize = 64;

/// A [`Winograd`] prepared for one image whose work is shared by channels and values.
#[derive(Debug)]
pub struct SharedTiles {
    winograd: Winograd,
    /// Where each group of channels begins in the transformed pixels.
    groups: Vec<usize>,
}

impl SharedTiles {
    /// The shared form, where it pays.
    pub fn new(winograd: &Winograd) -> Option<Self> {
        let [down, across] = winograd.out.tiles;
        if down * across > MAX_TILES || !winograd.depth.is_multiple_of(CHANNELS) {
            return None;
        }
        let mut shared = SharedTiles { winograd: winograd.clone(), groups: Vec::new() };
        let group_len = shared.group_len();
        shared.groups = (0..winograd.depth / CHANNELS).map(|group| group * group_len).collect();
        Some(shared)
    }

    fn tiles(&self) -> usize {
        self.winograd.out.tiles.iter().product()
    }

    /// Multiply-adds of the image.
    pub fn macs(&self) -> usize {
        self.winograd.macs()
    }

    /// Floats of the outputs of a row of tiles; the last one may have fewer.
    pub fn line_len(&self) -> usize {
        self.winograd.line_rows() * self.winograd.row_len()
    }

    /// Floats of a group of transformed channels.
    pub fn group_len(&self) -> usize {
        self.winograd.tile.values() * self.value_len()
    }

    fn value_len(&self) -> usize {
        super::spread_out(self.tiles() * CHANNELS)
    }

    /// Floats of all transformed pixels.
    pub fn pixels_len(&self) -> usize {
        self.groups.len() * self.group_len()
    }

    /// Floats of the products of one value.
    pub fn product_len(&self) -> usize {
        super::spread_out(self.tiles() * self.winograd.cols)
    }

    /// Floats of all products.
    pub fn products_len(&self) -> usize {
        self.winograd.tile.values() * self.product_len()
    }

    /// Transforms group `index` of the channels of image `x`.
    ///
    /// # Panics
    /// When a slice does not have its length.
    pub fn transform(&self, group: &mut [f32], x: &[f32], index: usize) {
        let source = &self.winograd.source;
        assert_eq!(group.len(), self.group_len(), "a group has its length");
        assert_eq!(x.len(), source.h * source.w * source.c, "x holds an image");
        assert!(index < self.groups.len(), "the group exists");
        let channels = index * CHANNELS..(index + 1) * CHANNELS;
        with_points!(self.winograd.tile, transform(self, group, x, channels));
    }

    /// Multiplies value `value` of all tiles with its filters.
    ///
    /// # Panics
    /// When a slice does not have its length.
    pub fn multiply(&self, products: &mut [f32], pixels: &[f32], packed: &[f32], value: usize) {
        let Winograd { isa, depth, cols, tile, .. } = self.winograd;
        assert_eq!(products.len(), self.product_len(), "products have their length");
        assert_eq!(pixels.len(), self.pixels_len(), "pixels have their length");
        assert_eq!(packed.len(), self.winograd.packed_len(), "the packed weights have their length");
        assert!(value < tile.values(), "the value exists");
        let nr = isa.nr();
        for panel in 0..cols.div_ceil(nr) {
            let cols_here = nr.min(cols - panel * nr);
            let first = panel * self.winograd.panel_len() + value * depth * panel_width(cols_here, nr);
            let product = Product {
                x: pixels[value * self.value_len()..].as_ptr(),
                rows: Strided { x: CHANNELS, y: cols },
                taps: &self.groups,
                run: CHANNELS,
                w: packed[first..].as_ptr(),
                y: products[panel * nr..].as_mut_ptr(),
                cols: cols_here,
                epilogue: Epilogue::NONE,
            };
            // SAFETY: every group has this value of every tile, a panel has this value of every channel, and there is
            // room for the products of every tile.
            unsafe { micro::line(isa, self.tiles(), &product, [0, 0]) }
        }
    }

    /// Turns products into the outputs `y` of tile row `line`; of `args`, bias, residual and clamp are used.
    ///
    /// # Panics
    /// When a slice does not have its length.
    pub fn outputs(&self, y: &mut [f32], products: &[f32], args: SweepArgs, line: usize) {
        let winograd = &self.winograd;
        assert!(line < winograd.lines(), "the line exists");
        assert_eq!(y.len(), winograd.offset(line + 1) - winograd.offset(line), "y holds the line");
        assert_eq!(products.len(), self.products_len(), "products have their length");
        assert!(args.bias.is_none_or(|b| b.len() == winograd.cols), "a bias for every output channel");
        assert!(args.residual.is_none_or(|r| r.len() == y.len()), "a residual for every output");
        with_points!(winograd.tile, outputs(self, y, products, args, line));
    }
}

fn transform<F: Points<M, N>, const M: usize, const N: usize>(
    shared: &SharedTiles,
    group: &mut [f32],
    x: &[f32],
    channels: Range<usize>,
) {
    let winograd = &shared.winograd;
    let place = Place { value: shared.value_len(), tile: CHANNELS, group: CHANNELS, group_step: 0 };
    // SAFETY: `x` is one image; a group has room for its channels of every value of every tile.
    unsafe {
        let out = (group.as_mut_ptr(), place);
        let lines = 0..winograd.lines();
        scatter::<(Input<F>, [(); M]), N, N>(winograd.isa, out, x, (&winograd.source, M), (lines, channels));
    }
}

fn outputs<F: Points<M, N>, const M: usize, const N: usize>(
    shared: &SharedTiles,
    y: &mut [f32],
    products: &[f32],
    args: SweepArgs,
    line: usize,
) {
    let winograd = &shared.winograd;
    let first = line * winograd.out.tiles[1] * winograd.cols;
    // SAFETY: lengths were checked; from the line's first tile on there are products of all its tiles for every value.
    unsafe {
        gather::<F, M, N>(winograd, y, (&products[first..], shared.product_len()), args, line..line + 1)
    }
}
