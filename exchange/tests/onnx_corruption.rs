//! Damaged files of ONNX: an error or a model, never a panic, never much more memory than the file accounts for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod memory;

use std::fs;
use std::path::Path;

use ocelli_common::random::SplitMix64;
use ocelli_exchange::{Import, ImportOptions, import};
use ocelli_testing::mutate::mutated;

#[track_caller]
fn bounded(bytes: &[u8]) -> Result<Import, String> {
    let sized = ImportOptions { size: Some((8, 8)), ..ImportOptions::default() };
    let both = || import(bytes, &sized).or_else(|_| import(bytes, &ImportOptions::default()));
    let (result, _) = memory::bounded(bytes.len(), both);
    result.map_err(|error| error.to_string())
}

fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "onnx"));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn ten_thousand_damaged_files() {
    let fixtures = fixtures();
    let mut rng = SplitMix64(1);
    let mut accepted = 0;
    for case in 0..10_000 {
        let other = &fixtures[rng.below(fixtures.len())];
        let bytes = mutated(&mut rng, &fixtures[case % fixtures.len()], other);
        match bounded(&bytes) {
            Ok(imported) => {
                accepted += 1;
                assert!(imported.model.graph().shapes().is_ok());
            }
            Err(message) => assert!(!message.is_empty() && message.len() < 64 << 10, "{message}"),
        }
    }
    // Most damage changes a weight or a name, or ends the file early.
    assert!((1_000..9_000).contains(&accepted), "{accepted} of 10000 accepted");
}

/// Varints of every byte: lengths, dimensions, pads, strides, types.
#[test]
fn every_number_replaced_by_extreme_ones() {
    for whole in fixtures().iter().filter(|whole| whole.len() < 6_000) {
        for at in (0..whole.len()).step_by(3) {
            for lie in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9], &[0x80, 0x80, 0x04], &[0]] {
                let mut bytes = whole.clone();
                let end = (at + lie.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&lie[..end - at]);
                let _ = bounded(&bytes);
            }
        }
    }
}

/// Files of many small messages, which cost a reader that keeps a record of each much more than their bytes.
#[test]
fn many_empty_messages() {
    let length = |bytes: &mut Vec<u8>, mut len: usize| {
        while len >= 0x80 {
            bytes.push(len as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
    };
    // Nodes, constants and values of a graph, each without a field; then constants, inputs and nodes with a name.
    let empty = [0x0a, 0x2a, 0x5a, 0x62, 0x6a].map(|field| [field, 0].repeat(1 << 19));
    let named = [(0x2a, 0x42), (0x5a, 0x0a), (0x0a, 0x12)].map(|(field, name)| {
        let one = |number: u32| [&[field, 6, name, 4][..], &format!("{number:04x}").into_bytes()].concat();
        (0..1 << 16).flat_map(one).collect::<Vec<u8>>()
    });
    let inputs = [vec![0x0a, 0x80, 0x80, 0x40], [0x0a, 0].repeat(1 << 19)].concat();
    for graph in empty.into_iter().chain(named).chain([inputs]) {
        let mut bytes = vec![0x08, 8, 0x3a];
        length(&mut bytes, graph.len());
        bytes.extend(graph);
        assert!(bounded(&bytes).is_err());
        // Metadata without a key.
        bytes.extend([0x72, 0].repeat(1 << 19));
        assert!(bounded(&bytes).is_err());
    }
}
