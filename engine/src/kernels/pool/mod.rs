//! Maximum and average over windows and over whole images.
//!
//! A maximum whose input is kept needs no index. Backward compares the window with the stored maximum again and
//! gives the gradient to the first element in row-major order that equals it, as PyTorch does: two
//! comparisons per element instead of an index tensor to write, read and keep. Behind a convolution or a
//! batch normalisation whose outputs never reach memory the index is kept instead: see [`argmax`].
//!
//! Padding is never a maximum and is left out of an average. The maximum of a window with a NaN is its first NaN, which
//! gets the gradient. The vector instruction for maxima drops NaNs; a sum of the window beside it finds them, one addition
//! an element, and such windows are done again channel by channel. (Opposite infinities, too, add up to a NaN: computed
//! again, they give the same maximum.)

pub mod argmax;

use super::lanes::Number;
use super::reduce::{Element, add_columns, row_count};
use crate::geometry::PoolGeometry;
use crate::simd::{Isa, Kernel, Simd, dispatch};
use std::ops::Range;

/// The part of a window that lies in the image.
#[derive(Clone, Copy)]
struct Span {
    /// First row or column.
    first: usize,
    /// Number of rows or columns.
    len: usize,
}

impl Span {
    /// Window `out` along one axis of an image of `size`.
    #[inline(always)]
    fn new(out: usize, size: usize, kernel: usize, stride: usize, padding: usize) -> Span {
        let start = out * stride;
        let first = start.saturating_sub(padding);
        let end = (start + kernel - padding).min(size);
        Span { first, len: end - first }
    }
}

/// Refuses a geometry with a window that holds no pixel, from which every extent below follows.
fn check(g: &PoolGeometry, x: usize, y: usize) {
    assert_eq!(x, g.x_len(), "x is the input image of the geometry");
    assert_eq!(y, g.y_len(), "y is the output image of the geometry");
    for axis in 0..2 {
        let (size, out) = ([g.h, g.w][axis], [g.oh, g.ow][axis]);
        let last = out.saturating_sub(1) * g.stride[axis];
        let inside = g.padding[2 * axis] < g.kernel[axis] && last < size + g.padding[2 * axis];
        assert!(inside, "every window holds a pixel");
    }
}

/// What is done with each window of an image.
trait Windows {
    /// Handles `n` channels of one window: `size` pixels whose first channel is at offset `x` of the input,
    /// and the output pixel whose first channel is at offset `y`. Implementations are `#[inline(always)]`.
    /// True when the window holds what a maximum of vectors does not carry, a NaN (or infinities of both signs): then the
    /// image must be done again without vectors.
    ///
    /// # Safety
    /// `n <= LANES`; both sides of the window are positive, and all of its pixels have `n` channels from `x`
    /// on.
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, size: [usize; 2], n: usize) -> bool;
}

struct Scan<'a, W> {
    windows: W,
    g: &'a PoolGeometry,
}

impl<W: Windows> Scan<'_, W> {
    /// All channels of one window.
    ///
    /// # Safety
    /// The window lies in the image and holds a pixel.
    #[inline(always)]
    unsafe fn window<S: Simd>(&self, s: S, y: usize, x: usize, size: [usize; 2]) -> bool {
        let rest = self.g.c % S::LANES;
        let whole = self.g.c - rest;
        let mut nan = false;
        // SAFETY: every vector ends at the last channel or before.
        unsafe {
            for col in (0..whole).step_by(S::LANES) {
                nan |= self.windows.vector(s, y + col, x + col, size, S::LANES);
            }
            if rest > 0 {
                nan |= self.windows.vector(s, y + whole, x + whole, size, rest);
            }
        }
        nan
    }
}

impl<W: Windows> Scan<'_, W> {
    /// Windows `outputs` of row `oh`, all with the columns of the first.
    ///
    /// # Safety
    /// The windows exist, and those behind the first lie in the image as it does.
    #[inline(always)]
    unsafe fn line<S: Simd>(&self, s: S, oh: usize, outputs: Range<usize>) -> bool {
        let g = self.g;
        let mut nan = false;
        let rows = Span::new(oh, g.h, g.kernel[0], g.stride[0], g.padding[0]);
        let cols = Span::new(outputs.start, g.w, g.kernel[1], g.stride[1], g.padding[2]);
        let x = (rows.first * g.w + cols.first) * g.c;
        let y = (oh * g.ow + outputs.start) * g.c;
        let step = g.stride[1] * g.c;
        for i in 0..outputs.len() {
            let (y, x) = (y + i * g.c, x + i * step);
            // SAFETY: `check` made sure that every window holds a pixel, and spans end at the image's edge.
            unsafe {
                // Literals, so that the loops over the commonest windows are unrolled.
                nan |= match [rows.len, cols.len] {
                    [2, 2] => self.window(s, y, x, [2, 2]),
                    [3, 3] => self.window(s, y, x, [3, 3]),
                    size => self.window(s, y, x, size),
                };
            }
        }
        nan
    }
}

