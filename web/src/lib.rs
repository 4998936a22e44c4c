//! A page that classifies images in a browser, with the model inside and without a server or a network.
//!
//! One crate, two halves. On a machine [`page()`] writes the page: HTML with its scripts and styles, the model, and the
//! other half as WebAssembly (`web/ocelli_web.wasm`, made by `make web`). For WebAssembly the crate is that other half:
//! [`Classifier`] decodes, resizes and computes with the code of `ocelli predict`, and `abi.rs` has the functions
//! that the page's script calls.
//!
//! ```no_run
//! let model = std::fs::read("model.ocelli")?;
//! std::fs::write("model.html", ocelli_web::page(&model, "Mushrooms")?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "functions with names that the page's script knows")]
mod abi;
mod classifier;
#[cfg(not(target_arch = "wasm32"))]
mod page;
#[cfg(not(target_arch = "wasm32"))]
mod program;

pub use classifier::{Answer, Classifier, ClassifierError, Description, Ranked};
#[cfg(not(target_arch = "wasm32"))]
pub use page::{PageError, page, page_with};
