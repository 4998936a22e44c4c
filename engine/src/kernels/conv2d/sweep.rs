//! Forward convolution and input gradients: one sweep of tiles over a padded source.

use super::Halo;
use crate::buffer::Element;
use crate::geometry::{Conv2dGeometry, saturating_product};
use crate::kernels::micro::{
    self, Arithmetic, Epilogue, Line, Matrix, Product, RealEpilogue, Reals, Strided, Table, TileEpilogue,
};
use crate::kernels::pack::{Source, pack_panel, panels_len};
use crate::parallel::Columns;
use crate::simd::{Isa, MAX_ROWS, TILE_SIDE};
use std::ops::Range;

/// Bytes of source that a band of output rows reads: they leave room for weights and outputs in a 512 KiB second-level
/// cache.
const BAND: usize = 128 * 1024;

/// What a sweep reads, and what it does to its sums before they are stored.
#[derive(Clone, Copy, Default)]
pub struct SweepArgs<'a, X = f32, Y = X> {
    /// The whole source image.
    pub x: &'a [X],
    /// The weights as [`Sweep::pack`] left them.
    pub packed: &'a [X],
    /// Added to every pixel `[cout]`.
    pub bias: Option<&'a [f32]>,
    /// Added to the rows that are computed, of the length of the output.
    pub residual: Option<&'a [Y]>,
    /// Outputs are clamped to this range.
    pub clamp: Option<(f32, f32)>,
}

/// A convolution (or its input gradient) prepared for one geometry and one panel width.
#[derive(Debug)]
pub struct Sweep<N = Isa> {
    pub(super) isa: N,
    halo: Halo,
    groups: usize,
    /// Source channels and output columns of a group.
    depth: usize,
    cols: usize,
    /// Output shape: height, width, channels.
    out: [usize; 3],
    parts: Vec<Part>,
    packed_len: usize,
    /// Distance between columns of the weights and between the rows of a tap.
    col_step: usize,
    row_step: usize,
    /// Distance in the weights from a group to the next.
    group_step: usize,
    /// Numbers behind a run that are read with it, for whole groups of products.
    excess: usize,
}

/// The outputs that share a set of taps: all of them, or one parity class of a strided input gradient.
#[derive(Debug)]
struct Part {
    /// Output pixels, and the place and distance of their rows and columns in the output.
    rows: [usize; 2],
    first: [usize; 2],
    stride: [usize; 2],
    /// Where the reduction of output pixel (0, 0) begins in the padded source, and the distance between pixels.
    step: [usize; 2],
    /// Padded rows that one output row reads, and the first of them.
    span: usize,
    /// Contiguous runs: offsets in the padded source, and their length in whole groups of products.
    taps: Vec<usize>,
    run: usize,
    /// Taps of a run.
    merged: usize,
    /// The taps of each run as offsets in the weights.
    blocks: Vec<usize>,
    /// Where its panels begin in the packed weights.
    panels: usize,
}

/// One tap before runs are merged: its row and column in the padded source, and its index in the kernel.
struct Tap {
    row: usize,
    col: usize,
    block: usize,
}

#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
impl<N: Arithmetic> Sweep<N> {
    /// Prepares `y = conv(x, w)`.
    pub fn forward(isa: N, g: &Conv2dGeometry) -> Self {
        let g = &by_pixels(g);
        let [top, bottom, left, right] = g.padding;
        let halo =
            Halo { h: g.h, w: g.w, c: g.cin, top, left, ph: g.h + top + bottom, pw: g.w + left + right };
        let (depth, cols) = (g.cin / g.groups, g.cout / g.groups);
        let mut sweep = Sweep {
            isa,
            halo,
            groups: g.groups,
            depth,
            cols,
            out: [g.oh, g.ow, g.cout],
            parts: Vec::new(),
            packed_len: 0,
            col_step: 1,
            row_step: g.cout,
            group_step: cols,
            excess: 0,
        };
        let taps = each_tap(g).map(|(kh, kw, block)| Tap {
            row: kh * g.dilation[0],
            col: kw * g.dilation[1],
            block,
        });
        sweep.add_part([g.oh, g.ow], [0, 0], [1, 1], g.stride, taps.collect());
        sweep
    }

