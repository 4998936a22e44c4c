//! What can be written for other programs.

/// Formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A graph for ONNX Runtime and others.
    Onnx,
    /// Named tensors, with the network and all else in the metadata.
    Safetensors,
    /// What `keras.models.load_model` of Keras 3 opens.
    Keras,
    /// Arrays for NumPy.
    Npz,
}

impl Target {
    /// What messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Target::Onnx => "onnx",
            Target::Safetensors => "safetensors",
            Target::Keras => "keras",
            Target::Npz => "npz",
        }
    }
}

/// Numbers of the weights in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16.
    F16,
    /// Bytes with the model's scales, for formats that have them.
    Int8,
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions {
    /// The format.
    pub target: Target,
    /// The weights.
    pub numbers: Numbers,
    /// Whether the graph takes pixels of 0 to 255 and normalises them itself.
    pub with_preprocess: bool,
}
