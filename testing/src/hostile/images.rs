//! Image files from the edges of their formats.

pub use crate::png::{chunk, stored};
use crate::zip::{Part, deflated_zeros, zip};
use ocelli_common::random::SplitMix64;

/// What is to become of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Decoded to this width and height.
    Accepted(u32, u32),
    /// Refused; a part of the reason.
    Refused(&'static str),
}

/// A PNG (gray, 8 bits) whose top row tells the `mark`, so that different marks make different files.
pub fn png(width: u32, height: u32, mark: &[u8]) -> Vec<u8> {
    let mut rows = vec![0; (width as usize + 1) * height as usize];
    let n = mark.len().min(width as usize);
    rows[1..=n].copy_from_slice(&mark[..n]);
    png_of(width, height, [8, 0, 0], &[], &stored(&rows))
}

/// A PNG of `[bit depth, colour type, interlace]`, chunks before the image data, and a zlib stream.
pub fn png_of(width: u32, height: u32, kind: [u8; 3], chunks: &[u8], zlib: &[u8]) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [size.as_slice(), &[kind[0], kind[1], 0, 0, kind[2]]].concat();
    let end = chunk(b"IEND", b"");
    [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", &header).as_slice(), chunks, &chunk(b"IDAT", zlib), &end].concat()
}

/// A zlib stream of zeros with a checksum that only fits by chance.
pub fn zlib_zeros(matches: usize) -> Vec<u8> {
    [[0x78, 0x01].as_slice(), &deflated_zeros(matches), &[0, 0, 0, 1]].concat()
}

/// The corpus: a name, a file, what is to become of it under the limits that the product has by default.
pub fn corpus() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let cmyk = include_bytes!("../../fixtures/cmyk.jpg").to_vec();
    let animated = include_bytes!("../../fixtures/animated.gif").to_vec();
    let photo = include_bytes!("../../fixtures/progressive.jpg").to_vec();
    let sixteen = stored(&[0, 1, 2, 3, 4, 0, 5, 6, 7, 8]);
    // Adam7: a 2x2 image is its top left pixel, the one beside it, then the second row.
    let interlaced = stored(&[0, 10, 0, 20, 0, 30, 40]);
    // 30 MB of profile in 200 KB, and 60 KB of profile in front of an honest picture.
    let bomb = chunk(b"iCCP", &[b"x\0\0".as_slice(), &zlib_zeros(120_000)].concat());
    let padded = chunk(b"iCCP", &[b"x\0\0".as_slice(), &stored(&[0; 60_000])].concat());
    let one = stored(&[0, 7]);
    let row = stored(&vec![0; 2 * 65_535]);
    let archive = zip(&[Part::file("cats/1.png", &png(8, 8, &[1, 0]))]);
    vec![
        (
            "50,000 x 50,000",
            png_of(50_000, 50_000, [1, 0, 0], &[], &zlib_zeros(100)),
            Fate::Refused("too large"),
        ),
        ("2^31 - 1 a side", png_of(0x7fff_ffff, 0x7fff_ffff, [8, 6, 0], &[], &one), Fate::Refused("")),
        ("0 x 1", png_of(0, 1, [8, 0, 0], &[], &one), Fate::Refused("PNG file")),
        ("1 x 1", png_of(1, 1, [8, 0, 0], &[], &one), Fate::Accepted(1, 1)),
        ("1 x 65,535", png_of(1, 65_535, [8, 0, 0], &[], &row), Fate::Refused("too large")),
        ("16 bits", png_of(2, 2, [16, 0, 0], &[], &sixteen), Fate::Accepted(2, 2)),
        ("interlaced", png_of(2, 2, [8, 0, 1], &[], &interlaced), Fate::Accepted(2, 2)),
        ("colour profile of 60 KB", png_of(1, 1, [8, 0, 0], &padded, &one), Fate::Accepted(1, 1)),
        ("colour profile that inflates to 30 MB", png_of(1, 1, [8, 0, 0], &bomb, &one), Fate::Accepted(1, 1)),
        ("four colours", cmyk, Fate::Accepted(16, 8)),
        ("animated", animated, Fate::Accepted(16, 8)),
        ("turned by EXIF", turned(&photo), Fate::Accepted(8, 16)),
        ("a picture and an archive", [photo.as_slice(), &archive].concat(), Fate::Accepted(16, 8)),
        ("an archive", archive, Fate::Refused("a ZIP archive")),
        ("nothing", Vec::new(), Fate::Refused("empty file")),
        ("a tile of 2^30 a side", tiled_tiff(8, 8, 1 << 30), Fate::Refused("too much memory")),
        ("36 million tiles", tiled_tiff(6000, 6000, 1), Fate::Refused("strips or tiles")),
        ("600 scans", scans(&photo, 600), Fate::Refused("more than 500 scans")),
        ("text", b"no picture, whatever it is called".to_vec(), Fate::Refused("looks like text")),
        ("a script", b"<svg xmlns='x'><script>1</script></svg>".to_vec(), Fate::Refused("markup")),
    ]
}

