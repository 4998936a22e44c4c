//! Files of Keras, `.h5` and `.keras`.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::exchange::{fixtures, read};

/// Sizes that may be said of the input: none, and one that most small networks take.
const SIZES: [Option<(u32, u32)>; 2] = [None, Some((16, 16))];

/// As much as the importer unpacks of an archive: eight times its bytes, and half a mebibyte for each of three members.
fn unpacked(archive: usize) -> usize {
    8 * archive + 3 * (1 << 19)
}

pub(crate) fn h5(data: &[u8]) {
    // Else it would be a file of another kind, which has checks of its own.
    if data.starts_with(b"\x89HDF\r\n\x1a\n") {
        SIZES.into_iter().for_each(|size| read(data, data.len(), size));
    }
}

pub(crate) fn h5_seeds() -> Vec<Vec<u8>> {
    fixtures("keras", &["h5"])
}

pub(crate) fn archive(data: &[u8]) {
    if data.starts_with(b"PK") {
        SIZES.into_iter().for_each(|size| read(data, unpacked(data.len()), size));
    }
}

pub(crate) fn archive_seeds() -> Vec<Vec<u8>> {
    fixtures("keras", &["keras"])
}

/// An input is the configuration of a `.keras` file, whose other members are whole and whose checksums are right.
pub(crate) fn config(data: &[u8]) {
    const WEIGHTS: &[u8] = include_bytes!("../../../exchange/tests/keras/first_steps_k3.h5");
    let metadata = br#"{"keras_version":"3.0.0"}"#;
    let members = [("config.json", data), ("metadata.json", metadata), ("model.weights.h5", WEIGHTS)];
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in members {
        archive.start_file(name, options).expect("names differ");
        archive.write_all(bytes).expect("a write to memory cannot fail");
    }
    let archive = archive.finish().expect("a write to memory cannot fail").into_inner();
    SIZES.into_iter().for_each(|size| read(&archive, archive.len(), size));
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    let member = |archive: Vec<u8>| {
        let mut archive = zip::ZipArchive::new(Cursor::new(archive)).expect("it is read by other tests");
        let mut bytes = Vec::new();
        let mut file = archive.by_name("config.json").expect("a file of Keras has it");
        std::io::copy(&mut file, &mut bytes).expect("it is whole");
        bytes
    };
    archive_seeds().into_iter().map(member).collect()
}