    /// Prepares `dx = conv_backward_data(dy, w)`.
    pub fn backward_data(isa: N, g: &Conv2dGeometry) -> Self {
        let g = &by_pixels(g);
        // Pixel i = r + s*j of dx receives dy[j + delta] through tap k where r + p - k*d = s * delta.
        let deltas = |axis: usize, r: usize| {
            let (s, d) = (g.stride[axis] as isize, g.dilation[axis] as isize);
            let shifted = (r + g.padding[2 * axis]) as isize;
            (0..g.kernel[axis]).filter_map(move |k| {
                let distance = shifted - k as isize * d;
                (distance.rem_euclid(s) == 0).then(|| (k, distance.div_euclid(s)))
            })
        };
        let size = [g.h, g.w];
        let count = |axis: usize, r: usize| size[axis].saturating_sub(r).div_ceil(g.stride[axis]);
        let out = [g.oh, g.ow];
        let mut before = [0isize; 2];
        let mut after = [0isize; 2];
        for axis in 0..2 {
            for r in 0..g.stride[axis].min(size[axis]) {
                for (_, delta) in deltas(axis, r) {
                    before[axis] = before[axis].max(-delta);
                    let last = count(axis, r) as isize - 1 + delta;
                    after[axis] = after[axis].max(last + 1 - out[axis] as isize);
                }
            }
        }
        let [top, left] = before.map(|b| b as usize);
        let [bottom, right] = after.map(|a| a as usize);
        let halo =
            Halo { h: g.oh, w: g.ow, c: g.cout, top, left, ph: g.oh + top + bottom, pw: g.ow + left + right };
        let (depth, cols) = (g.cout / g.groups, g.cin / g.groups);
        let mut sweep = Sweep {
            isa,
            halo,
            groups: g.groups,
            depth,
            cols,
            out: [g.h, g.w, g.cin],
            parts: Vec::new(),
            packed_len: 0,
            col_step: g.cout,
            row_step: 1,
            group_step: depth,
            excess: 0,
        };
        for rh in 0..g.stride[0].min(g.h) {
            for rw in 0..g.stride[1].min(g.w) {
                let mut taps: Vec<Tap> = deltas(0, rh)
                    .flat_map(|(kh, dh)| deltas(1, rw).map(move |(kw, dw)| (kh, kw, dh, dw)))
                    .map(|(kh, kw, dh, dw)| Tap {
                        row: (dh + top as isize) as usize,
                        col: (dw + left as isize) as usize,
                        block: kh * g.kernel[1] + kw,
                    })
                    .collect();
                taps.sort_by_key(|tap| (tap.row, tap.col));
                sweep.add_part([count(0, rh), count(1, rw)], [rh, rw], g.stride, [1, 1], taps);
            }
        }
        sweep
    }

    fn add_part(
        &mut self,
        rows: [usize; 2],
        first: [usize; 2],
        stride: [usize; 2],
        step: [usize; 2],
        taps: Vec<Tap>,
    ) {
        let line = self.halo.pw * self.halo.c;
        let span = taps.iter().map(|tap| tap.row + 1).max().unwrap_or(0);
        // Taps side by side are one run, as long as a pixel holds no other group's channels between them.
        let merge = if self.groups == 1 {
            let neighbours = |pair: &[Tap]| pair[0].row == pair[1].row && pair[0].col + 1 == pair[1].col;
            let all = |n: usize| {
                taps.len().is_multiple_of(n) && taps.chunks(n).all(|run| run.windows(2).all(neighbours))
            };
            (1..=taps.len()).rev().find(|&n| all(n)).unwrap_or(1)
        } else {
            1
        };
        let depth = self.depth;
        let tap_len = depth * self.cols * self.groups;
        let run = self.isa.padded_run(merge * depth);
        self.excess = self.excess.max(run - merge * depth);
        self.parts.push(Part {
            rows,
            first,
            stride,
            step: [step[0] * line, step[1] * self.halo.c],
            span,
            taps: taps.chunks(merge).map(|run| run[0].row * line + run[0].col * self.halo.c).collect(),
            run,
            merged: merge,
            blocks: taps.iter().map(|tap| tap.block * tap_len).collect(),
            panels: self.packed_len,
        });
        let part = self.parts.last().expect("it was just added");
        self.packed_len += self.groups * panels_len(part.depth(), self.cols, self.isa.tile_width());
    }

