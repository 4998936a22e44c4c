//! A layer as a network's file has it, and which settings each operation takes.

use ocelli_engine::{Activation, Op};

use crate::error::PipelineError;

/// What `inputs` calls the image.
pub(super) const IMAGE: &str = "input";
/// What stands for the number of classes, as `units` or `filters`.
pub(super) const CLASSES: &str = "classes";

/// The operations and the settings that each takes besides `op`, `name` and `inputs`.
pub(super) const OPERATIONS: [(&str, &[&str]); 23] = [
    ("conv2d", &["filters", "kernel", "stride", "padding", "dilation", "groups", "bias"]),
    ("batch_norm", &["momentum", "eps"]),
    ("relu", &[]),
    ("relu6", &[]),
    ("gelu", &[]),
    ("silu", &[]),
    ("sigmoid", &[]),
    ("hard_sigmoid", &[]),
    ("hard_swish", &[]),
    ("tanh", &[]),
    ("leaky_relu", &["slope"]),
    ("clip", &["min", "max"]),
    ("max_pool", &["kernel", "stride", "padding"]),
    ("avg_pool", &["kernel", "stride", "padding"]),
    ("global_avg_pool", &[]),
    ("global_max_pool", &[]),
    ("dense", &["units", "bias"]),
    ("dropout", &["rate"]),
    ("flatten", &[]),
    ("add", &[]),
    ("concat", &[]),
    ("channel_scale", &[]),
    ("channel_gather", &["channels"]),
];

/// The word for an operation.
pub(crate) fn word(op: &Op) -> &'static str {
    match op {
        Op::Conv2d(_) => "conv2d",
        Op::BatchNorm(_) => "batch_norm",
        Op::Activation(Activation::Relu) => "relu",
        Op::Activation(Activation::Relu6) => "relu6",
        Op::Activation(Activation::Gelu) => "gelu",
        Op::Activation(Activation::Silu) => "silu",
        Op::Activation(Activation::Sigmoid) => "sigmoid",
        Op::Activation(Activation::HardSigmoid) => "hard_sigmoid",
        Op::Activation(Activation::HardSwish) => "hard_swish",
        Op::Activation(Activation::Tanh) => "tanh",
        Op::Activation(Activation::LeakyRelu { .. }) => "leaky_relu",
        Op::Activation(Activation::Clip { .. }) => "clip",
        Op::MaxPool2d(_) => "max_pool",
        Op::AvgPool2d(_) => "avg_pool",
        Op::GlobalAvgPool => "global_avg_pool",
        Op::GlobalMaxPool => "global_max_pool",
        Op::Dense(_) => "dense",
        Op::Dropout { .. } => "dropout",
        Op::Flatten => "flatten",
        Op::Add => "add",
        Op::Concat => "concat",
        Op::ChannelScale => "channel_scale",
        Op::ChannelGather { .. } => "channel_gather",
    }
}

/// A layer of a [`NetworkFile`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub(super) name: String,
    /// Line of the file, from 1, that names the operation.
    pub(super) line: usize,
    pub(super) op: Op,
    /// Whether its units or filters are as many as there are classes; `op` holds one then.
    pub(super) of_classes: bool,
    /// Values that it reads: 0 for the image, `i + 1` for layer `i`.
    pub(super) inputs: Vec<u32>,
}

/// A user's own network, checked as far as it can be without knowing images and classes.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFile {
    /// What errors call the file.
    pub(super) file: String,
    pub(super) text: String,
    pub(super) layers: Vec<Layer>,
}

impl NetworkFile {
    /// The text as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error of the layer with this number, from 0.
    pub(super) fn layer_error(&self, number: usize, reason: impl Into<String>) -> PipelineError {
        let layer = &self.layers[number];
        PipelineError::Network {
            file: self.file.clone(),
            line: Some(layer.line),
            layer: Some(called(number, Some(&layer.name), Some(word(&layer.op)))),
            reason: reason.into(),
        }
    }
}

/// What errors call a layer, its number from 0: ``3 `fc` (dense)``.
pub(super) fn called(number: usize, name: Option<&str>, word: Option<&str>) -> String {
    let mut text = (number + 1).to_string();
    if let Some(name) = name {
        text += &format!(" `{name}`");
    }
    if let Some(word) = word {
        text += &format!(" ({word})");
    }
    text
}