/// The picture with an EXIF segment that turns it by a quarter.
fn turned(jpeg: &[u8]) -> Vec<u8> {
    let mut exif =
        b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0".to_vec();
    exif.extend([0; 4]);
    [&jpeg[..2], exif.as_slice(), &jpeg[2..]].concat()
}

/// A TIFF of one tile of zeros, with this size and side of its tiles.
pub fn tiled_tiff(width: u32, height: u32, side: u32) -> Vec<u8> {
    let zeros = zlib_zeros(1);
    let tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 8),
        (262, 1),
        (322, side),
        (323, side),
        (324, 134),
        (325, 1),
    ];
    let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in tags {
        file.extend([(tag as u16).to_le_bytes(), 4_u16.to_le_bytes()].concat());
        file.extend([1_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.resize(134, 0);
    [file, zeros].concat()
}

/// The progressive picture with its last scan written again and again.
fn scans(jpeg: &[u8], count: usize) -> Vec<u8> {
    let last = jpeg.windows(2).rposition(|two| two == [0xff, 0xda]).expect("a scan");
    let end = jpeg.len() - 2;
    [&jpeg[..last], &jpeg[last..end].repeat(count), &jpeg[end..]].concat()
}

/// The file cut at every hundredth of its length.
pub fn cuts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..100).map(|percent| &bytes[..bytes.len() * percent / 100])
}

/// A gray PNG of this size with 26 KB of zeros for its pixels.
pub fn empty_png(width: u32, height: u32) -> Vec<u8> {
    png_of(width, height, [8, 0, 0], &[], &zlib_zeros(100))
}

/// A PNG that declares 2.5 thousand million pixels and has a few.
pub fn huge_png() -> Vec<u8> {
    empty_png(50_000, 50_000)
}

/// A JPEG that begins a frame of 65,535 a side and has nothing in it.
pub const HUGE_JPEG: &[u8] =
    b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\0\x03\x11\0\xff\xd9";

/// A GIF of two colours whose frames are one pixel each.
pub fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    file.extend(b"\x80\0\0\0\0\0\xff\xff\xff");
    let frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    file.extend(frame.repeat(frames));
    file.push(0x3b);
    file
}

/// A BMP header of this size and four bytes of pixels.
pub fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut file = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    file.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    file.extend(b"\x01\0\x18\0");
    file.resize(58, 0);
    file
}

/// Bytes of no meaning, always the same ones for a seed (a step of splitmix64 each).
pub fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut rng = SplitMix64(seed);
    (0..count).map(|_| rng.next_u64() as u8).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::ImageFormat;

    use super::*;

    #[test]
    fn what_is_said_to_be_an_image_is_one() {
        let image = image::load_from_memory(&gif(64, 48, 20)).unwrap();
        assert_eq!((image.width(), image.height()), (64, 48));
        // Refused for their size and not because they are damaged in some other way.
        for (bytes, format) in [
            (huge_png(), ImageFormat::Png),
            (tiled_tiff(8, 8, 1 << 30), ImageFormat::Tiff),
            (bmp(3, 1), ImageFormat::Bmp),
        ] {
            let reader = image::ImageReader::with_format(Cursor::new(bytes), format);
            assert!(reader.into_dimensions().is_ok(), "{format:?}");
        }
    }
}