    /// Packed weights.
    pub fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// Packs weights `[kh][kw][cin / groups][cout]` for this sweep.
    ///
    /// # Panics
    /// When `packed` is not [`Sweep::packed_len`] long or `w` is too short.
    pub(crate) fn pack_weights<T: Element>(&self, packed: &mut [N::W], w: &[T])
    where
        N::W: From<T>,
    {
        assert_eq!(packed.len(), self.packed_len, "the packed weights have their length");
        let nr = self.isa.tile_width();
        for part in &self.parts {
            let depth = part.depth();
            let group_len = panels_len(depth, self.cols, nr);
            for group in 0..self.groups {
                let source = Source {
                    w,
                    base: group * self.group_step,
                    blocks: &part.blocks,
                    inner: self.depth,
                    row_step: self.row_step,
                    col_step: self.col_step,
                    cols: self.cols,
                    run: part.merged,
                    group: N::GROUP,
                    padded_run: part.run,
                };
                let start = part.panels + group * group_len;
                let panels = packed[start..start + group_len].chunks_mut((depth * nr).max(1));
                panels.enumerate().for_each(|(index, panel)| pack_panel(panel, index, nr, &source));
            }
        }
    }

    /// Whether the source is read where it lies: it needs no border, and nothing is read behind its end.
    fn reads_in_place(&self) -> bool {
        self.halo.is_identity() && self.excess == 0
    }

    /// Numbers of scratch that a run needs.
    pub fn scratch_len(&self) -> usize {
        if self.reads_in_place() {
            return 0;
        }
        let line = self.halo.pw * self.halo.c;
        let bands = self.parts.iter().map(|part| self.source_rows(part, self.band_rows(part)));
        bands.max().unwrap_or(0) * line + self.excess
    }

    /// Whether output rows can be computed in bands by different threads.
    pub fn splits_rows(&self) -> bool {
        self.parts.len() == 1
    }

    /// Rows of the output: pixels where each is computed by itself.
    pub fn output_rows(&self) -> usize {
        self.out[0]
    }

    /// Channels whose weights lie together: outputs are cut between as many.
    pub fn panel_width(&self) -> usize {
        self.isa.tile_width()
    }

    /// Whether output channels can be computed by different threads.
    pub fn splits_channels(&self) -> bool {
        self.groups == 1
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.out[2]
    }

    /// Multiply-adds of one image.
    pub fn macs(&self) -> usize {
        let part = |p: &Part| saturating_product([p.rows[0], p.rows[1], p.blocks.len(), self.depth]);
        let parts = self.parts.iter().map(part).fold(0, usize::saturating_add);
        saturating_product([parts, self.cols, self.groups])
    }

