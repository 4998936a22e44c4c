//! Moving pixels: mirrored, shifted, rotated, sheared, scaled, and coloured on the way.

use super::colour::{Colour, mixed};
use super::frame::Frame;
use crate::resample::Sample;

/// One drawn movement. From an output pixel to the image that it is taken from: relative to the centre it is scaled by
/// `side`, mirrored, sheared, rotated and shifted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    /// Mirrored along x and along y.
    pub(crate) flip: [bool; 2],
    /// Pixels that the visible part is moved by, x and y.
    pub(crate) offset: [f32; 2],
    /// Side of the visible part relative to the image's.
    pub(crate) side: f32,
    pub(crate) radians: f32,
    /// Tangents along x and along y.
    pub(crate) shear: [f32; 2],
}

impl Affine {
    fn moves_whole_pixels(&self) -> bool {
        self.side == 1.0 && self.radians == 0.0 && self.shear == [0.0; 2]
    }

    /// Writes the changed image, normalised by `normalize(value, channel)` where values stay integers.
    pub(crate) fn apply<T: Sample>(
        &self,
        colour: &Colour,
        frame: &Frame,
        values: &[T],
        normalize: impl Fn(T, usize) -> f32,
        out: &mut [f32],
    ) {
        let whole = self.moves_whole_pixels() && *colour == Colour::SAME;
        // Constant numbers of channels are compiled on their own.
        match (frame.channels(), whole) {
            (1, true) => self.shift(frame, 1, values, normalize, out),
            (3, true) => self.shift(frame, 3, values, normalize, out),
            (n, true) => self.shift(frame, n, values, normalize, out),
            (1, false) => self.warp(colour, frame, 1, values, out),
            (3, false) => self.warp(colour, frame, 3, values, out),
            (n, false) => self.warp(colour, frame, n, values, out),
        }
    }

    #[inline(always)]
    fn shift<T: Sample>(
        &self,
        frame: &Frame,
        n: usize,
        values: &[T],
        normalize: impl Fn(T, usize) -> f32,
        out: &mut [f32],
    ) {
        let (width, height) = (frame.width, frame.height);
        let [dx, dy] = self.offset.map(|o| o.round() as i32);
        for (y, row) in out.chunks_exact_mut(width * n).enumerate() {
            let y = if self.flip[1] { height - 1 - y } else { y };
            let line = &values[mirrored(y as i32 + dy, height) * width * n..][..width * n];
            for (x, out) in row.chunks_exact_mut(n).enumerate() {
                let x = if self.flip[0] { width - 1 - x } else { x };
                let pixel = &line[mirrored(x as i32 + dx, width) * n..][..n];
                for c in 0..n {
                    out[c] = normalize(pixel[c], c);
                }
            }
        }
    }

    /// Samples bilinearly on the 0..1 scale; brightness multiplies, contrast pivots on the data's mean, the result is
    /// clipped to 0..1 like any photo and normalised.
    #[inline(always)]
    fn warp<T: Sample>(&self, colour: &Colour, frame: &Frame, n: usize, values: &[T], out: &mut [f32]) {
        let (width, height) = (frame.width, frame.height);
        let (sin, cos) = self.radians.sin_cos();
        let [shear_x, shear_y] = self.shear;
        let across = [cos - sin * shear_y, cos * shear_x - sin];
        let down = [sin + cos * shear_y, sin * shear_x + cos];
        let centre = [width as f32 / 2.0, height as f32 / 2.0];
        let [step_x, step_y] = self.flip.map(|flip| if flip { -self.side } else { self.side });
        let (mean, std) = (&frame.mean[..n], &frame.std[..n]);
        let scale = colour.brightness / T::WHITE;
        for (y, row) in out.chunks_exact_mut(width * n).enumerate() {
            let py = (y as f32 + 0.5 - centre[1]) * step_y;
            for (x, out) in row.chunks_exact_mut(n).enumerate() {
                let px = (x as f32 + 0.5 - centre[0]) * step_x;
                let (x0, fx) =
                    split_floor(across[0] * px + across[1] * py + centre[0] + self.offset[0] - 0.5);
                let (y0, fy) = split_floor(down[0] * px + down[1] * py + centre[1] + self.offset[1] - 0.5);
                let [left, right] = [x0, x0 + 1].map(|x| mirrored(x, width));
                let [top, bottom] = [y0, y0 + 1].map(|y| mirrored(y, height) * width);
                let corners = [top + left, top + right, bottom + left, bottom + right];
                let corners = corners.map(|at| &values[at * n..at * n + n]);
                for c in 0..n {
                    let corner = corners.map(|pixel| Into::<f32>::into(pixel[c]));
                    let above = corner[0] + (corner[1] - corner[0]) * fx;
                    let below = corner[2] + (corner[3] - corner[2]) * fx;
                    let value = (above + (below - above) * fy) * scale;
                    out[c] = (value - mean[c]) * colour.contrast + mean[c];
                }
                if let (Some(mix), [r, g, b]) = (&colour.mix, &mut *out) {
                    [*r, *g, *b] = mixed(mix, [*r, *g, *b]);
                }
                for c in 0..n {
                    out[c] = (out[c].clamp(0.0, 1.0) - mean[c]) / std[c];
                }
            }
        }
    }
}

/// A whole number and what is left, between 0 and 1. Done by casts: the baseline x86-64 has no floor instruction.
fn split_floor(value: f32) -> (i32, f32) {
    let whole = value as i32 - i32::from(value < 0.0);
    (whole, value - whole as f32)
}

/// The index inside `0..length` that mirrors `at` at the edges without repeating the edge pixel.
fn mirrored(at: i32, length: usize) -> usize {
    if (0..length as i32).contains(&at) {
        return at as usize;
    }
    let last = length as i32 - 1;
    let folded = at.rem_euclid(2 * last.max(1));
    folded.min(2 * last - folded).max(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_walks_to_and_fro() {
        let walk: Vec<usize> = (-5..8).map(|i| mirrored(i, 4)).collect();
        assert_eq!(walk, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert!((-9..9).all(|i| mirrored(i, 1) == 0));
        assert!((-9..9).all(|i: i32| mirrored(i, 2) == i.rem_euclid(2) as usize));
    }
}
