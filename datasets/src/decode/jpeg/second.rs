//! The second decoder, for JPEG files that the first one decodes wrongly.

use super::super::decoded::{DecodeLimits, memory_limit};
use crate::error::DecodeError;
use jpeg_decoder::{ColorTransform, Decoder, Error, PixelFormat};

pub(super) const NAME: &str = "JPEG";

/// What the components of a file mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Colour {
    Gray,
    YCbCr,
    Rgb,
    /// Inks, inverted: 255 is none.
    Cmyk,
    /// Inks, inverted; the first three as YCbCr.
    Ycck,
}

/// Interleaved values.
pub(crate) struct Values {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// 1, 3, or 4: inks, of which 255 is full.
    pub(crate) channels: u8,
    pub(crate) values: Vec<u8>,
}

/// All pixels: gray, RGB or inks.
pub(super) fn decode(bytes: &[u8], colour: Colour, limits: &DecodeLimits) -> Result<Values, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(memory_limit(limits)).unwrap_or(usize::MAX));
    decoder.set_color_transform(match colour {
        Colour::Gray => ColorTransform::Grayscale,
        Colour::YCbCr => ColorTransform::YCbCr,
        Colour::Rgb => ColorTransform::RGB,
        Colour::Cmyk => ColorTransform::CMYK,
        Colour::Ycck => ColorTransform::YCCK,
    });
    let values = decoder.decode().map_err(translate)?;
    let info = decoder.info().expect("an image was decoded, so its header was read");
    let channels = match info.pixel_format {
        PixelFormat::L8 => 1,
        PixelFormat::RGB24 => 3,
        PixelFormat::CMYK32 => 4,
        PixelFormat::L16 => return Err(DecodeError::Corrupt { format: NAME }),
    };
    Ok(Values { width: info.width.into(), height: info.height.into(), channels, values })
}

/// True where this decoder expects another number of blocks than there are, across or down, in a scan of one component
/// of a sampling `factor`: it counts whole MCUs, and stops at the size of the image but not at that of the component.
pub(super) fn misreads(size: u32, factor: u32, most: u32) -> bool {
    let blocks = (size * factor).div_ceil(most).div_ceil(8);
    let expected = (size.div_ceil(8 * most) * factor).min(size.div_ceil(8));
    blocks != expected
}

impl Values {
    /// Inks made red, green and blue, in place.
    pub(super) fn into_rgb(mut self) -> Self {
        if self.channels == 4 {
            let values = &mut self.values;
            for pixel in 0..values.len() / 4 {
                let light = 255 - u32::from(values[4 * pixel + 3]);
                for c in 0..3 {
                    let without = 255 - u32::from(values[4 * pixel + c]);
                    values[3 * pixel + c] = ((without * light + 127) / 255) as u8;
                }
            }
            values.truncate(values.len() / 4 * 3);
            self.channels = 3;
        }
        self
    }
}

fn translate(error: Error) -> DecodeError {
    match error {
        Error::Io(_) => DecodeError::Truncated { format: NAME },
        Error::Unsupported(_) => {
            DecodeError::Unsupported { format: NAME, variant: "of this sampling or coding".into() }
        }
        _ => DecodeError::Corrupt { format: NAME },
    }
}
