//! Forward and backward-data: every output pixel as a sum over the taps that hit the other image.

use super::super::lanes::{Number, Stored, clamp, load};
use super::axis::Taps;
use super::tiles::{Channels, Plane, Tile, Work};
use crate::simd::{Isa, Kernel, Simd, dispatch};
use std::ops::Range;

/// Vectors of channels of a pixel that are summed side by side, to hide the latency of the sums.
const BLOCK: usize = 4;

/// Rows of outputs as sums over taps of `plane.from`; see the top of this folder's `mod.rs`.
#[derive(Clone, Copy)]
pub(super) struct Gather<F: Finish> {
    pub(super) plane: Plane<F::E>,
    pub(super) w: *const f32,
    /// Added to every pixel, or null.
    pub(super) bias: *const f32,
    /// What becomes of sums.
    pub(super) finish: F,
}

/// How sums are stored, and what images consist of. Functions are `#[inline(always)]`.
pub(super) trait Finish: Copy {
    /// Numbers of both images.
    type E: Stored;
    /// What the finish of a vector needs besides its sums.
    type Columns<S: Simd>: Copy;
    /// Vectors of a panel before the taps: the bias, and those of [`Finish::open`].
    const HEADER: usize;

    /// Fills the part of a panel behind the bias with what `channel` and those behind it need.
    ///
    /// # Safety
    /// There is a vector of channels, and room for `HEADER - 1` vectors.
    unsafe fn open<S: Simd>(self, s: S, panel: *mut f32, channel: usize);
    /// What [`Finish::open`] left.
    ///
    /// # Safety
    /// `panel` is what it filled.
    unsafe fn columns<S: Simd>(self, s: S, panel: *const f32) -> Self::Columns<S>;
    /// The same from its source, for `n` channels.
    ///
    /// # Safety
    /// There are `n <= LANES` channels from `channel` on.
    unsafe fn columns_at<S: Simd>(self, s: S, channel: usize, n: usize) -> Self::Columns<S>;
    /// Stores `n` sums at offset `at` of the output.
    ///
    /// # Safety
    /// The output has `n <= LANES` numbers there.
    unsafe fn store<S: Simd>(self, s: S, at: usize, sums: S::V, columns: Self::Columns<S>, n: usize);
}

/// Sums are clamped and stored.
#[derive(Clone, Copy)]
pub(super) struct RealOutputs<E> {
    /// The first output of the plane's first row.
    pub(super) out: *mut E,
    /// Sums are clamped to this range.
    pub(super) range: Option<(f32, f32)>,
}

impl<E: Number> Finish for RealOutputs<E> {
    type E = E;
    type Columns<S: Simd> = ();
    const HEADER: usize = 1;

    #[inline(always)]
    unsafe fn open<S: Simd>(self, _: S, _: *mut f32, _: usize) {}
    #[inline(always)]
    unsafe fn columns<S: Simd>(self, _: S, _: *const f32) {}
    #[inline(always)]
    unsafe fn columns_at<S: Simd>(self, _: S, _: usize, _: usize) {}
    #[inline(always)]
    unsafe fn store<S: Simd>(self, s: S, at: usize, sums: S::V, (): (), n: usize) {
        let y = self.range.map_or(sums, |range| clamp(s, sums, range));
        // SAFETY: the contract of this function.
        unsafe { E::store(s, self.out.add(at), y, n) }
    }
}

/// Sums of bytes are scaled and rounded to bytes.
#[derive(Clone, Copy)]
pub(super) struct ByteOutputs {
    /// The first output of the plane's first row.
    pub(super) out: *mut u8,
    /// Factor of each channel.
    pub(super) scale: *const f32,
    /// Added to all.
    pub(super) offset: f32,
}

impl Finish for ByteOutputs {
    type E = u8;
    type Columns<S: Simd> = S::V;
    const HEADER: usize = 2;

