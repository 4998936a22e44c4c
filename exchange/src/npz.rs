//! Arrays for NumPy: an archive that `numpy.load` opens.
//!
//! One array a parameter, under our names and in our order: convolutions `[kh][kw][cin / groups][cout]`, dense layers
//! `[in][out]`. Beside them `classes`, an array of texts in the order of the logits, and `preprocessing` and `network`, each
//! JSON as an array of one text.

use ocelli_common::npy::{self, Half};
use ocelli_engine::ParamKind;
use ocelli_engine::model_file::{ModelFile, to_f16};

use crate::archive;
use crate::error::ExchangeError;
use crate::target::Numbers;

/// The bytes of a file with a model. With [`Numbers::F16`] the weights of convolutions and dense layers are f16.
///
/// # Errors
/// [`ExchangeError::Export`] for numbers that the format has not; [`ExchangeError::Engine`] for weights that are too large for
/// f16.
pub(crate) fn write(file: &ModelFile, numbers: Numbers) -> Result<Vec<u8>, ExchangeError> {
    let refused = |reason: String| ExchangeError::Export { format: "npz", reason };
    let rounded = match numbers {
        Numbers::F32 => None,
        Numbers::F16 => Some(file.clone().with_f16_weights()?),
        Numbers::Int8 => {
            return Err(refused("it has no scales of bytes: write f32, fp16, or --to onnx".to_owned()));
        }
    };
    let model = rounded.as_ref().map_or(&file.model, |rounded| &rounded.model);
    let mut members = Vec::new();
    for entry in model.layout().entries() {
        let (values, mut bytes) = (&model.params()[entry.range()], Vec::new());
        let written = if numbers == Numbers::F16 && entry.kind == ParamKind::Weight {
            let halves: Vec<Half> = values.iter().map(|&value| Half(to_f16(value))).collect();
            npy::write(&mut bytes, &entry.shape, &halves)
        } else {
            npy::write(&mut bytes, &entry.shape, values)
        };
        written.expect("a write to memory cannot fail");
        members.push((format!("{}.npy", entry.name), bytes));
    }
    let json = |text: serde_json::Result<String>| text.map_err(|error| refused(error.to_string()));
    let preprocessing = json(serde_json::to_string(&file.meta.preprocessing))?;
    let network = json(serde_json::to_string(model.graph()))?;
    let texts = [
        ("classes", file.meta.classes.clone()),
        ("preprocessing", vec![preprocessing]),
        ("network", vec![network]),
    ];
    for (name, texts) in texts {
        let mut bytes = Vec::new();
        npy::write_texts(&mut bytes, &texts).expect("a write to memory cannot fail");
        members.push((format!("{name}.npy"), bytes));
    }
    archive::write(&members).map_err(refused)
}
