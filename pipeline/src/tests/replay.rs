//! What a run keeps of its images to add classes later.

use super::*;
use crate::replay::Replay;

/// A run on 97 training images, some of them for validation, and 31 test images.
fn run(dir: &TempDir) -> (PathBuf, ModelFile) {
    let outcome = train_quietly(&options(dir, idx_data(dir.path()), recipe()));
    let file = open_model(&outcome.best).unwrap();
    (outcome.best, file)
}

fn bits(rows: &[f32], len: usize) -> Vec<Vec<u32>> {
    let mut rows: Vec<Vec<u32>> =
        rows.chunks_exact(len).map(|row| row.iter().map(|value| value.to_bits()).collect()).collect();
    rows.sort();
    rows
}

#[test]
fn features_are_those_of_the_model_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (best, file) = run(&dir);
    let replay = Replay::read(&best, &file).unwrap().unwrap();
    let mut predictor = Predictor::open(&best, Compute::on(2)).unwrap();
    let all = Embeddings::of(&dir.path().join("bars"), &mut predictor, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(replay.len, all.len);
    let parts = [&replay.train, &replay.val, &replay.test];
    assert_eq!(parts.map(|kept| kept.labels.len()), parts.map(|kept| kept.of));
    assert_eq!((replay.train.of + replay.val.of, replay.test.of), (97, 31));
    let kept: Vec<f32> = parts.iter().flat_map(|kept| &kept.features).copied().collect();
    assert_eq!(bits(&kept, all.len), bits(&all.features, all.len));
    assert_eq!(replay.seen.len(), 128);
    let mut counts = [0; 3];
    replay.train.labels.iter().for_each(|&label| counts[label as usize] += 1);
    assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
}

#[test]
fn damaged_missing_and_foreign_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (best, file) = run(&dir);
    let folder = best.with_file_name("replay");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 8, "{names:?}");
    let failure = || Replay::read(&best, &file).map(|_| ()).unwrap_err();
    for name in &names {
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        for bytes in [&damaged[..], &whole[..whole.len() - 2], &[]] {
            fs::write(&path, bytes).unwrap();
            // A number in the record may be any other; what it says of the arrays is checked.
            if name == "replay.json" && bytes == damaged {
                continue;
            }
            let error = failure();
            assert!(matches!(error, PipelineError::Replay { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(name.as_str()), "{name}, {} bytes: {text}", bytes.len());
        }
        fs::remove_file(&path).unwrap();
        match name.as_str() {
            "replay.json" => assert_eq!(Replay::read(&best, &file).unwrap(), None),
            name => assert!(failure().to_string().contains(&format!("{name}: this file is missing"))),
        }
        fs::write(&path, whole).unwrap();
    }
    let whole = Replay::read(&best, &file).unwrap().unwrap();

    // The record is text that somebody may change.
    let record = folder.join("replay.json");
    let text = fs::read_to_string(&record).unwrap();
    for (from, to, expected) in [
        ("\"schema\": 1", "\"schema\": 9", "its schema is 9"),
        ("seen.npy", "../best.ocelli", "is not the file of an array"),
        ("seen.npy", "train-labels.npy", "its SHA-256 is not the one"),
        ("\"features\": 1", "\"features\": 2", "not those of the model"),
        ("\"schema\": 1", "\"schema\": 1, \"x\": 2", "damaged (unknown field `x`"),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        fs::write(&record, text.replacen(from, to, 1)).unwrap();
        let found = failure().to_string();
        assert!(found.contains(expected), "{to}: {found}");
    }
    fs::write(&record, &text).unwrap();
    assert_eq!(Replay::read(&best, &file).unwrap().unwrap(), whole);

    // Another model beside it: the last weights are not the best ones with their threshold.
    let last = ModelFile::load(&best.with_file_name("last.ocelli")).unwrap();
    let error =
        Replay::read(&best, &ModelFile { training: None, ..last }).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("it holds the features of model "), "{error}");
}

#[test]
fn a_run_can_keep_nothing_and_ends_at_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let (best, file) = run(&dir);
    let data = Data::Path(dir.path().join("bars"));
    let mut options = options(&dir, data, recipe());
    options.within.no_replay = true;
    let other = train_quietly(&options);
    let mut its = open_model(&other.best).unwrap();
    assert!(!other.best.with_file_name("replay").exists());
    assert_eq!(Replay::read(&other.best, &its).unwrap(), None);
    its.meta.name.clone_from(&file.meta.name);
    let created = file.meta.trained().unwrap().created;
    if let Some(trained) = its.meta.trained_mut() {
        trained.created = created;
    }
    assert_eq!(its.content_hash().unwrap(), file.content_hash().unwrap());
    assert!(best.with_file_name("replay").is_dir());
}
