//! What people hand over as images: bytes of a file, a path, pixels, a PIL image, or several of these.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use ocelli_common::text::chain;
use ocelli_datasets::Image;
use ocelli_pipeline::{DecodeLimits, Decoder, Pixels, Prepared};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::arrays::Buffer;
use crate::error::told;

/// What is taken, for messages.
const KINDS: &str = "give the bytes of an image file, its path, a uint8 or uint16 array [h, w, c] or [h, w], a PIL image, or a list of these";

/// One image, as it was given. Nothing in it needs Python's lock.
pub(crate) enum Source {
    /// An image file.
    Encoded(PyBackedBytes),
    /// The path of one.
    File(PathBuf),
    /// Decoded pixels.
    Pixels(Image),
}

/// All images of a call.
pub(crate) enum Given {
    /// A single one, which gets a single answer.
    One(Source),
    /// Any number, which get a list.
    Several(Vec<Source>),
}

impl Given {
    /// Takes over what a caller gave; copies pixels, reads no file.
    ///
    /// # Errors
    /// `TypeError` for what is no image, `OcelliError` for an array of a wrong shape or type.
    pub(crate) fn read(x: &Bound<'_, PyAny>) -> PyResult<Given> {
        let items: Vec<Bound<'_, PyAny>> = if let Ok(list) = x.cast::<PyList>() {
            list.iter().collect()
        } else if let Ok(tuple) = x.cast::<PyTuple>() {
            tuple.iter().collect()
        } else {
            return one(x);
        };
        let sources = items.iter().enumerate().map(|(number, item)| match one(item)? {
            Given::One(source) => Ok(source),
            Given::Several(_) => Err(told(format!(
                "image {number}: an array of several images in a list; give the array itself, or a list of single images"
            ))),
        });
        Ok(Given::Several(sources.collect::<PyResult<_>>()?))
    }
}

/// An object that is no list: one image, or an array of several.
fn one(x: &Bound<'_, PyAny>) -> PyResult<Given> {
    if x.is_instance_of::<PyBytes>() || x.is_instance_of::<PyByteArray>() {
        return Ok(Given::One(Source::Encoded(x.extract()?)));
    }
    if x.is_instance_of::<PyString>() || x.hasattr("__fspath__")? {
        return Ok(Given::One(Source::File(x.extract()?)));
    }
    if is_pil_image(x)? {
        return pil_image(x).map(Given::One);
    }
    match Buffer::of(x)? {
        Some(buffer) => from_buffer(buffer),
        None => Err(PyTypeError::new_err(format!("{} is no image: {KINDS}", x.get_type().name()?))),
    }
}

/// By its classes' modules: PIL itself is not imported for this.
fn is_pil_image(x: &Bound<'_, PyAny>) -> PyResult<bool> {
    for class in x.get_type().mro() {
        if class.getattr("__module__")?.extract::<String>().is_ok_and(|module| module == "PIL.Image") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gray and RGB by their pixels; all else (palettes, alpha, 16 bits) as the PNG file that PIL makes of it, so that the one decoder
/// decides what becomes of it. Turned upright first, as files are.
fn pil_image(x: &Bound<'_, PyAny>) -> PyResult<Source> {
    let py = x.py();
    let x = py.import("PIL.ImageOps")?.call_method1("exif_transpose", (x,))?;
    let mode: String = x.getattr("mode")?.extract()?;
    let channels = match mode.as_str() {
        "L" => 1,
        "RGB" => 3,
        _ => {
            let file = py.import("io")?.call_method0("BytesIO")?;
            let options = PyDict::new(py);
            options.set_item("compress_level", 1)?;
            x.call_method("save", (&file, "PNG"), Some(&options)).map_err(|error| {
                told(format!("a PIL image of mode {mode}: {error}; convert(\"RGB\") first"))
            })?;
            return Ok(Source::Encoded(file.call_method0("getvalue")?.extract()?));
        }
    };
    let (width, height) = x.getattr("size")?.extract()?;
    let bytes: PyBackedBytes = x.call_method0("tobytes")?.extract()?;
    Ok(Source::Pixels(Image { width, height, channels, pixels: Pixels::U8(bytes.to_vec()) }))
}

/// An array: an encoded file of one dimension, one image of two or three, several of four.
fn from_buffer(buffer: Buffer) -> PyResult<Given> {
    let Buffer { format, shape, bytes } = buffer;
    let width = match format.as_str() {
        "B" => 1,
        "H" => 2,
        _ => {
            return Err(told(format!(
                "an array of type {format:?}: pixels are uint8 or uint16; for values that are normalised already there is Model.logits"
            )));
        }
    };
    let image = |height: usize, w: usize, channels: usize, bytes: &[u8]| {
        let wrong = || {
            told(format!(
                "an image of {height}x{w} pixels with {channels} channels: at most 255 channels, the last dimension, are possible"
            ))
        };
        let side = |side: usize| u32::try_from(side).map_err(|_| wrong());
        let (height, width_of, channels) =
            (side(height)?, side(w)?, u8::try_from(channels).map_err(|_| wrong())?);
        let pixels = match width {
            1 => Pixels::U8(bytes.to_vec()),
            _ => Pixels::U16(
                bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect(),
            ),
        };
        Ok(Source::Pixels(Image { width: width_of, height, channels, pixels }))
    };
    match shape[..] {
        [_] if width == 1 => Ok(Given::One(Source::Encoded(bytes))),
        [h, w] => image(h, w, 1, &bytes).map(Given::One),
        [h, w, c] => image(h, w, c, &bytes).map(Given::One),
        [0, ..] => Ok(Given::Several(Vec::new())),
        [n, h, w, c] => {
            let len = bytes.len() / n;
            let parts = (0..n).map(|i| image(h, w, c, &bytes[i * len..][..len]));
            Ok(Given::Several(parts.collect::<PyResult<_>>()?))
        }
        _ => Err(told(format!(
            "an array of shape {shape:?}: an image is [h, w] or [h, w, c], several are [n, h, w, c]"
        ))),
    }
}

/// Reads, decodes and resizes an image; the text says what is wrong with it.
pub(crate) fn prepare(source: &Source, decoder: &Decoder) -> Result<Prepared, String> {
    let prepared = match source {
        Source::Encoded(bytes) => decoder.prepare(bytes),
        Source::Pixels(image) => decoder.resize(image),
        Source::File(path) => {
            let named = |text: String| format!("{}: {text}", path.display());
            // One byte more than the decoder takes is enough to be refused.
            let limit = DecodeLimits::default().max_bytes + 1;
            let mut bytes = Vec::new();
            File::open(path)
                .and_then(|file| file.take(limit).read_to_end(&mut bytes))
                .map_err(|error| named(error.to_string()))?;
            return decoder.prepare(&bytes).map_err(|error| named(chain(&error)));
        }
    };
    prepared.map_err(|error| chain(&error))
}
