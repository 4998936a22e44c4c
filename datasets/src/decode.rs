//! The one decoder: bytes of an image file in, upright pixels out.
//!
//! The format is told by the first bytes, never by the name. EXIF orientation is applied, palettes are expanded,
//! alpha is composited on white, CMYK becomes RGB, gray stays one channel, 16 bits stay 16 bits, of an animation the
//! first frame counts. Limits are checked against the header before pixels are allocated.

use crate::{DecodeError, jpeg};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One decoded image: `height * width * channels` values, interleaved, row by row from the top left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Width in pixels, after rotation to upright.
    pub width: u32,
    /// Height in pixels, after rotation to upright.
    pub height: u32,
    /// 1 (gray) or 3 (RGB).
    pub channels: u8,
    /// The values.
    pub pixels: Pixels,
}

/// Pixel values in the depth of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pixels {
    /// 0..=255.
    U8(Vec<u8>),
    /// 0..=65535.
    U16(Vec<u16>),
}

impl Pixels {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an image may cost before it is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeLimits {
    /// Width times height.
    pub max_pixels: u64,
    /// Width or height alone.
    pub max_side: u32,
    /// Size of the encoded file in bytes.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 64 megapixels (above any phone's normal mode), 32,768 pixels a side, 256 MiB encoded.
    fn default() -> Self {
        Self { max_pixels: 64_000_000, max_side: 32_768, max_bytes: 256 << 20 }
    }
}

/// What the header of an image file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// 1 (gray) or 3 (RGB): what [`decode`] would give.
    pub channels: u8,
}

/// Decodes one image file.
///
/// # Errors
/// [`DecodeError`] for anything that is not a whole, supported image within the limits. Floating-point images are
/// taken as 16-bit when all values lie in 0..=1 and refused otherwise.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Image, DecodeError> {
    guarded(bytes, |kind| {
        check_size(bytes, limits)?;
        let may_turn = check_whole(bytes, kind)?;
        let mut decoder = open(bytes, kind, limits)?;
        let orientation = if may_turn { turn(&mut decoder) } else { Orientation::NoTransforms };
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| translate(&e, kind))?;
        image.apply_orientation(orientation);
        plain(image, kind)
    })
}

/// Reads size and channels from the header alone, under the same limits as [`decode`].
///
/// # Errors
/// As [`decode`], as far as the header shows them.
pub fn probe(bytes: &[u8], limits: &DecodeLimits) -> Result<ImageHeader, DecodeError> {
    guarded(bytes, |kind| {
        check_size(bytes, limits)?;
        let mut decoder = open(bytes, kind, limits)?;
        let (width, height) = decoder.dimensions();
        let channels = if decoder.color_type().has_color() { 3 } else { 1 };
        let sideways = matches!(
            turn(&mut decoder),
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        let (width, height) = if sideways { (height, width) } else { (width, height) };
        Ok(ImageHeader { width, height, channels })
    })
}

/// The format of an image file, for its name and for the web.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileFormat {
    /// Usual extension, without a dot, e.g. `jpg`.
    pub extension: &'static str,
    /// Media type (RFC 2046), e.g. `image/jpeg`.
    pub media_type: &'static str,
}

/// The format of a file by its first bytes, or `None` for one that [`decode`] does not know.
pub fn file_format(bytes: &[u8]) -> Option<FileFormat> {
    let Sniffed::Image(kind) = sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]) else { return None };
    let (extension, media_type) = match kind.format {
        ImageFormat::Jpeg => ("jpg", "image/jpeg"),
        ImageFormat::Png => ("png", "image/png"),
        ImageFormat::WebP => ("webp", "image/webp"),
        ImageFormat::Gif => ("gif", "image/gif"),
        ImageFormat::Tiff => ("tif", "image/tiff"),
        _ => ("bmp", "image/bmp"),
    };
    Some(FileFormat { extension, media_type })
}

/// How many bytes [`sniff`] wants to see.
pub(crate) const SNIFF_BYTES: usize = 16;

/// What the first bytes say a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sniffed {
    /// One of the formats we decode.
    Image(Kind),
    /// An image format we only recognise.
    Undecoded(&'static str),
    /// Something else.
    Other(&'static str),
}

/// A format we decode, with its name for messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    format: ImageFormat,
    name: &'static str,
}

