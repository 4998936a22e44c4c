//! Image files from the edges of their formats, one by one to `POST /predict`.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat};

use super::run::{Must, Run};
use crate::error::FloodError;
use ocelli_testing::zip::{Part, crc32, deflated_zeros, zip};

const THEME: &str = "images";

pub(super) fn play(run: &mut Run) -> Result<(), FloodError> {
    let Some(good) = run.image.clone() else {
        return run.skip(THEME, "all images", "POST /predict does not answer a plain image");
    };
    let wire = run.wire.clone();
    for (name, must, bytes) in corpus(&good) {
        run.bytes(THEME, name, must, &wire.post("/predict", "image/png", &bytes))?;
    }
    for percent in (0..100).step_by(10) {
        let cut = wire.post("/predict", "image/png", &good[..good.len() * percent / 100]);
        run.bytes(THEME, format!("PNG cut at {percent} %"), Must::Refused, &cut)?;
    }
    Ok(())
}

/// Names, what must come of them, and the files.
fn corpus(good: &[u8]) -> Vec<(&'static str, Must, Vec<u8>)> {
    let archive = zip(&[Part::file("cats/1.png", good)]);
    let one = plain(1, 1);
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = good.to_vec();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    let profile = [b"x\0\0".as_slice(), &zlib_zeros(120_000)].concat();
    let (start, rest) = one.split_at(33);
    let before_pixels = |chunks: &[u8]| [start, chunks, rest].concat();
    let frames = |n: u32| chunk(b"acTL", &[n.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    vec![
        ("PNG of 50,000 x 50,000 in few bytes", Must::Refused, huge_png()),
        ("PNG of 2^31 - 1 a side", Must::Refused, png(i32::MAX as u32, i32::MAX as u32)),
        ("PNG of 2^32 - 1 a side", Must::Refused, png(u32::MAX, u32::MAX)),
        ("PNG of 0 x 1", Must::Refused, png(0, 1)),
        ("PNG of 1 x 1", Must::Status(200), one.clone()),
        ("PNG of 1 x 65,535", Must::Answered, plain(1, 65_535)),
        ("PNG of 16,384 x 1", Must::Answered, plain(16_384, 1)),
        ("PNG with a wrong first byte", Must::Refused, changed(0, b"\x88")),
        ("PNG with the first bytes of a JPEG", Must::Refused, changed(0, b"\xff\xd8\xff\xe0")),
        ("PNG with a wrong checksum in its header", Must::Refused, changed(29, b"\0\0\0\0")),
        ("PNG with a chunk of 4 GiB", Must::Refused, changed(33, &[0xff; 4])),
        ("PNG whose profile inflates to 30 MB", Must::Answered, before_pixels(&chunk(b"iCCP", &profile))),
        ("PNG that says to have 2^31 frames", Must::Answered, before_pixels(&frames(1 << 31))),
        ("PNG and ZIP in one", Must::Answered, [good, &archive].concat()),
        ("PNG and script in one", Must::Answered, [good, b"<script>alert(1)</script>"].concat()),
        ("ZIP", Must::Refused, archive),
        ("GIF of 20,000 frames", Must::Answered, gif(64, 64, 20_000)),
        ("GIF of 65,535 x 65,535 and 1,000 frames", Must::Refused, gif(65_535, 65_535, 1_000)),
        ("GIF without a frame", Must::Refused, gif(64, 64, 0)),
        ("TIFF whose tile has 2^30 a side", Must::Refused, tiff(8, 8, 1 << 30)),
        ("TIFF of 36 million tiles", Must::Refused, tiff(6000, 6000, 1)),
        ("BMP of 2^31 - 1 a side", Must::Refused, bmp(i32::MAX, i32::MAX)),
        ("BMP of -2^31 rows", Must::Refused, bmp(1, i32::MIN)),
        ("JPEG of 65,535 x 65,535 without data", Must::Refused, JPEG.to_vec()),
        ("text", Must::Refused, b"no picture, whatever it is called".to_vec()),
        ("SVG with a script", Must::Refused, b"<svg xmlns='x'><script>1</script></svg>".to_vec()),
        ("1 MiB of noise", Must::Refused, noise(1 << 20)),
        ("1 MiB of zeros", Must::Refused, vec![0; 1 << 20]),
        ("nothing", Must::Refused, Vec::new()),
    ]
}

/// A JPEG that begins a frame of 65,535 a side and has nothing in it.
const JPEG: &[u8] = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\0\x03\x11\0\xff\xd9";

/// A PNG that declares 2.5 thousand million pixels and has a few.
pub(super) fn huge_png() -> Vec<u8> {
    png(50_000, 50_000)
}

/// An honest gray PNG.
fn plain(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = DynamicImage::from(GrayImage::new(width, height));
    image.write_to(&mut bytes, ImageFormat::Png).expect("a gray image in memory can be written");
    bytes.into_inner()
}

/// A gray PNG of this size with 26 KB of zeros for its pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [size.as_slice(), &[8, 0, 0, 0, 0]].concat();
    let parts = [chunk(b"IHDR", &header), chunk(b"IDAT", &zlib_zeros(100)), chunk(b"IEND", b"")];
    [b"\x89PNG\r\n\x1a\n".as_slice(), &parts.concat()].concat()
}

/// A chunk of PNG: length, kind, content, checksum.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [kind.as_slice(), body].concat();
    let length = body.len() as u32;
    [length.to_be_bytes().as_slice(), &named, &crc32(&named).to_be_bytes()].concat()
}

/// A zlib stream of zeros with a checksum that only fits by chance.
fn zlib_zeros(matches: usize) -> Vec<u8> {
    [[0x78, 0x01].as_slice(), &deflated_zeros(matches), &[0, 0, 0, 1]].concat()
}

/// A GIF of two colours whose frames are one pixel each.
fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    file.extend(b"\x80\0\0\0\0\0\xff\xff\xff");
    let frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    file.extend(frame.repeat(frames));
    file.push(0x3b);
    file
}

/// A TIFF of one tile, with this size and side of its tiles.
fn tiff(width: u32, height: u32, side: u32) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in [
        (256_u16, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (322, side),
        (323, side),
        (324, 134),
        (325, 1),
    ] {
        file.extend([tag.to_le_bytes(), 4_u16.to_le_bytes()].concat());
        file.extend([1_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.resize(134, 0);
    file.push(7);
    file
}

/// A BMP header of this size and four bytes of pixels.
fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut file = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    file.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    file.extend(b"\x01\0\x18\0");
    file.resize(58, 0);
    file
}

/// Bytes of no meaning, always the same ones.
fn noise(count: usize) -> Vec<u8> {
    let mut rng = ocelli_engine::rng::Rng::new(super::run::SEED, 0);
    (0..count).map(|_| (256.0 * rng.uniform()) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_an_image_is_one() {
        for (width, height) in [(1, 1), (1, 65_535), (16_384, 1)] {
            let image = image::load_from_memory(&plain(width, height)).unwrap();
            assert_eq!((image.width(), image.height()), (width, height));
        }
        let image = image::load_from_memory(&gif(64, 48, 20)).unwrap();
        assert_eq!((image.width(), image.height()), (64, 48));
        // Refused for their size and not because they are damaged in some other way.
        for (bytes, format) in [
            (huge_png(), ImageFormat::Png),
            (tiff(8, 8, 1 << 30), ImageFormat::Tiff),
            (bmp(3, 1), ImageFormat::Bmp),
        ] {
            let reader = image::ImageReader::with_format(Cursor::new(bytes), format);
            assert!(reader.into_dimensions().is_ok(), "{format:?}");
        }
    }
}
