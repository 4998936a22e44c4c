//! Every seed, every input that once failed, and small damage to each seed, through the checks that fuzzing runs.

use std::fs;
use std::path::Path;

use ocelli_fuzz_checks::{TARGETS, check};

#[test]
fn seeds_hold() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has seeds", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            run(target.name, &format!("seed {number}"), seed);
            // Cut, and with a bit changed, at some places.
            for at in (0..seed.len()).step_by(1 + seed.len() / 16) {
                run(target.name, &format!("seed {number} cut at {at}"), &seed[..at]);
                let mut changed = seed.clone();
                changed[at] ^= 1 << (at % 8);
                run(target.name, &format!("seed {number} changed at {at}"), &changed);
            }
        }
    }
}

#[test]
fn inputs_that_once_failed_hold() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kept");
    for folder in fs::read_dir(kept).expect("the folder of kept inputs") {
        let folder = folder.expect("an entry").path();
        if !folder.is_dir() {
            continue;
        }
        let name =
            folder.file_name().expect("a name").to_str().expect("the name of a kind of input").to_owned();
        for file in fs::read_dir(&folder).expect("a folder of kept inputs") {
            let path = file.expect("an entry").path();
            run(&name, &path.display().to_string(), &fs::read(&path).expect("a kept input"));
        }
    }
}

/// Names the input before it can fail.
#[allow(clippy::print_stderr, reason = "a failed test says where")]
fn run(name: &str, what: &str, data: &[u8]) {
    let failed = std::panic::catch_unwind(|| check(name, data)).is_err();
    assert!(!failed, "{name}: {what}");
}

/// Each kind has its program for libFuzzer.
#[test]
fn every_kind_of_input_is_fuzzed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest of fuzz");
    for target in &TARGETS {
        let text = fs::read_to_string(fuzz.join(format!("targets/{}.rs", target.name))).expect(target.name);
        assert!(text.contains(&format!("check({:?}, data)", target.name)), "{} checks itself", target.name);
        assert!(
            manifest.contains(&format!("name = {:?}", target.name)),
            "{} is in the manifest",
            target.name
        );
    }
    assert_eq!(fs::read_dir(fuzz.join("targets")).expect("targets").count(), TARGETS.len());
}
