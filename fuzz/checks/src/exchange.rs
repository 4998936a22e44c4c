//! Models of other programs: read within the promised memory, written in every format, and read again.

use std::fs;
use std::path::Path;

use ocelli_engine::model_file::{Fit, Imported, ModelFile, ModelMeta, Origin, Preprocessing};
use ocelli_exchange::{ExportOptions, Import, ImportOptions, Numbers, Target, export, import};

use crate::memory;

/// Largest model that is written, in parameters and in classes: larger ones are no other code and take their time.
const MAX_PARAMETERS: usize = 1 << 14;
const MAX_CLASSES: usize = 100;

/// An ONNX graph, at the size that it says.
pub(crate) fn onnx(data: &[u8]) {
    read(data, data.len(), None);
}

/// An import of a file whose members have `unpacked` bytes, all together.
pub(crate) fn read(data: &[u8], unpacked: usize, size: Option<(u32, u32)>) {
    let options = ImportOptions { size, network: None };
    match memory::bounded(unpacked, || import(data, &options)).0 {
        Ok(import) => {
            check(&import);
            write(import);
        }
        // Parts that are not supported stand on a line each.
        Err(error) => assert!(!error.to_string().is_empty(), "an error that says nothing"),
    }
}

/// What is read is a model of the engine, and all that is said of it belongs to it.
fn check(import: &Import) {
    let graph = import.model.graph();
    let shapes = graph.shapes().expect("an imported network has shapes");
    assert!(shapes.iter().all(|shape| !shape.is_empty()), "a value without numbers");
    assert!(import.model.params().iter().all(|value| value.is_finite()), "a weight that is no number");
    if let Some(scales) = &import.quantization {
        scales.check(graph).expect("scales of the network");
    }
    if let Some(labels) = &import.labels {
        assert_eq!(graph.classes().expect("a network with labels has classes"), labels.len());
    }
    if let Some((mean, std)) = &import.input.mean_std {
        let channels = graph.input.c as usize;
        assert_eq!((mean.len(), std.len()), (channels, channels));
    }
}

/// Every format takes the model or says why not, and what is written can be read.
fn write(import: Import) {
    let graph = import.model.graph();
    let input = graph.input;
    let (Ok(classes), Ok(channels)) = (graph.classes(), u8::try_from(input.c)) else { return };
    if classes > MAX_CLASSES || import.model.params().len() > MAX_PARAMETERS {
        return;
    }
    let origin = Imported {
        format: import.format.name().to_owned(),
        producer: import.producer,
        file: String::new(),
        file_hash: [0; 32],
        version: "0".to_owned(),
        created: 0,
    };
    let meta = ModelMeta {
        name: String::new(),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        preprocessing: Preprocessing::new(input.w, input.h, channels, Fit::Stretch),
        metrics: None,
        temperature: import.temperature,
        rejection: None,
        multi_label: None,
        origin: Origin::Imported(origin),
    };
    let file = ModelFile { quantization: import.quantization, ..ModelFile::new(import.model, meta) };
    for target in [Target::Onnx, Target::Keras, Target::Safetensors, Target::Npz] {
        let options = ExportOptions { target, numbers: Numbers::F32, with_preprocess: false };
        match export(&file, &options) {
            Ok(_) if target == Target::Npz => (),
            Ok(bytes) => {
                let again = ocelli_exchange::import(&bytes, &ImportOptions::default());
                let again = again.unwrap_or_else(|error| panic!("{}: {error}", target.name()));
                assert_eq!(again.model.graph().classes().ok(), Some(classes), "{}", target.name());
            }
            Err(error) => assert!(!error.to_string().is_empty(), "an error that says nothing"),
        }
    }
}

pub(crate) fn onnx_seeds() -> Vec<Vec<u8>> {
    fixtures("onnx", &["onnx"])
}

/// The files of a folder of the importer's tests that end so.
pub(crate) fn fixtures(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../exchange/tests").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| endings.iter().any(|ending| end == *ending)));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}