impl<W: Windows> Kernel for Scan<'_, W> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let g = self.g;
        let mut nan = false;
        // Windows with all of their columns, which begin at equal distances; the others one by one.
        let (kernel, stride, padding) = (g.kernel[1], g.stride[1], g.padding[2]);
        let whole = ((g.w + padding).saturating_sub(kernel) / stride + 1).min(g.ow);
        let start = padding.div_ceil(stride).min(whole);
        for oh in 0..g.oh {
            // SAFETY: the ranges are windows of the geometry.
            unsafe {
                for ow in 0..start {
                    nan |= self.line(s, oh, ow..ow + 1);
                }
                nan |= self.line(s, oh, start..whole);
                for ow in whole..g.ow {
                    nan |= self.line(s, oh, ow..ow + 1);
                }
            }
        }
        nan
    }
}

/// Calls `f` with the offset of the first channel of each window's output, that of its first pixel, and its rows and
/// columns.
fn for_each_window(g: &PoolGeometry, mut f: impl FnMut(usize, usize, [usize; 2])) {
    for oh in 0..g.oh {
        let rows = Span::new(oh, g.h, g.kernel[0], g.stride[0], g.padding[0]);
        for ow in 0..g.ow {
            let cols = Span::new(ow, g.w, g.kernel[1], g.stride[1], g.padding[2]);
            let first = (rows.first * g.w + cols.first) * g.c;
            f((oh * g.ow + ow) * g.c, first, [rows.len, cols.len]);
        }
    }
}

/// Index in row-major order and value of the maximum of one channel of a window: the first NaN, or else the first of
/// the largest. `x` begins with the channel in the window's first pixel.
fn first_maximum<E: Number>(x: &[E], g: &PoolGeometry, [rows, cols]: [usize; 2]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for i in 0..rows * cols {
        let value = x[(i / cols * g.w + i % cols) * g.c].into();
        if value.is_nan() {
            return (i, value);
        }
        if i == 0 || value > best.1 {
            best = (i, value);
        }
    }
    best
}

struct MaxForward<E> {
    y: *mut E,
    x: *const E,
    /// Numbers of a row of the input.
    row: usize,
    c: usize,
}

impl<E: Number> Windows for MaxForward<E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) -> bool {
        // SAFETY: the contract of this function.
        unsafe {
            let mut best = E::load(s, self.x.add(x), n);
            let mut sum = best;
            for r in 0..rows {
                for q in usize::from(r == 0)..cols {
                    let value = E::load(s, self.x.add(x + r * self.row + q * self.c), n);
                    best = s.max(value, best);
                    sum = s.add(sum, value);
                }
            }
            E::store(s, self.y.add(y), best, n);
            s.any_nan(sum)
        }
    }
}

/// `y[oh, ow, c] = max of its window of x[h, w, c]`, one image; NaN where the window holds one.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn max_forward<E: Number>(isa: Isa, y: &mut [E], x: &[E], g: &PoolGeometry) {
    check(g, x.len(), y.len());
    let windows = MaxForward { y: y.as_mut_ptr(), x: x.as_ptr(), row: g.w * g.c, c: g.c };
    if dispatch(isa, Scan { windows, g }) {
        max_forward_with_nan(y, x, g);
    }
}

/// [`max_forward`] of an image that may hold a NaN, all of it: rare, and the loop over vectors stays free of calls.
#[cold]
fn max_forward_with_nan<E: Number>(y: &mut [E], x: &[E], g: &PoolGeometry) {
    for_each_window(g, |output, first, size| {
        for channel in 0..g.c {
            y[output + channel] = first_maximum(&x[first + channel..], g, size).1.into();
        }
    });
}

/// What the backward pass of a maximum needs.
#[derive(Clone, Copy)]
pub struct PoolSaved<'a, E = f32> {
    /// Input of the forward pass.
    pub x: &'a [E],
    /// Its output.
    pub y: &'a [E],
    /// Gradient of the output.
    pub dy: &'a [E],
    /// Whether windows whose maximum is not positive pass no gradient: the derivative of a ReLU before the
    /// pool.
    pub gate: bool,
}

