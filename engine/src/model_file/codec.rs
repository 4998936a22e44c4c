//! The two records of a model file that are bincode: the only file that names the crate.
//!
//! Encoding follows from serde's derives. Decoding goes field by field, because a derived `Vec` grows by doubling
//! to twice what the bytes hold, and a list of 20-byte records becomes one of 100-byte structs: every list here has
//! its own limit.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, legacy};
use bincode::de::read::{Reader, SliceReader};
use bincode::de::{Decode, Decoder, DecoderImpl};
use bincode::error::DecodeError;
use bincode::serde::Compat;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::error;
use super::contents::{
    InnerValue, MAX_CLASSES, MAX_MEANS, ModelMeta, MultiLabel, Origin, Preprocessing, Rejection,
    RejectionScore, TrainingState, WeightType,
};
use crate::error::EngineError;
use crate::geometry::MAX_DIM;
use crate::graph::{Activation, Graph, MAX_INNER_VALUES, MAX_INPUTS, MAX_NODES, Node, Op};
use crate::quantization::{LayerScale, Quantization, ValueScale};

/// Largest record in bytes: 65,536 class names of 256 bytes, 4,096 layers and their tensors fit.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 25;
/// What messages call the record of [`Quantization`].
const QUANTIZATION: &str = "int8 section";
/// Largest number of optimiser buffers: Adam keeps two.
pub(super) const MAX_MOMENTS: usize = 8;

/// Fixed-width little-endian integers, u32 enum tags, u64 lengths: the bytes of bincode 1.
type Config = Configuration<LittleEndian, Fixint, Limit<MAX_RECORD_BYTES>>;
const CONFIG: Config = legacy().with_limit::<MAX_RECORD_BYTES>();

/// One row of the tensor table.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    /// First byte, counted from the start of the tensor section.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) bytes: u64,
}

pub(super) struct Header {
    pub(super) graph: Graph,
    pub(super) meta: ModelMeta,
    pub(super) weights: WeightType,
    pub(super) tensors: Vec<Tensor>,
}

/// The first version of the format that can say what a model is. It is the one that is written, so that a model has one
/// file and keeps its hash when the format learns something new.
pub(super) fn version(graph: &Graph, meta: &ModelMeta, weights: WeightType) -> u32 {
    let weights = match weights {
        WeightType::F32 => 1,
        WeightType::F16 => 3,
    };
    let origin = match &meta.origin {
        Origin::Trained(_) => 1,
        Origin::Imported(_) => 2,
    };
    let temperature = if meta.temperature.is_some() { 4 } else { 1 };
    let rejection = meta.rejection.as_ref().map_or(1, first_version_of_rejection);
    let labels = if meta.multi_label.is_some() { 7 } else { 1 };
    let meta = [weights, origin, temperature, rejection, labels];
    graph.nodes.iter().map(|node| first_version(&node.op)).chain(meta).fold(1, u32::max)
}

/// The first version that has a rule for unknown images.
fn first_version_of_rejection(rejection: &Rejection) -> u32 {
    let inner = rejection.score == RejectionScore::Inner || !rejection.inner.is_empty();
    if inner || rejection.strange > 0 { 6 } else { 5 }
}

/// A rejection as version 5 has it.
type Plain<'a> = (&'a RejectionScore, f32, f32, u64, f32, f32, &'a [f32]);

fn plain(rejection: &Rejection) -> Plain<'_> {
    let Rejection { score, threshold, false_rejects, images, area, detected, means, .. } = rejection;
    (score, *threshold, *false_rejects, *images, *area, *detected, means)
}

/// The first version that has an operation.
fn first_version(op: &Op) -> u32 {
    match op {
        Op::Conv2d(_)
        | Op::MaxPool2d(_)
        | Op::AvgPool2d(_)
        | Op::GlobalAvgPool
        | Op::GlobalMaxPool
        | Op::Dense(_)
        | Op::BatchNorm(_)
        | Op::Activation(Activation::Relu | Activation::Relu6 | Activation::Gelu | Activation::Silu)
        | Op::Dropout { .. }
        | Op::Flatten
        | Op::Add => 1,
        Op::Activation(Activation::Sigmoid) | Op::Concat | Op::ChannelScale => 2,
        Op::Activation(
            Activation::HardSigmoid
            | Activation::HardSwish
            | Activation::Tanh
            | Activation::LeakyRelu { .. }
            | Activation::Clip { .. },
        )
        | Op::ChannelGather { .. } => 8,
    }
}

