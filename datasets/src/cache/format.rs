//! The bytes of a cache file: a header, the pixels, then an index. Numbers are little-endian.
//!
//! | header | bytes |
//! |---|---|
//! | magic `OCPIXEL1` | 8 |
//! | key | 32 |
//! | where the index begins | 8 |
//! | length of the index | 8 |
//! | entries of the index | 8 |
//! | SHA-256 of all above and of the index | 32 |
//!
//! An entry of the index is a byte and what follows it: 1 (8 bits a value) or 2 (16 bits), the place of the pixels in the
//! file (8 bytes) and their CRC-32 (4); or 0, for an image that cannot be decoded, the length of the reason (4) and the
//! reason in UTF-8.

use sha2::{Digest, Sha256};

use crate::decode::DecodeLimits;
use crate::preprocess::Preprocessing;
use crate::split::ContentHash;

const MAGIC: &[u8; 8] = b"OCPIXEL1";

/// Raised when decoding or resizing gives other pixels in the same version of the program.
const PIXELS: u32 = 1;

/// Bytes of the header.
pub(super) const HEADER: usize = 96;

const SUM: usize = HEADER - 32;

/// Fewest bytes of an entry: one without a decoder's reason.
const LEAST_ENTRY: u64 = 5;

/// What a file was made of.
pub(crate) type Key = [u8; 32];

/// Where the pixels of an image are in a cache file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: u64,
    pub(crate) crc: u32,
    /// 16 bits a value, not 8.
    pub(crate) wide: bool,
}

/// What a cache file says of an image: where its pixels are, or why there are none.
pub(crate) type Stored = Result<Record, String>;

/// The key of the images with these identities, in this order; `None` for one that cannot be read.
pub(super) fn key<'a>(
    pre: &Preprocessing,
    limits: &DecodeLimits,
    identities: impl Iterator<Item = Option<&'a ContentHash>>,
) -> Key {
    let mut hasher = Sha256::new_with_prefix(MAGIC);
    // Another version may decode or resize otherwise.
    hasher.update(env!("CARGO_PKG_VERSION"));
    hasher.update([0, pre.channels]);
    for number in [PIXELS, pre.width, pre.height, limits.max_side] {
        hasher.update(number.to_le_bytes());
    }
    for number in [limits.max_pixels, limits.max_bytes] {
        hasher.update(number.to_le_bytes());
    }
    hasher.update(pre.fit.to_string());
    hasher.update([0]);
    for identity in identities {
        hasher.update([u8::from(identity.is_some())]);
        hasher.update(identity.unwrap_or(&[0; 32]));
    }
    hasher.finalize().into()
}

pub(super) struct Header {
    pub(super) key: Key,
    pub(super) index_at: u64,
    pub(super) index_len: u64,
    entries: u64,
    sum: [u8; 32],
}

/// Header and index of a file whose pixels end at `index_at`.
pub(super) fn encode(key: &Key, index_at: u64, entries: &[Stored]) -> ([u8; HEADER], Vec<u8>) {
    let mut index = Vec::new();
    for entry in entries {
        match entry {
            Ok(record) => {
                index.push(1 + u8::from(record.wide));
                index.extend(record.at.to_le_bytes());
                index.extend(record.crc.to_le_bytes());
            }
            Err(reason) => {
                index.push(0);
                index.extend((reason.len() as u32).to_le_bytes());
                index.extend(reason.as_bytes());
            }
        }
    }
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..40].copy_from_slice(key);
    for (at, number) in [(40, index_at), (48, index.len() as u64), (56, entries.len() as u64)] {
        header[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    let sum = sum(&header, &index);
    header[SUM..].copy_from_slice(&sum);
    (header, index)
}

impl Header {
    /// The header of a file of `length` bytes, or what is wrong with it.
    pub(super) fn decode(bytes: &[u8; HEADER], length: u64) -> Result<Header, &'static str> {
        if &bytes[..8] != MAGIC {
            return Err("it does not begin like one");
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let header = Header {
            key: bytes[8..40].try_into().expect("32 bytes"),
            index_at: number(40),
            index_len: number(48),
            entries: number(56),
            sum: bytes[SUM..].try_into().expect("32 bytes"),
        };
        if header.index_at < HEADER as u64 || header.index_at.checked_add(header.index_len) != Some(length) {
            return Err("it is cut off");
        }
        if header.entries > header.index_len / LEAST_ENTRY {
            return Err("its header is damaged");
        }
        Ok(header)
    }

    /// The entries of the index, for images of `len` values.
    pub(super) fn entries(
        &self,
        bytes: &[u8; HEADER],
        index: &[u8],
        len: usize,
    ) -> Result<Vec<Stored>, &'static str> {
        const DAMAGED: &str = "its index is damaged";
        if sum(bytes, index) != self.sum {
            return Err(DAMAGED);
        }
        let mut rest = index;
        let mut entries = Vec::with_capacity(self.entries as usize);
        for _ in 0..self.entries {
            let kind = take::<1>(&mut rest).ok_or(DAMAGED)?[0];
            entries.push(if kind == 0 {
                let length = u32::from_le_bytes(take(&mut rest).ok_or(DAMAGED)?) as usize;
                let (reason, after) = rest.split_at_checked(length).ok_or(DAMAGED)?;
                rest = after;
                Err(std::str::from_utf8(reason).map_err(|_| DAMAGED)?.to_owned())
            } else {
                let at = u64::from_le_bytes(take(&mut rest).ok_or(DAMAGED)?);
                let crc = u32::from_le_bytes(take(&mut rest).ok_or(DAMAGED)?);
                let bytes = len as u64 * u64::from(kind);
                let inside =
                    at >= HEADER as u64 && at.checked_add(bytes).is_some_and(|end| end <= self.index_at);
                if kind > 2 || !inside {
                    return Err(DAMAGED);
                }
                Ok(Record { at, crc, wide: kind == 2 })
            });
        }
        if rest.is_empty() { Ok(entries) } else { Err(DAMAGED) }
    }
}

