//! The images that are sent: read from disk, or made up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use bytes::Bytes;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use ocelli_common::text::printable;
use ocelli_datasets::images_in;
use ocelli_engine::rng::Rng;

use crate::error::FloodError;
use crate::settings::Format;

/// Most bytes of images in memory; bodies take about as much again.
const MAX_BYTES: u64 = 256 << 20;
/// Most image files.
const MAX_FILES: usize = 10_000;
/// Made-up images, where they are small: enough that no cache of a service could hold their answers unnoticed.
const MADE: usize = 100;
/// Pixels of all made-up images together; of large ones there are fewer, at least [`FEWEST`].
const MADE_PIXELS: usize = 16 << 20;
const FEWEST: usize = 4;
/// Cells a side of the random field that a made-up image is.
const CELLS: usize = 6;

/// Encoded images.
pub(crate) struct Images {
    files: Vec<Picture>,
    about: String,
    distinct: usize,
    /// About what was left out of a folder.
    pub(crate) warnings: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// One encoded image.
pub(crate) struct Picture {
    /// What its part of a form is called.
    pub(crate) file_name: String,
    /// Media type by its first bytes.
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Bytes,
    /// Equal for equal bytes.
    pub(crate) number: usize,
}

impl Images {
    /// Reads an image file, or all that are below a folder; what is left out of a folder comes back as warnings and notes.
    /// What the files hold is the service's to judge.
    pub(crate) fn read(path: &Path) -> Result<Images, FloodError> {
        let failed = |path: &Path, source| FloodError::Io { path: path.to_owned(), source };
        let too_many = |problem| FloodError::TooManyImages { path: path.to_owned(), problem };
        let (mut warnings, mut notes) = (Vec::new(), Vec::new());
        let files = if path.is_dir() {
            let found = images_in(path, true).map_err(FloodError::Dataset)?;
            (warnings, notes) = (found.warnings, found.notes);
            found.images
        } else {
            vec![path.to_owned()]
        };
        if files.is_empty() {
            return Err(FloodError::NoImages { path: path.to_owned() });
        }
        if files.len() > MAX_FILES {
            return Err(too_many(format!("{} images are more than {MAX_FILES}", files.len())));
        }
        let (mut pictures, mut total) = (Vec::with_capacity(files.len()), 0);
        for file in &files {
            let mut bytes = Vec::new();
            let read = File::open(file)
                .and_then(|opened| opened.take(MAX_BYTES - total + 1).read_to_end(&mut bytes));
            total += read.map_err(|error| failed(file, error))? as u64;
            if total > MAX_BYTES {
                return Err(too_many(format!("more than {} MiB of images", MAX_BYTES >> 20)));
            }
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            pictures.push((name, bytes));
        }
        let about = format!("from {}", printable(&path.display().to_string()));
        Ok(Images { warnings, notes, ..Images::new(pictures, about) })
    }

    /// Makes images up: smooth random fields with some noise, which compress about as well as photos.
    pub(crate) fn make(
        (width, height, channels): (u32, u32, u8),
        format: Format,
        seed: u64,
    ) -> Result<Images, FloodError> {
        let pixels = width as usize * height as usize;
        let count = (MADE_PIXELS / pixels).clamp(FEWEST, MADE);
        let (format, name) = match format {
            Format::Png => (ImageFormat::Png, "png"),
            Format::Jpeg => (ImageFormat::Jpeg, "jpeg"),
        };
        let made = (0..count).map(|i| {
            let image = field(width, height, channels, &mut Rng::new(seed, i as u64));
            let mut bytes = Vec::new();
            let what = || format!("{name} of {width}x{height}");
            let written = image.write_to(&mut Cursor::new(&mut bytes), format);
            written.map_err(|source| FloodError::Encode { what: what(), source })?;
            Ok((format!("{i}.{name}"), bytes))
        });
        let made = made.collect::<Result<Vec<_>, FloodError>>()?;
        Ok(Images::new(made, format!("made up, {width}x{height}x{channels} {name}")))
    }

