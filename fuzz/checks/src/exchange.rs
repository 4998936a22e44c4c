//! Models of other programs.

use std::fs;
use std::path::Path;

use ocelli_exchange::{ImportOptions, import};

/// What is read is a model of the engine, which has shapes and scales that belong to it.
pub(crate) fn onnx(data: &[u8]) {
    match import(data, &ImportOptions { size: None, ..ImportOptions::default() }) {
        Ok(imported) => {
            let graph = imported.model.graph();
            assert!(graph.shapes().is_ok());
            assert!(imported.quantization.is_none_or(|scales| scales.check(graph).is_ok()));
            assert!(
                imported
                    .labels
                    .is_none_or(|labels| graph.classes().is_ok_and(|classes| classes == labels.len()))
            );
        }
        // Parts that are not supported stand on a line each.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The models that the tests of the importer have.
pub(crate) fn onnx_seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../exchange/tests/onnx");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "onnx"));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}
