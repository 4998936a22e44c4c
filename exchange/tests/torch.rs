//! State dicts in and out, against PyTorch's numbers.
//!
//! `make exchange-torch` also compares torchvision's and timm's networks with PyTorch, for which it sets
//! `OCELLI_TORCH_NETWORKS` to a folder of `make_torch.py networks`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod sample;

use std::fs;
use std::path::Path;

use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Exec, Inference, Model};
use ocelli_exchange::{
    ExchangeError, ExportOptions, Format, Head, Import, ImportOptions, Numbers, Target, export, import,
};
use serde_json::Value;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)).unwrap()
}

fn sized(side: u32) -> ImportOptions {
    ImportOptions { size: Some((side, side)), ..ImportOptions::default() }
}

fn logits(model: &Model, images: &[f32]) -> Vec<f32> {
    let count = images.len() / model.graph().input.len();
    let mut inference = Inference::new(model, count, &Exec::new(1).unwrap()).unwrap();
    let mut logits = vec![0.0; count * inference.classes()];
    inference.run(images, count, &mut logits).unwrap();
    logits
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn written(file: &ModelFile, target: Target, numbers: Numbers) -> Vec<u8> {
    export(file, &ExportOptions { target, numbers, with_preprocess: false }).unwrap()
}

#[test]
fn a_state_dict_gives_the_logits_of_pytorch() {
    let expected: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let expected = &expected["keras-cnn.pth"];
    let found = import(&fixture("keras-cnn.pth"), &sized(14)).unwrap();
    assert_eq!((found.format, found.head, found.labels), (Format::Torch, Head::Logits, None));
    let notes = found.notes.join("\n");
    assert!(notes.contains("keras-cnn, by this program's names: 3 classes, 1 channels"), "{notes}");
    assert!(notes.contains("numbers of float16 became float32"), "{notes}");
    for (ours, theirs) in
        logits(&found.model, &floats(&expected["image"])).iter().zip(floats(&expected["logits"]))
    {
        assert!((ours - theirs).abs() < 1e-5, "{ours} for {theirs}");
    }
}

#[test]
fn what_the_file_does_not_say_is_asked_for() {
    let bytes = fixture("keras-cnn.pth");
    match import(&bytes, &ImportOptions::default()).unwrap_err() {
        ExchangeError::Missing { what, option: "size" } => {
            assert!(what.contains("keras-cnn") && what.contains("28x28"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    match import(&fixture("state.pth"), &sized(28)).unwrap_err() {
        ExchangeError::Missing { what, option: "network" } => {
            assert!(what.contains("`0.bias`") && what.contains("resnet18"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    let options = ImportOptions { network: Some("vgg".to_owned()), ..sized(28) };
    assert!(import(&bytes, &options).unwrap_err().to_string().contains("unknown model `vgg`"));
}

#[test]
fn every_tensor_that_does_not_fit_is_listed_at_once() {
    let options = ImportOptions { network: Some("keras-cnn".to_owned()), ..sized(28) };
    let error = import(&fixture("keras-cnn.pth"), &options).unwrap_err().to_string();
    assert!(error.contains("1 part of this network not supported"), "{error}");
    assert!(
        error.contains("`dense1.weight` (tensor of [128, 256]): the network has [128, 1600] there"),
        "{error}"
    );
    let options = ImportOptions { network: Some("resnet9".to_owned()), ..sized(32) };
    let error = import(&fixture("keras-cnn.pth"), &options).unwrap_err().to_string();
    assert!(error.contains("no tensor `prep.conv.weight`"), "{error}");
}

#[test]
fn our_safetensors_come_back_bit_by_bit() {
    for file in sample::models() {
        let name = file.meta.name.clone();
        let bytes = written(&file, Target::Safetensors, Numbers::F32);
        assert_eq!(bytes, written(&file, Target::Safetensors, Numbers::F32), "{name}");
        let found = import(&bytes, &ImportOptions::default()).unwrap();
        same_model(&found, &file, &name);
        let bytes = written(&file, Target::Safetensors, Numbers::F16);
        let found = import(&bytes, &ImportOptions::default()).unwrap();
        same_model(&found, &file.with_f16_weights().unwrap(), &name);
    }
}

fn same_model(found: &Import, file: &ModelFile, name: &str) {
    assert_eq!(found.format, Format::Safetensors, "{name}");
    assert_eq!(found.model.graph(), file.model.graph(), "{name}");
    let bits = |model: &Model| model.params().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(bits(&found.model) == bits(&file.model), "{name}: other weights");
    assert_eq!(found.labels.as_ref(), Some(&file.meta.classes), "{name}");
    let preprocessing = &file.meta.preprocessing;
    assert_eq!(found.input.fit, Some(preprocessing.fit), "{name}");
    let mean_std = Some((preprocessing.mean.clone(), preprocessing.std.clone()));
    assert_eq!(found.input.mean_std, mean_std, "{name}");
    assert!(found.producer.starts_with("ocelli "), "{}", found.producer);
    let head = if file.meta.multi_label.is_some() { Head::Sigmoid } else { Head::Logits };
    assert_eq!(found.head, head, "{name}");
}

#[test]
fn formats_without_scales_and_graphs_refuse_what_they_cannot_hold() {
    let [file, ..] = sample::models();
    for target in [Target::Safetensors, Target::Npz] {
        for (numbers, with_preprocess) in [(Numbers::Int8, false), (Numbers::F32, true)] {
            let error = export(&file, &ExportOptions { target, numbers, with_preprocess }).unwrap_err();
            assert!(error.to_string().contains("--to onnx"), "{error}");
        }
    }
}

#[test]
fn arrays_for_numpy_have_our_names_and_order() {
    let [file, ..] = sample::models();
    for numbers in [Numbers::F32, Numbers::F16] {
        let bytes = written(&file, Target::Npz, numbers);
        assert_eq!(bytes, written(&file, Target::Npz, numbers));
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
        let mut array = |name: &str| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut archive.by_name(&format!("{name}.npy")).unwrap(), &mut bytes)
                .unwrap();
            bytes
        };
        for entry in file.model.layout().entries() {
            let values = &file.model.params()[entry.range()];
            let bytes = array(&entry.name);
            if numbers == Numbers::F32 {
                let read = ocelli_common::npy::read::<f32>(&bytes, &entry.shape).unwrap();
                assert_eq!(read, values, "{}", entry.name);
            } else if entry.name.ends_with(".weight") {
                let read =
                    ocelli_common::npy::read::<ocelli_common::npy::Half>(&bytes, &entry.shape).unwrap();
                let close = |(half, value): (&ocelli_common::npy::Half, &f32)| {
                    (ocelli_engine::model_file::from_f16(half.0) - value).abs() <= value.abs() / 1024.0
                };
                assert!(read.iter().zip(values).all(close), "{}", entry.name);
            }
        }
        let classes = array("classes");
        let letter = u32::from('c').to_le_bytes();
        assert!(classes.windows(4).any(|window| window == letter), "class names in UTF-32");
        assert!(array("preprocessing").len() > 128 && array("network").len() > 128);
    }
}

#[test]
fn networks_of_torchvision_and_timm_give_pytorchs_logits() {
    let Some(folder) = std::env::var_os("OCELLI_TORCH_NETWORKS") else {
        eprintln!("SKIPPED: OCELLI_TORCH_NETWORKS is not set; `make exchange-torch` sets it");
        return;
    };
    let folder = Path::new(&folder);
    let images: Vec<f32> = fs::read(folder.join("images.f32"))
        .unwrap()
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    for made in index.as_array().unwrap() {
        let (name, network) = (made["name"].as_str().unwrap(), made["network"].as_str().unwrap());
        let network = Some(network.to_owned()).filter(|network| !network.is_empty());
        let options = ImportOptions { network, ..sized(224) };
        let expected: Vec<Vec<f32>> = made["logits"].as_array().unwrap().iter().map(floats).collect();
        let mut answers = Vec::new();
        for ending in ["pth", "safetensors"] {
            let bytes = fs::read(folder.join(format!("{name}.{ending}"))).unwrap();
            let found = import(&bytes, &options).unwrap();
            answers.push((found.notes.join("; "), logits(&found.model, &images)));
        }
        assert_eq!(answers[0], answers[1], "{name}");
        let (notes, ours) = &answers[0];
        let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        let (mut worst, mut same) = (0f32, 0);
        for (ours, theirs) in ours.chunks_exact(expected[0].len()).zip(&expected) {
            worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
            same += usize::from(best(ours) == best(theirs));
        }
        println!("{name}: largest difference {worst:.1e}, top-1 equal {same} of {}; {notes}", expected.len());
        assert!(worst < 1e-3 && same == expected.len(), "{name}");
    }
    // Names do not tell how EfficientNet-Lite0 pads.
    let bytes = fs::read(folder.join("timm-efficientnet_lite0.pth")).unwrap();
    let error = import(&bytes, &sized(224)).unwrap_err();
    assert!(matches!(error, ExchangeError::Missing { option: "network", .. }), "{error}");
}

/// Files for `make_torch.py check`, which loads them in PyTorch.
#[test]
fn safetensors_for_pytorch() {
    let Some(folder) = std::env::var_os("OCELLI_TORCH_EXPORTS") else {
        eprintln!("SKIPPED: OCELLI_TORCH_EXPORTS is not set; `make exchange-torch` sets it");
        return;
    };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder).unwrap();
    let found = import(&fixture("keras-cnn.pth"), &sized(14)).unwrap();
    let [mut file, ..] = sample::models();
    file.meta.preprocessing =
        ocelli_common::preprocessing::Preprocessing::new(14, 14, 1, file.meta.preprocessing.fit);
    file.model = found.model;
    for (name, numbers) in [("f32", Numbers::F32), ("f16", Numbers::F16)] {
        for (ending, target) in [("safetensors", Target::Safetensors), ("npz", Target::Npz)] {
            fs::write(folder.join(format!("{name}.{ending}")), written(&file, target, numbers)).unwrap();
        }
    }
}
