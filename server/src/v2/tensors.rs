//! From one input tensor to images. What its shape announces is compared with the model and with the limits before any
//! of its values is looked at, and no more is kept than came in the body.

use std::fmt;

use bytes::Bytes;
use ocelli_pipeline::{Pixels, Prepared};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::http::payload;
use crate::http::problem::Problem;
use crate::http::text::{plain, shown};
use crate::v2::expected::{Expected, IMAGE, PIXELS, bad};

/// Steps of a 16-bit image in one step of an 8-bit one: 65,535 / 255.
const STEPS: f32 = 257.0;

/// Where the values of a tensor are.
#[derive(Clone, Debug)]
pub(super) enum Data<'a> {
    /// Little-endian, row by row.
    Raw(Bytes),
    /// Arrays nested as the shape says, or one flat array.
    Json(&'a RawValue),
}

/// The images of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Images {
    /// Image files.
    Encoded(Vec<Bytes>),
    /// Pixels of the network's size.
    Prepared(Vec<Prepared>),
}

/// Reads the input `name`.
pub(super) fn read(
    name: &str,
    datatype: &str,
    shape: &[u64],
    data: Data<'_>,
    expected: &Expected,
) -> Result<Images, Problem> {
    match (name, datatype) {
        (PIXELS, "FP32" | "UINT8") => {
            check_pixels(shape, expected)?;
            let images =
                if datatype == "FP32" { fp32(data, shape, expected) } else { uint8(data, shape, expected) };
            images.map(Images::Prepared)
        }
        (IMAGE, "BYTES") => {
            check_files(shape, expected)?;
            files(data, shape).map(Images::Encoded)
        }
        (PIXELS, _) => Err(wrong(PIXELS, format!("datatype {}; expected FP32 or UINT8", shown(datatype)))),
        (IMAGE, _) => Err(wrong(IMAGE, format!("datatype {}; expected BYTES", shown(datatype)))),
        _ => Err(bad(format!("input \"{}\" is unknown; send \"{PIXELS}\" or \"{IMAGE}\"", shown(name)))),
    }
}

/// The one tensor that a body without JSON is: pixels if its length is that of an image as FP32 or as UINT8, else an
/// image file.
pub(super) fn of_body(body: &Bytes, expected: &Expected) -> Result<Images, Problem> {
    let Expected { input, .. } = expected;
    let shape = [1, input.height.into(), input.width.into(), input.channels.into()];
    let (data, values) = (Data::Raw(body.clone()), expected.values());
    match body.len() {
        0 => Err(Problem::NoImage),
        length if length == 4 * values => fp32(data, &shape, expected).map(Images::Prepared),
        length if length == values => uint8(data, &shape, expected).map(Images::Prepared),
        _ => Ok(Images::Encoded(vec![body.clone()])),
    }
}

fn wrong(input: &str, reason: String) -> Problem {
    bad(format!("input \"{input}\": {reason}"))
}

/// Afterwards the shape is `[n, height, width, channels]`, and its product is below 2^64: at most 1,024 images of
/// 4,096 by 4,096 by 3.
fn check_pixels(shape: &[u64], expected: &Expected) -> Result<(), Problem> {
    let input = expected.input;
    let own: [u64; 3] = [input.height.into(), input.width.into(), input.channels.into()];
    match shape {
        [images, rest @ ..] if *rest == own && *images > 0 => check_count(*images, expected),
        _ => {
            let [h, w, c] = own;
            let reason = format!("shape {shape:?}; expected [n, {h}, {w}, {c}], n images from 1 on");
            Err(wrong(PIXELS, reason))
        }
    }
}

fn check_files(shape: &[u64], expected: &Expected) -> Result<(), Problem> {
    match shape {
        [images] | [images, 1] if *images > 0 => check_count(*images, expected),
        _ => Err(wrong(IMAGE, format!("shape {shape:?}; expected [n] or [n, 1], n files from 1 on"))),
    }
}

