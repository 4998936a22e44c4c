//! TIFF 6.0 and BigTIFF: the first image of the file.
//!
//! The directory is read here, and all that it says about colours, depth and alpha is applied here; the library only
//! unpacks strips and tiles (`chunks.rs`). So a variant is either read as its tags say or refused by its name:
//!
//! | | decoded | refused |
//! |---|---|---|
//! | colours | gray of both polarities, palette, RGB, CMYK, YCbCr | L\*a\*b\*, other inks, sensor data, masks |
//! | samples | 1 to 32 and 64 bits, floats of 16, 32 and 64 bits in 0..1 | signed, complex, of mixed depth |
//! | compression | none, LZW, Deflate, PackBits, CCITT Group 4, JPEG | all others |
//! | layout | strips, tiles, planes, either bit order | subsampled planes |

mod chunks;
mod colours;
mod fault;
mod layout;
mod samples;

use super::decoded::{DecodeLimits, Decoded, Header, Image};
use super::ifd::Directory;
use super::orientation::Notes;
use crate::error::DecodeError;
use fault::{TRUNCATED, unsupported};
use image::metadata::Orientation;
use layout::Layout;

const XMP: u16 = 700;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let directory = Directory::first(bytes).ok_or(TRUNCATED)?;
    let layout = Layout::read(&directory, limits)?;
    let image = colours::convert(samples::read(bytes, &directory, &layout, limits)?, &directory, &layout)?;
    Ok(Decoded { image, orientation: notes(bytes, &directory).orientation() })
}

/// All samples of every pixel, which must be so many.
pub(super) fn decode_samples(
    bytes: &[u8],
    limits: &DecodeLimits,
    channels: u8,
) -> Result<Image, DecodeError> {
    let directory = Directory::first(bytes).ok_or(TRUNCATED)?;
    let layout = Layout::read(&directory, limits)?.with_all_samples(channels, limits)?;
    if !matches!(notes(bytes, &directory).orientation(), Orientation::NoTransforms) {
        return Err(unsupported(format!("of {channels} channels that is to be turned")));
    }
    let pixels = samples::read(bytes, &directory, &layout, limits)?;
    Ok(Image { width: layout.width, height: layout.height, channels, pixels })
}

pub(super) fn header(bytes: &[u8], limits: &DecodeLimits) -> Result<Header, DecodeError> {
    let directory = Directory::first(bytes).ok_or(TRUNCATED)?;
    let layout = Layout::read(&directory, limits)?;
    Ok(Header {
        width: layout.width,
        height: layout.height,
        channels: layout.colour.channels(),
        orientation: notes(bytes, &directory).orientation(),
    })
}

fn notes(bytes: &[u8], directory: &Directory) -> Notes {
    let mut notes = Notes::default();
    notes.exif(bytes);
    if let Ok(Some(packet)) = directory.find(XMP) {
        notes.xmp(packet.bytes());
    }
    notes
}