/// The header in the [`version`] of its model.
pub(super) fn encode_header(
    graph: &Graph,
    meta: &ModelMeta,
    weights: WeightType,
    tensors: &[Tensor],
) -> Result<Vec<u8>, EngineError> {
    let ModelMeta { name, classes, preprocessing, metrics, temperature, rejection, multi_label, origin } =
        meta;
    match (version(graph, meta, weights), origin) {
        (1, Origin::Trained(trained)) => {
            encode((graph, (name, classes, preprocessing, metrics, trained), tensors), "header")
        }
        (version, _) => {
            let meta = (name, classes, preprocessing, metrics, origin);
            match version {
                1 | 2 => encode((graph, meta, tensors), "header"),
                3 => encode((graph, meta, weights, tensors), "header"),
                4 => encode((graph, meta, weights, temperature, tensors), "header"),
                5 => {
                    let rejection = rejection.as_ref().map(plain);
                    encode((graph, meta, weights, temperature, rejection, tensors), "header")
                }
                _ => {
                    let more = |rejection| (plain(rejection), rejection.strange, &rejection.inner);
                    let rejection = rejection.as_ref().map(more);
                    match version {
                        6 => encode((graph, meta, weights, temperature, rejection, tensors), "header"),
                        _ => encode(
                            (graph, meta, weights, temperature, rejection, multi_label, tensors),
                            "header",
                        ),
                    }
                }
            }
        }
    }
}

pub(super) fn decode_header(bytes: &[u8], file_version: u32) -> Result<Header, EngineError> {
    let mut record = Record::new(bytes, "header")?;
    let input = record.value()?;
    let nodes = record.list("layers", MAX_NODES, 20, |r| {
        Ok(Node {
            name: r.text()?,
            op: r.value()?,
            inputs: r.list("inputs of a layer", MAX_INPUTS, 4, Record::value)?,
        })
    })?;
    let name = record.text()?;
    let classes = record.list("classes", MAX_CLASSES, 8, Record::text)?;
    let preprocessing = Preprocessing {
        width: record.value()?,
        height: record.value()?,
        channels: record.value()?,
        fit: record.value()?,
        mean: record.list("means", usize::from(u8::MAX), 4, Record::value)?,
        std: record.list("deviations", usize::from(u8::MAX), 4, Record::value)?,
    };
    let metrics = record.value()?;
    let origin = match file_version {
        1 => Origin::Trained(record.value()?),
        _ => record.value()?,
    };
    let weights = match file_version {
        1 | 2 => WeightType::F32,
        _ => record.value()?,
    };
    let temperature = match file_version {
        1..=3 => None,
        _ => record.value()?,
    };
    let rejection = match file_version {
        1..=4 => None,
        _ => record.rejection(file_version)?,
    };
    let multi_label = match file_version {
        1..=6 => None,
        _ => record.multi_label()?,
    };
    let meta =
        ModelMeta { name, classes, preprocessing, metrics, temperature, rejection, multi_label, origin };
    // A batch normalisation has the most tensors: four.
    let tensors = record.list("tensors", 4 * MAX_NODES, 32, |r| {
        Ok(Tensor {
            name: r.text()?,
            shape: r.list("dimensions of a tensor", 4, 8, Record::value)?,
            offset: r.value()?,
            bytes: r.value()?,
        })
    })?;
    record.end()?;
    let graph = Graph { input, nodes };
    let expected = version(&graph, &meta, weights);
    if expected != file_version {
        return Err(error(format!(
            "format version {file_version} for a model that version {expected} is for: make or copy the file again"
        )));
    }
    Ok(Header { graph, meta, weights, tensors })
}

/// The state without its moments, and their number.
pub(super) fn encode_training(state: &TrainingState) -> Result<Vec<u8>, EngineError> {
    encode((&state.optimizer, state.step, &state.extra, state.moments.len() as u32), "training state")
}

/// The state without its moments, and how many there are.
pub(super) fn decode_training(bytes: &[u8]) -> Result<(TrainingState, usize), EngineError> {
    let mut record = Record::new(bytes, "training state")?;
    let (optimizer, step, extra) = (record.text()?, record.value()?, record.text()?);
    let moments = record.value::<u32>()? as usize;
    record.end()?;
    Ok((TrainingState { optimizer, step, moments: Vec::new(), extra }, moments))
}

/// The scales of a network in 8 bits.
pub(super) fn encode_quantization(quantization: &Quantization) -> Result<Vec<u8>, EngineError> {
    encode(quantization, QUANTIZATION)
}

/// The scales of a network in 8 bits, of which nothing is checked but their form.
pub(super) fn decode_quantization(bytes: &[u8]) -> Result<Quantization, EngineError> {
    let mut record = Record::new(bytes, QUANTIZATION)?;
    let channels = MAX_DIM;
    let values = record.list("values", MAX_NODES + 1, 17, |r| {
        Ok(ValueScale {
            value: r.value()?,
            scale: r.value()?,
            zero: r.value()?,
            factors: r.list("factors", channels, 4, Record::value)?,
        })
    })?;
    let layers = record.list("layers", MAX_NODES, 20, |r| {
        Ok(LayerScale {
            node: r.value()?,
            weights: r.list("scales of filters", channels, 4, Record::value)?,
            bias: r.list("corrections of biases", channels, 4, Record::value)?,
        })
    })?;
    record.end()?;
    Ok(Quantization { values, layers })
}