    /// Computes output rows `rows` of one image: `y` are channels of these rows `[rows][ow][cout]`, `x` is the whole image,
    /// around which there is `border`.
    ///
    /// # Safety
    /// The epilogue's columns are readable for all of the output's and, where sums are no outputs, for a whole panel behind
    /// them; its residual for the length of `y`.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives, or `rows` are not all rows of a sweep that
    /// does not split (see [`Sweep::splits_rows`]).
    pub(super) unsafe fn compute(
        &self,
        (mut y, rows): (Columns<N::Y>, Range<usize>),
        scratch: &mut [N::X],
        (x, border): (&[N::X], N::X),
        packed: &[N::W],
        epilogue: N::Epilogue,
    ) {
        let pixels = rows.len() * self.out[1];
        assert!(y.pixels() == pixels && y.channels() == self.out[2], "y holds the rows");
        let own = y.own();
        let at_panel = |channel: usize| channel == self.out[2] || channel.is_multiple_of(self.panel_width());
        let whole = own == (0..self.out[2]);
        assert!(
            whole || (self.groups == 1 && at_panel(own.start) && at_panel(own.end)),
            "channels are cut between panels"
        );
        let y = y.as_mut_ptr();
        assert_eq!(x.len(), self.halo.h * self.halo.w * self.halo.c, "x holds an image");
        assert_eq!(packed.len(), self.packed_len, "the packed weights have their length");
        assert!(
            rows.end <= self.out[0] && (self.splits_rows() || rows == (0..self.out[0])),
            "the rows exist"
        );
        let line = self.halo.pw * self.halo.c;
        for part in &self.parts {
            let of_part = if self.splits_rows() { rows.clone() } else { 0..part.rows[0] };
            let height = self.band_rows(part);
            let mut start = of_part.start;
            while start < of_part.end {
                let end = of_part.end.min(start + height);
                let top = start * part.step[0] / line;
                let source = if self.reads_in_place() {
                    &x[top * line..]
                } else {
                    let needed = self.source_rows(part, end - start);
                    self.halo.copy_rows(scratch, (x, border), top, needed);
                    // Read and multiplied with zeros, which what is no number would not survive.
                    scratch[needed * line..][..self.excess].fill(border);
                    &scratch[..needed * line + self.excess]
                };
                let channels = (y, pixels, own.clone());
                // SAFETY: the contract of this function; `y` may be written in its own channels.
                unsafe { self.run_band(part, channels, (source, packed, epilogue), start..end, rows.start) }
                start = end;
            }
        }
    }

    /// Output rows of a band, so that its source stays in the second-level cache.
    fn band_rows(&self, part: &Part) -> usize {
        let line = self.halo.pw * self.halo.c;
        let step = (part.step[0] / line).max(1);
        let rows = (BAND / size_of::<N::X>() / line).saturating_sub(part.span) / step + 1;
        rows.clamp(1, part.rows[0].max(1))
    }

    /// Padded source rows that `rows` output rows read.
    fn source_rows(&self, part: &Part, rows: usize) -> usize {
        let step = part.step[0] / (self.halo.pw * self.halo.c);
        (rows.saturating_sub(1) * step + part.span).min(self.halo.ph)
    }

