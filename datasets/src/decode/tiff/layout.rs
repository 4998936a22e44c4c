//! What the directory says: size, samples, colours, and where the strips or tiles lie.

use super::super::decoded::{DecodeLimits, check_size, memory_limit};
use super::super::ifd::{Broken, Directory};
use super::super::sniff::RAW;
use super::fault::{CORRUPT, FORMAT, NAME, unsupported};
use crate::error::DecodeError;

/// More strips and tiles than any picture within the default limits needs: 64 megapixels in tiles of 16 x 16, four
/// planes.
const MAX_CHUNKS: u64 = 1 << 20;

/// A TIFF image whose variant is supported.
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bits of each sample.
    pub(super) bits: u32,
    pub(super) float: bool,
    /// How many samples a pixel has in the file.
    pub(super) samples: usize,
    pub(super) colour: Colour,
    /// The sample that is alpha.
    pub(super) alpha: Option<Alpha>,
    /// The samples lie in planes of their own.
    pub(super) planar: bool,
    pub(super) compression: Compression,
    /// Differences of neighbours: 1 (none), 2 (of whole numbers) or 3 (of the bytes of floats).
    pub(super) predictor: u64,
    /// The lowest bit of a byte comes first.
    pub(super) low_bit_first: bool,
    pub(super) grid: Grid,
}

/// What the samples mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Colour {
    Gray {
        zero_is_white: bool,
    },
    Palette,
    Rgb,
    Cmyk,
    /// With the horizontal and vertical subsampling of Cb and Cr.
    YCbCr(u32, u32),
    /// So many samples, whatever they mean.
    Any(u8),
}

impl Colour {
    /// How many samples it takes.
    pub(super) fn samples(self) -> usize {
        match self {
            Self::Gray { .. } | Self::Palette => 1,
            Self::Rgb | Self::YCbCr(..) => 3,
            Self::Cmyk => 4,
            Self::Any(samples) => samples.into(),
        }
    }

    /// What becomes of them: 1 or 3, or all samples.
    pub(super) fn channels(self) -> u8 {
        match self {
            Self::Gray { .. } => 1,
            Self::Palette | Self::Rgb | Self::Cmyk | Self::YCbCr(..) => 3,
            Self::Any(samples) => samples,
        }
    }
}

/// Where alpha is, and whether colours are multiplied by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Alpha {
    pub(super) sample: usize,
    pub(super) associated: bool,
    /// A tag calls it alpha.
    pub(super) stated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    None,
    Lzw,
    Deflate,
    PackBits,
    Group4,
    Jpeg,
}

/// Strips or tiles.
pub(super) struct Grid {
    pub(super) tiled: bool,
    pub(super) chunk_width: u32,
    pub(super) chunk_height: u32,
    pub(super) across: u32,
    pub(super) down: u32,
    /// For each chunk, plane by plane.
    pub(super) offsets: Vec<u64>,
    /// Packed bytes of each chunk, `None` where the file does not say.
    pub(super) lengths: Option<Vec<u64>>,
}

/// Reads tags of whole numbers; what is broken in them is damage.
struct Tags<'a, 'b>(&'b Directory<'a>);

impl Tags<'_, '_> {
    fn one(&self, tag: u16) -> Result<Option<u64>, DecodeError> {
        let field = self.0.find(tag).map_err(damaged)?;
        field.map(|field| field.first().map_err(damaged)).transpose()
    }

    fn all(&self, tag: u16, most: usize) -> Result<Option<Vec<u64>>, DecodeError> {
        let field = self.0.find(tag).map_err(damaged)?;
        field.map(|field| field.numbers(most).map_err(damaged)).transpose()
    }

    fn small(&self, tag: u16) -> Result<Option<u32>, DecodeError> {
        self.one(tag)?.map(|value| u32::try_from(value).map_err(|_| CORRUPT)).transpose()
    }
}

fn damaged(_: Broken) -> DecodeError {
    CORRUPT
}

