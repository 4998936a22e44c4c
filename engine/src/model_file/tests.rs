//! What a writer refuses, what a reader says, and how files reach the disk.

use std::fs;
use std::path::Path;

use super::*;
use crate::Shape;
use crate::graph::{BatchNorm, Dense, Graph, Op};
use crate::params::Model;

fn sample() -> ModelFile {
    let mut graph = Graph::new(Shape::new(2, 3, 1));
    graph.then("flat", Op::Flatten);
    graph.then("norm", Op::BatchNorm(BatchNorm::default()));
    graph.then("fc", Op::Dense(Dense { units: 2, bias: true }));
    let model = Model::init(graph, 7).unwrap();
    let moments = vec![vec![0.0; model.layout().trainable()]; 2];
    let preprocessing = Preprocessing {
        width: 3,
        height: 2,
        channels: 1,
        fit: Fit::Stretch,
        mean: vec![0.25],
        std: vec![0.5],
    };
    let origin = Origin::Trained(Trained {
        version: "0.1.0".into(),
        seed: 7,
        data_name: "two".into(),
        data_hash: [9; 32],
        recipe: "epochs = 1\n".into(),
        created: 1_700_000_000,
        epochs: 1,
        parent: None,
    });
    let classes = vec!["no".into(), "yes".into()];
    let meta = ModelMeta {
        name: "sample".into(),
        classes,
        preprocessing,
        metrics: None,
        temperature: None,
        rejection: None,
        multi_label: None,
        origin,
    };
    let training = TrainingState { optimizer: "adam".into(), step: 3, moments, extra: String::new() };
    ModelFile { training: Some(training), ..ModelFile::new(model, meta) }
}

/// Two probes that fit the sample.
fn probes(file: &ModelFile) -> Probes {
    let image = |first: u8| Probe { pixels: (first..first + 6).collect(), logits: vec![0.5, -1.0] };
    Probes { asked: file.answering_hash(), images: vec![image(0), image(90)] }
}

fn refusal(change: impl FnOnce(&mut ModelFile)) -> String {
    let mut file = sample();
    change(&mut file);
    file.to_bytes().expect_err("the change must be refused").to_string()
}

#[track_caller]
fn assert_says(message: &str, part: &str) {
    assert!(message.contains(part) && !message.contains('\n'), "{message:?} does not say {part:?}");
}

/// A file with the hash that its content needs.
fn rehashed(mut bytes: Vec<u8>) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let end = bytes.len() - 32;
    let hash = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&hash);
    bytes
}

#[test]
fn writers_refuse_what_readers_refuse() {
    assert_says(&refusal(|f| f.meta.classes.truncate(1)), "1 class names for 2 logits");
    assert_says(&refusal(|f| f.meta.classes[0] = "yes".into()), "two classes are named \"yes\"");
    assert_says(&refusal(|f| f.meta.classes[0] = String::new()), "class 0 has 0 bytes");
    assert_says(&refusal(|f| f.meta.classes[1] = "x".repeat(257)), "class 1 has 257 bytes");
    assert_says(&refusal(|f| f.meta.preprocessing.width = 2), "gives 2x2x1, the network takes 2x3x1");
    assert_says(&refusal(|f| f.meta.preprocessing.std[0] = 0.0), "must be finite and above 0");
    assert_says(&refusal(|f| f.meta.preprocessing.std[0] = f32::INFINITY), "must be finite and above 0");
    assert_says(&refusal(|f| f.meta.preprocessing.mean[0] = f32::NAN), "must be finite");
    assert_says(
        &refusal(|f| f.meta.preprocessing.mean.push(0.0)),
        "2 means and 1 standard deviations for 1 channels",
    );
    let metrics = |accuracy, top5| Metrics { accuracy, top5, loss: 0.5, split: "val".into(), images: 9 };
    assert_says(&refusal(|f| f.meta.metrics = Some(metrics(1.5, 1.0))), "accuracy 1.5 is not in 0..=1");
    assert_says(&refusal(|f| f.meta.metrics = Some(metrics(0.5, f32::NAN))), "top-5 accuracy NaN");
    assert_says(
        &refusal(|f| f.meta.trained_mut().unwrap().recipe = "#".repeat(1 << 25)),
        "is longer than 33554432",
    );
    assert_says(
        &refusal(|f| f.training.as_mut().unwrap().moments[1].truncate(8)),
        "a moment has 8 floats, the parameters have 64",
    );
    assert_says(
        &refusal(|f| f.training.as_mut().unwrap().moments = vec![vec![0.0; 64]; 9]),
        "9 optimiser moments",
    );
    let set = |f: &mut ModelFile, name: &str, value: f32| {
        let entry = f.model.layout().entries().iter().find(|e| e.name == name).unwrap().clone();
        f.model.params_mut()[entry.range().end - 1] = value;
    };
    assert_says(&refusal(|f| set(f, "fc.weight", f32::NAN)), "`fc.weight` holds a value that is not finite");
    assert_says(&refusal(|f| set(f, "norm.running_var", -1.0)), "negative variance");
    assert_says(
        &refusal(|f| f.training.as_mut().unwrap().moments[0][0] = f32::INFINITY),
        "optimiser state of `norm.scale` holds a value that is not finite",
    );
}

