//! 3x3 convolutions of stride 1 with fewer multiplications: Winograd's minimal filtering (Lavin and Gray, 2015).
//!
//! An output tile of `M x M` pixels is computed from `N x N = (M + 2)^2` pixels of input:
//! ```text
//! y  = A^T [ sum over cin:  (G w G^T) * (B^T x B) ] A          forward; the gradient of the input likewise
//! dw = G^T [ sum over tiles:  (B^T x B) * (A dy A^T) ] G       the gradient of the filters
//! ```
//! with products element by element, so that each of the `N * N` values is a matrix product over channels (over tiles
//! for `dw`): `N^2 / (9 M^2)` of the multiplications of the direct sum, 1/4 for `M = 4` and 4/9 for `M = 2`.
//!
//! - Some tile rows at a time ([`Winograd::block`]): their pixels are transformed into `[N * N][tiles][cin]`,
//!   multiplied with packed filters `[panel][N * N][cin][panel_width]` into `[N * N][tiles][cout]`, and transformed back with
//!   bias, residual and clamp. The block is what stays in a second-level cache; in batches it is larger where the filters
//!   do not stay there ([`Winograd::in_batches`]).
//! - A single image with few tiles is cut by channels and values instead ([`SharedTiles`]), so that each thread reads a
//!   part of the filters and not all of them.
//! - The gradient of the filters reads both sides of its products in panels written by the transforms.
//! - Rounding: sums over channels run as in the direct form, so the error grows with the transforms alone. Measured on
//!   normal data, the root mean square error against f64 is twice that of the direct form for `M = 4` and 0.6 times it
//!   for `M = 2`; the tests hold it below 4 and 2 times the direct form's.
//!
//! Sums do not depend on how tiles are grouped, so results do not depend on threads or on the batch.

mod gradient;
mod points;
mod shared;
mod tiles;

#[cfg(test)]
mod tests;

pub use gradient::FilterGradient;
pub use shared::SharedTiles;

use std::marker::PhantomData;
use std::ops::Range;

use crate::geometry::{Conv2dGeometry, saturating_product};
use crate::kernels::conv2d::SweepArgs;
use crate::kernels::micro::{self, Epilogue, Matrix};
use crate::kernels::pack::panels_len;
use crate::simd::{Isa, dispatch};
use points::{F2, F4, Points};
use tiles::{Filters, Gather, Grid, Input, Map, Place, Scatter};

/// Floats of transformed pixels and products that a block keeps in flight, and the fewest tiles that are worth reading
/// all filters for.
const BLOCK: usize = 96 * 1024;
const MIN_TILES: usize = 24;
/// Floats of filters (4 MiB) that no second-level cache holds, and the fewest tiles for which they are read.
const HEAVY: usize = 1 << 20;
const HEAVY_TILES: usize = 72;

/// Pixels of an output tile's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 2 x 2 outputs from 4 x 4 pixels.
    Two,
    /// 4 x 4 outputs from 6 x 6 pixels.
    Four,
}

impl Tile {
    /// Outputs along a side, `M`.
    pub fn outputs(self) -> usize {
        match self {
            Tile::Two => 2,
            Tile::Four => 4,
        }
    }

    /// Values of a transformed tile or filter, `N * N`.
    pub fn values(self) -> usize {
        (self.outputs() + 2).pow(2)
    }
}

/// Calls a function with the constants of a tile.
macro_rules! with_points {
    ($tile:expr, $function:ident($($argument:expr),*)) => {
        match $tile {
            Tile::Two => $function::<F2, 2, 4>($($argument),*),
            Tile::Four => $function::<F4, 4, 6>($($argument),*),
        }
    };
}
use with_points;

/// Whether a convolution can be computed this way: 3x3, stride and dilation 1, no groups.
pub fn fits(g: &Conv2dGeometry) -> bool {
    g.kernel == [3, 3] && g.stride == [1, 1] && g.dilation == [1, 1] && g.groups == 1
}

/// Floats between the values of a block: not a multiple of 4 KiB, or all values of a channel would fall into one set
/// of the first-level cache.
fn spread_out(len: usize) -> usize {
    len.next_multiple_of(16) + if len.next_multiple_of(16).is_multiple_of(512) { 16 } else { 0 }
}

/// A convolution, or its input gradient, prepared for one geometry and one panel width.
#[derive(Clone, Debug)]
pub struct Winograd {
    isa: Isa,
    tile: Tile,
    source: Grid,
    out: Grid,
    /// Rows of the reduction and columns of the filters.
    depth: usize,
    cols: usize,
    /// Distance in the weights between taps, rows and columns.
    steps: [usize; 3],
    mirrored: bool,
    /// Tile rows of a block.
    block: usize,
}

