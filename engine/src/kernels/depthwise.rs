//! Depthwise convolution: every channel is convolved with a filter of its own, `w[kh][kw][c]`.
//!
//! Forward and backward-data are one loop, `Gather`: each output pixel is a sum over the taps that hit the
//! other image, and along either axis these taps form an arithmetic progression (`Taps`), whatever the
//! stride, dilation and padding:
//! ```text
//! y[oh, ow]  = sum over taps: x[oh stride + kh dilation - pad, ..] w[kh, kw]
//! dx[ih, iw] = sum over taps: dy[(ih + pad - kh dilation) / stride, ..] w[kh, kw]   where it divides
//! ```
//! Taps are added in the order of the pixels that they read. Two paths:
//! 1. Rows of neighbouring outputs that all have the taps of a full kernel row, for kernel widths 3 and 5 and
//!    steps 1 and 2: a tile of up to `TILE` pixels shares the weights of a row and every input that two
//!    pixels overlap, `((TILE - 1) step + 2 kw) / (TILE kw)` loads per multiply-add, 0.61 at width 3 and step
//!    1 instead of 2.
//! 2. Everything else, pixel by pixel, four vectors of channels side by side to hide the latency of the sums.
//!
//! Backward-weights keeps a row of filter taps of a few vectors of channels in registers (3 taps of 4
//! vectors, 5 of 2) while rows of pixels pass by.

use super::activation;
use super::elementwise::{clamp, load, store};
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Output pixels of a register tile: 6 sums, 5 weights and an input fit the 16 registers of AVX2.
const TILE: usize = 6;

/// Pixels over which filter gradients are summed in registers, in whole rows: many next to the loads and
/// stores of the sums, few enough for their cache lines to stay in the first-level cache.
const PIXELS: usize = 64;
/// Vectors of channels of path 2.
const BLOCK: usize = 4;

/// The taps along one axis that contribute to one output: `len` of them; number `i` is tap `tap + i tap_step`
/// and reads position `at + i at_step`.
#[derive(Clone, Copy, Default)]
struct Taps {
    len: usize,
    tap: usize,
    tap_step: isize,
    at: usize,
    at_step: usize,
}

/// One axis of a convolution or of its transpose.
#[derive(Clone, Copy)]
struct Axis {
    /// Size of the image that is read.
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: usize,
    /// Whether outputs are pixels of the convolution's input: backward-data.
    transposed: bool,
}

impl Axis {
    fn new(g: &Conv2dGeometry, axis: usize, transposed: bool) -> Self {
        Axis {
            size: if transposed { [g.oh, g.ow][axis] } else { [g.h, g.w][axis] },
            kernel: g.kernel[axis],
            stride: g.stride[axis],
            dilation: g.dilation[axis],
            padding: g.padding[2 * axis],
            transposed,
        }
    }

