//! Made-up photos: circles, squares and triangles in random colours at random places.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
pub(crate) use ocelli_common::random::SplitMix64 as Rng;

use crate::support::{Run, command, finish};

/// The classes, in the order in which a model numbers them.
pub(crate) const CLASSES: [&str; 3] = ["circle", "square", "triangle"];
/// Images of each class.
pub(crate) const PER_CLASS: usize = 200;
/// How every test trains on them.
pub(crate) const RECIPE: &str = "--size 32 --fit pad --epochs 20 --batch 32 --test-split 0.2 --seed 7";

/// A data set of shapes and a model trained on it, made once for all tests that only read them.
pub(crate) struct Trained {
    pub(crate) folder: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) run: Run,
}

pub(crate) static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trained");
    let _ = fs::remove_dir_all(&folder);
    let data = folder.join("shapes");
    write_data_set(&data, PER_CLASS);
    let run = finish(command(&folder, &format!("train shapes {RECIPE}")), &[]);
    Trained { run_dir: folder.join("runs/shapes-001"), data, folder, run }
});

/// A photo of a shape: light on dark or dark on light, noisy, of 40 to 72 pixels a side.
pub(crate) fn photo(class: &str, rng: &mut Rng) -> RgbImage {
    let side = |rng: &mut Rng| rng.between(40.0, 72.0) as u32;
    let (width, height) = (side(rng), side(rng));
    let radius = width.min(height) as f32 * rng.between(0.28, 0.4);
    let x = rng.between(radius, width as f32 - radius);
    let y = rng.between(radius, height as f32 - radius);
    let mut colours = [[0.0; 3]; 2];
    for channel in 0..3 {
        colours[0][channel] = rng.between(10.0, 90.0);
        colours[1][channel] = rng.between(160.0, 245.0);
    }
    if rng.next_u64().is_multiple_of(2) {
        colours.swap(0, 1);
    }
    RgbImage::from_fn(width, height, |px, py| {
        let (dx, dy) = (px as f32 - x, py as f32 - y);
        let colour = colours[usize::from(inside(class, dx / radius, dy / radius))];
        let noise = rng.between(-8.0, 8.0);
        Rgb(colour.map(|c: f32| (c + noise) as u8))
    })
}

/// Whether a point lies in the shape of radius 1 around the origin, `y` down.
fn inside(class: &str, x: f32, y: f32) -> bool {
    match class {
        "circle" => x * x + y * y <= 0.8,
        "square" => x.abs().max(y.abs()) <= 0.8,
        _ => (-0.9..=0.8).contains(&y) && x.abs() <= (y + 0.9) * 0.55,
    }
}

pub(crate) fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn png(image: &RgbImage) -> Vec<u8> {
    encode(&image.clone().into(), ImageFormat::Png)
}

/// The image with 16 bits a channel, of the same brightness.
pub(crate) fn png16(image: &RgbImage) -> Vec<u8> {
    encode(&DynamicImage::from(image.clone()).into_rgb16().into(), ImageFormat::Png)
}

/// The image as a camera held sideways stores it: turned in the file, with a note to turn it back (orientation 6).
pub(crate) fn jpeg_rotated(image: &RgbImage) -> Vec<u8> {
    let turned = DynamicImage::from(image.clone()).rotate270();
    let jpeg = encode(&turned, ImageFormat::Jpeg);
    // APP1, its length, Exif, then a TIFF of one entry: tag 0x0112, type SHORT, count 1, value 6.
    let mut exif =
        b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut bytes = jpeg[..2].to_vec();
    bytes.append(&mut exif);
    bytes.extend(&jpeg[2..]);
    bytes
}

/// Class folders with JPEG and PNG files of mixed sizes, one turned by EXIF, one of 16 bits, one broken.
pub(crate) fn write_data_set(root: &Path, per_class: usize) {
    let mut rng = Rng(1);
    for class in CLASSES {
        let folder = root.join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..per_class {
            let image = photo(class, &mut rng);
            let (name, bytes) = match i {
                3 => (format!("{i:03}-rotated.jpg"), jpeg_rotated(&image)),
                4 => (format!("{i:03}-deep.png"), png16(&image)),
                _ if i % 2 == 0 => (format!("{i:03}.jpg"), encode(&image.into(), ImageFormat::Jpeg)),
                _ => (format!("{i:03}.png"), png(&image)),
            };
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let whole = png(&photo("circle", &mut rng));
    fs::write(root.join("circle/broken.png"), &whole[..whole.len() / 2]).unwrap();
}