    /// Computes the channels `own` of a band of one part from its padded source; `y` has `pixels` pixels and begins with output
    /// row `y_first`.
    ///
    /// # Safety
    /// As [`Sweep::compute`]; `y` is writable in these channels of all of its pixels.
    unsafe fn run_band(
        &self,
        part: &Part,
        (y, y_pixels, own): (*mut N::Y, usize, Range<usize>),
        (source, packed, epilogue): (&[N::X], &[N::W], N::Epilogue),
        rows: Range<usize>,
        y_first: usize,
    ) {
        let nr = self.isa.tile_width();
        let width = part.rows[1];
        let pixels = rows.len() * width;
        if pixels == 0 {
            return;
        }
        let [_, ow, channels] = self.out;
        let depth = part.depth();
        let group_len = panels_len(depth, self.cols, nr);
        let y_row =
            |row: usize| (part.first[0] + (rows.start + row) * part.stride[0] - y_first) * ow * channels;
        let y_col = |col: usize| (part.first[1] + col * part.stride[1]) * channels;
        // The last pixel of the last row reaches furthest; runs lie within `span` rows of a pixel's first.
        let reach = (rows.len() - 1) * part.step[0] + (width - 1) * part.step[1];
        let group_reach = (self.groups - 1) * self.depth;
        // A parity class without taps reads nothing and stores zeros.
        if let Some(last_tap) = part.taps.iter().map(|tap| tap + part.run).max() {
            assert!(reach + last_tap + group_reach <= source.len(), "every tap lies in the source");
        }
        assert!(
            y_row(rows.len() - 1) + y_col(width - 1) + channels <= y_pixels * channels,
            "every pixel lies in the output"
        );
        let pixel = Strided { x: part.step[1], y: part.stride[1] * channels };
        // Pixels that lie at equal distances across rows too are the rows of a matrix, if there is one tap.
        let uniform = part.step[0] == width * pixel.x && part.stride[0] * ow * channels == width * pixel.y;
        if let (&[tap], true, 1) = (&part.taps[..], uniform || rows.len() == 1, self.groups) {
            let first = y_row(0) + y_col(0);
            let matrix = Matrix {
                x: source[tap..].as_ptr(),
                x_step: pixel.x,
                w: packed[part.panels + own.start * depth..].as_ptr(),
                panel_step: depth * nr,
                panel_row: 0,
                y: y.wrapping_add(first + own.start),
                y_step: pixel.y,
                rows: pixels,
                depth,
                cols: own.len(),
                epilogue: epilogue.at_output(first).at_column(own.start),
            };
            // SAFETY: the asserts above bound the tap of every pixel by the source and every output by `y`; the panels
            // were sized by `pack`'s own lengths; the caller vouches for the epilogue; `y` is borrowed mutably.
            return unsafe { micro::matrix(self.isa, &matrix) };
        }
        for group in 0..self.groups {
            let panels = if self.groups == 1 { own.clone() } else { 0..self.cols };
            for panel in panels.start / nr..panels.end.div_ceil(nr) {
                let column = group * self.cols + panel * nr;
                let shared = Product {
                    x: source.as_ptr().wrapping_add(group * self.depth),
                    rows: pixel,
                    taps: &part.taps,
                    run: part.run,
                    w: packed[part.panels + group * group_len + panel * depth * nr..].as_ptr(),
                    y: y.wrapping_add(column),
                    cols: nr.min(self.cols - panel * nr),
                    epilogue: epilogue.at_column(column),
                };
                if self.isa.multiplies_tiles() && !part.fills_tiles() {
                    // SAFETY: as above; what lies between two lines is a border that the source has.
                    unsafe { self.run_lines(part, &shared, rows.len(), (&y_row, &y_col)) }
                    continue;
                }
                let mr = self.isa.tile_rows(shared.cols);
                // Tiles within a row need no table of places, as long as the row is not cut much smaller than they are.
                if self.isa.multiplies_tiles() || 5 * width >= 4 * mr * width.div_ceil(mr) {
                    for row in 0..rows.len() {
                        let at = [row * part.step[0], y_row(row) + y_col(0)];
                        // SAFETY: as above.
                        unsafe { micro::line(self.isa, width, &shared, at) }
                    }
                    continue;
                }
                let tiles = pixels.div_ceil(mr);
                let mut tile_args = shared.with_rows(Table { x: [0; MAX_ROWS], y: [0; MAX_ROWS] });
                let (mut row, mut col) = (0, 0);
                for tile in 0..tiles {
                    let count = (tile + 1) * pixels / tiles - tile * pixels / tiles;
                    for r in 0..count {
                        tile_args.rows.x[r] = row * part.step[0] + col * part.step[1];
                        tile_args.rows.y[r] = y_row(row) + y_col(col);
                        col += 1;
                        if col == width {
                            (row, col) = (row + 1, 0);
                        }
                    }
                    // SAFETY: as above.
                    unsafe { self.isa.product(count, &tile_args, [0, 0]) }
                }
            }
        }
    }
}

