//! The messages of ONNX that a network needs, as views of the file's bytes. Numbers of fields are those of `onnx.proto`,
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

use super::field;
use super::tensor::Tensor;
use super::wire::{Fields, Value, floats, varints};

/// A file: who wrote it, its operators' version, its graph.
#[derive(Default)]
pub(super) struct ModelView<'a> {
    pub(super) producer: String,
    /// Version of the standard operators; 0 where the file names none.
    pub(super) opset: i64,
    bytes: &'a [u8],
    /// The graph's message.
    pub(super) graph: &'a [u8],
}

/// One input or output of a graph.
pub(super) struct ValueInfo<'a> {
    pub(super) name: &'a str,
    /// Type of its numbers, by [`kind`](super::tensor::kind).
    pub(super) kind: i64,
    /// Its dimensions, `None` for those that the file leaves open; `None` where it has no shape.
    pub(super) dims: Option<Vec<Option<i64>>>,
}

/// One operation of a graph.
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) domain: &'a str,
    /// Names of values; empty for one that is left out.
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    message: &'a [u8],
}

/// The largest rank of a tensor here: networks on images need five, for shuffles of channels.
pub(super) const MAX_RANK: usize = 8;

/// Most inputs and outputs of a node that are looked at, many more than any layer has.
const MAX_NAMES: usize = 512;

impl<'a> ModelView<'a> {
    /// Reads a file; `None` for bytes that are damaged or hold no graph.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut model = ModelView { bytes, ..ModelView::default() };
        let [mut name, mut version] = [""; 2];
        for field in Fields::new(bytes) {
            match (field.number, field.value) {
                (field::MODEL_PRODUCER_NAME, Value::Bytes(bytes)) => name = text(bytes),
                (field::MODEL_PRODUCER_VERSION, Value::Bytes(bytes)) => version = text(bytes),
                (field::MODEL_GRAPH, Value::Bytes(bytes)) => model.graph = bytes,
                (field::MODEL_OPSET_IMPORT, Value::Bytes(bytes)) => {
                    if matches!(text_of(bytes, field::OPSET_DOMAIN), "" | "ai.onnx") {
                        model.opset = int_of(bytes, field::OPSET_VERSION).unwrap_or(0);
                    }
                }
                _ => {}
            }
        }
        model.producer = format!("{name} {version}").trim().to_owned();
        (Fields::is_whole(bytes) && !model.graph.is_empty() && Fields::is_whole(model.graph)).then_some(model)
    }

    /// The text of a key of the metadata.
    pub(super) fn metadata(&self, key: &str) -> Option<&'a str> {
        let mut entries = messages(self.bytes, field::MODEL_METADATA_PROPS);
        let entry = entries.find(|entry| text_of(entry, field::ENTRY_KEY) == key)?;
        Some(text_of(entry, field::ENTRY_VALUE))
    }

    /// The messages of the graph's nodes, in the file's order.
    pub(super) fn node_messages(&self) -> impl Iterator<Item = &'a [u8]> {
        messages(self.graph, field::GRAPH_NODE)
    }

    /// The graph's constants.
    pub(super) fn initializers(&self) -> impl Iterator<Item = Tensor<'a>> {
        messages(self.graph, field::GRAPH_INITIALIZER).map(Tensor::read)
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = ValueInfo<'a>> {
        messages(self.graph, field::GRAPH_INPUT).map(ValueInfo::read)
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = ValueInfo<'a>> {
        messages(self.graph, field::GRAPH_OUTPUT).map(ValueInfo::read)
    }
}

impl<'a> ValueInfo<'a> {
    fn read(message: &'a [u8]) -> Self {
        let name = text_of(message, field::VALUE_NAME);
        let of = |message: &'a [u8], number| messages(message, number).last();
        let tensor = of(message, field::VALUE_TYPE).and_then(|message| of(message, field::TYPE_TENSOR));
        let kind = tensor.and_then(|message| int_of(message, field::TENSOR_TYPE_ELEM)).unwrap_or(0);
        let shape = tensor.and_then(|message| of(message, field::TENSOR_TYPE_SHAPE));
        let dims = shape.map(|shape| {
            let dims = messages(shape, field::SHAPE_DIM).take(MAX_RANK + 1);
            dims.map(|dim| int_of(dim, field::DIM_VALUE).filter(|&size| size > 0)).collect()
        });
        ValueInfo { name, kind, dims }
    }
}