fn check_count(images: u64, expected: &Expected) -> Result<(), Problem> {
    let limit = expected.images;
    if images > limit as u64 { Err(Problem::TooManyImages { limit }) } else { Ok(()) }
}

/// Values of a shape that was checked.
fn count(shape: &[u64]) -> u64 {
    shape.iter().product()
}

fn fp32(data: Data<'_>, shape: &[u64], expected: &Expected) -> Result<Vec<Prepared>, Problem> {
    let values = expected.values();
    match data {
        Data::Raw(bytes) => {
            check_length(&bytes, 4 * count(shape), "FP32")?;
            let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let images = bytes.chunks_exact(4 * values).enumerate();
            images.map(|(i, image)| prepare(i * values, image.chunks_exact(4).map(number))).collect()
        }
        Data::Json(text) => {
            let numbers: Vec<f32> = parse(PIXELS, text, shape)?;
            let images = numbers.chunks_exact(values).enumerate();
            images.map(|(i, image)| prepare(i * values, image.iter().copied())).collect()
        }
    }
}

fn uint8(data: Data<'_>, shape: &[u64], expected: &Expected) -> Result<Vec<Prepared>, Problem> {
    let bytes = match data {
        Data::Raw(bytes) => {
            check_length(&bytes, count(shape), "UINT8")?;
            bytes
        }
        Data::Json(text) => parse::<Vec<u8>>(PIXELS, text, shape)?.into(),
    };
    let images = bytes.chunks_exact(expected.values());
    Ok(images.map(|image| Prepared { pixels: Pixels::U8(image.to_vec()) }).collect())
}

fn check_length(bytes: &Bytes, length: u64, datatype: &str) -> Result<(), Problem> {
    if bytes.len() as u64 == length {
        return Ok(());
    }
    let found = bytes.len();
    Err(wrong(PIXELS, format!("{found} bytes of data; this shape of {datatype} has {length}")))
}

/// One image; `first` is the place of its first value in the tensor.
///
/// Whole numbers keep to 8 bits, which gives the same bits as 16: `257 v / 65535` and `v / 255` are one fraction,
/// rounded once.
fn prepare(first: usize, values: impl Iterator<Item = f32> + Clone) -> Result<Prepared, Problem> {
    let mut whole = true;
    for (index, value) in values.clone().enumerate() {
        if !(0.0..=255.0).contains(&value) {
            let index = first + index;
            return Err(wrong(
                PIXELS,
                format!("value {index} is {value}; pixels go from 0 to 255, as decoded"),
            ));
        }
        whole &= value.fract() == 0.0;
    }
    let pixels = if whole {
        Pixels::U8(values.map(|value| value as u8).collect())
    } else {
        Pixels::U16(values.map(|value| (value * STEPS).round() as u16).collect())
    };
    Ok(Prepared { pixels })
}

fn files(data: Data<'_>, shape: &[u64]) -> Result<Vec<Bytes>, Problem> {
    let mut rest = match data {
        Data::Raw(bytes) => bytes,
        Data::Json(text) => return parse(IMAGE, text, shape),
    };
    let count = count(shape);
    let mut files = Vec::new();
    for index in 0..count {
        let ends = || wrong(IMAGE, format!("the data ends inside of file {} of {count}", index + 1));
        let length = rest.split_first_chunk::<4>().ok_or_else(ends)?.0;
        let length = u32::from_le_bytes(*length) as usize;
        let mut file = rest.split_off(4);
        if length > file.len() {
            return Err(ends());
        }
        rest = file.split_off(length);
        files.push(file);
    }
    if rest.is_empty() {
        Ok(files)
    } else {
        Err(wrong(IMAGE, format!("{} bytes are left over behind {count} files", rest.len())))
    }
}

