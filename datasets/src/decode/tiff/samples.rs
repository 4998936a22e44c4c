//! Samples out of strips and tiles: scaled to 8 or 16 bits, the used ones of each pixel side by side.

use super::super::ifd::Directory;
use super::super::{DecodeLimits, Pixels};
use super::chunks::{Chunk, Chunks};
use super::layout::{Colour, Layout};
use super::{CORRUPT, NAME};
use crate::DecodeError;

/// Reads all samples: 8 bits for depths up to 8, 16 bits for all others. An index into a palette is not scaled.
pub(super) fn read(
    bytes: &[u8],
    directory: &Directory,
    layout: &Layout,
    limits: &DecodeLimits,
) -> Result<Pixels, DecodeError> {
    let mut chunks = Chunks::new(bytes, directory, layout, limits)?;
    let mut get = |index| chunks.get(index);
    let big_endian = directory.big_endian();
    let raw = |chunk: &Chunk, place: usize| raw(chunk, place, layout.bits, big_endian);
    let bits = layout.bits;
    let index = layout.colour == Colour::Palette;
    Ok(match bits {
        8 => Pixels::U8(fill(layout, &mut get, |chunk, place, _| Ok(chunk.bytes[place]))?),
        ..8 => {
            let most = (1_u64 << bits) - 1;
            let scaled = |chunk: &Chunk, place, first| {
                let value = raw(chunk, place);
                Ok(if index && first { value } else { (value * 255 + most / 2) / most } as u8)
            };
            Pixels::U8(fill(layout, &mut get, scaled)?)
        }
        16 if !layout.float => Pixels::U16(fill(layout, &mut get, |c, place, _| Ok(raw(c, place) as u16))?),
        ..16 => {
            let most = (1_u64 << bits) - 1;
            let scaled = |chunk: &Chunk, place, first| {
                let value = raw(chunk, place);
                Ok(if index && first { value } else { (value * 65_535 + most / 2) / most } as u16)
            };
            Pixels::U16(fill(layout, &mut get, scaled)?)
        }
        // The topmost bits: the difference to rounding is below a half of 1 in 65,536.
        _ if !layout.float => {
            Pixels::U16(fill(layout, &mut get, |c, place, _| Ok((raw(c, place) >> (bits - 16)) as u16))?)
        }
        _ => {
            let scaled = |chunk: &Chunk, place, _| {
                let value = raw(chunk, place);
                let value = match bits {
                    16 => from_half(value as u16),
                    32 => f32::from_bits(value as u32).into(),
                    _ => f64::from_bits(value),
                };
                let in_range = (0.0..=1.0).contains(&value);
                in_range
                    .then_some((value * 65_535.0).round() as u16)
                    .ok_or(DecodeError::FloatRange { format: NAME })
            };
            Pixels::U16(fill(layout, &mut get, scaled)?)
        }
    })
}

/// Puts `value(chunk, place, is the first sample)` of all used samples where they belong; places count samples for
/// whole bytes, and bits for all other depths.
fn fill<'a, T: Copy + Default>(
    layout: &Layout,
    get: &mut impl FnMut(usize) -> Result<Chunk<'a>, DecodeError>,
    value: impl Fn(&Chunk, usize, bool) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let used: Vec<usize> = layout.used().collect();
    let (width, height) = (layout.width as usize, layout.height as usize);
    let mut all = vec![T::default(); width * height * used.len()];
    let grid = &layout.grid;
    let (chunk_width, chunk_height) = (grid.chunk_width as usize, grid.chunk_height as usize);
    let per_plane = grid.across as usize * grid.down as usize;
    // The distance of pixels, and what a sample counts.
    let step = if layout.planar { 1 } else { layout.samples };
    for index in 0..layout.chunks() {
        let (plane, index_there) = (index / per_plane, index % per_plane);
        // Which of the kept samples this chunk has, and where in its pixels.
        let kept: Vec<(usize, usize)> = match layout.planar {
            true => used.iter().position(|&s| s == plane).map(|slot| (slot, 0)).into_iter().collect(),
            false => used.iter().copied().enumerate().collect(),
        };
        if kept.is_empty() {
            continue;
        }
        let chunk = get(index)?;
        let left = index_there % grid.across as usize * chunk_width;
        let top = index_there / grid.across as usize * chunk_height;
        let columns = chunk_width.min(width - left);
        let rows = chunk_height.min(height - top);
        let blocks = match layout.colour {
            Colour::YCbCr(h, v) if (h, v) != (1, 1) => Some((h as usize, v as usize)),
            _ => None,
        };
        let row = (columns * step * layout.bits as usize).div_ceil(8);
        let needed = match blocks {
            Some((_, v)) => rows.div_ceil(v) * chunk.row_bytes,
            None => (rows - 1) * chunk.row_bytes + row,
        };
        if chunk.bytes.len() < needed || blocks.is_none() && chunk.row_bytes < row {
            return Err(CORRUPT);
        }
        for y in 0..rows {
            let out = ((top + y) * width + left) * used.len();
            let out = &mut all[out..out + columns * used.len()];
            for (x, pixel) in out.chunks_exact_mut(used.len()).enumerate() {
                for &(slot, sample) in &kept {
                    let place = match blocks {
                        None => y * chunk.row_bytes * 8 + (x * step + sample) * layout.bits as usize,
                        Some((h, v)) => {
                            let block = y / v * chunk.row_bytes + x / h * (h * v + 2);
                            let within = if sample == 0 { y % v * h + x % h } else { h * v + sample - 1 };
                            8 * (block + within)
                        }
                    };
                    let place = if layout.bits == 8 { place / 8 } else { place };
                    pixel[slot] = value(&chunk, place, slot == 0)?;
                }
            }
        }
    }
    Ok(all)
}

/// The bits of a sample whose first bit is `place`, as a whole number.
fn raw(chunk: &Chunk, place: usize, bits: u32, big_endian: bool) -> u64 {
    let at = place / 8;
    let bytes = &chunk.bytes[at..];
    // Depths of whole bytes have an order of bytes; all others are packed, the highest bit first.
    if bits % 8 == 0 {
        let bytes = &bytes[..bits as usize / 8];
        let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let big_endian = if chunk.native { cfg!(target_endian = "big") } else { big_endian };
        return if big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) };
    }
    let count = (place % 8 + bits as usize).div_ceil(8);
    let joined = bytes[..count].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    joined >> (8 * count - place % 8 - bits as usize) & ((1 << bits) - 1)
}

/// IEEE 754 half precision, which the standard library does not have yet.
fn from_half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::from_half;

    #[test]
    fn half_precision_is_read() {
        let cases =
            [(0x0000, 0.0), (0x3c00, 1.0), (0x3800, 0.5), (0xbc00, -1.0), (0x0001, 5.960_464_477_539_063e-8)];
        for (bits, value) in cases {
            assert_eq!(from_half(bits), value);
        }
        assert!(from_half(0x7e00).is_nan() && from_half(0x7c00).is_infinite());
    }
}
