//! State dicts of PyTorch, in pickles and in safetensors.

use ocelli_engine::model_file::ModelFile;
use ocelli_exchange::{ExportOptions, ImportOptions, Numbers, Target, export, import};

pub(crate) fn check(data: &[u8]) {
    let options = ImportOptions { size: Some((14, 14)), network: None };
    match import(data, &options) {
        Ok(found) => assert!(found.model.params().iter().all(|value| value.is_finite())),
        // Lists what is not supported, one a line.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let files = [
        include_bytes!("../../../exchange/tests/fixtures/torch/types.pth").as_slice(),
        include_bytes!("../../../exchange/tests/fixtures/torch/views-legacy.pth"),
        include_bytes!("../../../exchange/tests/fixtures/torch/views-protocol5.pth"),
        include_bytes!("../../../exchange/tests/fixtures/torch/checkpoint.pth"),
        include_bytes!("../../../exchange/tests/fixtures/torch/calls-beside.pth"),
        include_bytes!("../../../exchange/tests/fixtures/torch/keras-cnn.pth"),
    ];
    files.map(<[u8]>::to_vec).to_vec()
}

pub(crate) fn safetensors() -> Vec<Vec<u8>> {
    let file = include_bytes!("../../../engine/tests/golden/tiny.ocelli");
    let file = ModelFile::from_bytes(file).expect("it is read by other tests");
    let write = |numbers| {
        export(&file, &ExportOptions { target: Target::Safetensors, numbers, with_preprocess: false })
    };
    [Numbers::F32, Numbers::F16].map(|numbers| write(numbers).expect("a small model")).to_vec()
}
