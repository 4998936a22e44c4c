//! The Python module `ocelli`: models that label images, as `ocelli predict` does.
//!
//! Everything that has to do with images and models is in `ocelli_pipeline`; here Python objects become its arguments
//! ([`input`]) and its answers Python objects ([`answer`], [`arrays`]). Python's lock is released while files are read, decoded
//! and computed ([`model`]).
#![forbid(unsafe_code)]

mod answer;
mod arrays;
mod error;
mod input;
mod model;
mod process;

/// Image classification on CPUs.
///
/// `ocelli.load(path)` opens a model, `model.predict(x)` says what an image shows: the bytes of an image file, a path, an array of
/// pixels or a PIL image, or a list of these.
#[pyo3::pymodule]
mod ocelli {
    #[pymodule_export]
    use crate::answer::{LabelAnswer, Prediction, Ranked};
    #[pymodule_export]
    use crate::error::OcelliError;
    #[pymodule_export]
    use crate::model::{Model, Preprocessing, load};

    /// The version of the program that this module was built with.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python has for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