impl Layout {
    pub(super) fn read(directory: &Directory, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        let tags = Tags(directory);
        refuse_raw(&tags)?;
        let width = tags.small(256)?.ok_or(CORRUPT)?;
        let height = tags.small(257)?.ok_or(CORRUPT)?;
        check_size(width, height, FORMAT, limits)?;

        let compression_code = tags.one(259)?.unwrap_or(1);
        let compression = compression(compression_code)?;
        let depths = tags.all(258, usize::from(u16::MAX))?.unwrap_or_else(|| vec![1]);
        let bits = *depths.first().ok_or(CORRUPT)?;
        if depths.iter().any(|&depth| depth != bits) {
            return Err(unsupported("of samples of different depths"));
        }
        let samples = tags.one(277)?.unwrap_or(depths.len() as u64);
        let samples = usize::from(u16::try_from(samples).map_err(|_| CORRUPT)?);
        let float = is_float(&tags, bits)?;
        let colour = colour(&tags, samples, compression)?;
        if samples < colour.samples() {
            return Err(CORRUPT);
        }
        let alpha = alpha(&tags, samples, colour)?;
        let planar = match tags.one(284)?.unwrap_or(1) {
            1 => false,
            2 => samples > 1,
            _ => return Err(CORRUPT),
        };
        let predictor = match compression {
            // Other compressions have none, and readers leave the tag alone.
            Compression::Lzw | Compression::Deflate => tags.one(317)?.unwrap_or(1),
            _ => 1,
        };
        let low_bit_first = tags.one(266)?.unwrap_or(1) == 2;
        let bits = u32::try_from(bits).map_err(|_| CORRUPT)?;
        let grid = grid(&tags, (width, height), if planar { samples } else { 1 })?;
        let layout = Self {
            width,
            height,
            bits,
            float,
            samples,
            colour,
            alpha,
            planar,
            compression,
            predictor,
            low_bit_first,
            grid,
        };
        layout.check_combination()?;
        layout.check_memory(limits)?;
        Ok(layout)
    }

    /// The same image where every sample is a channel of its own: light or reflectance, 0 being dark.
    pub(super) fn with_all_samples(self, channels: u8, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        if self.samples != usize::from(channels) {
            return Err(DecodeError::Channels { found: self.samples, wanted: channels });
        }
        let plain = matches!(self.colour, Colour::Gray { zero_is_white: false } | Colour::Rgb);
        if !plain || matches!(self.compression, Compression::Jpeg | Compression::Group4) {
            return Err(unsupported(format!("of {channels} channels in this compression and colour")));
        }
        // Up to two bytes for each.
        let all = u64::from(self.width) * u64::from(self.height) * u64::from(channels) * 2;
        if all > memory_limit(limits) {
            return Err(DecodeError::Memory { format: NAME });
        }
        Ok(Self { colour: Colour::Any(channels), alpha: None, ..self })
    }

    /// Bytes of a row of one chunk, and how many rows the chunk has, as the file has them unpacked.
    pub(super) fn chunk_size(&self, index: usize) -> (u64, u32) {
        let grid = &self.grid;
        let row = index as u32 / grid.across % grid.down;
        let rows = match grid.tiled {
            true => grid.chunk_height,
            // The last strip stops where the image does.
            false => grid.chunk_height.min(self.height - row * grid.chunk_height),
        };
        if let Colour::YCbCr(h, v) = self.colour
            && (h, v) != (1, 1)
        {
            // Blocks of h * v values of Y, then one of Cb and one of Cr.
            return (u64::from(grid.chunk_width.div_ceil(h)) * u64::from(h * v + 2), rows.div_ceil(v));
        }
        let samples = if self.planar { 1 } else { self.samples as u64 };
        ((u64::from(grid.chunk_width) * samples * u64::from(self.bits)).div_ceil(8), rows)
    }

    /// How many chunks all planes have.
    pub(super) fn chunks(&self) -> usize {
        self.grid.across as usize * self.grid.down as usize * if self.planar { self.samples } else { 1 }
    }

    /// The samples that pixels are made of, in the order in which they are kept.
    pub(super) fn used(&self) -> impl Iterator<Item = usize> {
        (0..self.colour.samples()).chain(self.alpha.map(|alpha| alpha.sample))
    }

