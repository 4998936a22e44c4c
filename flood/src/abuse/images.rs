//! Image files from the edges of their formats, one by one to `POST /predict`.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat};

use super::run::{Must, Run};
use crate::error::FloodError;
use ocelli_testing::hostile::images::{
    HUGE_JPEG, bmp, chunk, empty_png, gif, huge_png, noise, tiled_tiff, zlib_zeros,
};
use ocelli_testing::zip::{Part, zip};

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
        ("PNG of 2^31 - 1 a side", Must::Refused, empty_png(i32::MAX as u32, i32::MAX as u32)),
        ("PNG of 2^32 - 1 a side", Must::Refused, empty_png(u32::MAX, u32::MAX)),
        ("PNG of 0 x 1", Must::Refused, empty_png(0, 1)),
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
        ("TIFF whose tile has 2^30 a side", Must::Refused, tiled_tiff(8, 8, 1 << 30)),
        ("TIFF of 36 million tiles", Must::Refused, tiled_tiff(6000, 6000, 1)),
        ("BMP of 2^31 - 1 a side", Must::Refused, bmp(i32::MAX, i32::MAX)),
        ("BMP of -2^31 rows", Must::Refused, bmp(1, i32::MIN)),
        ("JPEG of 65,535 x 65,535 without data", Must::Refused, HUGE_JPEG.to_vec()),
        ("text", Must::Refused, b"no picture, whatever it is called".to_vec()),
        ("SVG with a script", Must::Refused, b"<svg xmlns='x'><script>1</script></svg>".to_vec()),
        ("1 MiB of noise", Must::Refused, noise(1 << 20, super::run::SEED)),
        ("1 MiB of zeros", Must::Refused, vec![0; 1 << 20]),
        ("nothing", Must::Refused, Vec::new()),
    ]
}

/// An honest gray PNG.
fn plain(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = DynamicImage::from(GrayImage::new(width, height));
    image.write_to(&mut bytes, ImageFormat::Png).expect("a gray image in memory can be written");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_images_have_their_size() {
        for (width, height) in [(1, 1), (1, 65_535), (16_384, 1)] {
            let image = image::load_from_memory(&plain(width, height)).unwrap();
            assert_eq!((image.width(), image.height()), (width, height));
        }
    }
}
