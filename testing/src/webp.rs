//! WebP containers (RFC 9649).

/// A chunk, padded to an even length.
pub fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let padding = &[0][..body.len() % 2];
    [kind.as_slice(), &(body.len() as u32).to_le_bytes(), body, padding].concat()
}

/// A simple file made an extended one of a size and with flags, with chunks behind its pixels.
pub fn extended(simple: &[u8], (width, height): (u32, u32), flags: u8, chunks: &[u8]) -> Vec<u8> {
    let [w, h] = [width - 1, height - 1].map(u32::to_le_bytes);
    let head = [&[flags, 0, 0, 0], &w[..3], &h[..3]].concat();
    let body = [b"WEBP", chunk(b"VP8X", &head).as_slice(), &simple[12..], chunks].concat();
    [b"RIFF", (body.len() as u32).to_le_bytes().as_slice(), &body].concat()
}