    /// Refuses what the parts do not support together.
    fn check_combination(&self) -> Result<(), DecodeError> {
        let Self { bits, float, compression, colour, .. } = *self;
        let depth_fits = match (compression, colour) {
            (Compression::Jpeg, _) if bits == 12 => return Err(unsupported("with JPEG of 12-bit samples")),
            (Compression::Jpeg, Colour::Palette) => false,
            (Compression::Jpeg, _) => bits == 8 && !float,
            (Compression::Group4, Colour::Gray { .. }) => bits == 1 && self.samples == 1,
            (Compression::Group4, _) => false,
            (_, Colour::Palette) => (1..=16).contains(&bits) && !float,
            (_, Colour::YCbCr(..)) if bits != 8 => {
                return Err(unsupported(format!("with YCbCr colours of {bits} bits")));
            }
            _ if float => matches!(bits, 16 | 32 | 64),
            _ => matches!(bits, 1..=32 | 64),
        };
        if !depth_fits {
            let kind = if float { "floating-point samples" } else { "samples" };
            return Err(unsupported(format!("of {kind} of {bits} bits in this compression and colour")));
        }
        let subsampled = matches!(colour, Colour::YCbCr(h, v) if (h, v) != (1, 1));
        if matches!(colour, Colour::YCbCr(..)) && (self.planar || subsampled && self.samples != 3) {
            return Err(unsupported("with YCbCr colours in planes or with more samples"));
        }
        // Four components are what they are, whatever the samples mean; YCbCr with a fourth is not taken apart.
        let four = self.samples == 4 && colour == Colour::Rgb;
        if compression == Compression::Jpeg && !self.planar && self.samples != colour.samples() && !four {
            return Err(unsupported("with JPEG compression and samples beyond its colours"));
        }
        match self.predictor {
            1 => Ok(()),
            2 if matches!(bits, 8 | 16 | 32 | 64) && !subsampled => Ok(()),
            3 if float => Ok(()),
            predictor => Err(unsupported(format!("with predictor {predictor} for samples of {bits} bits"))),
        }
    }

    /// A chunk, and all of them together, stay within the limit: samples that are not used and tiles that reach
    /// beyond the picture cost memory and time, too.
    fn check_memory(&self, limits: &DecodeLimits) -> Result<(), DecodeError> {
        let (row_bytes, rows) = self.chunk_size(0);
        let all = row_bytes.saturating_mul(rows.into()).saturating_mul(self.chunks() as u64);
        (all <= memory_limit(limits)).then_some(()).ok_or(DecodeError::Memory { format: NAME })
    }
}

/// Raw formats of cameras are TIFF files whose first image is a thumbnail, or has the sensor's data.
fn refuse_raw(tags: &Tags) -> Result<(), DecodeError> {
    let is_dng = tags.0.find(50_706).map_err(damaged)?.is_some();
    let first_is_reduced = tags.one(254)?.unwrap_or(0) & 1 == 1;
    let others_inside = tags.0.find(330).map_err(damaged)?.is_some();
    let sensor = matches!(tags.one(262)?, Some(32_803 | 34_892));
    if is_dng || sensor || first_is_reduced && others_inside {
        return Err(DecodeError::Undecoded { format: RAW });
    }
    Ok(())
}

fn compression(code: u64) -> Result<Compression, DecodeError> {
    Err(unsupported(match code {
        1 => return Ok(Compression::None),
        4 => return Ok(Compression::Group4),
        5 => return Ok(Compression::Lzw),
        7 => return Ok(Compression::Jpeg),
        8 | 32_946 => return Ok(Compression::Deflate),
        32_773 => return Ok(Compression::PackBits),
        2 | 32_771 => "with CCITT run-length compression",
        3 => "with CCITT Group 3 compression",
        6 => "with old-style JPEG compression",
        9 | 10 | 34_661 => "with JBIG compression",
        32_809 => "with ThunderScan compression",
        32_908 | 32_909 => "with Pixar compression",
        33_003 | 33_004 | 33_005 | 34_712 => "with JPEG 2000 compression",
        34_676 | 34_677 => "with SGI LogLuv compression",
        34_887 => "with LERC compression",
        34_892 => "with lossy JPEG compression of DNG",
        34_925 => "with LZMA compression",
        50_000 | 34_926 => "with Zstandard compression",
        50_001 | 34_927 => "with WebP compression",
        50_002 | 52_546 => "with JPEG XL compression",
        _ => return Err(unsupported(format!("with compression {code}"))),
    }))
}

fn is_float(tags: &Tags, bits: u64) -> Result<bool, DecodeError> {
    let formats = tags.all(339, usize::from(u16::MAX))?.unwrap_or_default();
    let first = formats.first().copied().unwrap_or(1);
    if formats.iter().any(|&format| format != first) {
        return Err(unsupported("of samples of different kinds of number"));
    }
    match first {
        // 4 is "undefined", which readers take as whole numbers.
        1 | 4 => Ok(false),
        2 => Err(unsupported(format!("of signed integers of {bits} bits"))),
        3 => Ok(true),
        5 | 6 => Err(unsupported("of complex numbers")),
        _ => Err(CORRUPT),
    }
}

