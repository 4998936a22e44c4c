//! Files of safetensors, <https://github.com/huggingface/safetensors>: the only file that names the library.
//!
//! What is written has PyTorch's names, shapes and order, so that `load_state_dict` takes it for the same network written in
//! PyTorch. Its metadata hold what is no tensor, so that the file comes back as the model that it was:
//!
//! | key | text |
//! |---|---|
//! | `format` | `pt`, as PyTorch's users expect |
//! | `producer` | program and version |
//! | `ocelli.network` | the graph as JSON |
//! | `ocelli.classes` | class names in the order of the logits, as JSON |
//! | `ocelli.preprocessing` | how an image becomes the input, as JSON |
//! | `ocelli.thresholds` | where an image may have several classes, the probability from which it has each |
//! | `ocelli.temperature` | what logits are divided by before they become probabilities, where something is |
//! | `ocelli.labels` | `one` or `several`: classes of an image |

use std::collections::BTreeMap;

use ocelli_common::preprocessing::Preprocessing;
use ocelli_engine::ParamKind;
use ocelli_engine::graph::Graph;
use ocelli_engine::model_file::{ModelFile, to_f16};
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype as FileDtype, SafeTensors};

use super::tensor::{Dtype, Place, Tensor, in_order};
use super::weights::{Orders, Tensors, in_torch_order, shape, suffix};
use crate::error::ExchangeError;
use crate::target::Numbers;

const FORMAT: &str = "safetensors";

/// Bytes of the number that the file begins with: the length of its header.
const LEN_BYTES: usize = 8;

/// Largest header that is read: a header of many tiny tensors takes a multiple of its bytes.
const MAX_HEADER_BYTES: u64 = 8 << 20;

/// What a file of ours says beside its tensors.
pub(super) struct Said {
    pub(super) graph: Graph,
    pub(super) classes: Option<Vec<String>>,
    pub(super) preprocessing: Option<Preprocessing>,
    /// What logits are divided by before they become probabilities.
    pub(super) temperature: Option<f32>,
    /// Whether an image may have several classes.
    pub(super) several: bool,
    /// For each class the probability from which an image has it, in `0..=1`.
    pub(super) thresholds: Option<Vec<f32>>,
}

/// What is in a file.
pub(super) struct Contents<'a> {
    pub(super) tensors: Tensors<'a>,
    pub(super) producer: String,
    pub(super) said: Option<Said>,
}

/// Whether bytes begin like a file of safetensors.
pub(crate) fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.split_first_chunk::<LEN_BYTES>().is_some_and(|(len, rest)| {
        let len = u64::from_le_bytes(*len);
        rest.starts_with(b"{") && len >= 2 && len <= rest.len() as u64
    })
}

fn damaged(reason: impl Into<String>) -> ExchangeError {
    ExchangeError::Damaged { format: FORMAT, reason: reason.into() }
}

/// Reads the tensors and what the metadata say.
///
/// # Errors
/// [`ExchangeError::Damaged`].
pub(super) fn read(bytes: &[u8]) -> Result<Contents<'_>, ExchangeError> {
    let header = bytes.first_chunk::<LEN_BYTES>().map_or(0, |len| u64::from_le_bytes(*len));
    if header > MAX_HEADER_BYTES {
        let most = MAX_HEADER_BYTES;
        return Err(damaged(format!("a header of {header} bytes, more than the {most} that are read")));
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    let data = &bytes[LEN_BYTES + header..];
    let tensors: Tensors<'_> =
        metadata.tensors().into_iter().map(|(name, info)| (name, tensor(info, data))).collect();
    let said = said(&metadata)?;
    let producer = said_by(&metadata, "producer").cloned().unwrap_or_default();
    Ok(Contents { tensors, producer, said })
}

fn tensor<'a>(info: &TensorInfo, data: &'a [u8]) -> Result<Tensor<'a>, String> {
    let dtype = match info.dtype {
        FileDtype::F64 => Dtype::F64,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        FileDtype::I64 => Dtype::I64,
        FileDtype::I32 => Dtype::I32,
        FileDtype::I16 => Dtype::I16,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U8 => Dtype::U8,
        FileDtype::BOOL => Dtype::Bool,
        other => return Err(format!("holds {other}, which is not read here")),
    };
    let (start, end) = info.data_offsets;
    let bytes = data.get(start..end).ok_or("lies beyond the end of the file")?;
    let place = Place { dtype, bytes, big_endian: false, offset: 0 };
    Tensor::new(place, info.shape.clone(), in_order(&info.shape))
}

fn said_by<'m>(metadata: &'m Metadata, key: &str) -> Option<&'m String> {
    metadata.metadata().as_ref()?.get(key)
}