impl Winograd {
    /// Prepares `y = conv(x, w)`.
    ///
    /// # Panics
    /// When the geometry does not fit: see [`fits`].
    pub fn forward(isa: Isa, g: &Conv2dGeometry, tile: Tile) -> Self {
        assert!(fits(g), "a 3x3 convolution of stride 1");
        let out = [g.oh, g.ow, g.cout];
        let padding = [g.padding[0], g.padding[2]];
        let steps = [g.cin * g.cout, g.cout, 1];
        Self::new(isa, tile, ([g.h, g.w, g.cin], padding), out, steps)
    }

    /// Prepares `dx = conv_backward_data(dy, w)`: the convolution of `dy` with mirrored filters.
    ///
    /// # Panics
    /// When the geometry does not fit, or its padding is wider than the filter reaches.
    pub fn backward_data(isa: Isa, g: &Conv2dGeometry, tile: Tile) -> Self {
        assert!(fits(g) && g.padding.iter().all(|&p| p <= 2), "a 3x3 convolution of stride 1");
        let padding = [2 - g.padding[0], 2 - g.padding[2]];
        let steps = [g.cin * g.cout, 1, g.cout];
        let mut winograd = Self::new(isa, tile, ([g.oh, g.ow, g.cout], padding), [g.h, g.w, g.cin], steps);
        winograd.mirrored = true;
        winograd
    }

    fn new(
        isa: Isa,
        tile: Tile,
        ([h, w, c], [top, left]): ([usize; 3], [usize; 2]),
        [oh, ow, cols]: [usize; 3],
        steps: [usize; 3],
    ) -> Self {
        let m = tile.outputs();
        let tiles = [oh.div_ceil(m), ow.div_ceil(m)];
        let source = Grid { h, w, c, top, left, tiles };
        let out = Grid { h: oh, w: ow, c: cols, top: 0, left: 0, tiles };
        let count = (BLOCK / (tile.values() * (c + cols))).max(MIN_TILES);
        let block = count.div_ceil(tiles[1]);
        Winograd { isa, tile, source, out, depth: c, cols, steps, mirrored: false, block }
    }

    /// For batches, whose images fill larger blocks: filters that no second-level cache holds are read less often.
    pub fn in_batches(self) -> Self {
        let is_heavy = self.tile.values() * self.depth * self.cols > HEAVY;
        let fewest = HEAVY_TILES.div_ceil(self.out.tiles[1]);
        Winograd { block: if is_heavy { self.block.max(fewest) } else { self.block }, ..self }
    }

    /// Rows of tiles of one image.
    pub fn lines(&self) -> usize {
        self.out.tiles[0]
    }

    /// Tile rows that are transformed at once.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Output rows of a row of tiles; the last one of an image may have fewer.
    pub fn line_rows(&self) -> usize {
        self.tile.outputs()
    }

    /// Floats of a row of the output.
    pub fn row_len(&self) -> usize {
        self.out.w * self.out.c
    }

    /// Multiply-adds of one image.
    pub fn macs(&self) -> usize {
        saturating_product([self.tile.values(), self.out.tiles[0], self.out.tiles[1], self.depth, self.cols])
    }

    fn panel_len(&self) -> usize {
        self.tile.values() * self.depth * self.isa.nr()
    }

    /// Floats of the packed filters.
    pub fn packed_len(&self) -> usize {
        panels_len(self.tile.values() * self.depth, self.cols, self.isa.nr())
    }

    /// Floats of a panel of packed filters, the smallest part that [`Winograd::pack`] fills; the last may be shorter.
    pub fn pack_len(&self) -> usize {
        self.panel_len()
    }

    /// Transforms and packs weights `[3][3][cin][cout]`: the panel `index` of the packed filters.
    ///
    /// # Panics
    /// When `panel` does not have its length or `w` is too short.
    pub fn pack(&self, panel: &mut [f32], w: &[f32], index: usize) {
        assert_eq!(w.len(), 9 * self.depth * self.cols, "all weights");
        with_points!(self.tile, pack(self, panel, w, index));
    }

    /// Distances between the values of transformed pixels and of products, for `tiles` tiles.
    fn value_steps(&self, tiles: usize) -> [usize; 2] {
        [spread_out(tiles * self.depth), spread_out(tiles * self.cols)]
    }

    /// Floats of scratch that [`Winograd::run`] needs for `lines` tile rows.
    pub fn scratch_len(&self, lines: usize) -> usize {
        let tiles = lines.min(self.block) * self.out.tiles[1];
        self.tile.values() * self.value_steps(tiles).iter().sum::<usize>()
    }

    /// Floats of the output before tile row `line`, counted over all images.
    fn offset(&self, line: usize) -> usize {
        let Grid { h, w, c, tiles, .. } = self.out;
        (line / tiles[0] * h + (line % tiles[0] * self.tile.outputs()).min(h)) * w * c
    }

