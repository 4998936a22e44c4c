//! TIFF files of any tags (TIFF 6.0, section 2).

/// A tag: number, type (1 byte, 3 short, 4 long, 5 fraction of two longs), values.
pub type Tag = (u16, u16, Vec<u32>);

/// A file of strips or tiles.
#[derive(Clone, Default)]
pub struct Tiff {
    /// `MM` instead of `II`.
    pub big_endian: bool,
    /// BigTIFF.
    pub wide: bool,
    /// All tags but those that say where the chunks are.
    pub tags: Vec<Tag>,
    /// Strips or tiles as they lie in the file.
    pub chunks: Vec<Vec<u8>>,
    /// The chunks are tiles.
    pub tiled: bool,
}

impl Tiff {
    /// An image of one strip; further tags and chunks may follow.
    pub fn new(width: u32, height: u32, bits: &[u32], photometric: u32, data: Vec<u8>) -> Self {
        let tags = vec![
            (256, 4, vec![width]),
            (257, 4, vec![height]),
            (258, 3, bits.to_vec()),
            (259, 3, vec![1]),
            (262, 3, vec![photometric]),
            (277, 3, vec![bits.len() as u32]),
            (278, 4, vec![height]),
        ];
        Self { tags, chunks: vec![data], ..Self::default() }
    }

    /// The file with a tag set or replaced.
    pub fn with(mut self, tag: u16, kind: u16, values: &[u32]) -> Self {
        self.tags.retain(|(there, ..)| *there != tag);
        self.tags.push((tag, kind, values.to_vec()));
        self
    }

    /// The file with other strips.
    pub fn strips(mut self, rows: u32, strips: Vec<Vec<u8>>) -> Self {
        self.chunks = strips;
        self.with(278, 4, &[rows])
    }

    /// The file with tiles instead of strips.
    pub fn tiles(mut self, (width, height): (u32, u32), tiles: Vec<Vec<u8>>) -> Self {
        self.chunks = tiles;
        self.tiled = true;
        self.tags.retain(|(tag, ..)| *tag != 278);
        self.with(322, 4, &[width]).with(323, 4, &[height])
    }

    /// The bytes of the file: header, directory, values, chunks.
    pub fn bytes(&self) -> Vec<u8> {
        let short = |v: u16| if self.big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        let long = |v: u64, bytes: usize| -> Vec<u8> {
            if self.big_endian {
                v.to_be_bytes()[8 - bytes..].to_vec()
            } else {
                v.to_le_bytes()[..bytes].to_vec()
            }
        };
        let (word, entry_size) = if self.wide { (8, 20) } else { (4, 12) };
        let mut tags = self.tags.clone();
        let (places, lengths) = if self.tiled { (324, 325) } else { (273, 279) };
        tags.push((places, 4, vec![0; self.chunks.len()]));
        tags.push((lengths, 4, self.chunks.iter().map(|c| c.len() as u32).collect()));
        tags.sort();
        let first = if self.wide { 16 } else { 8 };
        let counted = if self.wide { 8 } else { 2 };
        let values_at = first + counted + entry_size * tags.len() + word;
        let packed = |kind: u16, values: &[u32]| -> Vec<u8> {
            let value = |v: &u32| match kind {
                1 | 2 | 6 | 7 => vec![*v as u8],
                3 | 8 => short(*v as u16).to_vec(),
                _ => long((*v).into(), 4),
            };
            values.iter().flat_map(value).collect()
        };
        let size: usize = tags
            .iter()
            .map(|(_, kind, values)| packed(*kind, values).len())
            .filter(|&n| n > word)
            .map(even)
            .sum();
        let mut at = values_at + size;
        for (tag, _, values) in &mut tags {
            if *tag == places {
                for (value, chunk) in values.iter_mut().zip(&self.chunks) {
                    *value = at as u32;
                    at += even(chunk.len());
                }
            }
        }
        let mut out = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        if self.wide {
            out.extend([short(43), short(8), short(0)].concat());
        } else {
            out.extend(short(42));
        }
        out.extend(long(first as u64, word));
        out.extend(if self.wide { long(tags.len() as u64, 8) } else { short(tags.len() as u16).to_vec() });
        let mut behind = Vec::new();
        for (tag, kind, values) in &tags {
            out.extend([short(*tag), short(*kind)].concat());
            let count = if *kind == 5 { values.len() / 2 } else { values.len() };
            out.extend(long(count as u64, word));
            let mut value = packed(*kind, values);
            if value.len() > word {
                out.extend(long((values_at + behind.len()) as u64, word));
                value.resize(even(value.len()), 0);
                behind.extend(value);
            } else {
                value.resize(word, 0);
                out.extend(value);
            }
        }
        out.extend(long(0, word));
        out.extend(behind);
        for chunk in &self.chunks {
            out.extend(chunk);
            out.resize(even(out.len()), 0);
        }
        out
    }
}

fn even(length: usize) -> usize {
    length.next_multiple_of(2)
}

/// Samples of any depth, packed row by row, the highest bit first.
pub fn pack(rows: &[Vec<u32>], bits: u32) -> Vec<u8> {
    let row = |row: &Vec<u32>| {
        let bits: Vec<bool> =
            row.iter().flat_map(|value| (0..bits).rev().map(move |at| value >> at & 1 == 1)).collect();
        let byte = |bits: &[bool]| {
            (0..8).fold(0, |byte, i| byte << 1 | u8::from(bits.get(i).copied().unwrap_or(false)))
        };
        bits.chunks(8).map(byte).collect::<Vec<u8>>()
    };
    rows.iter().flat_map(row).collect()
}
