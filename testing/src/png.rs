//! PNG files chunk by chunk (ISO 15948).

use crate::zip::crc32;

/// A chunk with its length and its checksum.
pub fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [kind.as_slice(), body].concat();
    [&(body.len() as u32).to_be_bytes(), named.as_slice(), &crc32(&named).to_be_bytes()].concat()
}

/// A PNG of `[bit depth, colour type, interlace]`, chunks in front of its pixels, and rows with their filter bytes.
pub fn png(width: u32, height: u32, kind: [u8; 3], chunks: &[u8], rows: &[u8]) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [size.as_slice(), &[kind[0], kind[1], 0, 0, kind[2]]].concat();
    let (pixels, end) = (chunk(b"IDAT", &stored(rows)), chunk(b"IEND", b""));
    [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", &header).as_slice(), chunks, &pixels, &end].concat()
}

/// The file with chunks in front of its pixels, or behind them.
pub fn with_chunks(png: &[u8], chunks: &[u8], behind: bool) -> Vec<u8> {
    let at = if behind { png.len() - 12 } else { places(png).find(|(kind, _)| kind == b"IDAT").unwrap().1 };
    [&png[..at], chunks, &png[at..]].concat()
}

/// The file with its pixels in chunks of `size` bytes.
pub fn with_small_chunks(png: &[u8], size: usize) -> Vec<u8> {
    let mut out = png[..8].to_vec();
    for (kind, at) in places(png) {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let body = &png[at + 8..at + 8 + length];
        if &kind == b"IDAT" {
            body.chunks(size).for_each(|part| out.extend(chunk(b"IDAT", part)));
        } else {
            out.extend(chunk(&kind, body));
        }
    }
    out
}

/// Kind and place of every chunk.
pub fn places(png: &[u8]) -> impl Iterator<Item = ([u8; 4], usize)> {
    let mut at = 8;
    std::iter::from_fn(move || {
        let head = png.get(at..at + 8)?;
        let here = at;
        at += 12 + u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        Some((head[4..].try_into().unwrap(), here))
    })
}

/// A profile as ImageMagick writes it: a name, a length, hexadecimal digits in lines.
pub fn raw_profile(name: &str, body: &[u8]) -> Vec<u8> {
    let lines =
        body.chunks(36).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n");
    format!("\n{name}\n{:8}\n{}", body.len(), lines.collect::<String>()).into_bytes()
}

/// A zlib stream (RFC 1950) of blocks that are not packed.
pub fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (a, b) = bytes.iter().fold((1, 0), |(a, b): (u32, u32), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (a + b) % 65_521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}
