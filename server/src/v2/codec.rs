//! Bodies of inference requests: JSON, and raw tensors behind it.
//!
//! `Inference-Header-Content-Length` says where the JSON ends; without it there is nothing else, and with 0 the whole
//! body is one raw tensor. An input has its values in `data`, or says with `binary_data_size` how many of the raw bytes
//! are its own. Every length is compared with what is there, and no byte may be left over.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderName;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::http::json::{self, Object};
use crate::http::problem::Problem;
use crate::http::text::shown;
use crate::v2::expected::{Expected, IMAGE, KNOWN, PIXELS, PROBABILITIES, SCORE, bad};
use crate::v2::tensors::{self, Data, Images};

/// Length of the JSON in front of raw tensors, in requests and answers.
pub(crate) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Most inputs, outputs or dimensions that are read: three times what any valid request has.
const MAX_ITEMS: usize = 12;

/// A request, understood.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Comes back in the answer.
    pub(crate) id: Option<String>,
    pub(crate) images: Images,
    /// At least one, each at most once.
    pub(crate) outputs: Vec<Output>,
}

/// What an output tells of each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One number a class.
    Probabilities,
    /// Whether it shows a class of the model.
    Known,
    /// How little it looks like any class.
    Score,
}

/// The form in which an output is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) kind: Kind,
    /// Raw, behind the JSON.
    pub(crate) binary: bool,
    /// This many of the most likely classes as texts, in place of all probabilities.
    pub(crate) classification: Option<usize>,
}

/// Where the JSON of a request ends.
pub(crate) fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let mut values = headers.get_all(HEADER_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = value.to_str().ok().filter(digits).and_then(|text| text.parse().ok());
    match (length, values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(bad("Inference-Header-Content-Length is one number, the bytes of JSON in the body")),
    }
}

/// Reads a body. Takes time in proportion to it: not for a thread that serves connections.
pub(crate) fn read(
    body: &Bytes,
    header_length: Option<usize>,
    expected: &Expected,
) -> Result<Asked, Problem> {
    let length = header_length.unwrap_or(body.len());
    if length == 0 && header_length.is_some() {
        let outputs = vec![Output { kind: Kind::Probabilities, binary: true, classification: None }];
        return Ok(Asked { id: None, images: tensors::of_body(body, expected)?, outputs });
    }
    if length > body.len() {
        return Err(bad(format!(
            "Inference-Header-Content-Length is {length}, and the body has {} bytes",
            body.len()
        )));
    }
    let (head, raw) = (&body[..length], body.slice(length..));
    let Object(request): Object<Request<'_>> = json::parse(head, expected.json_depth)?;
    let outputs = request.outputs()?;
    let [Object(tensor)] = request.inputs.0.as_slice() else {
        let count = request.inputs.0.len();
        return Err(bad(format!(
            "the request has {count} inputs; it takes one, \"{PIXELS}\" or \"{IMAGE}\""
        )));
    };
    let data = tensor.data(raw, header_length.is_some())?;
    let images = tensors::read(&tensor.name, &tensor.datatype, &tensor.shape.0, data, expected)?;
    Ok(Asked { id: request.id, images, outputs })
}

/// The JSON of a request. Fields and parameters that are not here are let pass, as the protocol wants.
#[derive(serde::Deserialize)]
struct Request<'a> {
    #[serde(default, deserialize_with = "json::present")]
    id: Option<String>,
    #[serde(default, deserialize_with = "json::present")]
    parameters: Option<Object<RequestParameters>>,
    #[serde(borrow)]
    inputs: Few<Object<Tensor<'a>>>,
    #[serde(default, deserialize_with = "json::present")]
    outputs: Option<Few<Object<Wanted>>>,
}

#[derive(serde::Deserialize)]
struct RequestParameters {
    #[serde(default, deserialize_with = "json::present")]
    binary_data_output: Option<bool>,
}

#[derive(serde::Deserialize)]
struct Tensor<'a> {
    name: String,
    datatype: String,
    shape: Few<u64>,
    #[serde(default, deserialize_with = "json::present")]
    parameters: Option<Object<TensorParameters>>,
    /// Looked at when it is known what must be in it.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct TensorParameters {
    #[serde(default, deserialize_with = "json::present")]
    binary_data_size: Option<u64>,
    #[serde(default, deserialize_with = "json::present")]
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(serde::Deserialize)]
struct Wanted {
    name: String,
    #[serde(default, deserialize_with = "json::present")]
    parameters: Option<Object<WantedParameters>>,
}

