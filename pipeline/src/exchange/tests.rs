//! Lists of names, what has to be said, and exports that are read back.

use std::fs;

use ocelli_engine::graph::{Activation, Conv2d, Dense, Op, Padding};
use ocelli_engine::model_file::{Imported, ModelFile, ModelMeta, MultiLabel, Origin};
use ocelli_engine::{Graph, Model, Shape};
use ocelli_exchange::{ExportOptions, Numbers, Target};
use tempfile::TempDir;

use super::pictures::{drawn, pictures};
use super::{ImportSettings, Normalization, export_model, import_model, label_list, read_labels};
use crate::{Compute, Fit, Need, PipelineError, check_probes};
use ocelli_datasets::Preprocessing;

#[test]
fn names_are_read_as_other_programs_write_them() {
    let expected = ["cat", "dog of mine", "0 bird"].map(str::to_owned);
    let lists = [
        "cat\ndog of mine\n0 bird\n",
        "\u{feff}cat\r\n\r\n  dog of mine\r\n0 bird",
        "0 cat\n1 dog of mine\n2 0 bird\n",
        "0: cat\n1: dog of mine\n2: 0 bird",
        r#"["cat", "dog of mine", "0 bird"]"#,
        r#"{"0": "cat", "2": "0 bird", "1": "dog of mine"}"#,
        r#"{"cat": 0, "0 bird": 2, "dog of mine": 1}"#,
        r#"{"model_type": "resnet", "id2label": {"0": "cat", "1": "dog of mine", "2": "0 bird"}}"#,
    ];
    for list in lists {
        assert_eq!(label_list(list).as_deref(), Ok(&expected[..]), "{list}");
    }
    let refused = [
        ("", "0 names"),
        ("[1, 2]", "not all"),
        (r#"{"0": "cat", "2": "dog"}"#, "class 1 has no name"),
        (r#"{"cat": 0, "dog": 0}"#, "class 1 has no name, or more than one"),
        (r#"{"cat": true}"#, "maps neither"),
        ("[\"cat\"", "no JSON"),
    ];
    for (list, reason) in refused {
        let error = label_list(list).unwrap_err();
        assert!(error.contains(reason), "{list}: {error}");
    }
}

#[test]
fn a_file_of_names_that_is_none_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.txt");
    fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    let error = read_labels(&path).unwrap_err().to_string();
    assert!(error.contains("labels.txt") && error.contains("UTF-8"), "{error}");
    assert!(matches!(read_labels(&folder.path().join("none")), Err(PipelineError::Io { .. })));
}

fn model(channels: usize) -> ModelFile {
    let mut g = Graph::new(Shape::new(9, 11, channels));
    let conv = Conv2d { padding: Padding::Same, stride: [2, 1], ..Conv2d::new(5, 3) };
    g.then("conv", Op::Conv2d(conv));
    g.then("act", Op::Activation(Activation::Relu));
    g.then("flat", Op::Flatten);
    g.then("head", Op::Dense(Dense { units: 3, bias: true }));
    let model = Model::init(g, 5).unwrap();
    let preprocessing = Preprocessing {
        width: 11,
        height: 9,
        channels: channels as u8,
        fit: Fit::Pad,
        mean: (0..channels).map(|c| 0.25 + 0.125 * c as f32).collect(),
        std: (0..channels).map(|c| 0.5 - 0.0625 * c as f32).collect(),
    };
    let origin = Origin::Imported(Imported {
        format: "onnx".to_owned(),
        producer: String::new(),
        file: "model.onnx".to_owned(),
        file_hash: [3; 32],
        version: "0.1.0".to_owned(),
        created: 0,
    });
    let meta = ModelMeta {
        name: "three".to_owned(),
        classes: ["one", "two", "three ≠ four"].map(str::to_owned).to_vec(),
        preprocessing,
        metrics: None,
        temperature: Some(1.5),
        rejection: None,
        multi_label: None,
        origin,
    };
    ModelFile::new(model, meta)
}

const FORMATS: [Target; 3] = [Target::Onnx, Target::Safetensors, Target::Keras];

fn options(target: Target) -> ExportOptions {
    ExportOptions { target, numbers: Numbers::F32, with_preprocess: false }
}

#[test]
fn what_is_exported_is_imported_with_nothing_to_say() {
    let folder = TempDir::new().unwrap();
    for target in FORMATS {
        for channels in [1, 3] {
            let file = model(channels);
            let (bytes, report) = export_model(&file, &options(target), Compute::on(1)).unwrap();
            let check = report.check.unwrap();
            assert!(check.relative_difference < 1e-5 && check.agreement == 1.0, "{target:?}: {check:?}");
            let path = folder.path().join(format!("model.{}", target.name()));
            fs::write(&path, bytes).unwrap();
            let (found, report) = import_model(&path, &ImportSettings::default(), Compute::on(1)).unwrap();
            assert_eq!(found.meta.classes, file.meta.classes, "{target:?}");
            let (a, b) = (&found.meta.preprocessing, &file.meta.preprocessing);
            assert_eq!((a.width, a.height, a.channels, a.fit), (b.width, b.height, b.channels, b.fit));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
            assert!(a.mean.iter().zip(&b.mean).all(near) && a.std.iter().zip(&b.std).all(near), "{a:?}");
            assert!(report.producer.contains("ocelli"), "{}", report.producer);
            // Drawn probe images are asked at every load.
            assert!(found.probes.is_some());
            check_probes(&ModelFile::from_bytes(&found.to_bytes().unwrap()).unwrap(), Compute::on(1))
                .unwrap();
        }
    }
}

#[test]
fn thresholds_of_several_labels_go_with_the_model_or_are_said_to_be_left_out() {
    let folder = TempDir::new().unwrap();
    for target in FORMATS {
        let mut file = model(3);
        let thresholds = vec![0.25, 0.5, 0.875];
        file.meta.multi_label = Some(MultiLabel { thresholds: thresholds.clone(), quality: None });
        let (bytes, report) = export_model(&file, &options(target), Compute::on(1)).unwrap();
        let path = folder.path().join(format!("model.{}", target.name()));
        fs::write(&path, bytes).unwrap();
        let (found, _) = import_model(&path, &ImportSettings::default(), Compute::on(1)).unwrap();
        let found = found.meta.multi_label.unwrap().thresholds;
        let is_said = report.notes.iter().any(|note| note.contains("thresholds"));
        match target {
            Target::Keras => assert!(found == [0.5; 3] && is_said, "{found:?}, {report:?}"),
            _ => assert!(found == thresholds && !is_said, "{target:?}: {found:?}, {report:?}"),
        }
    }
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let folder = TempDir::new().unwrap();
    let (bytes, _) = export_model(&model(3), &options(Target::Safetensors), Compute::on(1)).unwrap();
    let path = folder.path().join("model.safetensors");
    // The same tensors without what our own export says of them.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    let renamed = text.replace("classes", "klasses").replace("preprocessing", "prepprocessin");
    assert_ne!(text, renamed);
    let mut stripped = bytes.clone();
    stripped[8..8 + header].copy_from_slice(renamed.as_bytes());
    fs::write(&path, stripped).unwrap();
    let Err(PipelineError::ImportNeeds { needs }) =
        import_model(&path, &ImportSettings::default(), Compute::on(1))
    else {
        panic!("names and normalisation are not in the file");
    };
    assert_eq!(needs, [Need::Labels { classes: 3 }, Need::Normalization { channels: 3 }, Need::Fit]);
    let said = ImportSettings {
        labels: Some(["a", "b", "c"].map(str::to_owned).to_vec()),
        normalization: Normalization::named("caffe"),
        fit: Some(Fit::Crop),
        ..ImportSettings::default()
    };
    let (found, _) = import_model(&path, &said, Compute::on(1)).unwrap();
    // Blue first: means are given in the network's order, and the network turns the channels around.
    let mean = &found.meta.preprocessing.mean;
    assert!((mean[0] - 123.68 / 255.0).abs() < 1e-6 && (mean[2] - 103.939 / 255.0).abs() < 1e-6);
    assert_eq!(found.model.graph().nodes[0].op, Op::ChannelGather { channels: vec![2, 1, 0] });
    let two = ImportSettings { labels: Some(vec!["a".to_owned(), "b".to_owned()]), ..said };
    assert!(matches!(import_model(&path, &two, Compute::on(1)), Err(PipelineError::LabelList { .. })));
}

#[test]
fn images_to_compare_on_are_as_many_as_asked_and_differ() {
    let file = model(3);
    let all = pictures(&file, 20);
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|image| image.len() == file.meta.preprocessing.len()));
    assert!((1..20).all(|i| !all[..i].contains(&all[i])));
    assert_eq!(drawn(&file.meta.preprocessing, 4), all[4]);
}
