//! The files that `exchange/tests/make_torch.py` had PyTorch write, against what PyTorch says is in them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::state::{State, read};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch");
    fs::read(folder.join(name)).unwrap()
}

/// Compares what was read of a file with what PyTorch says.
fn as_expected(name: &str, state: &State<'_>, expected: &Value) {
    let expected = expected.as_object().unwrap();
    let names: Vec<&str> = state.tensors.keys().map(String::as_str).collect();
    let mut known: Vec<&str> = expected.keys().map(String::as_str).collect();
    known.sort_unstable();
    assert_eq!(names, known, "{name}");
    for (key, tensor) in &state.tensors {
        let (what, expected) = (format!("{name}: {key}"), &expected[key]);
        let tensor = tensor.as_ref().unwrap();
        assert_eq!(tensor.dtype.name(), expected["dtype"], "{what}");
        let shape: Vec<Value> = tensor.shape.iter().map(|&side| side.into()).collect();
        assert_eq!(Value::Array(shape), expected["shape"], "{what}");
        let Some(values) = expected["values"].as_array() else { continue };
        assert_eq!(values.len(), tensor.len(), "{what}");
        for (index, value) in values.iter().enumerate() {
            let mut coordinates = vec![0; tensor.shape.len()];
            let mut rest = index;
            for (coordinate, side) in coordinates.iter_mut().zip(&tensor.shape).rev() {
                (*coordinate, rest) = (rest % side, rest / side);
            }
            let (read, value) = (tensor.at(tensor.place(&coordinates)), value.as_f64().unwrap() as f32);
            assert_eq!(read.to_bits(), value.to_bits(), "{what} {coordinates:?}: {read}, not {value}");
        }
    }
}

#[test]
fn tensors_are_what_pytorch_says() {
    let expected: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let mut read_files = 0;
    for (name, expected) in expected.as_object().unwrap() {
        if name == "keras-cnn.pth" {
            continue;
        }
        let bytes = fixture(name);
        let state = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        as_expected(name, &state, expected);
        read_files += 1;
    }
    assert_eq!(read_files, 12);
}

#[test]
fn nothing_is_called_and_what_calls_wanted_to_make_is_named() {
    let bytes = fixture("calls-beside.pth");
    let state = read(&bytes).unwrap();
    assert_eq!(state.tensors.len(), 2);
    let reason = state.tensors["harmless"].as_ref().unwrap_err();
    assert_eq!(reason, "was made by `posix.system`, which is not read here");
    for (name, says) in [
        ("calls-instead.pth", "an object of the class `posix.system`"),
        ("calls.pkl", "a pickle that `torch.save` did not write"),
        ("module.pth", "an object of the class `__main__.OwnNetwork`"),
        ("module-inside.pth", "save `model.state_dict()`, or export the model as ONNX"),
        ("script.pt", "a TorchScript program, which is not run here: export the model as ONNX"),
    ] {
        let bytes = fixture(name);
        let error = read(&bytes).err().unwrap();
        assert!(error.contains(says), "{name}: {error}");
    }
}

#[test]
fn a_checkpoint_says_what_was_taken_of_it() {
    let bytes = fixture("checkpoint.pth");
    let notes = read(&bytes).unwrap().notes.join("\n");
    assert!(notes.contains("the weights are those under `state_dict`"), "{notes}");
    assert!(notes.contains("averaged weights under `state_dict_ema` were left out"), "{notes}");
}
