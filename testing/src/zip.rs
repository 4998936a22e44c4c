//! ZIP archives byte by byte (APPNOTE 6.3.10): honest ones, and any lie that two headers can tell.

/// What a header says; nothing holds it to the truth.
#[derive(Clone)]
pub struct Header {
    /// As bytes, in whatever code page.
    pub name: Vec<u8>,
    /// General purpose bits.
    pub flags: u16,
    /// 0: stored, 8: deflated.
    pub method: u16,
    /// Checksum of the content.
    pub crc: u32,
    /// Packed bytes.
    pub packed: u32,
    /// Bytes of the content.
    pub size: u32,
    /// Extra fields.
    pub extra: Vec<u8>,
    /// File type and permissions of Unix; only the directory has them.
    pub mode: u32,
}

/// An entry: two headers and what lies between.
#[derive(Clone)]
pub struct Part {
    /// In front of the data.
    pub local: Header,
    /// In the directory.
    pub central: Header,
    /// What lies between them.
    pub data: Vec<u8>,
    /// Where the directory says that it begins, if that is a lie.
    pub offset: Option<u32>,
}

impl Part {
    /// An honest file, not packed.
    pub fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Part {
        let header = Header {
            name: name.as_ref().to_vec(),
            flags: 0,
            method: 0,
            crc: crc32(content),
            packed: content.len() as u32,
            size: content.len() as u32,
            extra: Vec::new(),
            mode: 0o100_644,
        };
        Part { local: header.clone(), central: header, data: content.to_vec(), offset: None }
    }

    /// Changes both headers alike.
    pub fn both(&mut self, change: impl Fn(&mut Header)) {
        change(&mut self.local);
        change(&mut self.central);
    }

    /// The same with both headers changed.
    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut Header)) -> Part {
        self.both(change);
        self
    }
}

/// The archive of some entries.
pub fn zip(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    for part in parts {
        offsets.push(part.offset.unwrap_or(bytes.len() as u32));
        bytes.extend(local(part));
    }
    let directory = bytes.len();
    for (part, offset) in parts.iter().zip(offsets) {
        bytes.extend(central(&part.central, offset));
    }
    let length = bytes.len() - directory;
    bytes.extend(end(parts.len() as u16, length as u32, directory as u32));
    bytes
}

/// A local header and its data.
pub fn local(part: &Part) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04\x14\0".to_vec();
    bytes.extend(common(&part.local));
    bytes.extend(&part.local.name);
    bytes.extend(&part.local.extra);
    bytes.extend(&part.data);
    bytes
}

/// A record of the directory.
pub fn central(header: &Header, offset: u32) -> Vec<u8> {
    let mut bytes = b"PK\x01\x02\x14\x03\x14\0".to_vec();
    bytes.extend(common(header));
    // No comment, first disk, no internal attributes.
    bytes.extend([0; 6]);
    bytes.extend((header.mode << 16).to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(&header.name);
    bytes.extend(&header.extra);
    bytes
}

/// Flags to lengths, which both headers share.
fn common(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(header.flags.to_le_bytes());
    bytes.extend(header.method.to_le_bytes());
    // Time and date: 1 January 1980.
    bytes.extend([0, 0, 0x21, 0]);
    for number in [header.crc, header.packed, header.size] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend((header.name.len() as u16).to_le_bytes());
    bytes.extend((header.extra.len() as u16).to_le_bytes());
    bytes
}

/// A plain end record.
pub fn end(entries: u16, length: u32, offset: u32) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
    bytes.extend(entries.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// An archive whose numbers stand in a ZIP64 end record; `change` gets entries, length and offset.
pub fn zip64(parts: &[Part], change: impl Fn(&mut [u64; 3])) -> Vec<u8> {
    let mut bytes = zip(parts);
    let tail = bytes.split_off(bytes.len() - 22);
    let at = |from: usize| {
        u64::from(u32::from_le_bytes(tail[from..from + 4].try_into().expect("four bytes were cut out")))
    };
    let mut numbers = [parts.len() as u64, at(12), at(16)];
    change(&mut numbers);
    let begin = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44u64.to_le_bytes());
    bytes.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [numbers[0], numbers[0], numbers[1], numbers[2]] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(begin.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(end(u16::MAX, u32::MAX, u32::MAX));
    bytes
}

/// An archive of files that are not packed. Names may be of any bytes.
pub fn stored<N: AsRef<[u8]>>(files: &[(N, Vec<u8>)]) -> Vec<u8> {
    let parts: Vec<Part> = files.iter().map(|(name, bytes)| Part::file(name, bytes)).collect();
    zip(&parts)
}

/// The Info-ZIP Unicode Path field (0x7075, APPNOTE 4.6.9) of a name.
pub fn unicode_path(raw: &[u8], text: &str) -> Vec<u8> {
    let body = [&[1], crc32(raw).to_le_bytes().as_slice(), text.as_bytes()].concat();
    [&0x7075u16.to_le_bytes()[..], &(body.len() as u16).to_le_bytes(), &body].concat()
}

/// CRC-32 of ZIP and PNG (ISO 3309), bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

/// Zeros in deflate's fixed code (RFC 1951, 3.2.6): one literal, then matches of 258 at distance 1, at 13 bits each.
/// This is as dense as the fixed code gets: 158 to 1.
pub fn deflated_zeros(matches: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::with_capacity(20 + 13 * matches);
    let mut code = |value: u32, length: u32| bits.extend((0..length).rev().map(|at| value >> at & 1 == 1));
    // Last block, fixed codes; numbers come lowest bit first, codes highest bit first.
    code(0b110, 3);
    code(0b0011_0000, 8);
    for _ in 0..matches {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |value, &bit| value << 1 | u8::from(bit))).collect()
}

/// How many zeros [`deflated_zeros`] stands for.
pub fn zeros(matches: usize) -> usize {
    1 + 258 * matches
}
