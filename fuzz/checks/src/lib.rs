//! What the readers of foreign bytes must hold for any input whatever: one function for each kind of input. Under
//! libFuzzer (`make fuzz`) they see millions of inputs, in the ordinary test of this crate the seeds and every input that
//! once failed (`fuzz/kept`).
//!
//! A reader may refuse an input; it may not panic, hang, take memory without bound, or contradict itself. Panics of
//! decoders of other people, which the product catches and reports as a damaged file, are no failure.
#![deny(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failed check fails like a test")]

mod archives;
mod arrays;
mod disk;
mod exchange;
mod images;
mod keras;
#[allow(unsafe_code, reason = "an allocator that counts")]
#[path = "../../../exchange/tests/memory/mod.rs"]
mod memory;
mod model_file;
mod networks;
mod packed;
mod requests;
mod state_dicts;
mod tables;

use std::sync::Once;

/// A kind of input: what checks it, and inputs to begin with.
pub struct Target {
    /// The name of the program under `fuzz/targets` and of the folder under `fuzz/kept`.
    pub name: &'static str,
    /// Panics when something does not hold for an input.
    pub check: fn(&[u8]),
    /// Inputs from which others are made.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All kinds.
pub const TARGETS: [Target; 23] = [
    Target { name: "model_file", check: model_file::check, seeds: model_file::seeds },
    Target { name: "network_file", check: networks::check, seeds: networks::seeds },
    Target { name: "zip_folder", check: archives::folder, seeds: archives::seeds },
    Target { name: "zip_upload", check: archives::upload, seeds: archives::seeds },
    Target { name: "image_jpeg", check: |data| images::check(data, "jpg"), seeds: images::jpeg },
    Target { name: "image_png", check: |data| images::check(data, "png"), seeds: images::png },
    Target { name: "image_webp", check: |data| images::check(data, "webp"), seeds: images::webp },
    Target { name: "image_gif", check: |data| images::check(data, "gif"), seeds: images::gif },
    Target { name: "image_bmp", check: |data| images::check(data, "bmp"), seeds: images::bmp },
    Target { name: "image_tiff", check: |data| images::check(data, "tif"), seeds: images::tiff },
    Target { name: "idx", check: arrays::idx, seeds: arrays::idx_seeds },
    Target { name: "cifar", check: arrays::cifar, seeds: arrays::cifar_seeds },
    Target { name: "table", check: tables::check, seeds: tables::seeds },
    Target { name: "multipart", check: requests::multipart, seeds: requests::multipart_seeds },
    Target { name: "json", check: requests::json, seeds: requests::json_seeds },
    Target { name: "state_dict", check: state_dicts::check, seeds: state_dicts::seeds },
    Target { name: "safetensors", check: state_dicts::check, seeds: state_dicts::safetensors },
    Target { name: "tensors", check: requests::tensors, seeds: requests::tensors_seeds },
    Target { name: "onnx", check: exchange::onnx, seeds: exchange::onnx_seeds },
    Target { name: "keras", check: keras::archive, seeds: keras::archive_seeds },
    Target { name: "keras_config", check: keras::config, seeds: keras::config_seeds },
    Target { name: "keras_h5", check: keras::h5, seeds: keras::h5_seeds },
    Target { name: "packed", check: packed::check, seeds: packed::seeds },
];

/// Checks an input of the kind `name`, for the programs under `fuzz/targets`.
///
/// # Panics
/// When something does not hold, or there is no such kind.
pub fn check(name: &str, data: &[u8]) {
    panics_of_libraries_are_caught();
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no kind of input is called {name}")).check)(data);
}

/// Replaces libFuzzer's hook, which ends the process at any panic: those inside of libraries go on to where the product
/// catches them.
fn panics_of_libraries_are_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map_or("", |location| location.file());
            if !file.contains("registry") {
                before(info);
            }
        }));
    });
}

/// What an error says must fit on one line and say something.
fn says_something(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "an error that says {text:?}");
}
