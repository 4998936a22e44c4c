//! Depthwise convolution: every channel is convolved with a filter of its own, `w[kh][kw][c]`.
//!
//! Along either axis the taps that contribute to an output form an arithmetic progression (`axis`), whatever the
//! stride, dilation and padding, and so forward and backward-data are one loop (`gather`):
//! ```text
//! y[oh, ow]  = sum over taps: x[oh stride + kh dilation - pad, ..] w[kh, kw]
//! dx[ih, iw] = sum over taps: dy[(ih + pad - kh dilation) / stride, ..] w[kh, kw]   where it divides
//! ```
//! Two paths:
//! 1. *Tiles* of 7 or 8 neighbouring pixels (4 in narrow images) and a vector of channels, for filters 3 and 5 wide
//!    at strides 1 and 2 (`tiles`). A row of taps and the columns that neighbours share are loaded once: `9 + 3` loads for 21
//!    multiply-adds at width 3, `11 + 5` for 35 at width 5. Backward-weights (`weights`) walks the same tiles:
//!    there the pixels of `dy` stay in registers and the row of taps is what is summed.
//! 2. Everything else, pixel by pixel or tap by tap: other filters, dilation, images narrower than a tile, fewer
//!    channels than a vector, outputs deep in padding.
//!
//! Which path and which tile a pixel gets depends on the geometry alone, and its taps are added in the order of
//! the pixels that they read: rows may be computed apart without changing a bit.
//!
//! Tiles walk down a column of the image with a block of channels, so that the rows of their windows stay in the
//! first-level cache; few channels are not cut, and tiles follow the rows. Filters are copied to panels,
//! `[vector][1 + taps][lane]` with the bias first: one pointer instead of one for each tap.
//!
//! On Zen 3, in its second-level cache, 3x3 filters reach 55 to 65 % of the multiply-add peak in all three passes
//! and 5x5 75 to 80 %. At stride 2, and where images come from further away, memory is the limit. Prefetching the
//! next row of a window gained 5 % there and cost 10 to 20 % elsewhere.

mod axis;
mod gather;
mod tiles;
mod weights;

use self::gather::{ByteOutputs, Gather, RealOutputs};
use self::tiles::Plane;
use self::weights::WeightGradient;
use super::activation;
use super::lanes::Number;
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::simd::Isa;
use std::ops::Range;

/// The instruction set for `g`: one whose vectors the channels fill, if there is one, as tiles hold whole vectors. A filter's
/// gradient is summed in another order by tiles than by pixels, so AVX2 and AVX-512 must tile the same images.
fn for_channels(isa: Isa, g: &Conv2dGeometry) -> Isa {
    isa.for_length(g.cout)
}

/// Refuses slices that are not those of a depthwise convolution.
fn check(g: &Conv2dGeometry, x: usize, y: usize, w: usize) {
    assert!(g.groups == g.cin && g.groups == g.cout, "one filter for every channel");
    assert!(x == g.x_len() && y == g.y_len() && w == g.w_len(), "slices have the lengths of the geometry");
}

/// Elements of an image with another number of rows; refuses rows that are not there.
fn rows_len(rows: &Range<usize>, [height, width]: [usize; 2], g: &Conv2dGeometry) -> usize {
    assert!(rows.start <= rows.end && rows.end <= height, "the rows are those of the output");
    rows.len() * width * g.cout
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

/// `y[oh, ow, c] = act(bias[c] + sum over taps of x[.., .., c] w[kh, kw, c])`, rows `rows` of one image.
///
/// # Panics
/// When lengths are not those of the geometry; `y` has `rows.len()` rows.
pub fn forward<E: Number>(
    isa: Isa,
    y: &mut [E],
    x: &[E],
    args: DepthwiseArgs,
    g: &Conv2dGeometry,
    rows: Range<usize>,
) {
    let DepthwiseArgs { w, bias, act } = args;
    assert_eq!(y.len(), rows_len(&rows, [g.oh, g.ow], g), "y has the rows that are asked for");
    check(g, x.len(), g.y_len(), w.len());
    assert!(bias.is_none_or(|bias| bias.len() == g.cout), "a bias for every channel");
    let range = activation::clamp_range(act);
    let gather = Gather {
        plane: Plane::new(x, g, false, rows),
        w: w.as_ptr(),
        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        finish: RealOutputs { out: y.as_mut_ptr(), range: range.filter(|_| act.is_some()) },
    };
    // SAFETY: all lengths were compared with the geometry.
    unsafe { gather.run(for_channels(isa, g)) }
    if let (None, Some(act)) = (range, act) {
        activation::forward_in_place(isa, y, act);
    }
}

/// Parameters of [`forward_bytes`].
#[derive(Clone, Copy)]
pub struct DepthwiseByteArgs<'a> {
    /// Filters `[kh][kw][c]`, whole numbers from -128 to 127.
    pub w: &'a [f32],
    /// What the sums of each channel start with `[c]`, whole numbers below `2^24`.
    pub bias: &'a [f32],
    /// Factor of each channel `[c]`.
    pub scale: &'a [f32],
    /// Added to all outputs.
    pub offset: f32,
}

