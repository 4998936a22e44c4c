//! State dicts of PyTorch, in pickles and in safetensors.

use ocelli_engine::model_file::ModelFile;
use ocelli_exchange::{ExportOptions, Numbers, Target, export};

use crate::exchange::{fixtures, read};

pub(crate) fn check(data: &[u8]) {
    read(data, data.len(), Some((14, 14)));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    fixtures("fixtures/torch", &["pth", "pt", "pkl"])
}

pub(crate) fn safetensors() -> Vec<Vec<u8>> {
    let file = include_bytes!("../../../engine/tests/golden/tiny.ocelli");
    let file = ModelFile::from_bytes(file).expect("it is read by other tests");
    let write = |numbers| {
        export(&file, &ExportOptions { target: Target::Safetensors, numbers, with_preprocess: false })
    };
    [Numbers::F32, Numbers::F16].map(|numbers| write(numbers).expect("a small model")).to_vec()
}
