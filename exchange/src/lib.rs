//! Models of other programs: read into the engine's form, and written in theirs.
//!
//! | folder | files | what decides there |
//! |---|---|---|
//! | `onnx/` | `.onnx` | `proto` is the generated code, the rest turns nodes in NCHW into layers in NHWC and back |
//! | `keras/` | `.h5`, `.keras` | `hdf5` is the library, `config` the network as JSON |
//! | `torch/` | `.pth`, `.safetensors` | `pickle` reads state dicts and runs nothing; `names` are those of the zoo's networks elsewhere |
//! | `npz.rs` | `.npz` | arrays for NumPy, out alone |
//! | `archive.rs` | | the library for ZIP archives |
//!
//! A file is untrusted: it is read without running anything of it, and nothing is allocated from a number in it before that
//! many bytes are known to be there. All together an import takes at most ten times the bytes of its file, and a few
//! mebibytes.
#![forbid(unsafe_code)]

mod archive;
mod error;
mod export;
mod import;
mod imported;
mod network;
mod npz;
mod target;
mod torch;

pub use error::{ExchangeError, Unsupported};
pub use export::{ExportOptions, Numbers, Target, export};
pub use import::{Format, Head, Import, ImportOptions, InputRule, import};