/// `y[oh, ow, c] = saturate(round( (bias[c] + sum over taps of x[.., .., c] w[kh, kw, c]) * scale[c] + offset ))`, rows
/// `rows` of one image of bytes, around which there are zeros.
///
/// Sums are computed in floats, which hold them exactly: the bits are the same on every instruction set.
///
/// # Panics
/// When lengths are not those of the geometry; `y` has `rows.len()` rows.
pub fn forward_bytes(
    isa: Isa,
    y: &mut [u8],
    x: &[u8],
    args: DepthwiseByteArgs,
    g: &Conv2dGeometry,
    rows: Range<usize>,
) {
    let DepthwiseByteArgs { w, bias, scale, offset } = args;
    assert_eq!(y.len(), rows_len(&rows, [g.oh, g.ow], g), "y has the rows that are asked for");
    check(g, x.len(), g.y_len(), w.len());
    assert!(bias.len() == g.cout && scale.len() == g.cout, "a bias and a factor for every channel");
    let gather = Gather {
        plane: Plane::new(x, g, false, rows),
        w: w.as_ptr(),
        bias: bias.as_ptr(),
        finish: ByteOutputs { out: y.as_mut_ptr(), scale: scale.as_ptr(), offset },
    };
    // SAFETY: all lengths were compared with the geometry.
    unsafe { gather.run(for_channels(isa, g)) }
}

/// Gradient of [`forward`] without activation: rows `rows` of `dx[h, w, c]` (overwritten), one image.
///
/// # Panics
/// When lengths are not those of the geometry; `dx` has `rows.len()` rows.
pub fn backward_data<E: Number>(
    isa: Isa,
    dx: &mut [E],
    dy: &[E],
    w: &[f32],
    g: &Conv2dGeometry,
    rows: Range<usize>,
) {
    assert_eq!(dx.len(), rows_len(&rows, [g.h, g.w], g), "dx has the rows that are asked for");
    check(g, g.x_len(), dy.len(), w.len());
    let gather = Gather {
        plane: Plane::new(dy, g, true, rows),
        w: w.as_ptr(),
        bias: std::ptr::null(),
        finish: RealOutputs { out: dx.as_mut_ptr(), range: None },
    };
    // SAFETY: all lengths were compared with the geometry.
    unsafe { gather.run(for_channels(isa, g)) }
}

/// Gradient of the filters: `dw[kh][kw][c] += sum over pixels of x[..] dy[oh, ow, c]`, one image.
///
/// Each band of rows is summed by itself before it is added.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn backward_weights<E: Number>(isa: Isa, dw: &mut [f32], x: &[E], dy: &[E], g: &Conv2dGeometry) {
    check(g, x.len(), dy.len(), dw.len());
    let plane = Plane::new(x, g, false, 0..g.oh);
    // SAFETY: all lengths were compared with the geometry.
    unsafe { WeightGradient { plane, dw: dw.as_mut_ptr(), dy: dy.as_ptr() }.run(for_channels(isa, g)) }
}

#[cfg(test)]
mod tests;