fn colour(tags: &Tags, samples: usize, compression: Compression) -> Result<Colour, DecodeError> {
    // Writers of fax leave the tag out where the specification wants it; for others the count of samples tells.
    let default = match (compression, samples) {
        (Compression::Group4, _) => 0,
        (_, 3..) => 2,
        _ => 1,
    };
    match tags.one(262)?.unwrap_or(default) {
        0 => Ok(Colour::Gray { zero_is_white: true }),
        1 => Ok(Colour::Gray { zero_is_white: false }),
        2 => Ok(Colour::Rgb),
        3 => Ok(Colour::Palette),
        4 => Err(unsupported("that is a transparency mask")),
        5 if tags.one(332)?.unwrap_or(1) == 1 => Ok(Colour::Cmyk),
        5 => Err(unsupported("of inks other than CMYK")),
        6 => {
            let steps = tags.all(530, 2)?.unwrap_or_else(|| vec![2, 2]);
            match steps[..] {
                // The decoder of JPEG knows its own subsampling and undoes it.
                _ if compression == Compression::Jpeg => Ok(Colour::YCbCr(1, 1)),
                [h @ (1 | 2 | 4), v @ (1 | 2 | 4)] => Ok(Colour::YCbCr(h as u32, v as u32)),
                _ => Err(CORRUPT),
            }
        }
        8..=10 => Err(unsupported("with L*a*b* colours")),
        32_844 | 32_845 => Err(unsupported("with LogLuv colours")),
        other => Err(unsupported(format!("with photometric interpretation {other}"))),
    }
}

/// The first extra sample that is said to be alpha, or a fourth one beside RGB where no tag is there to say what it is:
/// other readers take that for alpha. One that is said to be something else hides nothing.
fn alpha(tags: &Tags, samples: usize, colour: Colour) -> Result<Option<Alpha>, DecodeError> {
    let first = colour.samples();
    let Some(meanings) = tags.all(338, usize::from(u16::MAX))? else {
        let alpha = Alpha { sample: 3, associated: false, stated: false };
        return Ok((colour == Colour::Rgb && samples == 4).then_some(alpha));
    };
    // 999 is CorelDRAW's.
    let at = meanings.iter().take(samples - first).position(|meaning| matches!(meaning, 1 | 2 | 999));
    Ok(at.map(|at| Alpha { sample: first + at, associated: meanings[at] == 1, stated: true }))
}

fn grid(tags: &Tags, (width, height): (u32, u32), planes: usize) -> Result<Grid, DecodeError> {
    let tile = (tags.small(322)?, tags.small(323)?);
    let (tiled, chunk_width, chunk_height) = match tile {
        (Some(tile_width), Some(tile_height)) => (true, tile_width, tile_height),
        _ => (false, width, tags.small(278)?.unwrap_or(height).min(height)),
    };
    if chunk_width == 0 || chunk_height == 0 {
        return Err(CORRUPT);
    }
    let (across, down) = (width.div_ceil(chunk_width), height.div_ceil(chunk_height));
    let chunks = u64::from(across) * u64::from(down) * planes as u64;
    if chunks > MAX_CHUNKS {
        return Err(unsupported(format!("of more than {MAX_CHUNKS} strips or tiles")));
    }
    let chunks = chunks as usize;
    // Some writers of tiles use the tags of strips.
    let either = |tile: u16, strip: u16| -> Result<Option<Vec<u64>>, DecodeError> {
        let tile = if tiled { tags.0.find(tile).map_err(damaged)? } else { None };
        let found = if tile.is_some() { tile } else { tags.0.find(strip).map_err(damaged)? };
        found.map(|field| field.leading(chunks).map_err(damaged)).transpose()
    };
    let offsets = either(324, 273)?.ok_or(CORRUPT)?;
    let lengths = either(325, 279)?;
    if offsets.len() < chunks || lengths.as_ref().is_some_and(|lengths| lengths.len() < chunks) {
        return Err(CORRUPT);
    }
    Ok(Grid { tiled, chunk_width, chunk_height, across, down, offsets, lengths })
}