    /// The taps of output `out`, in the order of the positions that they read.
    #[inline(always)]
    fn taps(self, out: usize) -> Taps {
        if self.transposed {
            return self.transposed_taps(out + self.padding);
        }
        let start = out * self.stride;
        let tap = self.padding.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.size + self.padding).saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        if tap >= end {
            return Taps::default();
        }
        let at = start + tap * self.dilation - self.padding;
        Taps { len: end - tap, tap, tap_step: 1, at, at_step: self.dilation }
    }

    /// Taps with `target - tap * dilation = at * stride` for a position `at`. The last of them reads the
    /// first position; the others follow in steps of `stride / gcd(stride, dilation)`.
    #[inline(always)]
    fn transposed_taps(self, target: usize) -> Taps {
        let position = |tap: usize| {
            let rest = target.checked_sub(tap * self.dilation)?;
            (rest % self.stride == 0 && rest / self.stride < self.size).then_some((tap, rest / self.stride))
        };
        let Some((tap, at)) = (0..self.kernel).rev().find_map(position) else {
            return Taps::default();
        };
        let common = gcd(self.stride, self.dilation);
        let (tap_step, at_step) = (self.stride / common, self.dilation / common);
        let len = 1 + (tap / tap_step).min((self.size - 1 - at) / at_step);
        Taps { len, tap, tap_step: -(tap_step as isize), at, at_step }
    }

    /// How far neighbouring outputs with all taps are apart in what they read, if those taps are neighbours
    /// too.
    fn tile_step(self) -> Option<usize> {
        match (self.transposed, self.stride, self.dilation) {
            (_, 1, 1) => Some(1),
            (false, step, 1) => Some(step),
            _ => None,
        }
    }

    /// The outputs of `0..count` that have all taps, for an axis with a [`Axis::tile_step`].
    fn interior(self, count: usize) -> std::ops::Range<usize> {
        let (begin, end) = if self.transposed {
            ((self.kernel - 1).saturating_sub(self.padding), self.size.saturating_sub(self.padding))
        } else {
            let room = (self.size + self.padding + 1).saturating_sub(self.kernel);
            (self.padding.div_ceil(self.stride), room.div_ceil(self.stride))
        };
        let end = end.min(count);
        begin.min(end)..end
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Every pixel of `out` as a sum over taps of `from`; see the top of this file.
struct Gather {
    out: *mut f32,
    from: *const f32,
    w: *const f32,
    /// Added to every pixel, or null.
    bias: *const f32,
    range: (f32, f32),
    c: usize,
    /// Height and width of `out`.
    size: [usize; 2],
    rows: Axis,
    cols: Axis,
}

impl Gather {
    /// Offsets of the first tap of row tap `r` in `from` and in `w`.
    #[inline(always)]
    fn row(&self, rows: Taps, cols: Taps, r: usize) -> (usize, usize) {
        let at = (rows.at + r * rows.at_step) * self.cols.size + cols.at;
        let tap = rows.tap.wrapping_add_signed(r as isize * rows.tap_step) * self.cols.kernel + cols.tap;
        (at * self.c, tap * self.c)
    }

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
        let mut acc = [s.splat(0.0); V];
        let (at_step, tap_step) = (cols.at_step * self.c, cols.tap_step * self.c as isize);
        // SAFETY: the contract of this function; `Axis::taps` gives positions inside both images.
        unsafe {
            if !self.bias.is_null() {
                for v in 0..V {
                    acc[v] = load(s, self.bias.add(col + v * S::LANES), n);
                }
            }
            for r in 0..rows.len {
                let (at, tap) = self.row(rows, cols, r);
                let (mut from, mut w) = (self.from.add(at + col), self.w.add(tap + col));
                for _ in 0..cols.len {
                    for v in 0..V {
                        let x = load(s, from.add(v * S::LANES), n);
                        acc[v] = s.mul_add(x, load(s, w.add(v * S::LANES), n), acc[v]);
                    }
                    // The last step may leave the images: wrapping, as it is not followed by a load.
                    (from, w) = (from.wrapping_add(at_step), w.wrapping_offset(tap_step));
                }
            }
            for v in 0..V {
                store(s, self.out.add(out + col + v * S::LANES), clamp(s, acc[v], self.range), n);
            }
        }
    }

    /// All channels of the pixels `range` of output row `row`.
    ///
    /// # Safety
    /// The pixels exist and `rows` are the taps of their row.
    #[inline(always)]
    unsafe fn pixels<S: Simd>(&self, s: S, row: usize, rows: Taps, range: std::ops::Range<usize>) {
        for ow in range {
            let pixel = ((row * self.size[1] + ow) * self.c, rows, self.cols.taps(ow));
            let mut col = 0;
            // SAFETY: every block ends at the last channel or before.
            unsafe {
                while col + BLOCK * S::LANES <= self.c {
                    self.pixel::<S, BLOCK>(s, pixel, col, S::LANES);
                    col += BLOCK * S::LANES;
                }
                while col + S::LANES <= self.c {
                    self.pixel::<S, 1>(s, pixel, col, S::LANES);
                    col += S::LANES;
                }
                if col < self.c {
                    self.pixel::<S, 1>(s, pixel, col, self.c - col);
                }
            }
        }
    }

    /// `n` channels from `col` on of `T` neighbouring pixels that have all `KW` taps of a row, `STEP`
    /// positions apart.
    ///
    /// # Safety
    /// As [`Gather::pixel`] for the first of the pixels, and the others exist and are such pixels too.
    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const KW: usize, const STEP: usize>(
        &self,
        s: S,
        (out, rows, cols): (usize, Taps, Taps),
        col: usize,
        n: usize,
    ) {
        // SAFETY: the contract of this function.
        unsafe {
            let bias = if self.bias.is_null() { s.splat(0.0) } else { load(s, self.bias.add(col), n) };
            let mut acc = [bias; T];
            for r in 0..rows.len {
                let (at, tap) = self.row(rows, cols, r);
                let (from, taps) = (self.from.add(at + col), self.w.add(tap + col));
                let mut w = [s.splat(0.0); KW];
                for (k, w) in w.iter_mut().enumerate() {
                    *w = load(s, taps.offset(k as isize * cols.tap_step * self.c as isize), n);
                }
                for j in 0..(T - 1) * STEP + KW {
                    let x = load(s, from.add(j * self.c), n);
                    for t in 0..T {
                        if j >= t * STEP && j < t * STEP + KW {
                            acc[t] = s.mul_add(x, w[j - t * STEP], acc[t]);
                        }
                    }
                }
            }
            for (t, acc) in acc.into_iter().enumerate() {
                store(s, self.out.add(out + t * self.c + col), clamp(s, acc, self.range), n);
            }
        }
    }

    /// All channels of `T` such pixels from `ow` on in output row `row`.
    ///
    /// # Safety
    /// As [`Gather::tile`].
    #[inline(always)]
    unsafe fn tile_channels<S: Simd, const T: usize, const KW: usize, const STEP: usize>(
        &self,
        s: S,
        (row, ow): (usize, usize),
        rows: Taps,
    ) {
        let pixel = ((row * self.size[1] + ow) * self.c, rows, self.cols.taps(ow));
        let rest = self.c % S::LANES;
        let whole = self.c - rest;
        // SAFETY: the contract of this function; every vector ends at the last channel or before.
        unsafe {
            for col in (0..whole).step_by(S::LANES) {
                self.tile::<S, T, KW, STEP>(s, pixel, col, S::LANES);
            }
            if rest > 0 {
                self.tile::<S, T, KW, STEP>(s, pixel, whole, rest);
            }
        }
    }

    /// One row of output: tiles inside, pixels at the edges.
    ///
    /// # Safety
    /// The row exists, `rows` are its taps, the kernel is `KW` wide and [`Axis::tile_step`] is `STEP`.
    #[inline(always)]
    unsafe fn tiled_row<S: Simd, const KW: usize, const STEP: usize>(&self, s: S, row: usize, rows: Taps) {
        let inside = self.cols.interior(self.size[1]);
        // SAFETY: the contract of this function; tiles take only pixels of `inside`.
        unsafe {
            self.pixels(s, row, rows, 0..inside.start);
            let mut ow = inside.start;
            while ow + TILE <= inside.end {
                self.tile_channels::<S, TILE, KW, STEP>(s, (row, ow), rows);
                ow += TILE;
            }
            // Four and two before one: a row of 14 is 6 + 6 + 2, one of 28 ends in 4, one of 7 in 1.
            if ow + 4 <= inside.end {
                self.tile_channels::<S, 4, KW, STEP>(s, (row, ow), rows);
                ow += 4;
            }
            if ow + 2 <= inside.end {
                self.tile_channels::<S, 2, KW, STEP>(s, (row, ow), rows);
                ow += 2;
            }
            self.pixels(s, row, rows, ow..self.size[1]);
        }
    }
}