/// Tells a file's kind from its first [`SNIFF_BYTES`] bytes (fewer if it is shorter).
pub(crate) fn sniff(head: &[u8]) -> Sniffed {
    let image = |format, name| Sniffed::Image(Kind { format, name });
    match head {
        [0xff, 0xd8, 0xff, ..] => image(ImageFormat::Jpeg, "JPEG"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => image(ImageFormat::Png, "PNG"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => image(ImageFormat::WebP, "WebP"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => image(ImageFormat::Gif, "GIF"),
        [b'I', b'I', 42, 0, ..]
        | [b'M', b'M', 0, 42, ..]
        | [b'I', b'I', 43, 0, ..]
        | [b'M', b'M', 0, 43, ..] => image(ImageFormat::Tiff, "TIFF"),
        [b'B', b'M', ..] => image(ImageFormat::Bmp, "BMP"),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand {
            [b'a', b'v', b'i', b'f' | b's', ..] => Sniffed::Undecoded("AVIF"),
            [b'h', b'e', b'i' | b'v', ..] | [b'm', b'i' | b's', b'f', b'1', ..] => Sniffed::Undecoded("HEIC"),
            _ => Sniffed::Other("a video"),
        },
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => Sniffed::Undecoded("JPEG XL"),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => Sniffed::Undecoded("JPEG 2000"),
        [0, 0, 1, 0, ..] => Sniffed::Undecoded("ICO"),
        [b'8', b'B', b'P', b'S', ..] => Sniffed::Undecoded("Photoshop"),
        [b'P', b'1'..=b'7', b'\n' | b'\r' | b' ' | b'\t', ..] => Sniffed::Undecoded("PNM"),
        [b'q', b'o', b'i', b'f', ..] => Sniffed::Undecoded("QOI"),
        [b'%', b'P', b'D', b'F', ..] => Sniffed::Other("a PDF"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Sniffed::Other("a ZIP archive"),
        [b'<', ..] => Sniffed::Other("SVG, HTML or other markup"),
        _ if !head.is_empty() && head.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            Sniffed::Other("it looks like text")
        }
        _ => Sniffed::Other("unknown format"),
    }
}

/// Runs `work` on the recognised format. The decoders are other people's code fed with hostile bytes; should one
/// panic, that is a damaged file to us and must not end a training run or a server.
fn guarded<T>(bytes: &[u8], work: impl FnOnce(Kind) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    match sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]) {
        Sniffed::Image(kind) => catch_unwind(AssertUnwindSafe(|| work(kind)))
            .unwrap_or(Err(DecodeError::Corrupt { format: kind.name })),
        Sniffed::Undecoded(format) => Err(DecodeError::Undecoded { format }),
        Sniffed::Other(looks_like) => Err(DecodeError::NotAnImage { looks_like }),
    }
}

fn check_size(bytes: &[u8], limits: &DecodeLimits) -> Result<(), DecodeError> {
    let limit = limits.max_bytes;
    (bytes.len() as u64 <= limit).then_some(()).ok_or(DecodeError::TooManyBytes { limit })
}

/// Refuses files that are cut off but would decode to half a picture; tells whether the file may be turned by EXIF,
/// since asking a JPEG decoder parses all headers again.
fn check_whole(bytes: &[u8], kind: Kind) -> Result<bool, DecodeError> {
    let (whole, may_turn) = match kind.format {
        ImageFormat::Jpeg => {
            let markers = jpeg::markers(bytes);
            (markers.complete, markers.exif)
        }
        // RIFF states its length behind the first 8 bytes; some writers leave out the final padding byte.
        ImageFormat::WebP => {
            let declared = bytes
                .get(4..8)
                .map_or(0, |n| u64::from(u32::from_le_bytes(n.try_into().expect("the range has 4 bytes"))));
            (bytes.len() as u64 + 1 >= declared + 8, true)
        }
        _ => (true, true),
    };
    whole.then_some(may_turn).ok_or(DecodeError::Truncated { format: kind.name })
}

/// The EXIF orientation. Broken EXIF is no reason to refuse a picture that decodes.
fn turn(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// A decoder that has read the header and stays within the limits.
fn open<'a>(
    bytes: &'a [u8],
    kind: Kind,
    limits: &DecodeLimits,
) -> Result<impl ImageDecoder + 'a, DecodeError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind.format);
    let mut memory = image::Limits::no_limits();
    // Four 32-bit floats a pixel is the widest output there is; the rest is for tables and one row buffer more.
    memory.max_alloc = Some(limits.max_pixels.saturating_mul(16).saturating_add(64 << 20));
    reader.limits(memory);
    let decoder = reader.into_decoder().map_err(|e| translate(&e, kind))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(DecodeError::Corrupt { format: kind.name });
    }
    if width.max(height) > limits.max_side || u64::from(width) * u64::from(height) > limits.max_pixels {
        let DecodeLimits { max_pixels, max_side, .. } = *limits;
        return Err(DecodeError::TooLarge { width, height, max_pixels, max_side });
    }
    Ok(decoder)
}

