//! Tiles of `T` neighbouring pixels of an output row: where they lie, what they read, in which order they come.
//!
//! What a tile reads of one row of the other image is its *window*. On the axis of columns the taps of output
//! `out` begin at `(STEP out - offset) / RATE`; `RATE` 2 is the gradient of stride 2, whose outputs have every
//! second tap alone. The few columns of a window that may lie in padding have a pointer each, which stays on
//! zeros; a branch for each would cost registers that the sums need (5x5 ran at 46 % of the peak, not 80).

use super::axis::{Axis, Taps};
use crate::geometry::Conv2dGeometry;
use crate::kernels::lanes::Stored;
use crate::simd::{Isa, Kernel, MAX_LANES, Simd, dispatch};
use std::ops::Range;

/// Channels of a pass over the image: the rows of a tile's window and the panels stay in the first-level cache.
const fn pass_channels(kernel: usize) -> usize {
    if kernel == 3 { 96 } else { 64 }
}

/// Channels that are not worth two passes: whole rows of few channels are read as one stream.
const FEW_CHANNELS: usize = 160;

/// Taps of the largest filter.
const MAX_TAPS: usize = 25;

/// Columns of a window that may be padding.
const MAX_EDGES: usize = 4;

/// Rows of a band, over which panels are kept.
const BAND: usize = 16;

/// Numbers for each lane of a pass besides those of its taps.
const MAX_HEADER: usize = 2;

/// One number for each lane, tap and vector of a pass, and a header: filters and bias, or their gradients.
#[repr(align(64))]
struct Panels([f32; FEW_CHANNELS * (MAX_HEADER + MAX_TAPS)]);

/// Consecutive vectors of channels. The last one may overlap the one before.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    first: usize,
    pub(super) count: usize,
    /// Channels of a pixel.
    c: usize,
}

impl Channels {
    /// First channel of vector `v`.
    #[inline(always)]
    pub(super) fn column<S: Simd>(self, v: usize) -> usize {
        (self.first + v * S::LANES).min(self.c - S::LANES)
    }

    /// Channels of vector `v` that belong to the vector before it.
    #[inline(always)]
    pub(super) fn overlap<S: Simd>(self, v: usize) -> usize {
        self.first + v * S::LANES - self.column::<S>(v)
    }
}

/// What is done with tiles. Implementations are `#[inline(always)]`.
pub(super) trait Work: Copy {
    /// Numbers of the image that tiles read.
    type E: Stored;

    /// Fills the panels of some channels: a header and as many vectors as taps for each of theirs.
    ///
    /// # Safety
    /// The channels exist and `panels` has room for them.
    unsafe fn open<S: Simd, const KW: usize, const RATE: usize>(
        &self,
        s: S,
        panels: *mut f32,
        channels: Channels,
    );

    /// One tile.
    ///
    /// # Safety
    /// `panels` is what [`Work::open`] filled for these channels; the tile lies in the image of outputs.
    unsafe fn tile<S: Simd, const T: usize, const KW: usize, const STEP: usize, const RATE: usize>(
        &self,
        s: S,
        panels: *mut f32,
        tile: Tile<Self::E, T, KW, STEP, RATE>,
        channels: Channels,
    );

    /// Takes what tiles left in the panels.
    ///
    /// # Safety
    /// As for [`Work::tile`].
    unsafe fn close<S: Simd, const KW: usize>(&self, s: S, panels: *const f32, channels: Channels);
}

/// An image that tiles read, and which of their outputs are asked for.
#[derive(Clone, Copy)]
pub(super) struct Plane<E> {
    pub(super) from: *const E,
    pub(super) c: usize,
    pub(super) rows: Axis,
    pub(super) cols: Axis,
    /// Output rows: the first and how many.
    pub(super) first_row: usize,
    pub(super) row_count: usize,
    /// Output columns.
    pub(super) width: usize,
}

impl<E: Stored> Plane<E> {
    /// The outputs of rows `rows` of a convolution that reads `from`, or of its gradient.
    pub(super) fn new(from: &[E], g: &Conv2dGeometry, transposed: bool, rows: Range<usize>) -> Self {
        Plane {
            from: from.as_ptr(),
            c: g.cout,
            rows: Axis::new(g, 0, transposed),
            cols: Axis::new(g, 1, transposed),
            first_row: rows.start,
            row_count: rows.len(),
            width: if transposed { g.w } else { g.ow },
        }
    }