impl Kernel for Gather {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in 0..self.size[0] {
            let rows = self.rows.taps(row);
            // SAFETY: rows and pixels are those of `out`; the safe functions below checked its length.
            unsafe {
                match (self.cols.kernel, self.cols.tile_step()) {
                    (3, Some(1)) => self.tiled_row::<S, 3, 1>(s, row, rows),
                    (3, Some(2)) => self.tiled_row::<S, 3, 2>(s, row, rows),
                    (5, Some(1)) => self.tiled_row::<S, 5, 1>(s, row, rows),
                    (5, Some(2)) => self.tiled_row::<S, 5, 2>(s, row, rows),
                    _ => self.pixels(s, row, rows, 0..self.size[1]),
                }
            }
        }
    }
}

/// Refuses slices that are not those of a depthwise convolution.
fn check(g: &Conv2dGeometry, x: usize, y: usize, w: usize) {
    assert!(g.groups == g.cin && g.groups == g.cout, "one filter for every channel");
    assert!(x == g.x_len() && y == g.y_len() && w == g.w_len(), "slices have the lengths of the geometry");
}

/// Parameters of [`forward`].
#[derive(Clone, Copy)]
pub struct DepthwiseArgs<'a> {
    /// Filters `[kh][kw][c]`.
    pub w: &'a [f32],
    /// Added to each channel `[c]`.
    pub bias: Option<&'a [f32]>,
    /// Applied to the result; ReLU and ReLU6 cost no pass of their own.
    pub act: Option<Activation>,
}