struct MaxBackward<E, const OVERWRITE: bool> {
    dx: *mut E,
    x: *const E,
    y: *const E,
    dy: *const E,
    /// What a maximum must reach to pass its gradient.
    floor: f32,
    row: usize,
    c: usize,
}

impl<E: Number, const OVERWRITE: bool> Windows for MaxBackward<E, OVERWRITE> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) -> bool {
        let zero = s.splat(0.0);
        // SAFETY: the contract of this function.
        unsafe {
            let max = E::load(s, self.y.add(y), n);
            // The gradient until an element takes it.
            let mut left = s.select_gt(s.splat(self.floor), max, zero, E::load(s, self.dy.add(y), n));
            for r in 0..rows {
                for q in 0..cols {
                    let at = x + r * self.row + q * self.c;
                    let value = E::load(s, self.x.add(at), n);
                    let mut taken = s.select_gt(max, value, zero, left);
                    left = s.select_gt(max, value, left, zero);
                    if !OVERWRITE {
                        taken = s.add(E::load(s, self.dx.add(at), n), taken);
                    }
                    E::store(s, self.dx.add(at), taken, n);
                }
            }
        }
        false
    }
}

/// Whether windows lie side by side, so that each pixel belongs to one window or, right and below, to none.
fn is_tiling(g: &PoolGeometry) -> bool {
    g.kernel == g.stride && g.padding == [0; 4]
}

/// Zeros what no window of a tiling covers.
fn clear_uncovered<E: Number>(dx: &mut [E], g: &PoolGeometry) {
    let row = g.w * g.c;
    let (covered, below) = dx.split_at_mut(g.oh * g.kernel[0] * row);
    below.fill(E::ZERO);
    let right = g.ow * g.kernel[1] * g.c;
    if right < row {
        covered.chunks_exact_mut(row).for_each(|line| line[right..].fill(E::ZERO));
    }
}

/// Gradient of [`max_forward`], one image: `dx[h, w, c]` is overwritten; where windows overlap gradients add
/// up. Of each window the first largest element, or the first NaN, gets the gradient.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn max_backward<E: Number>(isa: Isa, dx: &mut [E], saved: PoolSaved<E>, g: &PoolGeometry) {
    let PoolSaved { x, y, dy, gate } = saved;
    check(g, x.len(), y.len());
    assert!(dx.len() == x.len() && dy.len() == y.len(), "gradients are as long as their tensors");
    // The least positive float: only what is zero or below lies under it.
    let floor = if gate { f32::from_bits(1) } else { f32::NEG_INFINITY };
    // Every element is looked at, which takes vectors where an early end would not.
    if y.iter().fold(false, |nan, &max| nan | max.into().is_nan()) {
        return max_backward_with_nan(dx, saved, floor, g);
    }
    let (x, y, dy, row, c) = (x.as_ptr(), y.as_ptr(), dy.as_ptr(), g.w * g.c, g.c);
    if is_tiling(g) {
        clear_uncovered(dx, g);
        let windows = MaxBackward::<_, true> { dx: dx.as_mut_ptr(), x, y, dy, floor, row, c };
        dispatch(isa, Scan { windows, g });
    } else {
        dx.fill(E::ZERO);
        let windows = MaxBackward::<_, false> { dx: dx.as_mut_ptr(), x, y, dy, floor, row, c };
        dispatch(isa, Scan { windows, g });
    }
}

struct AvgForward<E> {
    y: *mut E,
    x: *const E,
    row: usize,
    c: usize,
}

impl<E: Number> Windows for AvgForward<E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) -> bool {
        // SAFETY: the contract of this function.
        unsafe {
            let mut sum = s.splat(0.0);
            for r in 0..rows {
                for q in 0..cols {
                    sum = s.add(sum, E::load(s, self.x.add(x + r * self.row + q * self.c), n));
                }
            }
            E::store(s, self.y.add(y), s.mul(sum, s.splat(1.0 / (rows * cols) as f32)), n);
        }
        false
    }
}

/// [`max_backward`] of an image that holds a NaN; what does not reach `floor` passes no gradient.
#[cold]
fn max_backward_with_nan<E: Number>(dx: &mut [E], saved: PoolSaved<E>, floor: f32, g: &PoolGeometry) {
    dx.fill(E::ZERO);
    for_each_window(g, |output, first, size| {
        for channel in 0..g.c {
            let (i, max) = first_maximum(&saved.x[first + channel..], g, size);
            if floor > max {
                continue;
            }
            let dx = &mut dx[first + channel + (i / size[1] * g.w + i % size[1]) * g.c];
            *dx = ((*dx).into() + saved.dy[output + channel].into()).into();
        }
    });
}