#[test]
fn probes_must_fit_the_model() {
    let change = |change: fn(&mut Probes)| {
        refusal(|file| {
            file.probes = Some(probes(file));
            change(file.probes.as_mut().unwrap());
        })
    };
    assert_says(&change(|p| p.images.clear()), "0 probe images, not 1 to 8");
    assert_says(&change(|p| p.images = vec![p.images[0].clone(); 9]), "9 probe images, not 1 to 8");
    assert_says(&change(|p| p.images[1].pixels.truncate(5)), "probe image 1 has 5 values and 2 logits");
    assert_says(&change(|p| p.images[1].logits.push(0.0)), "6 values and 3 logits, the network 6 and 2");
    assert_says(&change(|p| p.images[1].logits[0] = f32::NAN), "probe image 1 is not finite");
}

#[test]
fn the_hash_of_what_answers_sees_all_that_answers() {
    let hash = |change: fn(&mut ModelFile)| {
        let mut file = sample();
        change(&mut file);
        file.answering_hash()
    };
    let same = hash(|_| {});
    assert_eq!(hash(|f| f.meta.name = "other".into()), same);
    assert_eq!(hash(|f| f.training = None), same);
    let others = [
        hash(|f| f.meta.classes.swap(0, 1)),
        hash(|f| f.meta.classes = vec!["noy".into(), "es".into()]),
        hash(|f| f.meta.preprocessing.fit = Fit::Pad),
        hash(|f| f.meta.preprocessing.mean[0] = 0.5),
        hash(|f| f.meta.preprocessing.std[0] = 0.25),
        hash(|f| f.model.params_mut()[0] = 7.0),
        hash(|f| {
            let last = f.model.layout().entries().last().unwrap().range().end - 1;
            f.model.params_mut()[last] = 7.0;
        }),
    ];
    assert!(others.iter().all(|other| *other != same));
    assert_eq!(others.iter().collect::<std::collections::HashSet<_>>().len(), others.len());
}

#[test]
fn what_is_read_is_what_was_written() {
    let mut file = sample();
    let probes = probes(&file);
    for (training, probes) in [
        (file.training.clone(), None),
        (None, None),
        (file.training.clone(), Some(probes.clone())),
        (None, Some(probes)),
    ] {
        (file.training, file.probes) = (training, probes);
        let bytes = file.to_bytes().unwrap();
        let read = ModelFile::from_bytes(&bytes).unwrap();
        assert_eq!(read.model.graph(), file.model.graph());
        assert_eq!(read.model.params(), file.model.params());
        assert_eq!(read.meta, file.meta);
        assert_eq!(read.training, file.training);
        assert_eq!(read.probes, file.probes);
        assert_eq!(read.to_bytes().unwrap(), bytes);
        let hash = file.content_hash().unwrap();
        assert_eq!(hash, bytes[bytes.len() - 32..]);
        let id = version_id(&hash);
        assert_eq!(id.len(), 12);
        assert_eq!(u64::from_str_radix(&id, 16).unwrap().to_be_bytes()[2..], hash[..6]);
    }
}

#[test]
fn weights_in_f16_are_rounded_once_and_then_kept() {
    let file = sample();
    let half = ModelFile { probes: Some(probes(&file)), ..file.clone() }.with_f16_weights().unwrap();
    assert_eq!((half.weights, &half.training, &half.probes), (WeightType::F16, &None, &None));
    for entry in file.model.layout().entries() {
        let values = |file: &ModelFile| file.model.params()[entry.range()].to_vec();
        let (before, after) = (values(&file), values(&half));
        assert_eq!(before != after, entry.kind == ParamKind::Weight, "{}", entry.name);
        // Half of the distance between two numbers with eleven bits.
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() / 2048.0;
        assert!(before.iter().zip(&after).all(close), "{}", entry.name);
    }
    let bytes = half.to_bytes().unwrap();
    let read = ModelFile::from_bytes(&bytes).unwrap();
    assert_eq!((read.model.params(), read.weights), (half.model.params(), WeightType::F16));
    assert_eq!(read.answering_hash(), half.answering_hash());
    assert_eq!(read.with_f16_weights().unwrap().to_bytes().unwrap(), bytes);
}

#[test]
fn weights_that_f16_does_not_hold_are_refused() {
    let with = |value: f32, weights| {
        let mut file = ModelFile { weights, training: None, ..sample() };
        let weight = file.model.layout().entries().iter().find(|e| e.name == "fc.weight").unwrap().range();
        file.model.params_mut()[weight.clone()].fill(1.0);
        file.model.params_mut()[weight.start + 3] = value;
        file
    };
    assert_says(
        &with(0.1, WeightType::F16).to_bytes().unwrap_err().to_string(),
        "tensor `fc.weight` holds 0.1, which is no f16 number",
    );
    assert!(with(0.125, WeightType::F16).to_bytes().is_ok());
    assert_says(
        &with(-65_520.0, WeightType::F32).with_f16_weights().unwrap_err().to_string(),
        "tensor `fc.weight` holds -65520, too large for f16",
    );
    assert!(with(65_519.0, WeightType::F32).with_f16_weights().is_ok());
}