#[derive(serde::Deserialize)]
struct WantedParameters {
    #[serde(default, deserialize_with = "json::present")]
    binary_data: Option<bool>,
    #[serde(default, deserialize_with = "json::present")]
    classification: Option<u64>,
    #[serde(default, deserialize_with = "json::present")]
    shared_memory_region: Option<IgnoredAny>,
}

impl Request<'_> {
    fn outputs(&self) -> Result<Vec<Output>, Problem> {
        let binary = self.parameters.as_ref().and_then(|own| own.0.binary_data_output).unwrap_or(false);
        let wanted = match self.outputs.as_ref().map(|outputs| outputs.0.as_slice()) {
            None | Some([]) => {
                return Ok(vec![Output { kind: Kind::Probabilities, binary, classification: None }]);
            }
            Some(wanted) => wanted,
        };
        let mut outputs: Vec<Output> = Vec::with_capacity(wanted.len());
        for Object(one) in wanted {
            let output = one.output(binary)?;
            if outputs.iter().any(|other| other.kind == output.kind) {
                return Err(bad(format!("output \"{}\" is asked for twice", shown(&one.name))));
            }
            outputs.push(output);
        }
        Ok(outputs)
    }
}

impl Wanted {
    /// What is wanted, in binary form where neither this output nor the request says otherwise and `binary` is set.
    fn output(&self, binary: bool) -> Result<Output, Problem> {
        let kind = match self.name.as_str() {
            PROBABILITIES => Kind::Probabilities,
            KNOWN => Kind::Known,
            SCORE => Kind::Score,
            name => {
                let name = shown(name);
                return Err(bad(format!(
                    "output \"{name}\" is unknown; there are \"{PROBABILITIES}\", \"{KNOWN}\" and \"{SCORE}\""
                )));
            }
        };
        let mut output = Output { kind, binary, classification: None };
        let Some(Object(own)) = &self.parameters else { return Ok(output) };
        if own.shared_memory_region.is_some() {
            return Err(no_shared_memory());
        }
        output.binary = own.binary_data.unwrap_or(binary);
        output.classification = match own.classification {
            Some(0) => return Err(bad("the parameter classification is a number of classes, from 1 on")),
            Some(_) if kind != Kind::Probabilities => {
                return Err(bad(format!("the parameter classification is for \"{PROBABILITIES}\" alone")));
            }
            // More classes than there can be are all of them.
            wanted => wanted.map(|k| usize::try_from(k).unwrap_or(usize::MAX)),
        };
        Ok(output)
    }
}

impl<'a> Tensor<'a> {
    /// Where the values are; `raw` is what follows the JSON.
    fn data(&self, raw: Bytes, has_raw: bool) -> Result<Data<'a>, Problem> {
        let refuse = |reason: String| Err(bad(format!("input \"{}\": {reason}", shown(&self.name))));
        let own = self.parameters.as_ref().map(|Object(own)| own);
        if own.is_some_and(|own| own.shared_memory_region.is_some()) {
            return Err(no_shared_memory());
        }
        match (self.data, own.and_then(|own| own.binary_data_size)) {
            (None, None) => {
                refuse("there are no values: give data, or the parameter binary_data_size".into())
            }
            (Some(_), Some(_)) => refuse("give either data or binary_data_size".into()),
            (Some(data), None) if raw.is_empty() => Ok(Data::Json(data)),
            (Some(_), None) => refuse(format!("{} bytes behind the JSON belong to no input", raw.len())),
            (None, Some(_)) if !has_raw => {
                refuse("binary_data_size needs the header Inference-Header-Content-Length".into())
            }
            (None, Some(size)) if size == raw.len() as u64 => Ok(Data::Raw(raw)),
            (None, Some(size)) => {
                refuse(format!("binary_data_size is {size}, and {} bytes follow the JSON", raw.len()))
            }
        }
    }
}

/// An array that stops at [`MAX_ITEMS`]: `[{},{},..]` would else grow to many times its size.
struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX_ITEMS}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX_ITEMS {
                        return Err(A::Error::invalid_length(MAX_ITEMS + 1, &self));
                    }
                    items.push(item);
                }
                Ok(Few(items))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

fn no_shared_memory() -> Problem {
    Problem::Unsupported("tensors in shared memory are not supported; send them in the request")
}
