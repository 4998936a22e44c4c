//! Backward-weights: every tap as a sum over the pixels that it meets.

use super::super::lanes::{Number, load, store};
use super::tiles::{Channels, Plane, Tile, Work};
use crate::simd::{Isa, Kernel, Simd, dispatch};
use std::ops::Range;

/// Vectors of channels of a tap that are summed side by side, to hide the latency of the sums.
const BLOCK: usize = 4;

/// `dw += x dy` over all rows of the plane, whose outputs are the pixels of `dy`.
#[derive(Clone, Copy)]
pub(super) struct WeightGradient<E> {
    pub(super) plane: Plane<E>,
    pub(super) dw: *mut f32,
    /// The first output of the plane's first row.
    pub(super) dy: *const E,
}

impl<E: Number> WeightGradient<E> {
    /// Adds the gradient.
    ///
    /// # Safety
    /// The pointers are those of images and filters of the plane's geometry, `dy` has `row_count` rows.
    pub(super) unsafe fn run(self, isa: Isa) {
        // SAFETY: the contract of this function.
        let tiled = unsafe { self.plane.tiled(isa, self) };
        for columns in [0..tiled.start, tiled.end..self.plane.width] {
            if !columns.is_empty() {
                dispatch(isa, Pixels { gradient: self, columns });
            }
        }
    }
}

impl<E: Number> Work for WeightGradient<E> {
    type E = E;

    #[inline(always)]
    unsafe fn open<S: Simd, const KW: usize, const RATE: usize>(
        &self,
        s: S,
        panels: *mut f32,
        channels: Channels,
    ) {
        for i in 0..channels.count * (1 + self.plane.rows.kernel * KW) {
            // SAFETY: the contract of the trait.
            unsafe { s.store(panels.add(i * S::LANES), s.splat(0.0)) }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const KW: usize, const STEP: usize, const RATE: usize>(
        &self,
        s: S,
        panels: *mut f32,
        tile: Tile<E, T, KW, STEP, RATE>,
        channels: Channels,
    ) {
        let Plane { c, rows, width, .. } = self.plane;
        let dy = self.dy.wrapping_add((tile.row * width + tile.column) * c);
        let mut panel = panels;
        for v in 0..channels.count {
            let channel = channels.column::<S>(v);
            // SAFETY: the contract of the trait.
            unsafe {
                let mut gradients = [s.splat(0.0); T];
                let mut p = dy.wrapping_add(channel);
                for (t, gradient) in gradients.iter_mut().enumerate() {
                    if t >= tile.overlap {
                        *gradient = E::load(s, p, S::LANES);
                    }
                    p = p.wrapping_add(c);
                }
                let mut window = tile.window(channel);
                let mut taps = panel.add((1 + tile.taps.tap * KW) * S::LANES);
                for _ in 0..tile.taps.len {
                    let mut sums = [s.splat(0.0); KW];
                    for k in 0..KW {
                        sums[k] = s.load(taps.add(k * S::LANES));
                    }
                    if STEP == 1 {
                        // Column by column, as neighbouring pixels share all of them.
                        for j in 0..T + KW - 1 {
                            let x = window.load(s, j);
                            for k in 0..KW {
                                let t = j.wrapping_sub(k);
                                if t < T {
                                    sums[k] = s.mul_add(x, gradients[t], sums[k]);
                                }
                            }
                        }
                    } else {
                        for t in 0..T {
                            for k in 0..KW {
                                let x = window.load(s, t * STEP + k);
                                sums[k] = s.mul_add(x, gradients[t], sums[k]);
                            }
                        }
                    }
                    for k in 0..KW {
                        s.store(taps.add(k * S::LANES), sums[k]);
                    }
                    window.advance();
                    taps = taps.wrapping_add(KW * S::LANES);
                }
                panel = panel.add((1 + rows.kernel * KW) * S::LANES);
            }
        }
    }

    #[inline(always)]
    unsafe fn close<S: Simd, const KW: usize>(&self, s: S, panels: *const f32, channels: Channels) {
        let Plane { c, rows, .. } = self.plane;
        let mut panel = panels;
        for v in 0..channels.count {
            let (channel, overlap) = (channels.column::<S>(v), channels.overlap::<S>(v));
            for tap in 0..rows.kernel * KW {
                // SAFETY: the contract of the trait. What overlaps was added with the vector before.
                unsafe {
                    let dw = self.dw.add(tap * c + channel + overlap);
                    let n = S::LANES - overlap;
                    let sum = load(s, panel.add((1 + tap) * S::LANES + overlap), n);
                    store(s, dw, s.add(load(s, dw, n), sum), n);
                }
            }
            panel = panel.wrapping_add((1 + rows.kernel * KW) * S::LANES);
        }
    }
}

/// Output columns `columns` of all rows, tap by tap.
struct Pixels<E> {
    gradient: WeightGradient<E>,
    columns: Range<usize>,
}

impl<E: Number> Pixels<E> {
    /// Row `row` of tap `[kh][kw]` for `V` vectors of channels from `col` on; the last vector has `n`.
    ///
    /// # Safety
    /// The row and the channels exist; `n <= LANES`, and `n == LANES` unless `V` is 1.
    #[inline(always)]
    unsafe fn row<S: Simd, const V: usize>(
        &self,
        s: S,
        row: usize,
        [kh, kw]: [usize; 2],
        (col, n): (usize, usize),
    ) {
        let WeightGradient { plane: Plane { from, c, rows, cols, first_row, width, .. }, dw, dy } =
            self.gradient;
        let Some(ih) = rows.position(first_row + row, kh) else { return };
        let mut acc = [s.splat(0.0); V];
        for ow in self.columns.clone() {
            let Some(iw) = cols.position(ow, kw) else { continue };
            for v in 0..V {
                let offset = col + v * S::LANES;
                // SAFETY: the contract of this function; `Axis::position` gives positions inside the image.
                unsafe {
                    let x = E::load(s, from.add((ih * cols.size + iw) * c + offset), n);
                    acc[v] = s.mul_add(x, E::load(s, dy.add((row * width + ow) * c + offset), n), acc[v]);
                }
            }
        }
        for v in 0..V {
            // SAFETY: as above.
            unsafe {
                let dw = dw.add((kh * cols.kernel + kw) * c + col + v * S::LANES);
                store(s, dw, s.add(load(s, dw, n), acc[v]), n);
            }
        }
    }
}

impl<E: Number> Kernel for Pixels<E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Plane { c, rows, cols, row_count, .. } = self.gradient.plane;
        for row in 0..row_count {
            for tap in 0..rows.kernel * cols.kernel {
                let tap = [tap / cols.kernel, tap % cols.kernel];
                let mut col = 0;
                // SAFETY: every block ends at the last channel or before.
                unsafe {
                    while col + BLOCK * S::LANES <= c {
                        self.row::<S, BLOCK>(s, row, tap, (col, S::LANES));
                        col += BLOCK * S::LANES;
                    }
                    while col < c {
                        self.row::<S, 1>(s, row, tap, (col, S::LANES.min(c - col)));
                        col += S::LANES;
                    }
                }
            }
        }
    }
}
