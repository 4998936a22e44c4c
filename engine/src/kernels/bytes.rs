//! Bytes that stand for real numbers: byte `q` is `scale * (q - zero)`, with a scale for all or for each channel.
//!
//! Every result is one rounding for each written operation, so the bits are the same on every instruction set.

use super::lanes::{load, store};
use crate::geometry::PoolGeometry;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Calls `step` with the offset of each vector of `len` numbers and how many of it exist.
macro_rules! by_vectors {
    ($lanes:expr, $len:expr, |$at:ident, $n:ident| $step:expr) => {
        let (lanes, len) = ($lanes, $len);
        let whole = len - len % lanes;
        for $at in (0..whole).step_by(lanes) {
            let $n = lanes;
            $step
        }
        if whole < len {
            let ($at, $n) = (whole, len - whole);
            $step
        }
    };
}

struct Quantize<'a> {
    y: &'a mut [u8],
    x: &'a [f32],
    inverse: f32,
    zero: f32,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (inverse, zero) = (s.splat(self.inverse), s.splat(self.zero));
        let (y, x) = (self.y.as_mut_ptr(), self.x.as_ptr());
        // SAFETY: both slices have the length that vectors stay in.
        unsafe {
            by_vectors!(S::LANES, self.y.len(), |at, n| {
                let scaled = s.mul(load(s, x.add(at), n), inverse);
                s.store_u8(y.add(at), s.add(scaled, zero), n);
            });
        }
    }
}

/// `y = saturate(round(x * inverse + zero))`: `inverse` is 1 / scale.
///
/// # Panics
/// When lengths differ.
pub fn quantize(isa: Isa, y: &mut [u8], x: &[f32], (inverse, zero): (f32, u8)) {
    assert_eq!(x.len(), y.len(), "the input is as long as the output");
    dispatch(isa, Quantize { y, x, inverse, zero: zero.into() });
}

/// [`quantize`] with a scale for each channel: `x` is `[pixels][channels]`.
///
/// # Panics
/// When lengths differ or there are parts of pixels.
pub fn quantize_channels(y: &mut [u8], x: &[f32], (inverse, zero): (&[f32], u8)) {
    assert_eq!(x.len(), y.len(), "the input is as long as the output");
    assert!(x.len().is_multiple_of(inverse.len()), "there are whole pixels");
    for (y, x) in y.chunks_exact_mut(inverse.len()).zip(x.chunks_exact(inverse.len())) {
        for ((y, &x), &inverse) in y.iter_mut().zip(x).zip(inverse) {
            *y = (x * inverse + f32::from(zero)).clamp(0.0, 255.0).round_ties_even() as u8;
        }
    }
}

struct Dequantize<'a> {
    y: &'a mut [f32],
    x: &'a [u8],
    scale: &'a [f32],
    zero: f32,
}

impl Kernel for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero = s.splat(self.zero);
        let (y, x, scale, c) = (self.y.as_mut_ptr(), self.x.as_ptr(), self.scale.as_ptr(), self.scale.len());
        for pixel in (0..self.y.len()).step_by(c) {
            // SAFETY: the slices hold whole pixels of `c` channels.
            unsafe {
                by_vectors!(S::LANES, c, |at, n| {
                    let distance = s.sub(s.load_u8(x.add(pixel + at), n), zero);
                    store(s, y.add(pixel + at), s.mul(distance, load(s, scale.add(at), n)), n);
                });
            }
        }
    }
}

/// `y = (x - zero) * scale`: `x` is `[pixels][channels]`, and `scale` has one number for each channel.
///
/// # Panics
/// When lengths differ or there are parts of pixels.
pub fn dequantize(isa: Isa, y: &mut [f32], x: &[u8], (scale, zero): (&[f32], u8)) {
    assert_eq!(x.len(), y.len(), "the input is as long as the output");
    assert!(x.len().is_multiple_of(scale.len()), "there are whole pixels");
    dispatch(isa, Dequantize { y, x, scale, zero: zero.into() });
}

struct Add<'a> {
    y: &'a mut [u8],
    x: [&'a [u8]; 2],
    factors: [f32; 2],
    offset: f32,
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factors = [s.splat(self.factors[0]), s.splat(self.factors[1])];
        let offset = s.splat(self.offset);
        let (y, a, b) = (self.y.as_mut_ptr(), self.x[0].as_ptr(), self.x[1].as_ptr());
        // SAFETY: all slices have the length that vectors stay in.
        unsafe {
            by_vectors!(S::LANES, self.y.len(), |at, n| {
                let a = s.mul(s.load_u8(a.add(at), n), factors[0]);
                let b = s.mul(s.load_u8(b.add(at), n), factors[1]);
                s.store_u8(y.add(at), s.add(s.add(a, b), offset), n);
            });
        }
    }
}

