//! Broken Keras files: an error or a model, never a panic, and never more memory than ten times the file and 4 MiB. A
//! counting allocator watches every import.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on stops, and says what it saw"
)]

mod memory;

use std::io::{Cursor, Read, Write};
use std::path::Path;

use ocelli_engine::rng::Rng;
use ocelli_exchange::{ImportOptions, import};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const MIB: usize = 1 << 20;
const CASES: usize = 10_000;

/// Imports, and asserts that no more memory was taken at any time than `len` bytes account for. Says whether it is a model,
/// and how many bytes were taken.
fn bounded(bytes: &[u8], len: usize, case: usize) -> (bool, usize) {
    let options = ImportOptions { size: Some((16, 16)), ..ImportOptions::default() };
    let options = if case.is_multiple_of(2) { ImportOptions::default() } else { options };
    let (result, peak) = memory::bounded(len, || import(bytes, &options));
    if let Err(error) = &result {
        assert!(!error.to_string().is_empty(), "case {case}");
    }
    (result.is_ok(), peak)
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras").join(name)).unwrap()
}

fn below(rng: &mut Rng, end: usize) -> usize {
    (rng.next_u64() % end.max(1) as u64) as usize
}

/// One of several kinds of damage.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, kind: usize) {
    // Tables and the configuration stand before the weights, mostly.
    let region = if kind.is_multiple_of(2) { bytes.len() } else { bytes.len().min(12_288) };
    match kind % 6 {
        0 => bytes.truncate(below(rng, bytes.len())),
        1 | 2 => {
            for _ in 0..1 + below(rng, 4) {
                let at = below(rng, region);
                bytes[at] ^= 1 + below(rng, 255) as u8;
            }
        }
        3 => {
            let at = below(rng, region.saturating_sub(8));
            let lie = [u64::MAX, 1 << 63, 1 << 40, 1 << 32, 1 << 24, 1 << 16, 0, 1][below(rng, 8)];
            let width = [2, 4, 8][below(rng, 3)];
            bytes[at..at + width].copy_from_slice(&lie.to_le_bytes()[..width]);
        }
        4 => {
            let count = 1 + below(rng, 256.min(bytes.len() / 2));
            let (from, to) = (below(rng, bytes.len() - count), below(rng, bytes.len() - count));
            bytes.copy_within(from..from + count, to);
        }
        // Another number in a text.
        _ => {
            let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
            for _ in 0..1 + below(rng, 3) {
                if let Some(&at) = digits.get(below(rng, digits.len())) {
                    bytes[at] = b'0' + below(rng, 10) as u8;
                }
            }
        }
    }
}

fn unpack(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        members.push((file.name().unwrap().into_owned(), content));
    }
    members
}

fn pack(members: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, content) in members {
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn damaged_h5_files_are_errors_or_models() {
    let names =
        ["binary_k2.h5", "teachable_k2.h5", "first_steps_k3.h5", "transfer_k3.h5", "weights_only_k2.h5"];
    let samples = names.map(sample);
    let mut rng = Rng::new(1, 0);
    let (mut models, mut most) = (0, 0);
    for case in 0..CASES {
        let mut bytes = samples[case % samples.len()].clone();
        damage(&mut rng, &mut bytes, case / samples.len());
        let (model, peak) = bounded(&bytes, bytes.len(), case);
        models += usize::from(model);
        most = most.max(peak);
    }
    println!("{models} of {CASES} are models; at most {most} bytes for a file");
    assert!((CASES / 50..CASES).contains(&models), "{models}");
}

#[test]
fn damaged_keras_files_are_errors_or_models() {
    let names = [
        "binary_k3.keras",
        "labels_k3.keras",
        "tutorial_k2.keras",
        "transfer_k3.keras",
        "everything_k3.keras",
    ];
    let samples = names.map(sample);
    let unpacked = samples.each_ref().map(|bytes| unpack(bytes));
    let mut rng = Rng::new(2, 0);
    let (mut models, mut most) = (0, 0);
    for case in 0..CASES {
        let (which, kind) = (case % samples.len(), case / samples.len());
        let (bytes, len) = if kind.is_multiple_of(3) {
            let mut bytes = samples[which].clone();
            damage(&mut rng, &mut bytes, kind / 3);
            let len = unpacked[which].iter().map(|(_, content)| content.len()).sum();
            (bytes, len)
        } else {
            // Inside of a member, under a checksum that fits.
            let mut members = unpacked[which].clone();
            let member = below(&mut rng, members.len());
            damage(&mut rng, &mut members[member].1, kind / 3);
            let stored = !kind.is_multiple_of(6);
            let method = if stored { CompressionMethod::Stored } else { CompressionMethod::Deflated };
            let len = members.iter().map(|(_, content)| content.len()).sum();
            (pack(&members, method), len)
        };
        let (model, peak) = bounded(&bytes, len, case);
        models += usize::from(model);
        most = most.max(peak);
    }
    println!("{models} of {CASES} are models; at most {most} bytes for a file");
    assert!((CASES / 50..CASES).contains(&models), "{models}");
}

/// A configuration that would become far more values in memory than it has bytes.
#[test]
fn a_configuration_of_many_small_parts_is_refused() {
    let mut members = unpack(&sample("binary_k3.keras"));
    for text in ["[0,".repeat(300_000), "{\"\":".repeat(300_000), format!("[{}0]", "{},".repeat(300_000))] {
        let config = members.iter_mut().find(|(name, _)| name == "config.json").unwrap();
        config.1 = text.into_bytes();
        let bytes = pack(&members, CompressionMethod::Stored);
        assert!(!bounded(&bytes, bytes.len(), 0).0);
    }
}

/// A member that would be unpacked to a thousand times its bytes.
#[test]
fn a_member_that_unpacks_to_far_more_is_refused() {
    let mut members = unpack(&sample("binary_k3.keras"));
    let weights = members.iter_mut().find(|(name, _)| name == "model.weights.h5").unwrap();
    weights.1.resize(64 * MIB, 0);
    let bytes = pack(&members, CompressionMethod::Deflated);
    assert!(!bounded(&bytes, bytes.len(), 0).0);
}

/// Layers that use the same weights again and again, or map a wide value again and again.
#[test]
fn a_short_configuration_makes_no_large_network() {
    let mut members = unpack(&sample("binary_k3.keras"));
    let config = members.iter_mut().find(|(name, _)| name == "config.json").unwrap();
    let layer =
        |class: &str, settings: &str| format!("{{\"class_name\":\"{class}\",\"config\":{{{settings}}}}}");
    let mut layers = vec![
        layer("InputLayer", "\"batch_shape\":[null,4096,4096,16]"),
        layer("Flatten", "\"name\":\"flat\""),
    ];
    for _ in 0..100 {
        layers.push(layer("Rescaling", "\"scale\":2"));
        layers.push(layer("ReLU", "\"name\":\"relu\""));
    }
    let text = format!("{{\"class_name\":\"Sequential\",\"config\":{{\"layers\":[{}]}}}}", layers.join(","));
    config.1 = text.into_bytes();
    let bytes = pack(&members, CompressionMethod::Stored);
    assert!(!bounded(&bytes, bytes.len(), 0).0);
}