/// `y[oh, ow, c] = mean of its window of x[h, w, c]`, padding left out, one image.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn avg_forward<E: Number>(isa: Isa, y: &mut [E], x: &[E], g: &PoolGeometry) {
    check(g, x.len(), y.len());
    let windows = AvgForward { y: y.as_mut_ptr(), x: x.as_ptr(), row: g.w * g.c, c: g.c };
    dispatch(isa, Scan { windows, g });
}

struct AvgBackward<E, const OVERWRITE: bool> {
    dx: *mut E,
    dy: *const E,
    row: usize,
    c: usize,
}

impl<E: Number, const OVERWRITE: bool> Windows for AvgBackward<E, OVERWRITE> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) -> bool {
        // SAFETY: the contract of this function.
        unsafe {
            let share = s.mul(E::load(s, self.dy.add(y), n), s.splat(1.0 / (rows * cols) as f32));
            for r in 0..rows {
                for q in 0..cols {
                    let p = self.dx.add(x + r * self.row + q * self.c);
                    E::store(s, p, if OVERWRITE { share } else { s.add(E::load(s, p, n), share) }, n);
                }
            }
        }
        false
    }
}

/// Gradient of [`avg_forward`], one image: `dx[h, w, c]` is overwritten.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn avg_backward<E: Number>(isa: Isa, dx: &mut [E], dy: &[E], g: &PoolGeometry) {
    check(g, dx.len(), dy.len());
    let (dy, row, c) = (dy.as_ptr(), g.w * g.c, g.c);
    if is_tiling(g) {
        clear_uncovered(dx, g);
        let windows = AvgBackward::<_, true> { dx: dx.as_mut_ptr(), dy, row, c };
        dispatch(isa, Scan { windows, g });
    } else {
        dx.fill(E::ZERO);
        let windows = AvgBackward::<_, false> { dx: dx.as_mut_ptr(), dy, row, c };
        dispatch(isa, Scan { windows, g });
    }
}

/// `y[c] = mean over pixels of x[pixels, c]`, one image.
///
/// # Panics
/// When `y` is not `c` long or `x` is not whole pixels.
pub fn global_avg_forward<E: Number>(isa: Isa, y: &mut [f32], x: &[E], c: usize) {
    assert_eq!(y.len(), c, "one mean for every channel");
    let pixels = row_count(x.len(), c);
    y.fill(0.0);
    // SAFETY: `x` holds `pixels` rows of `c` numbers.
    unsafe { add_columns(isa, [y.as_mut_ptr()], pixels, c, Element(x.as_ptr())) }
    y.iter_mut().for_each(|y| *y /= pixels as f32);
}

/// Gradient of [`global_avg_forward`]: every pixel of `dx[pixels, c]` (overwritten) gets `dy[c] / pixels`.
///
/// # Panics
/// When `dy` is not `c` long or `dx` is not whole pixels.
pub fn global_avg_backward<E: Number>(dx: &mut [E], dy: &[f32], c: usize) {
    assert_eq!(dy.len(), c, "one gradient for every channel");
    let pixels = row_count(dx.len(), c);
    if pixels == 0 {
        return;
    }
    let (first, others) = dx.split_at_mut(c);
    let share = 1.0 / pixels as f32;
    first.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = (dy * share).into());
    others.chunks_exact_mut(c).for_each(|pixel| pixel.copy_from_slice(first));
}

/// The whole image as one window.
fn global(len: usize, c: usize) -> PoolGeometry {
    let pixels = row_count(len, c);
    PoolGeometry {
        h: pixels,
        w: 1,
        c,
        kernel: [pixels, 1],
        stride: [pixels, 1],
        padding: [0; 4],
        oh: 1,
        ow: 1,
    }
}

/// `y[c] = max over pixels of x[pixels, c]`, one image of at least one pixel.
///
/// # Panics
/// When `y` is not `c` long or `x` is not whole pixels.
pub fn global_max_forward<E: Number>(isa: Isa, y: &mut [E], x: &[E], c: usize) {
    max_forward(isa, y, x, &global(x.len(), c));
}

/// Gradient of [`global_max_forward`]: the first largest pixel of each channel gets `dy[c]`, the others zero.
///
/// # Panics
/// When lengths do not fit.
pub fn global_max_backward<E: Number>(isa: Isa, dx: &mut [E], saved: PoolSaved<E>, c: usize) {
    let geometry = global(saved.x.len(), c);
    max_backward(isa, dx, saved, &geometry);
}

#[cfg(test)]
mod tests;