/// `y[oh, ow, c] = act(bias[c] + sum over taps of x[.., .., c] w[kh, kw, c])`, one image.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn forward(isa: Isa, y: &mut [f32], x: &[f32], args: DepthwiseArgs, g: &Conv2dGeometry) {
    let DepthwiseArgs { w, bias, act } = args;
    check(g, x.len(), y.len(), w.len());
    assert!(bias.is_none_or(|bias| bias.len() == g.cout), "a bias for every channel");
    let range = activation::clamp_range(act);
    let gather = Gather {
        out: y.as_mut_ptr(),
        from: x.as_ptr(),
        w: w.as_ptr(),
        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        range: range.unwrap_or(activation::NO_CLAMP),
        c: g.cout,
        size: [g.oh, g.ow],
        rows: Axis::new(g, 0, false),
        cols: Axis::new(g, 1, false),
    };
    dispatch(isa, gather);
    if let (None, Some(act)) = (range, act) {
        activation::forward_in_place(isa, y, act);
    }
}

/// Gradient of [`forward`] without activation: `dx[h, w, c]` (overwritten), one image.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn backward_data(isa: Isa, dx: &mut [f32], dy: &[f32], w: &[f32], g: &Conv2dGeometry) {
    check(g, dx.len(), dy.len(), w.len());
    let gather = Gather {
        out: dx.as_mut_ptr(),
        from: dy.as_ptr(),
        w: w.as_ptr(),
        bias: std::ptr::null(),
        range: activation::NO_CLAMP,
        c: g.cout,
        size: [g.h, g.w],
        rows: Axis::new(g, 0, true),
        cols: Axis::new(g, 1, true),
    };
    dispatch(isa, gather);
}

struct WeightGradient<'a> {
    dw: *mut f32,
    x: *const f32,
    dy: *const f32,
    g: &'a Conv2dGeometry,
}

/// Some rows of pixels and a run of taps of one filter row.
#[derive(Clone)]
struct Sweep {
    /// Rows of the output.
    rows: std::ops::Range<usize>,
    /// Row of the filter.
    kh: usize,
    /// First column of the filter.
    kw: usize,
}

