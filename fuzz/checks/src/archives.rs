//! ZIP archives: the user's own, read with tolerance, and those of strangers.

use ocelli_datasets::{DecodeLimits, Source, UploadLimits, UploadZip};
use ocelli_testing::zip::{Part, deflated_zeros, stored, unicode_path, zeros, zip, zip64};
use ocelli_testing::{encode, picture};

use crate::says_something;

pub(crate) const LIMITS: DecodeLimits =
    DecodeLimits { max_pixels: 1 << 18, max_side: 4096, max_bytes: 1 << 20 };

/// Images that are read from each archive.
const READ: usize = 8;

pub(crate) fn folder(data: &[u8]) {
    crate::disk::with_files(&[("images.zip", data)], |folder| {
        let source = match Source::open_any(&folder.join("images.zip")) {
            Ok(source) => source,
            Err(error) => return says_something(&error),
        };
        read_items(&source);
    });
}

/// Reads some items of a source that opened, and checks what it says of itself.
pub(crate) fn read_items(source: &Source) {
    assert!(!source.items().is_empty(), "a source without images");
    for (index, item) in source.items().iter().enumerate() {
        let there = |label: &u32| (*label as usize) < source.classes().len();
        assert!(item.labels.as_slice().iter().all(there), "image {index} has a class that is not there");
    }
    for index in 0..source.items().len().min(READ) {
        if let Err(error) = source.image(index, &LIMITS) {
            says_something(&error);
        }
    }
}

pub(crate) fn upload(data: &[u8]) {
    let limits = UploadLimits {
        max_entries: 1000,
        max_entry_bytes: 1 << 20,
        max_total_bytes: 4 << 20,
        image: LIMITS,
        ..UploadLimits::default()
    };
    crate::disk::with_files(&[("upload", data)], |folder| {
        let archive = match UploadZip::open(&folder.join("upload"), &limits) {
            Ok(archive) => archive,
            Err(error) => return says_something(&error),
        };
        let mut bytes = 0;
        for (index, item) in archive.items().iter().enumerate() {
            assert!(
                (item.class() as usize) < archive.classes().len(),
                "image {index} has a class that is not there"
            );
            match archive.bytes(index) {
                Ok(content) => {
                    assert!(content.len() as u64 <= limits.max_entry_bytes, "an image beyond the limit");
                    bytes += content.len() as u64;
                }
                Err(error) => says_something(&error),
            }
        }
        assert!(bytes <= limits.max_total_bytes, "more bytes than the limit of the whole archive");
    });
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let png = |seed| encode(picture(seed, 8, 8), image::ImageFormat::Png);
    let names = ["cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png"];
    let files: Vec<(&str, Vec<u8>)> = (0..).zip(names).map(|(seed, name)| (name, png(seed))).collect();
    let parts = || files.iter().map(|(name, bytes)| Part::file(name, bytes)).collect::<Vec<_>>();
    let splits = ["train/a/1.png", "train/b/1.png", "test/a/2.png", "val/b/2.png"];
    let splits: Vec<(&str, Vec<u8>)> = (9..).zip(splits).map(|(seed, name)| (name, png(seed))).collect();
    let mut table = files.clone();
    table.iter_mut().zip(["1.png", "2.png", "3.png", "4.png"]).for_each(|(file, name)| file.0 = name);
    table.push(("labels.csv", b"file,label\n1.png,a\n2.png,b\n3.png,a\n4.png,b\n".to_vec()));
    let packed = deflated_zeros(4);
    let mut deflated = parts();
    deflated.push(Part::file("dogs/3.png", &packed).with(|header| {
        header.method = 8;
        header.size = zeros(4) as u32;
    }));
    let mut lengths_behind = parts();
    for part in &mut lengths_behind {
        part.both(|header| header.flags = 1 << 3);
        part.data.extend(b"PK\x07\x08");
        for number in [part.central.crc, part.central.packed, part.central.size] {
            part.data.extend(number.to_le_bytes());
        }
        (part.local.crc, part.local.packed, part.local.size) = (0, 0, 0);
    }
    let raw = b"\xc3\xa8/1.png".to_vec();
    let mut named = parts();
    named.push(Part::file(&raw, &png(7)).with(|h| h.extra = unicode_path(&raw, "\u{732b}/1.png")));
    let folders = ["cats/", "dogs\\", "./"].map(|name| Part::file(name, b"").with(|h| h.mode = 0o042_775));
    vec![
        stored(&files),
        stored(&splits),
        stored(&table),
        zip(&deflated),
        zip(&lengths_behind),
        zip(&named),
        zip(&[parts().as_slice(), &folders].concat()),
        zip64(&parts(), |_| ()),
        [stored(&files).as_slice(), b"\r\n"].concat(),
    ]
}
