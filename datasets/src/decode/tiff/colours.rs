//! From samples to gray or RGB on white.

use super::super::decoded::Pixels;
use super::super::ifd::Directory;
use super::super::pixels::{Value, with_values};
use super::fault::{CORRUPT, unsupported};
use super::layout::{Colour, Compression, Layout};
use crate::error::DecodeError;
use image::DynamicImage;

/// Applies palette, colour space and alpha.
pub(super) fn convert(
    samples: Pixels,
    directory: &Directory,
    layout: &Layout,
) -> Result<DynamicImage, DecodeError> {
    let as_they_are =
        matches!(layout.colour, Colour::Rgb | Colour::Gray { zero_is_white: false } | Colour::Any(_));
    let pixels = if as_they_are && layout.alpha.is_none() {
        samples
    } else if layout.colour == Colour::Palette {
        let palette = Palette::read(directory, layout.bits)?;
        Pixels::U8(match samples {
            Pixels::U8(values) => palette.apply(&values, layout),
            Pixels::U16(values) => palette.apply(&values, layout),
        })
    } else {
        let ycbcr = YCbCr::read(directory, layout)?;
        match samples {
            Pixels::U8(values) => Pixels::U8(apply(&values, layout, ycbcr.as_ref())),
            Pixels::U16(values) => Pixels::U16(apply(&values, layout, ycbcr.as_ref())),
        }
    };
    with_values(layout.width, layout.height, layout.colour.channels(), pixels).ok_or(CORRUPT)
}

/// The pixels of what [`Layout::used`] lists, in gray or RGB.
fn apply<T: Value>(samples: &[T], layout: &Layout, ycbcr: Option<&YCbCr>) -> Vec<T> {
    let count = layout.used().count();
    // What nobody calls alpha and is zero everywhere is a fill byte.
    let all_clear = || samples.chunks_exact(count).all(|pixel| pixel[count - 1].into() == 0);
    let alpha = layout.alpha.filter(|alpha| alpha.stated || !all_clear());
    let mut out = Vec::with_capacity(samples.len() / count * usize::from(layout.colour.channels()));
    for pixel in samples.chunks_exact(count) {
        let value = |i: usize| pixel[i].into();
        let alpha = alpha.map(|alpha| (value(count - 1), alpha.associated));
        let mut put = |value: u32| out.push(T::from_u32(on_white(value, alpha, T::MAX)));
        match layout.colour {
            Colour::Gray { zero_is_white: true } => put(T::MAX - value(0)),
            Colour::Gray { zero_is_white: false } => put(value(0)),
            Colour::Any(samples) => (0..usize::from(samples)).for_each(|i| put(value(i))),
            Colour::Cmyk => {
                let light = T::MAX - value(3);
                (0..3).for_each(|i| put(((T::MAX - value(i)) * light + T::MAX / 2) / T::MAX));
            }
            Colour::Rgb | Colour::Palette | Colour::YCbCr(..) => match ycbcr {
                Some(ycbcr) => ycbcr.to_rgb([value(0), value(1), value(2)]).into_iter().for_each(put),
                None => (0..3).for_each(|i| put(value(i))),
            },
        }
    }
    out
}

/// A value over white: `v a + max (1 - a)`, or `v + max (1 - a)` where the value has been multiplied already.
fn on_white(value: u32, alpha: Option<(u32, bool)>, max: u32) -> u32 {
    match alpha {
        None => value,
        Some((alpha, true)) => (value + max - alpha).min(max),
        Some((alpha, false)) => (value * alpha + max * (max - alpha) + max / 2) / max,
    }
}

/// Colours of 8 bits.
struct Palette(Vec<[u8; 3]>);

impl Palette {
    const COLOUR_MAP: u16 = 320;

    /// All reds, then all greens, then all blues, of 16 bits each.
    fn read(directory: &Directory, bits: u32) -> Result<Self, DecodeError> {
        let size = 1_usize << bits;
        let map = directory.find(Self::COLOUR_MAP).map_err(|_| CORRUPT)?.ok_or(CORRUPT)?;
        let values = map.leading(3 * size).map_err(|_| CORRUPT)?;
        if values.len() < 3 * size || values.iter().any(|&value| value > 65_535) {
            return Err(CORRUPT);
        }
        // Old writers put in 8 bits what should be 16.
        let most = if values.iter().all(|&value| value < 256) { 255 } else { 65_535 };
        let scaled = |value: u64| ((value * 255 + most / 2) / most) as u8;
        Ok(Self((0..size).map(|i| [0, 1, 2].map(|c| scaled(values[c * size + i]))).collect()))
    }

    /// The colours of indices, over white by their alpha.
    fn apply<T: Value>(&self, samples: &[T], layout: &Layout) -> Vec<u8> {
        let count = layout.used().count();
        let most = (1_u32 << layout.bits) - 1;
        let colour = |pixel: &[T]| {
            let alpha =
                layout.alpha.map(|alpha| ((pixel[1].into() * 255 + most / 2) / most, alpha.associated));
            // An index has no more bits than the palette has entries for.
            self.0[pixel[0].into() as usize].map(|value| on_white(value.into(), alpha, 255) as u8)
        };
        samples.chunks_exact(count).flat_map(colour).collect()
    }
}

/// Luma and two differences (TIFF 6.0, section 21), of 8 bits.
struct YCbCr {
    /// Parts of red, green and blue in luma.
    luma: [f64; 3],
    /// What black and white are, for each of the three.
    range: [f64; 6],
}

impl YCbCr {
    const COEFFICIENTS: u16 = 529;
    const REFERENCE: u16 = 532;

    /// `None` for other colours, and for JPEG, whose decoder has made them RGB.
    fn read(directory: &Directory, layout: &Layout) -> Result<Option<Self>, DecodeError> {
        if !matches!(layout.colour, Colour::YCbCr(..)) || layout.compression == Compression::Jpeg {
            return Ok(None);
        }
        let find = |tag| directory.find(tag).map_err(|_| CORRUPT);
        let luma = find(Self::COEFFICIENTS)?.and_then(|f| f.fractions()).unwrap_or([0.299, 0.587, 0.114]);
        let range = find(Self::REFERENCE)?.and_then(|f| f.fractions());
        let range = range.unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        let usable = luma[1] > 0.0 && (0..3).all(|i| range[2 * i + 1] > range[2 * i]);
        if !usable {
            return Err(unsupported("with YCbCr coefficients that make no colours"));
        }
        Ok(Some(Self { luma, range }))
    }

    fn to_rgb(&self, values: [u32; 3]) -> [u32; 3] {
        let scaled = |i: usize, most: f64| {
            let (black, white) = (self.range[2 * i], self.range[2 * i + 1]);
            (f64::from(values[i]) - black) * most / (white - black)
        };
        let (y, cb, cr) = (scaled(0, 255.0), scaled(1, 127.0), scaled(2, 127.0));
        let red = y + cr * (2.0 - 2.0 * self.luma[0]);
        let blue = y + cb * (2.0 - 2.0 * self.luma[2]);
        let green = (y - self.luma[2] * blue - self.luma[0] * red) / self.luma[1];
        [red, green, blue].map(|value| value.round().clamp(0.0, 255.0) as u32)
    }
}