fn said(metadata: &Metadata) -> Result<Option<Said>, ExchangeError> {
    let Some(network) = said_by(metadata, "ocelli.network") else { return Ok(None) };
    let wrong =
        |key: &str, error: &dyn std::fmt::Display| damaged(format!("metadata `ocelli.{key}`: {error}"));
    let graph: Graph = serde_json::from_str(network).map_err(|error| wrong("network", &error))?;
    let classes = said_by(metadata, "ocelli.classes").map(|text| serde_json::from_str::<Vec<String>>(text));
    let classes = classes.transpose().map_err(|error| wrong("classes", &error))?;
    let logits = graph.classes()?;
    if let Some(count) = classes.as_ref().map(Vec::len).filter(|&count| count != logits) {
        return Err(wrong("classes", &format!("{count} names for {logits} logits")));
    }
    let preprocessing =
        said_by(metadata, "ocelli.preprocessing").map(|text| serde_json::from_str::<Preprocessing>(text));
    let preprocessing = preprocessing.transpose().map_err(|error| wrong("preprocessing", &error))?;
    if let Some(preprocessing) = &preprocessing {
        preprocessing.check().map_err(|error| wrong("preprocessing", &error))?;
        if u32::from(preprocessing.channels) != graph.input.c {
            return Err(wrong("preprocessing", &"has other channels than the network"));
        }
    }
    let temperature = said_by(metadata, "ocelli.temperature").map(|text| text.parse::<f32>());
    let temperature = temperature.transpose().map_err(|error| wrong("temperature", &error))?;
    if let Some(bad) = temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
        return Err(wrong("temperature", &format!("{bad} is no positive number")));
    }
    let several = said_by(metadata, "ocelli.labels").is_some_and(|labels| labels == "several");
    let thresholds =
        said_by(metadata, "ocelli.thresholds").map(|text| serde_json::from_str::<Vec<f32>>(text));
    let thresholds = thresholds.transpose().map_err(|error| wrong("thresholds", &error))?;
    if thresholds.iter().any(|all| all.len() != logits || !all.iter().all(|one| (0.0..=1.0).contains(one))) {
        return Err(wrong("thresholds", &format!("not {logits} numbers in 0..=1")));
    }
    Ok(Some(Said { graph, classes, preprocessing, temperature, several, thresholds }))
}

/// The bytes of a file with a model.
///
/// # Errors
/// [`ExchangeError::Export`] for numbers that the format has not; [`ExchangeError::Engine`] for weights that are too large for
/// f16.
pub(crate) fn write(file: &ModelFile, numbers: Numbers) -> Result<Vec<u8>, ExchangeError> {
    let refused = |reason: String| ExchangeError::Export { format: FORMAT, reason };
    let rounded = match numbers {
        Numbers::F32 => None,
        Numbers::F16 => Some(file.clone().with_f16_weights()?),
        Numbers::Int8 => {
            return Err(refused(
                "state dicts have no scales of bytes: write f32, fp16, or --to onnx".to_owned(),
            ));
        }
    };
    let model = rounded.as_ref().map_or(&file.model, |rounded| &rounded.model);
    let graph = model.graph();
    let orders = Orders::new(graph, &graph.shapes()?);
    let mut tensors = Vec::with_capacity(model.layout().entries().len());
    for entry in model.layout().entries() {
        let half = numbers == Numbers::F16 && entry.kind == ParamKind::Weight;
        let mut bytes = Vec::with_capacity(entry.len() * if half { 2 } else { 4 });
        in_torch_order(entry, &orders, &model.params()[entry.range()], |value| {
            if half {
                bytes.extend(to_f16(value).to_le_bytes());
            } else {
                bytes.extend(value.to_le_bytes());
            }
        });
        let dtype = if half { FileDtype::F16 } else { FileDtype::F32 };
        tensors.push((
            format!("{}.{}", graph.nodes[entry.node()].name, suffix(entry.kind)),
            dtype,
            shape(entry),
            bytes,
        ));
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let written = views.and_then(|views| safetensors::serialize(views, None));
    let written = written.map_err(|error| refused(error.to_string()))?;
    Ok(with_metadata(&written, metadata(file)?))
}

fn metadata(file: &ModelFile) -> Result<BTreeMap<&'static str, String>, ExchangeError> {
    fn json<T: serde::Serialize>(value: &T) -> Result<String, ExchangeError> {
        let error =
            |error: serde_json::Error| ExchangeError::Export { format: FORMAT, reason: error.to_string() };
        serde_json::to_string(value).map_err(error)
    }
    let labels = if file.meta.multi_label.is_some() { "several" } else { "one" };
    let temperature =
        file.meta.temperature.map(|temperature| ("ocelli.temperature", temperature.to_string()));
    let entries = BTreeMap::from([
        ("format", "pt".to_owned()),
        ("producer", concat!("ocelli ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("ocelli.network", json(file.model.graph())?),
        ("ocelli.classes", json(&file.meta.classes)?),
        ("ocelli.preprocessing", json(&file.meta.preprocessing)?),
        ("ocelli.labels", labels.to_owned()),
    ]);
    let thresholds = file.meta.multi_label.as_ref().map(|several| json(&several.thresholds)).transpose()?;
    let thresholds = thresholds.map(|thresholds| ("ocelli.thresholds", thresholds));
    Ok(entries.into_iter().chain(temperature).chain(thresholds).collect())
}

/// A file without metadata, with them. The library keeps them in a table whose order changes from run to run; here they are
/// sorted, so that a model has one file.
fn with_metadata(written: &[u8], metadata: BTreeMap<&'static str, String>) -> Vec<u8> {
    let (len, rest) = written.split_first_chunk::<LEN_BYTES>().expect("the library wrote a header");
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let mut header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(header).expect("the library wrote JSON");
    let metadata = metadata.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect();
    header.insert("__metadata__".to_owned(), serde_json::Value::Object(metadata));
    let mut header = serde_json::to_vec(&header).expect("texts and numbers are JSON");
    // Numbers begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(LEN_BYTES), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}