impl WeightGradient<'_> {
    /// Row of the input that filter row `kh` reads for output row `oh`, if it is not padding.
    #[inline(always)]
    fn input_row(&self, oh: usize, kh: usize) -> Option<usize> {
        let g = self.g;
        let ih = (oh * g.stride[0] + kh * g.dilation[0]).checked_sub(g.padding[0])?;
        (ih < g.h).then_some(ih)
    }

    /// Output columns at which filter column `kw` lies in the image.
    #[inline(always)]
    fn columns(&self, kw: usize) -> (usize, usize) {
        let (g, shift) = (self.g, kw * self.g.dilation[1]);
        let begin = g.padding[2].saturating_sub(shift).div_ceil(g.stride[1]);
        let end = (g.w + g.padding[2]).saturating_sub(shift).div_ceil(g.stride[1]).min(g.ow);
        (begin.min(end), end)
    }

    /// `dw += x dy` for `KW` neighbouring taps of `V` vectors of channels over some rows of pixels.
    ///
    /// # Safety
    /// The rows, taps and channels exist; the last vector has `n <= LANES` channels, `LANES` unless `V` is 1.
    #[inline(always)]
    unsafe fn block<S: Simd, const KW: usize, const V: usize>(
        &self,
        s: S,
        sweep: &Sweep,
        col: usize,
        n: usize,
    ) {
        let g = self.g;
        let mut acc = [[s.splat(0.0); V]; KW];
        let mut columns = [(0, 0); KW];
        for (k, range) in columns.iter_mut().enumerate() {
            *range = self.columns(sweep.kw + k);
        }
        // Columns at which all taps lie in the image; none are the ones after the last.
        let begin = columns.iter().map(|range| range.0).fold(0, usize::max);
        let end = columns.iter().map(|range| range.1).fold(g.ow, usize::min);
        let (begin, end) = if begin < end { (begin, end) } else { (g.ow, g.ow) };
        for oh in sweep.rows.clone() {
            let Some(ih) = self.input_row(oh, sweep.kh) else { continue };
            let x = |ow: usize, k: usize| {
                let iw = ow * g.stride[1] + (sweep.kw + k) * g.dilation[1] - g.padding[2];
                (ih * g.w + iw) * g.cin + col
            };
            let dy = |ow: usize| (oh * g.ow + ow) * g.cout + col;
            // SAFETY: the contract of this function; `columns` and `input_row` keep reads inside the image.
            unsafe {
                for k in 0..KW {
                    for ow in columns[k].0..columns[k].1.min(begin) {
                        self.tap(s, &mut acc[k], (x(ow, k), dy(ow)), n);
                    }
                }
                for ow in begin..end {
                    let (first, step) = (x(ow, 0), g.dilation[1] * g.cin);
                    for v in 0..V {
                        let gradient = load(s, self.dy.add(dy(ow) + v * S::LANES), n);
                        for k in 0..KW {
                            let value = load(s, self.x.add(first + k * step + v * S::LANES), n);
                            acc[k][v] = s.mul_add(value, gradient, acc[k][v]);
                        }
                    }
                }
                for k in 0..KW {
                    for ow in columns[k].0.max(end)..columns[k].1 {
                        self.tap(s, &mut acc[k], (x(ow, k), dy(ow)), n);
                    }
                }
            }
        }
        for k in 0..KW {
            for v in 0..V {
                let tap = sweep.kh * g.kernel[1] + sweep.kw + k;
                // SAFETY: the contract of this function.
                unsafe {
                    let dw = self.dw.add(tap * g.cout + col + v * S::LANES);
                    store(s, dw, s.add(load(s, dw, n), acc[k][v]), n);
                }
            }
        }
    }

    /// One tap at one pixel.
    ///
    /// # Safety
    /// `V` vectors of channels, the last of `n`, exist at `x` and `dy`.
    #[inline(always)]
    unsafe fn tap<S: Simd, const V: usize>(
        &self,
        s: S,
        acc: &mut [S::V; V],
        (x, dy): (usize, usize),
        n: usize,
    ) {
        for (v, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the contract of this function.
            let (x, dy) = unsafe {
                (load(s, self.x.add(x + v * S::LANES), n), load(s, self.dy.add(dy + v * S::LANES), n))
            };
            *acc = s.mul_add(x, dy, *acc);
        }
    }

    /// All channels of `KW` neighbouring taps over some rows of pixels, `V` vectors side by side.
    ///
    /// # Safety
    /// The rows and taps exist.
    #[inline(always)]
    unsafe fn channels<S: Simd, const KW: usize, const V: usize>(&self, s: S, sweep: &Sweep) {
        let c = self.g.cout;
        let mut col = 0;
        // SAFETY: every block ends at the last channel or before.
        unsafe {
            while col + V * S::LANES <= c {
                self.block::<S, KW, V>(s, sweep, col, S::LANES);
                col += V * S::LANES;
            }
            while col + S::LANES <= c {
                self.block::<S, KW, 1>(s, sweep, col, S::LANES);
                col += S::LANES;
            }
            if col < c {
                self.block::<S, KW, 1>(s, sweep, col, c - col);
            }
        }
    }
}

impl Kernel for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let g = self.g;
        let block = (PIXELS / g.ow.max(1)).max(1);
        for begin in (0..g.oh).step_by(block) {
            let rows = begin..g.oh.min(begin + block);
            for kh in 0..g.kernel[0] {
                let sweep = Sweep { rows: rows.clone(), kh, kw: 0 };
                // SAFETY: rows and taps are those of the geometry.
                unsafe {
                    match g.kernel[1] {
                        3 => self.channels::<S, 3, 4>(s, &sweep),
                        5 => self.channels::<S, 5, 2>(s, &sweep),
                        kernel => {
                            for kw in 0..kernel {
                                self.channels::<S, 1, 4>(s, &Sweep { kw, ..sweep.clone() });
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Gradient of the filters: `dw[kh][kw][c] += sum over pixels of x[..] dy[oh, ow, c]`, one image.
///
/// Each block of rows is summed by itself before it is added.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn backward_weights(isa: Isa, dw: &mut [f32], x: &[f32], dy: &[f32], g: &Conv2dGeometry) {
    check(g, x.len(), dy.len(), dw.len());
    dispatch(isa, WeightGradient { dw: dw.as_mut_ptr(), x: x.as_ptr(), dy: dy.as_ptr(), g });
}

#[cfg(test)]
mod tests;
