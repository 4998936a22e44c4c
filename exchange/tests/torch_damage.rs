//! Damaged and forged files of PyTorch and safetensors: an error or a model, never a panic, and never more memory than ten
//! times the file and four mebibytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod memory;
mod sample;

use std::fs;
use std::path::Path;

use ocelli_common::random::SplitMix64;
use ocelli_exchange::{ExportOptions, ImportOptions, Numbers, Target, export, import};
use ocelli_testing::mutate::mutated;

/// Reads a file, and asserts that it took no more memory than it may. Whether it is a model.
#[track_caller]
fn bounded(bytes: &[u8], options: &ImportOptions) -> bool {
    let (result, _) = memory::bounded(bytes.len(), || import(bytes, options));
    match result {
        Ok(found) => {
            assert!(found.model.params().iter().all(|value| value.is_finite()));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|ending| ending != "json"));
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn options() -> ImportOptions {
    ImportOptions { size: Some((14, 14)), network: None }
}

#[test]
fn ten_thousand_damaged_state_dicts() {
    let (fixtures, mut rng, mut models) = (fixtures(), SplitMix64(1), 0);
    for case in 0..10_000 {
        // Every third file is the one that is a network: it reaches the weights.
        let index = if case % 3 == 0 { network(&fixtures) } else { case % fixtures.len() };
        let other = rng.below(fixtures.len());
        let bytes = mutated(&mut rng, &fixtures[index], &fixtures[other]);
        models += usize::from(bounded(&bytes, &options()));
    }
    assert!((100..3_000).contains(&models), "{models} of 10000 are models");
}

/// The fixture that is a network of the zoo: the largest.
fn network(fixtures: &[Vec<u8>]) -> usize {
    (0..fixtures.len()).max_by_key(|&index| fixtures[index].len()).unwrap()
}

#[test]
fn ten_thousand_damaged_files_of_safetensors() {
    let write = |numbers| {
        sample::models().map(|file| {
            let options = ExportOptions { target: Target::Safetensors, numbers, with_preprocess: false };
            export(&file, &options).unwrap()
        })
    };
    let files = [write(Numbers::F32), write(Numbers::F16)].concat();
    let (mut rng, mut models) = (SplitMix64(2), 0);
    for case in 0..10_000 {
        let (whole, other) = (&files[case % files.len()], &files[rng.below(files.len())]);
        let mut bytes = mutated(&mut rng, whole, other);
        // Most damage is found by the length of the header: half of the files get one that fits.
        let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        if case % 2 == 0 && bytes.len() > 8 {
            let grown = header as isize + bytes.len() as isize - whole.len() as isize;
            bytes[..8].copy_from_slice(&(grown.max(0) as u64).to_le_bytes());
        }
        models += usize::from(bounded(&bytes, &ImportOptions::default()));
    }
    assert!((100..8_000).contains(&models), "{models} of 10000 are models");
}

/// Pickles that push, remember and gather as much as their bytes can say.
#[test]
fn pickles_of_many_objects_are_refused_in_time() {
    let magic = [
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".as_slice(),
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}.",
    ];
    for body in [
        b"]".as_slice(),
        b"N",
        b"(",
        b"}",
        b")",
        b"2",
        b"N\x94",
        b"](NNNNNNNNe",
        b"}(NNNNNNNNu",
        b"]N\x85\x85\x85",
        b"(NNNNNNNNNNNNt",
        b"cos\nsystem\n",
        b"ccollections\nOrderedDict\n)R",
    ] {
        for len in [1_000, 100_000, 1_000_000] {
            let start = if body == b"2" { b"\x80\x02N".as_slice() } else { b"\x80\x02" };
            let pickle = [start, &body.repeat(len / body.len()), b"."].concat();
            let bytes = [magic.concat(), pickle].concat();
            assert!(!bounded(&bytes, &options()));
        }
    }
}

/// Archives that say they have more members than they hold, and views that repeat their numbers.
#[test]
fn archives_that_lie_about_their_members_get_no_memory() {
    for whole in fixtures().iter().filter(|bytes| bytes.starts_with(b"PK")) {
        for lie in [u64::MAX, 1 << 40, 1 << 32, 0xffff, 0xfffe, 20_000, 4_096] {
            for (mark, at, width) in [
                (b"PK\x05\x06", 8, 2),
                (b"PK\x05\x06", 12, 4),
                (b"PK\x06\x06", 24, 8),
                (b"PK\x06\x06", 40, 8),
            ] {
                let Some(place) = whole.windows(4).rposition(|window| window == mark) else { continue };
                let mut bytes = whole.clone();
                for field in [at, at + width] {
                    let place = place + field;
                    bytes[place..place + width].copy_from_slice(&lie.to_le_bytes()[..width]);
                }
                bounded(&bytes, &options());
            }
        }
    }
}

/// A header of safetensors that asks for the most memory: many tensors of one number, or of none.
#[test]
fn the_largest_headers_stay_within_their_bounds() {
    for tensors in [1_000, 20_000, 100_000] {
        let entries: Vec<String> = (0..tensors)
            .map(|i| format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[{i},{}]}}", i + 1))
            .collect();
        let header = format!("{{{}}}", entries.join(","));
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; tensors]].concat();
        assert!(!bounded(&bytes, &options()));
    }
    let layers: Vec<String> = (0..4_000)
        .map(|i| format!(r#"{{\"name\":\"{i}\",\"op\":\"Flatten\",\"inputs\":[{}]}}"#, ["0"; 60].join(",")))
        .collect();
    let header = format!(
        r#"{{"__metadata__":{{"ocelli.network":"{{\"input\":{{\"h\":1,\"w\":1,\"c\":2}},\"nodes\":[{}]}}"}}}}"#,
        layers.join(",")
    );
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    assert!(!bounded(&bytes, &options()));
}