fn translate(error: &ImageError, kind: Kind) -> DecodeError {
    let format = kind.name;
    match error {
        ImageError::Unsupported(_) => DecodeError::Unsupported { format },
        ImageError::Limits(_) => DecodeError::Memory { format },
        ImageError::IoError(_) => DecodeError::Truncated { format },
        _ if ends_early(error) => DecodeError::Truncated { format },
        _ => DecodeError::Corrupt { format },
    }
}

/// True when an end-of-file error lies at the root of a decoder's error.
fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = e.source();
    }
    false
}

/// Gray or RGB without alpha, in the file's own depth.
fn plain(image: DynamicImage, kind: Kind) -> Result<Image, DecodeError> {
    let (width, height) = (image.width(), image.height());
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(b) => (1, Pixels::U8(b.into_raw())),
        DynamicImage::ImageRgb8(b) => (3, Pixels::U8(b.into_raw())),
        DynamicImage::ImageLuma16(b) => (1, Pixels::U16(b.into_raw())),
        DynamicImage::ImageRgb16(b) => (3, Pixels::U16(b.into_raw())),
        DynamicImage::ImageLumaA8(b) => (1, Pixels::U8(on_white::<u8, 2>(b.into_raw()))),
        DynamicImage::ImageRgba8(b) => (3, Pixels::U8(on_white::<u8, 4>(b.into_raw()))),
        DynamicImage::ImageLumaA16(b) => (1, Pixels::U16(on_white::<u16, 2>(b.into_raw()))),
        DynamicImage::ImageRgba16(b) => (3, Pixels::U16(on_white::<u16, 4>(b.into_raw()))),
        DynamicImage::ImageRgb32F(b) => (3, Pixels::U16(from_floats(&b, kind)?)),
        DynamicImage::ImageRgba32F(b) => (3, Pixels::U16(on_white::<u16, 4>(from_floats(&b, kind)?))),
        _ => return Err(DecodeError::Unsupported { format: kind.name }),
    };
    Ok(Image { width, height, channels, pixels })
}

/// Composites pixels of `N` values, alpha last, on white: `v a + max (1 - a)`, rounded. In place.
fn on_white<T, const N: usize>(mut values: Vec<T>) -> Vec<T>
where
    T: Copy + Into<u32> + TryFrom<u32> + Max,
{
    let mut kept = 0;
    for pixel in 0..values.len() / N {
        let alpha: u32 = values[pixel * N + N - 1].into();
        for c in 0..N - 1 {
            let value: u32 = values[pixel * N + c].into();
            // At most max * max + max / 2, which fits u32 for 16 bits too.
            let mixed = (value * alpha + T::MAX * (T::MAX - alpha) + T::MAX / 2) / T::MAX;
            values[kept] = T::try_from(mixed).unwrap_or(values[kept]);
            kept += 1;
        }
    }
    values.truncate(kept);
    values
}

/// The value of white.
trait Max {
    const MAX: u32;
}
impl Max for u8 {
    const MAX: u32 = 255;
}
impl Max for u16 {
    const MAX: u32 = 65_535;
}

fn from_floats(values: &[f32], kind: Kind) -> Result<Vec<u16>, DecodeError> {
    if !values.iter().all(|v| (0.0..=1.0).contains(v)) {
        return Err(DecodeError::FloatRange { format: kind.name });
    }
    Ok(values.iter().map(|v| (v * 65_535.0).round() as u16).collect())
}