#[test]
fn floats_between_tensors_are_not_part_of_a_model() {
    let mut file = sample();
    let bytes = file.to_bytes().unwrap();
    let gap = file.model.layout().entries()[0].range().end;
    file.model.params_mut()[gap] = 4.0;
    file.training.as_mut().unwrap().moments[0][gap] = 4.0;
    assert_eq!(file.to_bytes().unwrap(), bytes);
}

#[test]
fn readers_say_what_is_wrong() {
    let says = |bytes: &[u8], part| {
        let message = ModelFile::from_bytes(bytes).expect_err("the bytes must be refused").to_string();
        assert_says(&message, part);
    };
    let good = sample().to_bytes().unwrap();
    says(b"", "not a model file: the file is empty");
    says(b"GIF89a", "not a model file: its first bytes");
    says(&good[..20], "cut short: 20 of 64 bytes");
    says(&good[..good.len() - 1], "cut short");
    says(&[&good[..], b"?"].concat(), "1 bytes follow the end");
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let newer =
        format!("format version 255 is newer than this program reads ({FORMAT_VERSION}): update ocelli");
    says(&with(8, &[255]), &newer);
    says(&with(8, &[0]), "format version 0 does not exist");
    says(&with(24, &u64::MAX.to_le_bytes()), "more than a model file may have");
    says(&with(100, &[!good[100]]), "damaged: its SHA-256");
    // The same damage under a fresh hash is found by the checks behind it.
    says(&rehashed(with(12, &[8])), "flags 0x8 are unknown: update ocelli");
    says(&rehashed(with(12, &[3])), "the file ends before its content does");
    says(&rehashed(with(12, &[0])), "bytes follow the last section");
    says(&rehashed(with(16, &u64::MAX.to_le_bytes())), "the file ends before its content does");
    says(&rehashed(with(16, &[good[16] - 1])), "header ends early");
    says(&rehashed(with(16, &[good[16] + 1])), "header has bytes after its end");
    says(&rehashed(with(32, &[0; 4])), "the network cannot be: layer `input`: unusable output shape 0x3x1");
    says(&rehashed(with(44, &u64::MAX.to_le_bytes())), "layers, more than 4096");
    says(&rehashed(with(52, &u64::MAX.to_le_bytes())), "header ends early");
    says(&rehashed(with(60, &[0xff])), "text that is not UTF-8");
    says(&rehashed(with(64, &[0xff])), "holds an impossible value");
}

#[test]
fn a_save_replaces_the_file_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.ocelli");
    fs::write(&path, "older").unwrap();
    let file = sample();
    let hash = file.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes, file.to_bytes().unwrap());
    assert_eq!(hash, bytes[bytes.len() - 32..]);
    assert_eq!(ModelFile::load(&path).unwrap().to_bytes().unwrap(), bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_save_keeps_the_old_file_and_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.ocelli");
    fs::write(&path, "older").unwrap();
    let mut broken = sample();
    broken.model.params_mut()[0] = f32::NAN;
    assert_says(&broken.save(&path).unwrap_err().to_string(), "best.ocelli: tensor `norm.scale`");
    assert_eq!(fs::read(&path).unwrap(), b"older");

    // A folder in the file's place: the rename fails after everything was written.
    let taken = folder.path().join("taken");
    fs::create_dir_all(taken.join("full")).unwrap();
    assert!(matches!(sample().save(&taken), Err(EngineError::Io { path, .. }) if path == taken));
    assert!(matches!(sample().save(&folder.path().join("absent/x.ocelli")), Err(EngineError::Io { .. })));
    assert!(matches!(sample().save(Path::new("/")), Err(EngineError::Io { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn concurrent_saves_leave_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.ocelli");
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let mut file = sample();
                file.meta.trained_mut().unwrap().seed = seed;
                file.save(path).unwrap();
            });
        }
    });
    assert!(ModelFile::load(&path).unwrap().meta.trained().unwrap().seed < 8);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn loading_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.ocelli");
    fs::write(&path, "hello, world").unwrap();
    assert_says(&ModelFile::load(&path).unwrap_err().to_string(), "text.ocelli: not a model file");
    assert_says(&ModelFile::load(folder.path()).unwrap_err().to_string(), "not a regular file");
    assert!(matches!(ModelFile::load(&folder.path().join("absent")), Err(EngineError::Io { .. })));
    // A sparse file larger than the limit costs nothing.
    let huge = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut &huge, &sample().to_bytes().unwrap()).unwrap();
    huge.set_len(MAX_FILE_BYTES + 1).unwrap();
    assert_says(&ModelFile::load(&path).unwrap_err().to_string(), "more than a model file may have");
}
