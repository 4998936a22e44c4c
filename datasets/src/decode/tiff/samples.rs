//! Samples out of strips and tiles: scaled to 8 or 16 bits, the used ones of each pixel side by side.

use super::super::decoded::{DecodeLimits, Pixels};
use super::super::ifd::Directory;
use super::chunks::{Chunk, Chunks};
use super::fault::{CORRUPT, NAME};
use super::layout::{Colour, Layout};
use crate::error::DecodeError;

/// Reads all samples: 8 bits for depths up to 8, 16 bits for all others. An index into a palette, and alpha beside it,
/// is not scaled.
pub(super) fn read(
    bytes: &[u8],
    directory: &Directory,
    layout: &Layout,
    limits: &DecodeLimits,
) -> Result<Pixels, DecodeError> {
    let mut chunks = Chunks::new(bytes, directory, layout, limits)?;
    let bits = layout.bits;
    let palette = layout.colour == Colour::Palette;
    // Whole numbers, and the value of white.
    let most = if bits < 64 { (1_u64 << bits) - 1 } else { u64::MAX };
    let place = |chunk: &Chunk| Order { bits, big_endian: chunk.is_big_endian(directory.big_endian()) };
    Ok(match bits {
        8 => Pixels::U8(fill(layout, &mut chunks, |_, row, out| out.extend(row))?),
        1..=7 => {
            let scaled = |value: u64| if palette { value } else { (value * 255 + most / 2) / most };
            Pixels::U8(fill(layout, &mut chunks, |chunk, row, out| {
                out.extend(place(chunk).values(row).map(|value| scaled(value) as u8));
            })?)
        }
        9..=16 if !layout.float => {
            let scaled = |value: u64| if palette { value } else { (value * 65_535 + most / 2) / most };
            Pixels::U16(fill(layout, &mut chunks, |chunk, row, out| {
                out.extend(place(chunk).values(row).map(|value| scaled(value) as u16));
            })?)
        }
        // The topmost bits: the difference to rounding is below a half of 1 in 65,536.
        _ if !layout.float => Pixels::U16(fill(layout, &mut chunks, |chunk, row, out| {
            out.extend(place(chunk).values(row).map(|value| (value >> (bits - 16)) as u16));
        })?),
        _ => {
            let scaled = |value: u64| {
                let value = match bits {
                    16 => from_half(value as u16),
                    32 => f32::from_bits(value as u32).into(),
                    _ => f64::from_bits(value),
                };
                (0.0..=1.0).contains(&value).then_some((value * 65_535.0).round() as u16)
            };
            // What lies in samples that are not used does not matter.
            let values = fill(layout, &mut chunks, |chunk, row, out| {
                out.extend(place(chunk).values(row).map(scaled));
            })?;
            let values: Option<Vec<u16>> = values.into_iter().collect();
            Pixels::U16(values.ok_or(DecodeError::FloatRange { format: NAME })?)
        }
    })
}

/// Puts the used samples of all pixels where they belong. `unpack` appends the samples of the bytes of one row.
fn fill<T: Copy + Default>(
    layout: &Layout,
    chunks: &mut Chunks,
    unpack: impl Fn(&Chunk, &[u8], &mut Vec<T>),
) -> Result<Vec<T>, DecodeError> {
    let used: Vec<usize> = layout.used().collect();
    let (width, height) = (layout.width as usize, layout.height as usize);
    let mut all = vec![T::default(); width * height * used.len()];
    let grid = &layout.grid;
    let (chunk_width, chunk_height) = (grid.chunk_width as usize, grid.chunk_height as usize);
    let per_plane = grid.across as usize * grid.down as usize;
    let step = if layout.planar { 1 } else { layout.samples };
    let blocks = match layout.colour {
        Colour::YCbCr(h, v) if (h, v) != (1, 1) => Some((h as usize, v as usize)),
        _ => None,
    };
    let mut row = Vec::new();
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
        let chunk = chunks.get(index)?;
        let left = index_there % grid.across as usize * chunk_width;
        let top = index_there / grid.across as usize * chunk_height;
        let columns = chunk_width.min(width - left);
        let rows = chunk_height.min(height - top);
        for y in 0..rows {
            let out = ((top + y) * width + left) * used.len();
            let out = &mut all[out..out + columns * used.len()];
            row.clear();
            let (line, length) = match blocks {
                Some((_, v)) => (y / v, chunk.row_bytes),
                None => (y, (columns * step * layout.bits as usize).div_ceil(8)),
            };
            let at = line * chunk.row_bytes;
            let stored =
                chunk.bytes.get(at..at + length).filter(|_| length <= chunk.row_bytes).ok_or(CORRUPT)?;
            unpack(&chunk, stored, &mut row);
            let pixels = out.chunks_exact_mut(used.len());
            if let Some((h, v)) = blocks {
                // Blocks of h * v values of Y, then one of Cb and one of Cr.
                for (x, pixel) in pixels.enumerate() {
                    let block = &row[x / h * (h * v + 2)..][..h * v + 2];
                    pixel.copy_from_slice(&[block[y % v * h + x % h], block[h * v], block[h * v + 1]]);
                }
            } else if step == used.len() && !layout.planar {
                // All samples are used, in their order.
                out.copy_from_slice(&row[..out.len()]);
            } else {
                for (pixel, stored) in pixels.zip(row.chunks_exact(step)) {
                    kept.iter().for_each(|&(slot, sample)| pixel[slot] = stored[sample]);
                }
            }
        }
    }
    Ok(all)
}

/// How the samples of a row lie in its bytes.
struct Order {
    bits: u32,
    big_endian: bool,
}

impl Order {
    /// The samples of a row as whole numbers, those of the last byte's filling included.
    fn values<'a>(&self, row: &'a [u8]) -> impl Iterator<Item = u64> + use<'a> {
        let Self { bits, big_endian } = *self;
        let bits = bits as usize;
        // Depths of whole bytes have an order of bytes; all others are packed, the highest bit first.
        let whole_bytes = bits.is_multiple_of(8);
        (0..row.len() * 8 / bits).map(move |i| {
            let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
            let first = i * bits;
            if whole_bytes {
                let bytes = &row[first / 8..][..bits / 8];
                return if big_endian {
                    bytes.iter().fold(0, join)
                } else {
                    bytes.iter().rev().fold(0, join)
                };
            }
            let bytes = &row[first / 8..(first + bits).div_ceil(8)];
            bytes.iter().fold(0, join) >> (8 * bytes.len() - first % 8 - bits) & ((1 << bits) - 1)
        })
    }
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