#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
impl<N: Arithmetic> Sweep<N> {
    /// Computes one panel of a band along all of its lines at once, the border between them included.
    ///
    /// # Safety
    /// As [`Sweep::run_band`].
    unsafe fn run_lines(
        &self,
        part: &Part,
        shared: &Product<N, Strided>,
        rows: usize,
        (y_row, y_col): (&dyn Fn(usize) -> usize, &dyn Fn(usize) -> usize),
    ) {
        let (line, width) = (part.step[0] / part.step[1], part.rows[1]);
        let all = (rows - 1) * line + width;
        let tiles = all.div_ceil(MAX_ROWS);
        for tile in 0..tiles {
            let (begin, end) = (tile * all / tiles, (tile + 1) * all / tiles);
            let mut y = [Line::NO_OUTPUT; MAX_ROWS];
            for (y, at) in y.iter_mut().zip(begin..end).filter(|(_, at)| at % line < width) {
                *y = y_row(at / line) + y_col(at % line);
            }
            let args = shared.with_rows(Line { x: part.step[1], y });
            // SAFETY: the contract of this function.
            unsafe { self.isa.product(end - begin, &args, [begin * part.step[1], 0]) }
        }
    }
}

impl<N: Reals> Sweep<N> {
    /// Packs weights `[kh][kw][cin / groups][cout]` for this sweep.
    ///
    /// # Panics
    /// When `packed` is not [`Sweep::packed_len`] long or `w` is too short.
    pub fn pack(&self, packed: &mut [N::Input], w: &[f32]) {
        self.pack_weights(packed, w);
    }

    /// Computes output rows `rows` of one image: `y` are these rows `[rows][ow][cout]`.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives, or `rows` are not all rows of a sweep that
    /// does not split (see [`Sweep::splits_rows`]).
    pub fn run(
        &self,
        y: &mut [N::Output],
        scratch: &mut [N::Input],
        args: SweepArgs<N::Input, N::Output>,
        rows: Range<usize>,
    ) {
        self.run_columns(Columns::all(y, self.out[2]), scratch, args, rows);
    }

    /// As [`Sweep::run`], for some channels: those of whole panels.
    ///
    /// # Panics
    /// As [`Sweep::run`].
    pub fn run_columns(
        &self,
        y: Columns<N::Output>,
        scratch: &mut [N::Input],
        args: SweepArgs<N::Input, N::Output>,
        rows: Range<usize>,
    ) {
        let SweepArgs { x, packed, bias, residual, clamp } = args;
        assert!(bias.is_none_or(|b| b.len() == self.out[2]), "a bias for every output channel");
        let outputs = y.pixels() * y.channels();
        assert!(residual.is_none_or(|r| r.len() == outputs), "a residual for every output");
        let (low, high) = clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
        let residual = residual.map_or(std::ptr::null(), <[N::Output]>::as_ptr);
        let epilogue: RealEpilogue<N> = Epilogue { bias, residual, low, high, accumulate: false };
        // SAFETY: bias and residual were checked.
        unsafe { self.compute((y, rows), scratch, (x, N::Input::ZERO), packed, epilogue) }
    }
}

impl Part {
    /// Rows of the packed weights.
    fn depth(&self) -> usize {
        self.taps.len() * self.run
    }

    /// Whether tiles of the pixels of one line have at least as many of them as tiles of all lines, whose borders are computed
    /// with them.
    fn fills_tiles(&self) -> bool {
        let width = self.rows[1];
        let line = if self.step[0].is_multiple_of(self.step[1]) { self.step[0] / self.step[1] } else { 0 };
        line < width || width.next_multiple_of(TILE_SIDE) <= line
    }
}

/// A convolution that treats pixels one by one, as one of rows of a single pixel: it can be cut anywhere.
fn by_pixels(g: &Conv2dGeometry) -> Conv2dGeometry {
    if g.kernel != [1, 1] || g.stride != [1, 1] || g.padding != [0; 4] {
        return *g;
    }
    Conv2dGeometry { h: g.h * g.w, w: 1, oh: g.oh * g.ow, ow: 1, ..*g }
}

/// All taps of a kernel in memory order: kernel row, kernel column, index.
fn each_tap(g: &Conv2dGeometry) -> impl Iterator<Item = (usize, usize, usize)> {
    let [height, width] = g.kernel;
    (0..height).flat_map(move |kh| (0..width).map(move |kw| (kh, kw, kh * width + kw)))
}
