//! The directory of a TIFF structure (TIFF 6.0, section 2; BigTIFF), as TIFF files and EXIF blocks have it.

/// The first directory of a TIFF structure.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// BigTIFF: counts and offsets of 8 bytes.
    wide: bool,
    /// Whole entries, as many as the file has.
    entries: &'a [u8],
}

/// The value of a tag: `count` numbers of a type, all of them inside the file.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    kind: u16,
    bytes: &'a [u8],
    big_endian: bool,
}

/// A tag whose value lies outside of the file, or is of a type that makes no numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl<'a> Directory<'a> {
    /// The first directory of a block that begins with its byte order, or `None` if there is none.
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.get(..2)? {
            b"II" => false,
            b"MM" => true,
            _ => return None,
        };
        let read =
            |at: usize, length: usize| Some(number(bytes.get(at..at.checked_add(length)?)?, big_endian));
        let (wide, at) = match read(2, 2)? {
            42 => (false, read(4, 4)?),
            43 => (true, read(8, 8)?),
            _ => return None,
        };
        let at = usize::try_from(at).ok()?;
        let (counted, size) = if wide { (8, 20) } else { (2, 12) };
        let count = usize::try_from(read(at, counted)?).ok()?;
        let rest = &bytes[at + counted..];
        let length = rest.len().min(count.saturating_mul(size));
        Some(Self { bytes, big_endian, wide, entries: &rest[..length - length % size] })
    }

    /// True for `MM`, false for `II`.
    pub(super) fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// The value of a tag, `None` when the directory has no such tag.
    pub(super) fn find(&self, tag: u16) -> Result<Option<Field<'a>>, Broken> {
        let size = if self.wide { 20 } else { 12 };
        let big_endian = self.big_endian;
        let entry = self.entries.chunks_exact(size).find(|e| number(&e[..2], big_endian) == u64::from(tag));
        let Some(entry) = entry else { return Ok(None) };
        let kind = number(&entry[2..4], big_endian) as u16;
        let (count, place) = if self.wide { entry[4..].split_at(8) } else { entry[4..].split_at(4) };
        let count = usize::try_from(number(count, big_endian)).map_err(|_| Broken)?;
        let length = size_of_type(kind).and_then(|size| count.checked_mul(size)).ok_or(Broken)?;
        let bytes = if length <= place.len() {
            &place[..length]
        } else {
            let at = usize::try_from(number(place, big_endian)).map_err(|_| Broken)?;
            at.checked_add(length).and_then(|end| self.bytes.get(at..end)).ok_or(Broken)?
        };
        Ok(Some(Field { kind, bytes, big_endian }))
    }
}

impl<'a> Field<'a> {
    /// The value as it lies in the file.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values as whole numbers, at most `most` of them; a negative one, or more, is broken.
    pub(super) fn numbers(&self, most: usize) -> Result<Vec<u64>, Broken> {
        let size = size_of_type(self.kind).ok_or(Broken)?;
        if self.bytes.len() / size > most {
            return Err(Broken);
        }
        self.bytes.chunks_exact(size).map(|bytes| self.whole(bytes)).collect()
    }

    /// The first `count` values, or as many as there are, as whole numbers.
    pub(super) fn leading(&self, count: usize) -> Result<Vec<u64>, Broken> {
        let size = size_of_type(self.kind).ok_or(Broken)?;
        self.bytes.chunks_exact(size).take(count).map(|bytes| self.whole(bytes)).collect()
    }

    /// The first value as a whole number.
    pub(super) fn first(&self) -> Result<u64, Broken> {
        let size = size_of_type(self.kind).ok_or(Broken)?;
        self.bytes.get(..size).ok_or(Broken).and_then(|bytes| self.whole(bytes))
    }

    fn whole(&self, bytes: &[u8]) -> Result<u64, Broken> {
        let value = number(bytes, self.big_endian);
        let signed = matches!(self.kind, 6 | 8 | 9 | 17);
        let negative = signed && value >> (8 * bytes.len() - 1) == 1;
        let is_whole = matches!(self.kind, 1 | 3 | 4 | 6 | 8 | 9 | 13 | 16 | 17 | 18);
        (is_whole && !negative).then_some(value).ok_or(Broken)
    }

    /// The first `N` values as fractions (RATIONAL).
    pub(super) fn fractions<const N: usize>(&self) -> Option<[f64; N]> {
        let part = |bytes: &[u8]| number(bytes, self.big_endian) as f64;
        let mut values = [0.0; N];
        for (i, value) in values.iter_mut().enumerate() {
            let pair = self.bytes.get(8 * i..8 * i + 8).filter(|_| self.kind == 5)?;
            *value = part(&pair[..4]) / part(&pair[4..]);
        }
        Some(values)
    }
}

/// Bytes of one value.
fn size_of_type(kind: u16) -> Option<usize> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}

/// A whole number of up to 8 bytes.
fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) }
}
