//! 2-d convolution in NHWC and its two gradients, as register-tiled products over taps.
//!
//! ```text
//! y [oh, ow, co]     = sum kh, kw, ci:  x[oh*s + kh*d - p, ow*s + kw*d - p, ci] * w[kh, kw, ci, co]
//! dx[ih, iw, ci]     = sum kh, kw, co:  dy[(ih + p - kh*d) / s, (iw + p - kw*d) / s, co] * w[kh, kw, ci, co]
//! dw[kh, kw, ci, co] = sum oh, ow:      x[oh*s + kh*d - p, ow*s + kw*d - p, ci] * dy[oh, ow, co]
//! ```
//! - No im2col matrix: an output pixel is a row of the tile, a kernel row is one contiguous run of `kw * cin` floats
//!   (without dilation and groups; otherwise a tap is a run). Accumulators stay in registers over all taps.
//! - Padding: a band of the source is copied into scratch with a border of zeros, so the loops test nothing.
//!   Without padding the source is read where it lies.
//! - The gradient of the input is the same sweep over `dy` with mirrored taps. With stride `s` the input pixels fall
//!   into `s * s` classes by parity, each a convolution of its own with the taps that reach it: no product with a
//!   zero that stride put there.
//! - The gradient of the weights reads pixels as the reduction: both `x` and `dy` are contiguous over channels.
//!
//! [`Sweep`] is the prepared form of the first two, [`WeightGradient`] of the third. Depthwise convolutions have
//! their own file: with one channel a group there is no product to tile.

mod bytes;
mod sweep;
mod weight_gradient;

#[cfg(test)]
mod tests;

pub use bytes::ByteArgs;
pub use sweep::{Sweep, SweepArgs};
pub use weight_gradient::WeightGradient;

use super::micro::OuterProducts;
use crate::buffer::Element;

/// A source image with a border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Halo {
    /// Source height, width and channels.
    h: usize,
    w: usize,
    c: usize,
    /// Rows above, columns on the left.
    top: usize,
    left: usize,
    /// Padded height and width.
    ph: usize,
    pw: usize,
}

impl Halo {
    fn is_identity(&self) -> bool {
        self.top == 0 && self.left == 0 && self.ph == self.h && self.pw == self.w
    }

    /// Copies padded rows `first .. first + rows` of an image into `out`, `border` where there is no source.
    fn copy_rows<T: Copy>(&self, out: &mut [T], (image, border): (&[T], T), first: usize, rows: usize) {
        let line = self.pw * self.c;
        let (left, width) = (self.left * self.c, self.w.min(self.pw - self.left) * self.c);
        for (row, out) in out[..rows * line].chunks_exact_mut(line).enumerate() {
            match (first + row).checked_sub(self.top).filter(|&source| source < self.h) {
                Some(source) => {
                    let from = source * self.w * self.c;
                    out[..left].fill(border);
                    out[left..left + width].copy_from_slice(&image[from..from + width]);
                    out[left + width..].fill(border);
                }
                None => out.fill(border),
            }
        }
    }

    /// Copies a padded group of images into `out`, zeros where there is no source, the numbers of a place side by side.
    fn copy_group<N: OuterProducts>(&self, numbers: N, out: &mut [N::X], images: &[N::X]) {
        let line = self.pw * self.c * N::GROUP;
        let (left, width) = (self.left * self.c * N::GROUP, self.w.min(self.pw - self.left) * self.c);
        let image = self.h * self.w * self.c;
        for (row, out) in out.chunks_exact_mut(line).enumerate() {
            match row.checked_sub(self.top).filter(|&source| source < self.h) {
                Some(source) => {
                    let from = source * self.w * self.c;
                    let mut rows = [&[][..]; 2];
                    for (to, image) in rows.iter_mut().zip(images.chunks_exact(image)) {
                        *to = &image[from..from + width];
                    }
                    let (own, right) = out[left..].split_at_mut(width * N::GROUP);
                    numbers.interleave(own, &rows);
                    right.fill(N::X::ZERO);
                    out[..left].fill(N::X::ZERO);
                }
                None => out.fill(N::X::ZERO),
            }
        }
    }
}