    #[inline(always)]
    unsafe fn open<S: Simd>(self, s: S, panel: *mut f32, channel: usize) {
        // SAFETY: the contract of this function.
        unsafe { s.store(panel, s.load(self.scale.add(channel))) }
    }
    #[inline(always)]
    unsafe fn columns<S: Simd>(self, s: S, panel: *const f32) -> S::V {
        // SAFETY: the contract of this function.
        unsafe { s.load(panel) }
    }
    #[inline(always)]
    unsafe fn columns_at<S: Simd>(self, s: S, channel: usize, n: usize) -> S::V {
        // SAFETY: the contract of this function.
        unsafe { load(s, self.scale.add(channel), n) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(self, s: S, at: usize, sums: S::V, scale: S::V, n: usize) {
        // SAFETY: the contract of this function.
        unsafe { s.store_u8(self.out.add(at), s.add(s.mul(sums, scale), s.splat(self.offset)), n) }
    }
}

impl<F: Finish> Gather<F> {
    /// Computes all rows of the plane.
    ///
    /// # Safety
    /// The pointers are those of images and filters of the plane's geometry, `out` has `row_count` rows.
    pub(super) unsafe fn run(self, isa: Isa) {
        let cols = self.plane.cols;
        // SAFETY: the contract of this function.
        let tiled = unsafe {
            match (cols.kernel, cols.stride, cols.dilation, cols.transposed) {
                (3, 2, 1, true) => self.plane.tiles_of::<8, 3, 1, 2>(isa, self),
                (5, 2, 1, true) => self.plane.tiles_of::<8, 5, 1, 2>(isa, self),
                _ => self.plane.tiled(isa, self),
            }
        };
        for columns in [0..tiled.start, tiled.end..self.plane.width] {
            if !columns.is_empty() {
                dispatch(isa, Pixels { gather: self, columns });
            }
        }
    }
}

impl<F: Finish> Work for Gather<F> {
    type E = F::E;

    /// A panel is the bias, what the finish needs, and all taps, those of a row in the order in which columns are read.
    #[inline(always)]
    unsafe fn open<S: Simd, const KW: usize, const RATE: usize>(
        &self,
        s: S,
        mut panels: *mut f32,
        channels: Channels,
    ) {
        let Plane { c, rows, cols, .. } = self.plane;
        let reversed = RATE == 1 && cols.transposed;
        for v in 0..channels.count {
            let channel = channels.column::<S>(v);
            // SAFETY: the contract of the trait.
            unsafe {
                let bias = if self.bias.is_null() { s.splat(0.0) } else { s.load(self.bias.add(channel)) };
                s.store(panels, bias);
                self.finish.open(s, panels.add(S::LANES), channel);
                panels = panels.add(F::HEADER * S::LANES);
                for kh in 0..rows.kernel {
                    for k in 0..KW {
                        let kw = if reversed { KW - 1 - k } else { k };
                        s.store(panels, s.load(self.w.add((kh * KW + kw) * c + channel)));
                        panels = panels.add(S::LANES);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const KW: usize, const STEP: usize, const RATE: usize>(
        &self,
        s: S,
        panels: *mut f32,
        tile: Tile<F::E, T, KW, STEP, RATE>,
        channels: Channels,
    ) {
        let Plane { c, rows, width, .. } = self.plane;
        let out = (tile.row * width + tile.column) * c;
        let w_step = tile.taps.tap_step * (KW * S::LANES) as isize;
        let mut panel: *const f32 = panels;
        for v in 0..channels.count {
            let channel = channels.column::<S>(v);
            // SAFETY: the contract of the trait.
            unsafe {
                let mut sums = [s.load(panel); T];
                let mut window = tile.window(channel);
                let mut w = panel.add((F::HEADER + tile.taps.tap * KW) * S::LANES);
                for _ in 0..tile.taps.len {
                    let mut weights = [s.splat(0.0); KW];
                    for k in 0..KW {
                        weights[k] = s.load(w.add(k * S::LANES));
                    }
                    // Tap by tap: neighbouring multiply-adds belong to different sums.
                    for i in 0..KW {
                        for t in 0..T {
                            if let Some((j, tap)) = Tile::<F::E, T, KW, STEP, RATE>::read(t, i) {
                                sums[t] = s.mul_add(window.load(s, j), weights[tap], sums[t]);
                            }
                        }
                    }
                    window.advance();
                    w = w.wrapping_offset(w_step);
                }
                let columns = self.finish.columns(s, panel.add(S::LANES));
                for (t, sum) in sums.into_iter().enumerate() {
                    self.finish.store(s, out + channel + t * c, sum, columns, S::LANES);
                }
                panel = panel.add((F::HEADER + rows.kernel * KW) * S::LANES);
            }
        }
    }

    #[inline(always)]
    unsafe fn close<S: Simd, const KW: usize>(&self, _: S, _: *const f32, _: Channels) {}
}

/// Output columns `columns` of all rows, pixel by pixel.
struct Pixels<F: Finish> {
    gather: Gather<F>,
    columns: Range<usize>,
}

impl<F: Finish> Pixels<F> {
    /// `V` vectors of channels of one pixel, from channel `col` on; the last vector has `n`.
    ///
    /// # Safety
    /// `out` is the offset of a pixel whose taps are `rows` and `cols`; the channels exist; `n <= LANES`, and
    /// `n == LANES` unless `V` is 1.
    #[inline(always)]
    unsafe fn pixel<S: Simd, const V: usize>(
        &self,
        s: S,
        (out, rows, cols): (usize, Taps, Taps),
        col: usize,
        n: usize,
    ) {
        let Gather { plane, w, bias, finish } = self.gather;
        let mut acc = [s.splat(0.0); V];
        let (at_step, tap_step) = (cols.at_step * plane.c, cols.tap_step * plane.c as isize);
        // SAFETY: the contract of this function; `Axis::taps` gives positions inside both images.
        unsafe {
            if !bias.is_null() {
                for v in 0..V {
                    acc[v] = load(s, bias.add(col + v * S::LANES), n);
                }
            }
            for r in 0..rows.len {
                let at = (rows.at + r * rows.at_step) * plane.cols.size + cols.at;
                let tap = rows.tap.wrapping_add_signed(r as isize * rows.tap_step);
                let tap = tap * plane.cols.kernel + cols.tap;
                let (mut from, mut w) = (plane.from.add(at * plane.c + col), w.add(tap * plane.c + col));
                for _ in 0..cols.len {
                    for v in 0..V {
                        let x = F::E::load(s, from.add(v * S::LANES), n);
                        acc[v] = s.mul_add(x, load(s, w.add(v * S::LANES), n), acc[v]);
                    }
                    // The last step may leave the images: wrapping, as it is not followed by a load.
                    (from, w) = (from.wrapping_add(at_step), w.wrapping_offset(tap_step));
                }
            }
            for v in 0..V {
                let col = col + v * S::LANES;
                finish.store(s, out + col, acc[v], finish.columns_at(s, col, n), n);
            }
        }
    }
}

impl<F: Finish> Kernel for Pixels<F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Plane { c, rows, cols, first_row, row_count, width, .. } = self.gather.plane;
        for row in 0..row_count {
            let taps = rows.taps(first_row + row);
            for ow in self.columns.clone() {
                let pixel = ((row * width + ow) * c, taps, cols.taps(ow));
                let mut col = 0;
                // SAFETY: every block ends at the last channel or before.
                unsafe {
                    while col + BLOCK * S::LANES <= c {
                        self.pixel::<S, BLOCK>(s, pixel, col, S::LANES);
                        col += BLOCK * S::LANES;
                    }
                    while col < c {
                        self.pixel::<S, 1>(s, pixel, col, S::LANES.min(c - col));
                        col += S::LANES;
                    }
                }
            }
        }
    }
}
