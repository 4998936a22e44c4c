//! The messages of ONNX as they are written.

use super::field;
use super::tensor::kind;
use super::wire::Message;

/// An attribute of a node.
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Float(&'a str, f32),
    Ints(&'a str, &'a [i64]),
}

impl Attribute<'_> {
    fn message(&self) -> Message {
        // Numbers of `AttributeProto.AttributeType`.
        let (float, int, ints) = (1, 2, 7);
        let mut message = Message::default();
        match *self {
            Attribute::Int(name, value) => {
                message.text(field::ATTRIBUTE_NAME, name).int(field::ATTRIBUTE_I, value);
                message.int(field::ATTRIBUTE_TYPE, int);
            }
            Attribute::Float(name, value) => {
                message.text(field::ATTRIBUTE_NAME, name).float(field::ATTRIBUTE_F, value);
                message.int(field::ATTRIBUTE_TYPE, float);
            }
            Attribute::Ints(name, values) => {
                message.text(field::ATTRIBUTE_NAME, name);
                for &value in values {
                    message.int(field::ATTRIBUTE_INTS, value);
                }
                message.int(field::ATTRIBUTE_TYPE, ints);
            }
        }
        message
    }
}

/// A node with one output.
pub(super) fn node(
    name: &str,
    op: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[Attribute<'_>],
) -> Message {
    let mut message = Message::default();
    for input in inputs {
        message.text(field::NODE_INPUT, input);
    }
    message.text(field::NODE_OUTPUT, output).text(field::NODE_NAME, name).text(field::NODE_OP_TYPE, op);
    for attribute in attributes {
        message.message(field::NODE_ATTRIBUTE, &attribute.message());
    }
    message
}

/// A constant of numbers of `kind` in their bytes.
pub(super) fn tensor(name: &str, dims: &[usize], kind: i64, raw: &[u8]) -> Message {
    let mut message = Message::default();
    for &dim in dims {
        message.int(field::TENSOR_DIMS, dim as i64);
    }
    message
        .int(field::TENSOR_DATA_TYPE, kind)
        .text(field::TENSOR_NAME, name)
        .bytes(field::TENSOR_RAW_DATA, raw);
    message
}

/// A value with its shape behind the batch.
pub(super) fn value(name: &str, kind: i64, dims: &[usize]) -> Message {
    let mut shape = Message::default();
    let mut batch = Message::default();
    batch.text(field::DIM_PARAM, "batch");
    shape.message(field::SHAPE_DIM, &batch);
    for &size in dims {
        let mut dim = Message::default();
        dim.int(field::DIM_VALUE, size as i64);
        shape.message(field::SHAPE_DIM, &dim);
    }
    let (mut tensor, mut of) = (Message::default(), Message::default());
    tensor.int(field::TENSOR_TYPE_ELEM, kind).message(field::TENSOR_TYPE_SHAPE, &shape);
    of.message(field::TYPE_TENSOR, &tensor);
    let mut message = Message::default();
    message.text(field::VALUE_NAME, name).message(field::VALUE_TYPE, &of);
    message
}

/// The bytes of a file: a graph with what is said of it.
pub(super) fn model(graph: &Message, metadata: &[(&str, String)]) -> Vec<u8> {
    let mut message = Message::default();
    // Version 8 of the format and 17 of the operators: ONNX Runtime reads them from 1.12 of 2022 on.
    message.int(field::MODEL_IR_VERSION, 8).text(field::MODEL_PRODUCER_NAME, "ocelli");
    message.text(field::MODEL_PRODUCER_VERSION, env!("CARGO_PKG_VERSION"));
    let mut opset = Message::default();
    opset.text(field::OPSET_DOMAIN, "").int(field::OPSET_VERSION, 17);
    message.message(field::MODEL_OPSET_IMPORT, &opset);
    for (key, value) in metadata {
        let mut entry = Message::default();
        entry.text(field::ENTRY_KEY, key).text(field::ENTRY_VALUE, value);
        message.message(field::MODEL_METADATA_PROPS, &entry);
    }
    message.message(field::MODEL_GRAPH, graph);
    message.0
}

/// The bytes of floats.
pub(super) fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Floats as a constant.
pub(super) fn floats(name: &str, dims: &[usize], values: &[f32]) -> Message {
    tensor(name, dims, kind::FLOAT, &float_bytes(values))
}