    fn new(pictures: Vec<(String, Vec<u8>)>, about: String) -> Images {
        let mut numbers = HashMap::new();
        let picture = |(file_name, bytes): (String, Vec<u8>)| {
            let (next, bytes) = (numbers.len(), Bytes::from(bytes));
            let number = *numbers.entry(bytes.clone()).or_insert(next);
            Picture { file_name, media_type: media_type(&bytes), bytes, number }
        };
        let files = pictures.into_iter().map(picture).collect();
        let (distinct, warnings, notes) = (numbers.len(), Vec::new(), Vec::new());
        Images { files, about, distinct, warnings, notes }
    }

    pub(crate) fn files(&self) -> &[Picture] {
        &self.files
    }

    /// Where they come from.
    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    /// Images with different bytes.
    pub(crate) fn distinct(&self) -> usize {
        self.distinct
    }
}

/// What the first bytes promise.
fn media_type(bytes: &[u8]) -> &'static str {
    image::guess_format(bytes).map_or("application/octet-stream", |format| format.to_mime_type())
}

/// A random field: values at the corners of a few cells, blended between them, with noise of a camera's size.
fn field(width: u32, height: u32, channels: u8, rng: &mut Rng) -> DynamicImage {
    let channels = usize::from(channels);
    let side = CELLS + 1;
    let corners: Vec<f32> = (0..side * side * channels).map(|_| 255.0 * rng.uniform()).collect();
    let mut pixels = Vec::with_capacity((width * height) as usize * channels);
    for y in 0..height {
        let v = y as f32 / height as f32 * CELLS as f32;
        for x in 0..width {
            let u = x as f32 / width as f32 * CELLS as f32;
            let (row, column) = (v as usize, u as usize);
            let (down, right) = (v.fract(), u.fract());
            for channel in 0..channels {
                let at = |row: usize, column: usize| corners[(row * side + column) * channels + channel];
                let blend = |row| at(row, column) * (1.0 - right) + at(row, column + 1) * right;
                let value = blend(row) * (1.0 - down) + blend(row + 1) * down;
                pixels.push((value + 4.0 * (rng.uniform() - 0.5)) as u8);
            }
        }
    }
    const FITS: &str = "as many values as pixels and channels were made";
    match channels {
        1 => GrayImage::from_raw(width, height, pixels).expect(FITS).into(),
        _ => RgbImage::from_raw(width, height, pixels).expect(FITS).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_images_are_distinct_repeatable_and_of_their_size() {
        for (size, format) in
            [((28, 28, 1), Format::Png), ((40, 30, 3), Format::Jpeg), ((1, 1, 3), Format::Png)]
        {
            let make = |seed| Images::make(size, format, seed).unwrap_or_else(|e| panic!("{e:?}"));
            let (one, again, other) = (make(1), make(1), make(2));
            assert_eq!((one.files.len(), one.distinct), (MADE, MADE), "{size:?}");
            let bytes = |images: &Images| images.files.iter().map(|p| p.bytes.clone()).collect::<Vec<_>>();
            assert_eq!(bytes(&one), bytes(&again));
            assert_ne!(bytes(&one), bytes(&other));
            let image = image::load_from_memory(&one.files[7].bytes).unwrap();
            let channels = image.color().channel_count();
            assert_eq!((image.width(), image.height(), channels), size);
            assert!(one.files[7].media_type.starts_with("image/"));
        }
        let large = Images::make((2048, 2048, 1), Format::Jpeg, 1).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(large.files.len(), FEWEST);
    }

    #[test]
    fn equal_files_share_a_number() {
        let files = [b"a", b"b", b"a"].map(|bytes| (String::new(), bytes.to_vec()));
        let images = Images::new(files.to_vec(), String::new());
        let numbers: Vec<usize> = images.files.iter().map(|picture| picture.number).collect();
        assert_eq!((numbers, images.distinct), (vec![0, 1, 0], 2));
    }
}