/// SHA-256 of the header up to the sum itself, and of the index.
fn sum(header: &[u8; HEADER], index: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(&header[..SUM]);
    hasher.update(index);
    hasher.finalize().into()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Stored> {
        vec![
            Ok(Record { at: 96, crc: 7, wide: false }),
            Err("PNG file is damaged".to_owned()),
            Ok(Record { at: 100, crc: u32::MAX, wide: true }),
            Err(String::new()),
        ]
    }

    #[test]
    fn an_index_reads_back_and_any_changed_byte_is_found() {
        let (header, index) = encode(&[9; 32], 108, &entries());
        let length = 108 + index.len() as u64;
        let read = |header: &[u8; HEADER], index: &[u8]| {
            let read = Header::decode(header, length)?;
            assert!(read.index_at <= length);
            read.entries(header, index, 4).map(|entries| (read.key, entries))
        };
        assert_eq!(read(&header, &index), Ok(([9; 32], entries())));
        for at in 0..HEADER {
            let mut header = header;
            header[at] ^= 1;
            assert!(read(&header, &index).is_err(), "byte {at} of the header");
        }
        for at in 0..index.len() {
            let mut index = index.clone();
            index[at] ^= 0x80;
            assert!(read(&header, &index).is_err(), "byte {at} of the index");
        }
        for length in 0..length {
            assert!(Header::decode(&header, length).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn records_lie_between_header_and_index() {
        for (at, wide, fits) in [
            (96, false, true),
            (104, false, true),
            (105, false, false),
            (101, true, false),
            (95, false, false),
        ] {
            for at in [at, u64::MAX - at] {
                let (header, index) = encode(&[0; 32], 108, &[Ok(Record { at, crc: 0, wide })]);
                let read = Header::decode(&header, 108 + index.len() as u64).unwrap();
                assert_eq!(read.entries(&header, &index, 4).is_ok(), fits && at < 1000, "{at} {wide}");
            }
        }
    }

    #[test]
    fn a_key_depends_on_every_image_and_on_what_is_done_to_them() {
        use crate::preprocess::Fit;
        let (pre, limits) = (Preprocessing::new(4, 5, 3, Fit::Crop), DecodeLimits::default());
        let (a, b) = ([1; 32], [2; 32]);
        let of = |pre: &Preprocessing, limits: &DecodeLimits, ids: &[Option<&ContentHash>]| {
            key(pre, limits, ids.iter().copied())
        };
        let ids = [Some(&a), None, Some(&b)];
        let mut normalised = pre.clone();
        normalised.mean.fill(0.5);
        assert_eq!(of(&pre, &limits, &ids), of(&normalised, &limits, &ids), "pixels are kept as integers");
        let mut seen = vec![of(&pre, &limits, &ids)];
        for (width, height, channels, fit) in
            [(5, 4, 3, Fit::Crop), (4, 5, 1, Fit::Crop), (4, 5, 3, Fit::Pad), (4, 6, 3, Fit::Crop)]
        {
            seen.push(of(&Preprocessing::new(width, height, channels, fit), &limits, &ids));
        }
        seen.push(of(&pre, &DecodeLimits { max_side: 10, ..limits }, &ids));
        for other in
            [&[Some(&b), None, Some(&a)][..], &[Some(&a), Some(&b)], &[Some(&a), Some(&[0; 32]), Some(&b)]]
        {
            seen.push(of(&pre, &limits, other));
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
