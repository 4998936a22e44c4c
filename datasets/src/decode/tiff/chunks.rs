//! Strips and tiles, unpacked.
//!
//! The library refuses whole images for what their colours are, and unpacks what it takes well. So it gets a file that
//! it takes: a directory of our own, which calls every row a row of gray bytes, in front of the real file, whose
//! strips it points to. Where a predictor must be undone the samples keep their number, depth and byte order.

use super::super::decoded::{DecodeLimits, memory_limit};
use super::super::ifd::Directory;
use super::super::jpeg;
use super::fault::{CORRUPT, NAME, TRUNCATED};
use super::layout::{Colour, Compression, Layout};
use crate::error::DecodeError;
use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom};
use tiff::TiffError;
use tiff::decoder::{Decoder, Limits};

/// Where the JPEG tables stand that all strips share.
const JPEG_TABLES: u16 = 347;

/// Gives the chunks of an image one after the other.
pub(super) struct Chunks<'a, 'b> {
    bytes: &'a [u8],
    layout: &'b Layout,
    limits: &'b DecodeLimits,
    unpacker: Option<Decoder<Spliced<'a>>>,
    jpeg_tables: &'a [u8],
}

/// A chunk: rows of `row_bytes`.
pub(super) struct Chunk<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) row_bytes: usize,
    /// Samples of several bytes are in the processor's order, not in the file's.
    native: bool,
}

impl Chunk<'_> {
    /// The order of bytes of its samples, in a file of this order.
    pub(super) fn is_big_endian(&self, file: bool) -> bool {
        if self.native { cfg!(target_endian = "big") } else { file }
    }
}

impl<'a, 'b> Chunks<'a, 'b> {
    pub(super) fn new(
        bytes: &'a [u8],
        directory: &Directory<'a>,
        layout: &'b Layout,
        limits: &'b DecodeLimits,
    ) -> Result<Self, DecodeError> {
        let mut unpacker = None;
        let mut jpeg_tables = [].as_slice();
        match layout.compression {
            Compression::None => {}
            Compression::Jpeg => {
                let tables = directory.find(JPEG_TABLES).map_err(|_| CORRUPT)?;
                jpeg_tables = tables.map(|tables| tables.bytes()).unwrap_or_default();
            }
            _ => {
                let decoder =
                    Decoder::new(Spliced::new(bytes, directory.big_endian(), layout)).map_err(translate)?;
                let mut most = Limits::default();
                let memory = usize::try_from(memory_limit(limits)).unwrap_or(usize::MAX);
                most.decoding_buffer_size = memory;
                most.intermediate_buffer_size = memory;
                most.ifd_value_size = memory;
                unpacker = Some(decoder.with_limits(most));
            }
        }
        Ok(Self { bytes, layout, limits, unpacker, jpeg_tables })
    }

    /// The chunk of this number, plane by plane, row by row.
    pub(super) fn get(&mut self, index: usize) -> Result<Chunk<'a>, DecodeError> {
        let (row_bytes, rows) = self.layout.chunk_size(index);
        // The layout has checked that a chunk stays within the limit on memory.
        let (row_bytes, size) = (row_bytes as usize, row_bytes as usize * rows as usize);
        let Some(unpacker) = &mut self.unpacker else {
            return if self.layout.compression == Compression::Jpeg {
                self.jpeg(index, rows)
            } else {
                let stored = slice(self.bytes, self.layout.grid.offsets[index], size as u64)?;
                let bytes = if self.layout.low_bit_first { reversed(stored).into() } else { stored.into() };
                Ok(Chunk { bytes, row_bytes, native: false })
            };
        };
        packed(self.bytes, self.layout, index)?;
        let mut unpacked = vec![0; size];
        let index = u32::try_from(index).map_err(|_| CORRUPT)?;
        unpacker.read_chunk_bytes(index, &mut unpacked).map_err(translate)?;
        Ok(Chunk { bytes: unpacked.into(), row_bytes, native: self.layout.predictor != 1 })
    }

    /// Each chunk is a JPEG file, perhaps without the tables that all of them share.
    fn jpeg(&self, index: usize, rows: u32) -> Result<Chunk<'a>, DecodeError> {
        let Layout { colour, planar, samples, .. } = *self.layout;
        let stored = packed(self.bytes, self.layout, index)?;
        let tables = self.jpeg_tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(self.jpeg_tables);
        let file = match (tables, stored) {
            ([0xff, 0xd8, ..], [0xff, 0xd8, rest @ ..]) => [tables, rest].concat().into(),
            _ => Cow::Borrowed(stored),
        };
        let meaning = match colour {
            _ if planar => jpeg::Colour::Gray,
            Colour::Gray { .. } | Colour::Palette => jpeg::Colour::Gray,
            _ if samples == 4 => jpeg::Colour::Cmyk,
            Colour::Rgb => jpeg::Colour::Rgb,
            Colour::YCbCr(..) => jpeg::Colour::YCbCr,
            Colour::Cmyk => jpeg::Colour::Cmyk,
            Colour::Any(_) => return Err(CORRUPT),
        };
        let components = if planar { 1 } else { samples };
        let width = self.layout.grid.chunk_width;
        // Encoders fill the last block.
        let most = (width.next_multiple_of(16), self.layout.grid.chunk_height.next_multiple_of(16));
        let part = jpeg::decode_part(&file, (components, meaning), most, self.limits)?;
        let row_bytes = part.width as usize * usize::from(part.channels);
        let needed = if self.layout.grid.tiled { (1, 1) } else { (width, rows) };
        if part.width < needed.0 || part.height < needed.1 {
            return Err(CORRUPT);
        }
        Ok(Chunk { bytes: part.values.into(), row_bytes, native: false })
    }
}