    /// Does the work of convolutions for all columns that tiles reach, and gives their range.
    ///
    /// # Safety
    /// The image is one of this plane; what `work` points to fits it.
    pub(super) unsafe fn tiled(self, isa: Isa, work: impl Work<E = E>) -> Range<usize> {
        let Axis { kernel, stride, dilation, .. } = self.cols;
        // SAFETY: the contract of this function.
        unsafe {
            match (kernel, stride, dilation) {
                // Narrow images of small inputs; at stride 2 they are few.
                (3, 1, 1) if self.width < 7 => self.tiles_of::<4, 3, 1, 1>(isa, work),
                (3, 1, 1) if self.prefers_eight() => self.tiles_of::<8, 3, 1, 1>(isa, work),
                (3, 1, 1) => self.tiles_of::<7, 3, 1, 1>(isa, work),
                (3, 2, 1) => self.tiles_of::<7, 3, 2, 1>(isa, work),
                (5, 1, 1) if self.width < 7 => self.tiles_of::<4, 5, 1, 1>(isa, work),
                (5, 1, 1) if self.prefers_eight() => self.tiles_of::<8, 5, 1, 1>(isa, work),
                (5, 1, 1) => self.tiles_of::<7, 5, 1, 1>(isa, work),
                (5, 2, 1) => self.tiles_of::<7, 5, 2, 1>(isa, work),
                _ => 0..0,
            }
        }
    }

    /// Rows of 7, 14 and 28 pixels are whole tiles of 7, powers of two are tiles of 8.
    fn prefers_eight(self) -> bool {
        let cost = |t: usize| self.width.div_ceil(t) * (t + 1);
        cost(8) < cost(7)
    }

    /// As [`Plane::tiled`], with tiles of one kind.
    ///
    /// # Safety
    /// As [`Plane::tiled`]; the kernel and the stride are those of the tiles.
    pub(super) unsafe fn tiles_of<const T: usize, const KW: usize, const STEP: usize, const RATE: usize>(
        self,
        isa: Isa,
        work: impl Work<E = E>,
    ) -> Range<usize> {
        let Axis { size, padding, transposed, .. } = self.cols;
        let (step, rate) = (STEP as isize, RATE as isize);
        let (last, edge) = (last_tap(KW, RATE) as isize, edge(KW, RATE) as isize);
        let offset = if transposed { last - padding as isize } else { padding as isize };
        // The outputs whose taps leave the image by no more than `edge` columns.
        let mut begin = (offset - edge * rate).max(0).unsigned_abs().div_ceil(STEP);
        begin += (begin as isize - offset).rem_euclid(rate).unsigned_abs();
        let end = (rate * (size as isize + edge) - 1 - last + offset).div_euclid(step) + 1;
        let end = usize::try_from(end).unwrap_or(0).min(self.width);
        if begin + T > end || self.rows.kernel * KW > MAX_TAPS {
            return 0..0;
        }
        let last = (end - begin - T) / RATE * RATE;
        let walk = Walk::<T, KW, STEP, RATE, _> { plane: self, begin, last, offset, work };
        if dispatch(isa, walk) { begin..begin + last + T } else { 0..0 }
    }
}

/// The filter's column by which the first output of a tile reads the first column of its window. At half rate
/// tiles begin with those outputs that have the middle tap, if its number is odd, and else with the others.
const fn last_tap(kernel: usize, rate: usize) -> usize {
    if rate == 1 { kernel - 1 } else { kernel - 1 - (kernel - 1 + kernel / 2) % 2 }
}

/// Columns by which a window may leave the image on either side.
const fn edge(kernel: usize, rate: usize) -> usize {
    if rate == 1 { kernel / 2 } else { 1 }
}

/// A tile and its window.
#[derive(Clone, Copy)]
pub(super) struct Tile<E, const T: usize, const KW: usize, const STEP: usize, const RATE: usize> {
    /// Output row, counted from the first that is asked for, and first output column.
    pub(super) row: usize,
    pub(super) column: usize,
    /// Outputs that belong to the tile before.
    pub(super) overlap: usize,
    /// The rows of its window and the filter's rows that they meet.
    pub(super) taps: Taps,
    from: *const E,
    c: usize,
    row_step: usize,
    /// Where the columns at the edges are, and what channels and rows add to them: all or nothing.
    edges: [(*const E, usize); MAX_EDGES],
}

impl<E: Stored, const T: usize, const KW: usize, const STEP: usize, const RATE: usize>
    Tile<E, T, KW, STEP, RATE>
{
    const LAST_TAP: usize = last_tap(KW, RATE);
    /// Columns of the window.
    pub(super) const COLUMNS: usize = (STEP * (T - 1) + Self::LAST_TAP) / RATE + 1;

    /// The column of the window that output `t` reads with its tap number `i`, and that tap; taps are counted in
    /// the order of columns.
    #[inline(always)]
    pub(super) const fn read(t: usize, i: usize) -> Option<(usize, usize)> {
        if RATE == 1 {
            return Some((t * STEP + i, i));
        }
        let tap = KW - 1 - i;
        let twice = (Self::LAST_TAP + t).wrapping_sub(tap);
        if twice.is_multiple_of(RATE) && twice / RATE < Self::COLUMNS {
            Some((twice / RATE, tap))
        } else {
            None
        }
    }

    /// The first row of the window, from channel `channel` on.
    #[inline(always)]
    pub(super) fn window(&self, channel: usize) -> Window<'_, E, T, KW, STEP, RATE> {
        let edges = self.edges.map(|(from, mask)| from.wrapping_add(channel & mask));
        Window { tile: self, from: self.from.wrapping_add(channel), edges }
    }
}