    /// Computes the outputs of tile rows `lines`, counted over all images of `args.x`; `y` are their pixels.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives.
    pub fn run(&self, y: &mut [f32], scratch: &mut [f32], args: SweepArgs, lines: Range<usize>) {
        let image = self.source.h * self.source.w * self.source.c;
        assert!(args.x.len().is_multiple_of(image), "x holds whole images");
        assert!(lines.end <= args.x.len() / image * self.lines(), "the lines exist");
        assert_eq!(y.len(), self.offset(lines.end) - self.offset(lines.start), "y holds the lines");
        assert_eq!(args.packed.len(), self.packed_len(), "the packed weights have their length");
        assert!(scratch.len() >= self.scratch_len(lines.len()), "scratch for a block");
        assert!(args.bias.is_none_or(|b| b.len() == self.cols), "a bias for every output channel");
        assert!(args.residual.is_none_or(|r| r.len() == y.len()), "a residual for every output");
        let first = self.offset(lines.start);
        for start in lines.clone().step_by(self.block) {
            let block = start..lines.end.min(start + self.block);
            let at = self.offset(start) - first..self.offset(block.end) - first;
            let residual = args.residual.map(|r| &r[at.clone()]);
            let block_args = SweepArgs { residual, ..args };
            with_points!(self.tile, run_block(self, &mut y[at], scratch, block_args, block));
        }
    }
}

fn pack<F: Points<M, N>, const M: usize, const N: usize>(
    winograd: &Winograd,
    panel: &mut [f32],
    w: &[f32],
    index: usize,
) {
    let [tap_step, row_step, col_step] = winograd.steps;
    let (nr, first) = (winograd.isa.nr(), index * winograd.isa.nr());
    let filters = Filters::<F, M, N> {
        panel,
        w,
        depth: winograd.depth,
        first,
        cols: nr.min(winograd.cols - first),
        tap_step,
        row_step,
        col_step,
        mirrored: winograd.mirrored,
        points: PhantomData,
    };
    dispatch(winograd.isa, filters);
}

/// Transforms the pixels of tile rows `lines` of `x`.
///
/// # Safety
/// The lines exist in `x`, and `out` is writable wherever `place` leads.
unsafe fn scatter<T: Map<P, Q>, const P: usize, const Q: usize>(
    isa: Isa,
    (out, place): (*mut f32, Place),
    x: &[f32],
    (grid, step): (&Grid, usize),
    (lines, channels): (Range<usize>, Range<usize>),
) {
    let x = x.as_ptr();
    dispatch(isa, Scatter::<T, P, Q> { out, place, x, grid, lines, step, channels, transform: PhantomData });
}

fn run_block<F: Points<M, N>, const M: usize, const N: usize>(
    winograd: &Winograd,
    y: &mut [f32],
    scratch: &mut [f32],
    args: SweepArgs,
    lines: Range<usize>,
) {
    let Winograd { isa, depth, cols, .. } = *winograd;
    let tiles = lines.len() * winograd.out.tiles[1];
    let [pixel_step, product_step] = winograd.value_steps(tiles);
    let (pixels, products) = scratch.split_at_mut(N * N * pixel_step);
    assert!(products.len() >= N * N * product_step, "scratch for the products");
    let place = Place { value: pixel_step, tile: depth, group: depth, group_step: 0 };
    // SAFETY: `run` checked that the lines exist; the pixels have room for every value of every tile.
    unsafe {
        let out = (pixels.as_mut_ptr(), place);
        scatter::<(Input<F>, [(); M]), N, N>(
            isa,
            out,
            args.x,
            (&winograd.source, M),
            (lines.clone(), 0..depth),
        );
    }
    for value in 0..N * N {
        let product = Matrix {
            x: pixels[value * pixel_step..].as_ptr(),
            x_step: depth,
            w: args.packed.as_ptr(),
            panel_step: winograd.panel_len(),
            panel_row: value * depth,
            y: products[value * product_step..].as_mut_ptr(),
            y_step: cols,
            rows: tiles,
            depth,
            cols,
            epilogue: Epilogue::NONE,
        };
        // SAFETY: pixels, filters and products have room for every tile and value, as found above.
        unsafe { micro::matrix(isa, &product) }
    }
    // SAFETY: `run` checked the lengths of outputs, bias and residual; the products are those of these lines.
    unsafe { gather::<F, M, N>(winograd, y, (products, product_step), args, lines) }
}

/// Transforms products `[N * N][tiles][cout]` of tile rows `lines` into their outputs.
///
/// # Safety
/// `y` (and a residual) holds the outputs of the lines, a bias every channel, `products` every value of their tiles.
unsafe fn gather<F: Points<M, N>, const M: usize, const N: usize>(
    winograd: &Winograd,
    y: &mut [f32],
    (products, value): (&[f32], usize),
    args: SweepArgs,
    lines: Range<usize>,
) {
    let clamp = args.clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let gather = Gather::<F, M, N> {
        y: y.as_mut_ptr(),
        products: products.as_ptr(),
        value,
        tile: winograd.cols,
        grid: &winograd.out,
        lines,
        epilogue: Epilogue {
            bias: args.bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
            residual: args.residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
            low: clamp.0,
            high: clamp.1,
            accumulate: false,
        },
        points: PhantomData,
    };
    dispatch(winograd.isa, gather);
}
