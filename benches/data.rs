//! Reading data: opening an archive, and decoding image files, one thread.
//!
//! Images are made up; `OCELLI_BENCH_DATA=photos.zip cargo bench --bench data` measures a data set of your own as well. Each
//! image is verified before it is timed.

mod support;

use std::env;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;

use criterion::{Criterion, Throughput};
use image::ImageFormat;
use ocelli_datasets::{DecodeLimits, Source, decode};
use ocelli_testing::{encode, picture};
use zip::write::SimpleFileOptions;

/// Entries of the archive that is opened; one where nothing is measured.
const ENTRIES: u32 = 20_000;
/// Images of a data set of one's own that are decoded in a round.
const IMAGES: usize = 1000;

fn main() {
    let mut c = support::criterion();
    decoding(&mut c);
    opening(&mut c);
    if let Some(path) = env::var_os("OCELLI_BENCH_DATA") {
        own_data(&mut c, Path::new(&path));
    }
    c.final_summary();
}

fn decoding(c: &mut Criterion) {
    let limits = DecodeLimits::default();
    let mut group = c.benchmark_group("decode");
    for (name, format) in [
        ("jpeg", ImageFormat::Jpeg),
        ("png", ImageFormat::Png),
        ("webp", ImageFormat::WebP),
        ("bmp", ImageFormat::Bmp),
        ("gif", ImageFormat::Gif),
        ("tiff", ImageFormat::Tiff),
    ] {
        for (width, height) in [(32, 32), (640, 480)] {
            let file = encode(picture(1, width, height), format);
            let image = decode(&file, &limits).expect("the image is sound");
            assert_eq!((image.width, image.height, image.channels), (width, height, 3), "{name}");
            group.throughput(Throughput::Elements(u64::from(width * height)));
            group.bench_function(format!("{name}/{width}x{height}"), |b| {
                b.iter(|| decode(black_box(&file), &limits).expect("it was sound"));
            });
        }
    }
    group.finish();
}

fn opening(c: &mut Criterion) {
    let entries = if support::is_measuring() { ENTRIES } else { 4 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("photos.zip");
    let mut writer = zip::ZipWriter::new(std::fs::File::create(&path).expect("a file in it"));
    let png = encode(picture(1, 2, 2), ImageFormat::Png);
    for i in 0..entries {
        let name = format!("train/class{}/{i}.png", i % 10);
        writer.start_file(name, SimpleFileOptions::default()).expect("a sound name");
        writer.write_all(&png).expect("room for small images");
    }
    writer.finish().expect("room for the directory");
    let source = Source::open(&path).expect("the archive is sound");
    assert_eq!(source.items().len(), entries as usize);
    let mut group = c.benchmark_group("open");
    group.throughput(Throughput::Elements(u64::from(entries)));
    group.bench_function(format!("zip/{entries}"), |b| b.iter(|| Source::open(&path).expect("it was sound")));
    group.finish();
}

fn own_data(c: &mut Criterion, path: &Path) {
    let limits = DecodeLimits::default();
    let source = Source::open(path).unwrap_or_else(|error| panic!("{error}"));
    let n = source.items().len();
    let files: Vec<Vec<u8>> = (0..n.min(IMAGES))
        .filter_map(|i| source.encoded(i * n / n.min(IMAGES), &limits).expect("the file can be read"))
        .filter(|file| decode(file, &limits).is_ok())
        .collect();
    let mut group = c.benchmark_group("own");
    group.throughput(Throughput::Elements(n as u64));
    group.bench_function("open", |b| b.iter(|| Source::open(path).expect("it was sound")));
    group.throughput(Throughput::Elements(files.len() as u64));
    group.bench_function("decode", |b| {
        b.iter(|| {
            files.iter().for_each(|file| drop(decode(black_box(file), &limits).expect("it was sound")))
        });
    });
    group.finish();
}