/// `y = saturate(round(x[0] * factors[0] + x[1] * factors[1] + offset))` over slices of one length.
///
/// # Panics
/// When lengths differ.
pub fn add(isa: Isa, y: &mut [u8], x: [&[u8]; 2], factors: [f32; 2], offset: f32) {
    assert!(x.iter().all(|x| x.len() == y.len()), "inputs are as long as the output");
    dispatch(isa, Add { y, x, factors, offset });
}

struct MaxPool<'a> {
    y: &'a mut [u8],
    x: &'a [u8],
    g: &'a PoolGeometry,
}

impl Kernel for MaxPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let MaxPool { y, x, g } = self;
        for (output, y) in y.chunks_exact_mut(g.c).enumerate() {
            let place = [output / g.ow, output % g.ow];
            let mut span = [0..0, 0..0];
            for axis in 0..2 {
                let start = place[axis] * g.stride[axis];
                let end = (start + g.kernel[axis] - g.padding[2 * axis]).min([g.h, g.w][axis]);
                span[axis] = start.saturating_sub(g.padding[2 * axis])..end;
            }
            // As many channels as stay in a register, then the others.
            let (blocks, rest) = y.as_chunks_mut::<CHANNELS>();
            let first = g.c - rest.len();
            rest.fill(0);
            for (block, y) in blocks.iter_mut().enumerate() {
                let mut best = [0; CHANNELS];
                for row in span[0].clone() {
                    let pixels = &x[(row * g.w + span[1].start) * g.c..(row * g.w + span[1].end) * g.c];
                    for pixel in pixels.chunks_exact(g.c) {
                        let channels = pixel[block * CHANNELS..].first_chunk().expect("a block of channels");
                        best = larger(best, channels);
                    }
                }
                *y = best;
            }
            for row in span[0].clone() {
                let pixels = &x[(row * g.w + span[1].start) * g.c..(row * g.w + span[1].end) * g.c];
                for pixel in pixels.chunks_exact(g.c) {
                    for (y, &x) in rest.iter_mut().zip(&pixel[first..]) {
                        *y = (*y).max(x);
                    }
                }
            }
        }
    }
}

/// The larger of each two channels.
#[inline(always)]
fn larger(mut best: [u8; CHANNELS], channels: &[u8; CHANNELS]) -> [u8; CHANNELS] {
    for (best, &channel) in best.iter_mut().zip(channels) {
        *best = (*best).max(channel);
    }
    best
}

/// Channels of a block: a register of AVX-512, two of AVX2.
const CHANNELS: usize = 64;

/// `y[oh, ow, c] = max of its window of x[h, w, c]`, one image; padding is never a maximum.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn max_pool(isa: Isa, y: &mut [u8], x: &[u8], g: &PoolGeometry) {
    assert!(x.len() == g.x_len() && y.len() == g.y_len(), "slices have the lengths of the geometry");
    dispatch(isa, MaxPool { y, x, g });
}

/// What is taken over all pixels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// The mean of each channel.
    Mean,
    /// The largest value of each channel.
    Max,
}

struct GlobalPool<'a> {
    y: &'a mut [f32],
    x: &'a [u8],
    scale: &'a [f32],
    zero: f32,
    what: Global,
}

impl Kernel for GlobalPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GlobalPool { y, x, scale, zero, what } = self;
        let c = y.len();
        let pixels = x.len() / c;
        let (y, x, scale) = (y.as_mut_ptr(), x.as_ptr(), scale.as_ptr());
        let count = s.splat(pixels as f32);
        // SAFETY: the image has whole pixels of `c` channels, as many as scales and outputs.
        unsafe {
            by_vectors!(S::LANES, c, |at, n| {
                let mut all = s.splat(0.0);
                for pixel in 0..pixels {
                    let value = s.load_u8(x.add(pixel * c + at), n);
                    all = match what {
                        Global::Mean => s.add(all, value),
                        Global::Max => s.max(all, value),
                    };
                }
                let distance = match what {
                    Global::Mean => s.sub(s.div(all, count), s.splat(zero)),
                    Global::Max => s.sub(all, s.splat(zero)),
                };
                store(s, y.add(at), s.mul(distance, load(s, scale.add(at), n)), n);
            });
        }
    }
}

/// `y[c] = (mean or max over the pixels of x[h, w, c] - zero) * scale[c]`, one image.
///
/// # Panics
/// When lengths do not fit each other.
pub fn global_pool(isa: Isa, y: &mut [f32], x: &[u8], (scale, zero): (&[f32], u8), what: Global) {
    assert!(y.len() == scale.len() && !y.is_empty(), "a scale for every channel");
    assert!(x.len().is_multiple_of(y.len()), "there are whole pixels");
    dispatch(isa, GlobalPool { y, x, scale, zero: zero.into(), what });
}

#[cfg(test)]
mod tests;