/// The packed bytes of a chunk.
fn packed<'a>(bytes: &'a [u8], layout: &Layout, index: usize) -> Result<&'a [u8], DecodeError> {
    let at = layout.grid.offsets[index];
    let length = match &layout.grid.lengths {
        Some(lengths) => lengths[index],
        // Without a word about it, the only chunk goes to the end of the file.
        None if layout.chunks() == 1 => (bytes.len() as u64).checked_sub(at).ok_or(TRUNCATED)?,
        None => return Err(CORRUPT),
    };
    slice(bytes, at, length)
}

fn slice(bytes: &[u8], at: u64, length: u64) -> Result<&[u8], DecodeError> {
    let end = at.checked_add(length).ok_or(CORRUPT)?;
    let range = usize::try_from(at).ok().zip(usize::try_from(end).ok());
    range.and_then(|(at, end)| bytes.get(at..end)).ok_or(TRUNCATED)
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte.reverse_bits()).collect()
}

/// A directory of ours (BigTIFF) and behind it the file.
struct Spliced<'a> {
    front: Vec<u8>,
    file: &'a [u8],
    low_bit_first: bool,
    at: u64,
}

impl<'a> Spliced<'a> {
    fn new(file: &'a [u8], big_endian: bool, layout: &Layout) -> Self {
        let grid = &layout.grid;
        let planes = if layout.planar { layout.samples as u64 } else { 1 };
        let (row_bytes, rows) = layout.chunk_size(0);
        // Samples as they are, or rows of bytes.
        let plain = layout.predictor == 1 && layout.compression != Compression::Group4;
        let width = if plain { row_bytes } else { grid.chunk_width.into() };
        let last_rows = layout.chunk_size(layout.chunks() - 1).1;
        let height = u64::from(rows) * u64::from(grid.down - 1) + u64::from(last_rows);
        let samples = if plain && !layout.planar { 1 } else { layout.samples as u64 };
        let compression = match layout.compression {
            Compression::None | Compression::Jpeg => 1,
            Compression::Group4 => 4,
            Compression::Lzw => 5,
            Compression::Deflate => 8,
            Compression::PackBits => 32_773,
        };
        let chunks = layout.chunks();
        let whole: Vec<u64>;
        let lengths = match &grid.lengths {
            Some(lengths) => lengths,
            None => {
                whole = grid.offsets.iter().map(|at| (file.len() as u64).saturating_sub(*at)).collect();
                &whole
            }
        };
        let (size_tags, place_tags) =
            if grid.tiled { ([322, 323], [324, 325]) } else { ([0, 278], [273, 279]) };
        let mut tags = vec![
            (256, vec![width * u64::from(grid.across)]),
            (257, vec![height]),
            (258, vec![if plain { 8 } else { layout.bits.into() }]),
            (259, vec![compression]),
            (262, vec![1]),
            (277, vec![samples]),
            (284, vec![if planes > 1 { 2 } else { 1 }]),
            (317, vec![layout.predictor]),
            (size_tags[0], vec![width]),
            (size_tags[1], vec![rows.into()]),
            (339, vec![if layout.float && !plain { 3 } else { 1 }]),
            (place_tags[0], Vec::new()),
            (place_tags[1], lengths[..chunks].to_vec()),
        ];
        tags.retain(|(tag, _)| *tag != 0);
        // What does not fit into its entry lies behind the directory, and the file behind all of that.
        let lists = 16 + 8 + 20 * tags.len() as u64 + 8;
        let front = lists + if chunks > 1 { 16 * chunks as u64 } else { 0 };
        let offsets: Vec<u64> = grid.offsets[..chunks].iter().map(|at| at.saturating_add(front)).collect();
        for (tag, values) in &mut tags {
            if *tag == place_tags[0] {
                values.clone_from(&offsets);
            }
        }
        tags.sort_by_key(|(tag, _)| *tag);
        let front = write(&tags, lists, big_endian);
        Self { front, file, low_bit_first: layout.low_bit_first, at: 0 }
    }
}

/// A BigTIFF header and directory of 64-bit numbers; lists of several begin at `lists`.
fn write(tags: &[(u16, Vec<u64>)], lists: u64, big_endian: bool) -> Vec<u8> {
    let short = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let long = |value: u64| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut out = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
    out.extend([short(43), short(8), short(0)].concat());
    out.extend([long(16), long(tags.len() as u64)].concat());
    let mut behind = Vec::new();
    for (tag, values) in tags {
        // LONG8.
        out.extend([short(*tag), short(16)].concat());
        out.extend(long(values.len() as u64));
        if let [value] = values[..] {
            out.extend(long(value));
        } else {
            out.extend(long(lists + behind.len() as u64));
            behind.extend(values.iter().flat_map(|value| long(*value)));
        }
    }
    out.extend(long(0));
    out.extend(behind);
    out
}

impl Read for Spliced<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        let length = if let Some(rest) = self.front.get(at..).filter(|rest| !rest.is_empty()) {
            let length = rest.len().min(into.len());
            into[..length].copy_from_slice(&rest[..length]);
            length
        } else {
            let rest = self.file.get(at - self.front.len()..).unwrap_or_default();
            let length = rest.len().min(into.len());
            into[..length].copy_from_slice(&rest[..length]);
            if self.low_bit_first {
                into[..length].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
            length
        };
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Spliced<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = (self.front.len() + self.file.len()) as u64;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn translate(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => TRUNCATED,
        TiffError::LimitsExceeded => DecodeError::Memory { format: NAME },
        _ => CORRUPT,
    }
}
