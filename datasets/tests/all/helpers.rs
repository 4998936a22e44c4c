//! Small files to test with.

use image::{DynamicImage, ImageFormat, RgbImage};
use ocelli_datasets::{
    DatasetError, DecodeLimits, Image, ImageSet, LoadOptions, Pixels, Preprocessing, Source, decode,
};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::AtomicBool;

pub(crate) const LIMITS: DecodeLimits =
    DecodeLimits { max_pixels: 1_000_000, max_side: 4096, max_bytes: 1 << 20 };

/// An image file in memory.
pub(crate) fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The image of a file that must decode.
pub(crate) fn decoded(bytes: &[u8]) -> Image {
    decode(bytes, &LIMITS).unwrap()
}

/// Why a file is refused, which it must be.
pub(crate) fn reason(bytes: &[u8]) -> String {
    let text = decode(bytes, &LIMITS).expect_err("a refusal").to_string();
    assert!(!text.contains('\n') && !text.is_empty(), "{text}");
    text
}

pub(crate) fn bytes_of(image: &Image) -> &[u8] {
    match &image.pixels {
        Pixels::U8(values) => values,
        Pixels::U16(_) => panic!("expected 8 bits"),
    }
}

pub(crate) fn words_of(image: &Image) -> &[u16] {
    match &image.pixels {
        Pixels::U16(values) => values,
        Pixels::U8(_) => panic!("expected 16 bits"),
    }
}

/// Width, height and channels.
pub(crate) fn shape(image: &Image) -> (u32, u32, u8) {
    (image.width, image.height, image.channels)
}

/// A PNG of one colour that differs for every `seed`.
pub(crate) fn png(seed: u32) -> Vec<u8> {
    let [r, g, b, _] = seed.to_le_bytes();
    encode(RgbImage::from_pixel(6, 4, image::Rgb([r, g, b])), ImageFormat::Png)
}

/// Writes a file and the folders above it.
pub(crate) fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with PNGs, all different.
pub(crate) fn folder_of(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (seed, name) in (1..).zip(names) {
        put(dir.path(), name, &png(seed));
    }
    dir
}

pub(crate) fn load(source: &Source, pre: &Preprocessing, threads: usize) -> Result<ImageSet, DatasetError> {
    load_part(source, None, pre, threads)
}

pub(crate) fn load_part(
    source: &Source,
    indices: Option<&[usize]>,
    pre: &Preprocessing,
    threads: usize,
) -> Result<ImageSet, DatasetError> {
    let stop = AtomicBool::new(false);
    let options = LoadOptions {
        threads,
        limits: LIMITS,
        max_bad: 0.05,
        memory: 1 << 30,
        cache: None,
        progress: &|_, _| (),
        stop: &stop,
    };
    ImageSet::load(source, indices, pre, &options)
}

/// The text of an error, which must be one line that starts in lower case or with a path.
pub(crate) fn message<T>(result: Result<T, DatasetError>) -> String {
    let text = result.err().expect("an error").to_string();
    assert!(!text.contains('\n') && !text.is_empty(), "{text}");
    text
}

/// Names, class names and declared splits, for comparing.
pub(crate) fn summary(source: &Source) -> Vec<(String, String, String)> {
    let item = |i: &ocelli_datasets::Item| {
        let split = i.split.map_or_else(|| "-".to_owned(), |s| s.to_string());
        (i.name.clone(), source.classes()[i.class() as usize].clone(), split)
    };
    source.items().iter().map(item).collect()
}