impl<'a> Node<'a> {
    pub(super) fn read(message: &'a [u8]) -> Self {
        let texts = |number| messages(message, number).take(MAX_NAMES).map(text).collect();
        Node {
            name: text_of(message, field::NODE_NAME),
            op: text_of(message, field::NODE_OP_TYPE),
            domain: text_of(message, field::NODE_DOMAIN),
            inputs: texts(field::NODE_INPUT),
            outputs: texts(field::NODE_OUTPUT),
            message,
        }
    }

    /// What messages call it: its name, or that of its first output.
    pub(super) fn label(&self) -> &'a str {
        if self.name.is_empty() { self.outputs.first().copied().unwrap_or("") } else { self.name }
    }

    fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        messages(self.message, field::NODE_ATTRIBUTE)
            .find(|message| text_of(message, field::ATTRIBUTE_NAME) == name)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        int_of(self.attribute(name)?, field::ATTRIBUTE_I)
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        let fields = Fields::new(self.attribute(name)?).filter(|field| field.number == field::ATTRIBUTE_F);
        fields.last().and_then(|field| floats(field.value).next())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        Some(text_of(self.attribute(name)?, field::ATTRIBUTE_S))
    }

    /// Integers of an attribute; `None` where it is not there.
    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        let of = |message| Fields::new(message).filter(|field| field.number == field::ATTRIBUTE_INTS);
        let message = self.attribute(name)?;
        let mut ints = Vec::with_capacity(of(message).map(|field| varints(field.value).count()).sum());
        of(message).for_each(|field| ints.extend(varints(field.value)));
        Some(ints)
    }

    /// Floats of an attribute; `None` where it is not there.
    pub(super) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let of = |message| Fields::new(message).filter(|field| field.number == field::ATTRIBUTE_FLOATS);
        let message = self.attribute(name)?;
        let mut all = Vec::with_capacity(of(message).map(|field| floats(field.value).count()).sum());
        of(message).for_each(|field| all.extend(floats(field.value)));
        Some(all)
    }

    pub(super) fn tensor(&self, name: &str) -> Option<Tensor<'a>> {
        messages(self.attribute(name)?, field::ATTRIBUTE_T).last().map(Tensor::read)
    }
}

/// Text of a string; empty where it is none.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("")
}

/// The messages of a repeated field.
fn messages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter(move |field| field.number == number).filter_map(|field| match field.value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    })
}

fn text_of(message: &[u8], number: u32) -> &str {
    messages(message, number).last().map_or("", text)
}

fn int_of(message: &[u8], number: u32) -> Option<i64> {
    let fields = Fields::new(message).filter(|field| field.number == number);
    fields.last().and_then(|field| varints(field.value).next())
}

/// Whether bytes begin as a model of ONNX does: its fields, from the first on, are those of the message. What ends early is
/// one, too, so that it is called damaged and not unknown.
pub(super) fn is_model(bytes: &[u8]) -> bool {
    let mut fields = Fields::new(bytes);
    let is_own = |field: &super::wire::Field<'_>| match field.value {
        Value::Varint(_) => matches!(field.number, field::MODEL_IR_VERSION | 5),
        Value::Bytes(_) => matches!(field.number, 2..=4 | 6..=8 | 14 | 20 | 25 | 26),
        _ => false,
    };
    // The version comes first in all files that are known, and is small.
    let first = fields.next();
    let begins = first.is_some_and(|field| {
        field.number == field::MODEL_IR_VERSION && matches!(field.value, Value::Varint(1..=255))
            || field.number == field::MODEL_PRODUCER_NAME && is_own(&field)
    });
    begins && fields.all(|field| is_own(&field))
}