/// One row of a tile's window.
pub(super) struct Window<'a, E, const T: usize, const KW: usize, const STEP: usize, const RATE: usize> {
    tile: &'a Tile<E, T, KW, STEP, RATE>,
    from: *const E,
    edges: [*const E; MAX_EDGES],
}

impl<E: Stored, const T: usize, const KW: usize, const STEP: usize, const RATE: usize>
    Window<'_, E, T, KW, STEP, RATE>
{
    /// A vector of column `j`.
    ///
    /// # Safety
    /// The window has column `j` and this row, the image `LANES` channels from this one on.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(&self, s: S, j: usize) -> S::V {
        let (edge, columns) = (edge(KW, RATE), Tile::<E, T, KW, STEP, RATE>::COLUMNS);
        let p = if j < edge {
            self.edges[j]
        } else if j + edge >= columns {
            self.edges[j + 2 * edge - columns]
        } else {
            self.from.wrapping_add(j * self.tile.c)
        };
        // SAFETY: the contract of this function; columns in padding point to zeros.
        unsafe { E::load(s, p, S::LANES) }
    }

    /// Goes to the next row.
    #[inline(always)]
    pub(super) fn advance(&mut self) {
        self.from = self.from.wrapping_add(self.tile.row_step);
        for e in 0..2 * edge(KW, RATE) {
            self.edges[e] = self.edges[e].wrapping_add(self.tile.row_step & self.tile.edges[e].1);
        }
    }
}

/// All tiles of a plane.
struct Walk<const T: usize, const KW: usize, const STEP: usize, const RATE: usize, W: Work> {
    plane: Plane<W::E>,
    /// First output of the first tile, and the distance from it to that of the last.
    begin: usize,
    last: usize,
    offset: isize,
    work: W,
}

impl<const T: usize, const KW: usize, const STEP: usize, const RATE: usize, W: Work>
    Walk<T, KW, STEP, RATE, W>
{
    #[inline(always)]
    fn tile(&self, (row, taps): (usize, Taps), number: usize) -> Tile<W::E, T, KW, STEP, RATE> {
        let Plane { from, c, cols, .. } = self.plane;
        let start = (number * T).min(self.last);
        let column = self.begin + start;
        let at = ((STEP * column) as isize - self.offset).div_euclid(RATE as isize);
        let from = from.wrapping_offset(((taps.at * cols.size) as isize + at) * c as isize);
        let (edge, columns) = (edge(KW, RATE), Tile::<W::E, T, KW, STEP, RATE>::COLUMNS);
        let mut edges = [(from, usize::MAX); MAX_EDGES];
        for (e, pointer) in edges.iter_mut().enumerate().take(2 * edge) {
            let j = if e < edge { e } else { columns - 2 * edge + e };
            let inside = (0..cols.size as isize).contains(&(at + j as isize));
            *pointer = if inside { (from.wrapping_add(j * c), usize::MAX) } else { (W::E::zeros(), 0) };
        }
        let row_step = taps.at_step * cols.size * c;
        Tile { row, column, overlap: number * T - start, taps, from, c, row_step, edges }
    }
}

impl<const T: usize, const KW: usize, const STEP: usize, const RATE: usize, W: Work> Kernel
    for Walk<T, KW, STEP, RATE, W>
{
    /// Whether there is a vector of channels.
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let Plane { c, rows, first_row, row_count, .. } = self.plane;
        if c < S::LANES {
            return false;
        }
        let passes = if c <= FEW_CHANNELS { 1 } else { c.div_ceil(pass_channels(KW)) };
        let block = c.div_ceil(passes).next_multiple_of(MAX_LANES);
        let tiles = self.last.div_ceil(T) + 1;
        let mut panels = Panels([0.0; FEW_CHANNELS * (MAX_HEADER + MAX_TAPS)]);
        let panels = panels.0.as_mut_ptr();
        let mut taps = [Taps::default(); BAND];
        for band in (0..row_count).step_by(BAND) {
            let height = BAND.min(row_count - band);
            for (row, taps) in taps.iter_mut().enumerate().take(height) {
                *taps = rows.taps(first_row + band + row);
            }
            // Many channels: tiles below each other share rows of their windows. Few: rows are streams.
            let (outer, inner) = if passes == 1 { (height, tiles) } else { (tiles, height) };
            for first in (0..c).step_by(block) {
                let channels = Channels { first, count: block.min(c - first).div_ceil(S::LANES), c };
                // SAFETY: a pass has `FEW_CHANNELS` channels at most and a filter `MAX_TAPS` taps; the caller of
                // `Plane::tiled` vouches for the images, `tiles_of` for the columns.
                unsafe {
                    self.work.open::<S, KW, RATE>(s, panels, channels);
                    for o in 0..outer {
                        for i in 0..inner {
                            let (row, number) = if passes == 1 { (o, i) } else { (i, o) };
                            let tile = self.tile((band + row, taps[row]), number);
                            self.work.tile(s, panels, tile, channels);
                        }
                    }
                    self.work.close::<S, KW>(s, panels, channels);
                }
            }
        }
        true
    }
}
