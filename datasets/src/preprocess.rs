//! Everything between a decoded image and the network's input. It travels inside the model file.
//!
//! Order: RGB to gray where the network wants gray, crop, resample, gray to RGB where it wants RGB, pad.

use crate::decode::{Image, Pixels};
use crate::error::{DatasetError, DecodeError};
use crate::resample::{Region, Sample, View, resample};
pub use ocelli_common::preprocessing::{Fit, MAX_CHANNELS, MAX_INPUT_SIDE, Preprocessing};

/// Gray of the bars that [`Fit::Pad`] adds, as a fraction of white: mid-gray is near the mean of most photos.
const PAD_U8: u8 = 128;
const PAD_U16: u16 = PAD_U8 as u16 * 257;

/// Pixels of the network's size, `height * width * channels` values, not normalised yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// The values, interleaved.
    pub pixels: Pixels,
}

/// What is done to images by a [`Preprocessing`].
pub trait Prepare {
    /// Checks sides (1 to [`MAX_INPUT_SIDE`]), channels (1 to [`MAX_CHANNELS`]) and finite means and positive deviations for each.
    ///
    /// # Errors
    /// [`DatasetError::BadPreprocessing`].
    fn validate(&self) -> Result<(), DatasetError>;

    /// Brings a decoded image to the input's size and channels; depth is kept.
    /// Gray becomes RGB by repetition, RGB becomes gray by Rec. 601 luma (0.299 R + 0.587 G + 0.114 B); other numbers of
    /// channels must agree.
    ///
    /// # Errors
    /// [`DecodeError::BadPreprocessing`] when [`Prepare::validate`] would fail, [`DecodeError::BadShape`] when the image
    /// contradicts itself, [`DecodeError::Channels`] when it has other channels than are wanted.
    fn resize(&self, image: &Image) -> Result<Prepared, DecodeError>;

    /// Normalises: `(value / white - mean) / std`, white being 255 or 65,535; `out` has [`Preprocessing::len`] values, `h w c`.
    ///
    /// # Panics
    /// When `out` or `prepared` has another length.
    fn normalize(&self, prepared: &Prepared, out: &mut [f32]);
}

impl Prepare for Preprocessing {
    fn validate(&self) -> Result<(), DatasetError> {
        self.check().map_err(|what| DatasetError::BadPreprocessing { what })
    }

    fn resize(&self, image: &Image) -> Result<Prepared, DecodeError> {
        self.check().map_err(|what| DecodeError::BadPreprocessing { what })?;
        let Image { width, height, channels, ref pixels } = *image;
        let values = u64::from(width) * u64::from(height) * u64::from(channels);
        if values == 0 || pixels.len() as u64 != values {
            return Err(DecodeError::BadShape { width, height, channels, values: pixels.len() });
        }
        if channels != self.channels && !(matches!(channels, 1 | 3) && matches!(self.channels, 1 | 3)) {
            return Err(DecodeError::Channels { found: channels.into(), wanted: self.channels });
        }
        let pixels = match pixels {
            Pixels::U8(values) => Pixels::U8(fit_to(self, values, image, PAD_U8)),
            Pixels::U16(values) => Pixels::U16(fit_to(self, values, image, PAD_U16)),
        };
        Ok(Prepared { pixels })
    }

    fn normalize(&self, prepared: &Prepared, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "out must hold height * width * channels values");
        assert_eq!(prepared.pixels.len(), self.len(), "the image was prepared for another shape");
        match &prepared.pixels {
            Pixels::U8(values) => normalize_values(self, values, out),
            Pixels::U16(values) => normalize_values(self, values, out),
        }
    }
}

fn normalize_values<T: Sample>(pre: &Preprocessing, values: &[T], out: &mut [f32]) {
    let n = usize::from(pre.channels);
    for (out, pixel) in out.chunks_exact_mut(n).zip(values.chunks_exact(n)) {
        for (c, (out, &value)) in out.iter_mut().zip(pixel).enumerate() {
            *out = normalize_one(pre, value, c);
        }
    }
}

/// The one definition of normalisation; every path must give these bits.
pub(crate) fn normalize_one<T: Sample>(pre: &Preprocessing, value: T, channel: usize) -> f32 {
    let unit = Into::<f32>::into(value) / T::WHITE;
    (unit - pre.mean[channel]) / pre.std[channel]
}

fn fit_to<T: Sample>(pre: &Preprocessing, values: &[T], image: &Image, pad: T) -> Vec<T> {
    let (width, height) = (pre.width, pre.height);
    let wants_gray = pre.channels == 1 && image.channels == 3;
    let gray = wants_gray.then(|| luma(values));
    let view = View {
        values: gray.as_deref().unwrap_or(values),
        size: (image.width, image.height),
        channels: if wants_gray { 1 } else { image.channels },
    };
    let whole = Region::whole(view.size);
    let (region, inner) = match pre.fit {
        Fit::Stretch => (whole, (width, height)),
        Fit::Crop => (centre_crop(view.size, (width, height)), (width, height)),
        Fit::Pad => (whole, inside(view.size, (width, height))),
    };
    let mut resized = resample(&view, region, inner);
    if pre.channels == 3 && view.channels == 1 {
        resized = resized.iter().flat_map(|&v| [v, v, v]).collect();
    }
    if inner == (width, height) { resized } else { centre_on(pre, &resized, inner, pad) }
}

fn centre_on<T: Sample>(pre: &Preprocessing, values: &[T], inner: (u32, u32), pad: T) -> Vec<T> {
    let n = usize::from(pre.channels);
    let (left, top) = ((pre.width - inner.0) as usize / 2, (pre.height - inner.1) as usize / 2);
    let mut out = vec![pad; pre.len()];
    let rows = out.chunks_exact_mut(pre.width as usize * n).skip(top);
    for (out, row) in rows.zip(values.chunks_exact(inner.0 as usize * n)) {
        out[left * n..][..row.len()].copy_from_slice(row);
    }
    out
}

/// The largest centred rectangle with the target's aspect, in whole pixels: a fractional offset would blur an image
/// that needs no resampling.
fn centre_crop(size: (u32, u32), target: (u32, u32)) -> Region {
    let (width, height) = inside(target, size);
    Region { x: (size.0 - width) / 2, y: (size.1 - height) / 2, width, height }
}

/// The largest size with the aspect of `shape` that fits inside `bounds`, rounded, at least one pixel a side.
fn inside(shape: (u32, u32), bounds: (u32, u32)) -> (u32, u32) {
    let [sw, sh, bw, bh] = [shape.0, shape.1, bounds.0, bounds.1].map(u64::from);
    let scaled = |side: u64, by: u64, of: u64| ((side * by + of / 2) / of).max(1) as u32;
    if sw * bh >= sh * bw {
        (bounds.0, scaled(sh, bw, sw).min(bounds.1))
    } else {
        (scaled(sw, bh, sh).min(bounds.0), bounds.1)
    }
}

/// Rec. 601 luma in 16-bit fixed point, the weights PIL uses for its mode L.
fn luma<T: Sample>(rgb: &[T]) -> Vec<T> {
    rgb.chunks_exact(3)
        .map(|p| {
            let [r, g, b]: [u32; 3] = [p[0].into(), p[1].into(), p[2].into()];
            // The weights sum to 65,536, so 16-bit values stay within u32.
            T::from_u32((r * 19_595 + g * 38_470 + b * 7_471 + 32_768) >> 16)
        })
        .collect()
}
