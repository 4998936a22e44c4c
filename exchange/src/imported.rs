//! What is read from the files of other programs, and what whoever imports one says of it.

use std::fmt;

use ocelli_common::preprocessing::Fit;
use ocelli_engine::{Model, Quantization};

/// Formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A protobuf of a graph, <https://onnx.ai>.
    Onnx,
    /// HDF5 as Keras writes it: `.h5`.
    KerasH5,
    /// A ZIP of a configuration and weights, as Keras 3 writes it: `.keras`.
    Keras,
    /// Named tensors behind a header in JSON.
    Safetensors,
    /// A pickled state dict of PyTorch: `.pth`, `.pt`, `.bin`.
    Torch,
}

impl Format {
    /// What messages and model files call it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Onnx => "onnx",
            Format::KerasH5 => "keras-h5",
            Format::Keras => "keras",
            Format::Safetensors => "safetensors",
            Format::Torch => "pytorch",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the person who imports a file says of it.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Height and width of the input, where the file leaves them open or they shall be others.
    pub size: Option<(u32, u32)>,
    /// A network of the zoo, for files that hold weights alone.
    pub network: Option<String>,
}

/// What the numbers at the end of the network in the file are; the model that comes of it gives logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Logits, or nobody knows: a state dict does not say.
    Logits,
    /// Probabilities of classes that exclude each other; the softmax is left out of the model.
    Softmax,
    /// Probabilities of labels, each by itself; the sigmoid is left out of the model.
    Sigmoid,
    /// The probability of the second of two classes by a sigmoid: the model has two logits, the first of which is 0.
    Binary,
}

/// How pixels become the network's input, as far as the file says it: in metadata, or in layers that were left out of the
/// model for it. All in units of 0..=1 for a pixel, as [`Preprocessing`](ocelli_common::preprocessing::Preprocessing) has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputRule {
    /// Subtracted from each channel, and what each is then divided by.
    pub mean_std: Option<(Vec<f32>, Vec<f32>)>,
    /// What happens to images of another aspect ratio.
    pub fit: Option<Fit>,
}

/// A model of another program.
#[derive(Clone, Debug)]
pub struct Import {
    /// The network, its input's size and its weights.
    pub model: Model,
    /// Format of the file.
    pub format: Format,
    /// The program that wrote the file, with its version, as the file says; may be empty.
    pub producer: String,
    /// What the network's last numbers are.
    pub head: Head,
    /// Class names in the order of the logits, where the file has them.
    pub labels: Option<Vec<String>>,
    /// How pixels become the input, as far as the file says it.
    pub input: InputRule,
    /// What logits are divided by before they become probabilities, positive and finite, where our own export says it.
    pub temperature: Option<f32>,
    /// For a [`Head::Sigmoid`], from which probability on an image has each label, in `0..=1`, where our own export says it.
    pub thresholds: Option<Vec<f32>>,
    /// Scales of a network in 8 bits, where the file has them.
    pub quantization: Option<Quantization>,
    /// What whoever imports the file should know: layers that were left out, and so on.
    pub notes: Vec<String>,
}