fn encode(value: impl Serialize, what: &str) -> Result<Vec<u8>, EngineError> {
    let bytes = bincode::serde::encode_to_vec(value, CONFIG)
        .map_err(|cause| error(format!("{what} cannot be encoded: {cause}")))?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(too_long(what, bytes.len()));
    }
    Ok(bytes)
}

fn too_long(what: &str, bytes: usize) -> EngineError {
    error(format!("{what} of {bytes} bytes is longer than {MAX_RECORD_BYTES}"))
}

/// A record being read: bytes, and a decoder whose limit is their number.
struct Record<'a> {
    decoder: DecoderImpl<SliceReader<'a>, Config, ()>,
    what: &'static str,
}

impl<'a> Record<'a> {
    fn new(bytes: &'a [u8], what: &'static str) -> Result<Self, EngineError> {
        let unused = MAX_RECORD_BYTES.checked_sub(bytes.len()).ok_or_else(|| too_long(what, bytes.len()))?;
        let mut record = Record { decoder: DecoderImpl::new(SliceReader::new(bytes), CONFIG, ()), what };
        // bincode allocates a text of any declared length that its limit allows. The limit is a constant; with
        // the excess claimed beforehand, what is left of it is what is left of the bytes.
        record.decoder.claim_bytes_read(unused).map_err(|error| damaged(what, &error))?;
        Ok(record)
    }

    fn value<T: DeserializeOwned>(&mut self) -> Result<T, EngineError> {
        let value = Compat::<T>::decode(&mut self.decoder).map_err(|error| damaged(self.what, &error))?;
        Ok(value.0)
    }

    fn text(&mut self) -> Result<String, EngineError> {
        String::decode(&mut self.decoder).map_err(|error| damaged(self.what, &error))
    }

    /// An optional [`Rejection`].
    fn rejection(&mut self, file_version: u32) -> Result<Option<Rejection>, EngineError> {
        match self.value::<u8>()? {
            0 => Ok(None),
            1 => {
                let mut rejection = Rejection {
                    score: self.value()?,
                    threshold: self.value()?,
                    false_rejects: self.value()?,
                    images: self.value()?,
                    area: self.value()?,
                    detected: self.value()?,
                    strange: 0,
                    means: self.list("class means", MAX_MEANS, 4, Record::value)?,
                    inner: Vec::new(),
                };
                if file_version > 5 {
                    rejection.strange = self.value()?;
                    rejection.inner = self.list("inner values", MAX_INNER_VALUES, 24, Record::inner_value)?;
                }
                Ok(Some(rejection))
            }
            tag => Err(error(format!("{} has the option {tag}, neither 0 nor 1", self.what))),
        }
    }

    fn inner_value(&mut self) -> Result<InnerValue, EngineError> {
        Ok(InnerValue {
            value: self.value()?,
            scale: self.value()?,
            whitening: self.list("floats of a whitening", MAX_MEANS, 4, Record::value)?,
            means: self.list("class means", MAX_MEANS, 4, Record::value)?,
        })
    }

    /// An optional [`MultiLabel`].
    fn multi_label(&mut self) -> Result<Option<MultiLabel>, EngineError> {
        match self.value::<u8>()? {
            0 => Ok(None),
            1 => Ok(Some(MultiLabel {
                thresholds: self.list("thresholds", MAX_CLASSES, 4, Record::value)?,
                quality: self.value()?,
            })),
            tag => Err(error(format!("{} has the option {tag}, neither 0 nor 1", self.what))),
        }
    }

    /// At most `max` items of at least `min_bytes` in the file; room is made only for what can be there.
    fn list<T>(
        &mut self,
        items: &str,
        max: usize,
        min_bytes: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, EngineError>,
    ) -> Result<Vec<T>, EngineError> {
        let len = self.value::<u64>()?;
        if len > max as u64 {
            return Err(error(format!("{} declares {len} {items}, more than {max}", self.what)));
        }
        if self.decoder.reader().peek_read(min_bytes * len as usize).is_none() {
            return Err(damaged(self.what, &DecodeError::LimitExceeded));
        }
        let mut list = Vec::with_capacity(len as usize);
        for _ in 0..len {
            list.push(item(self)?);
        }
        Ok(list)
    }

    fn end(mut self) -> Result<(), EngineError> {
        match self.decoder.reader().peek_read(1) {
            Some(_) => Err(error(format!("{} has bytes after its end", self.what))),
            None => Ok(()),
        }
    }
}

fn damaged(what: &str, cause: &DecodeError) -> EngineError {
    let how = match cause {
        DecodeError::UnexpectedEnd { .. } | DecodeError::LimitExceeded => "ends early",
        DecodeError::Utf8 { .. } => "holds text that is not UTF-8",
        _ => "holds an impossible value",
    };
    error(format!("{what} {how}: make or copy the file again"))
}