/// Reads a JSON tensor of a shape.
fn parse<S: Sink>(input: &str, text: &RawValue, shape: &[u64]) -> Result<S, Problem> {
    // A value takes two bytes at least, itself and a comma: what is announced and not sent takes no memory.
    let room = count(shape).min(text.get().len() as u64 / 2 + 1);
    let (mut sink, mut leaves) = (S::with_room(room as usize), None);
    let level = Level { sink: &mut sink, most: count(shape), shape, depth: 0, leaves: &mut leaves };
    let mut json = serde_json::Deserializer::from_str(text.get());
    level.deserialize(&mut json).map_err(|error| wrong(input, plain(&error.to_string())))?;
    if sink.len() as u64 == count(shape) {
        return Ok(sink);
    }
    Err(wrong(input, format!("{} values in data; shape {shape:?} has {}", sink.len(), count(shape))))
}

/// Takes values one after the other.
trait Sink: Sized {
    const VALUES: &'static str;

    fn with_room(values: usize) -> Self;
    fn number(&mut self, value: f64) -> bool;
    /// Otherwise what the text is, as the end of a sentence.
    fn text(&mut self, _: &str) -> Result<(), String> {
        Err("a text".to_owned())
    }
    fn len(&self) -> usize;
}

impl Sink for Vec<f32> {
    const VALUES: &'static str = "numbers";

    fn with_room(values: usize) -> Self {
        Vec::with_capacity(values)
    }

    fn number(&mut self, value: f64) -> bool {
        self.push(value as f32);
        true
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl Sink for Vec<u8> {
    const VALUES: &'static str = "whole numbers from 0 to 255";

    fn with_room(values: usize) -> Self {
        Vec::with_capacity(values)
    }

    fn number(&mut self, value: f64) -> bool {
        let fits = (0.0..=255.0).contains(&value) && value.fract() == 0.0;
        if fits {
            self.push(value as u8);
        }
        fits
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl Sink for Vec<Bytes> {
    const VALUES: &'static str = "image files as base64 texts";

    fn with_room(_: usize) -> Self {
        Vec::new()
    }

    fn number(&mut self, _: f64) -> bool {
        false
    }

    fn text(&mut self, value: &str) -> Result<(), String> {
        self.push(payload::base64(value).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// One level of arrays, from the outermost at depth 0; at the depth of the shape are the values.
struct Level<'s, S> {
    sink: &'s mut S,
    /// Most values that are kept.
    most: u64,
    shape: &'s [u64],
    depth: usize,
    /// Depth of the values, once there was one: that of the shape, or 1 for a flat array.
    leaves: &'s mut Option<usize>,
}

impl<S: Sink> Level<'_, S> {
    /// Gives a value to `take`, which says what it is where it is no right one.
    fn leaf<E: Error>(self, take: impl FnOnce(&mut S) -> Result<(), String>) -> Result<(), E> {
        let depth = *self.leaves.get_or_insert(self.depth);
        if depth != self.depth || (depth != 1 && depth != self.shape.len()) {
            return Err(E::custom(format!("data is nested otherwise than shape {:?}", self.shape)));
        }
        if self.sink.len() as u64 == self.most {
            return Err(E::custom(format!("more values in data than shape {:?} has", self.shape)));
        }
        take(self.sink)
            .map_err(|what| E::custom(format!("value {} is {what}; expected {}", self.sink.len(), S::VALUES)))
    }

    fn number<E: Error>(self, value: f64, what: impl fmt::Display) -> Result<(), E> {
        self.leaf(|sink| sink.number(value).then_some(()).ok_or_else(|| what.to_string()))
    }
}

impl<'de, S: Sink> DeserializeSeed<'de> for Level<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Level<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {}", S::VALUES)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.number(value as f64, value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.number(value as f64, value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.number(value, value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.leaf(|sink| sink.text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Level { sink, most, shape, depth, leaves } = self;
        let mut items = 0_u64;
        loop {
            let inner = Level { sink, most, shape, depth: depth + 1, leaves };
            if seq.next_element_seed(inner)?.is_none() {
                break;
            }
            items += 1;
        }
        // Of a flat array, the number of values is compared at the end.
        let flat = depth == 0 && *leaves == Some(1);
        if flat || shape.get(depth) == Some(&items) {
            return Ok(());
        }
        Err(A::Error::custom(format!("{items} items at depth {depth} do not fit shape {shape:?}")))
    }
}
