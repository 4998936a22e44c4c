//! From the classifier's answers to the one output.

use bytes::Bytes;
use hyper::Response;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::answer::Answer;
use crate::http::response::{self, ResponseBody};
use crate::model::serving::ModelInfo;
use crate::v2::codec::{HEADER_LENGTH, Output};
use crate::v2::expected::PROBABILITIES;

/// The JSON of an answer.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Inferred<'a> {
    model_name: &'a str,
    model_version: &'a str,
    /// That of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: [Tensor; 1],
}

#[derive(Serialize, schemars::JsonSchema)]
struct Tensor {
    name: &'static str,
    /// FP32, or BYTES for a classification.
    datatype: &'static str,
    /// Images, and values of each.
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Values>,
}

/// Of an output that follows the JSON.
#[derive(Serialize, schemars::JsonSchema)]
struct Parameters {
    binary_data_size: usize,
}

/// Row by row.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Values {
    Probabilities(Vec<f32>),
    /// `probability:index:label`.
    Classes(Vec<String>),
}

impl Output {
    /// Classes that the classifier must rank for this output.
    pub(crate) fn top_k(&self, model: &ModelInfo) -> usize {
        self.classification.unwrap_or(usize::MAX).min(model.classes.len())
    }
}

/// The answer to a request.
pub(crate) fn respond(
    model: &ModelInfo,
    id: Option<&str>,
    output: Output,
    answers: &[Answer],
) -> Response<ResponseBody> {
    let values = match output.classification {
        None => Values::Probabilities(probabilities(answers, model.classes.len())),
        Some(_) => Values::Classes(classes(answers)),
    };
    let raw = output.binary.then(|| values.to_raw());
    let tensor = Tensor {
        name: PROBABILITIES,
        datatype: if output.classification.is_some() { "BYTES" } else { "FP32" },
        shape: [answers.len(), output.top_k(model)],
        parameters: raw.as_ref().map(|raw| Parameters { binary_data_size: raw.len() }),
        data: raw.is_none().then_some(values),
    };
    let inferred = Inferred { model_name: &model.name, model_version: &model.version, id, outputs: [tensor] };
    match raw {
        None => response::json(&inferred),
        Some(raw) => {
            let mut body =
                serde_json::to_vec(&inferred).expect("a struct of strings and numbers is always JSON");
            let length = HeaderValue::from(body.len());
            body.extend(raw);
            let mut response = response::bytes("application/octet-stream", Bytes::from(body));
            response.headers_mut().insert(HEADER_LENGTH, length);
            response
        }
    }
}

/// `[images][classes]`, in the order of the classes.
fn probabilities(answers: &[Answer], classes: usize) -> Vec<f32> {
    let mut all = vec![0.0; answers.len() * classes];
    for (row, answer) in all.chunks_exact_mut(classes).zip(answers) {
        for ranked in &answer.prediction.top {
            row[ranked.index] = ranked.probability;
        }
    }
    all
}

fn classes(answers: &[Answer]) -> Vec<String> {
    let ranked = answers.iter().flat_map(|answer| &answer.prediction.top);
    ranked.map(|class| format!("{:?}:{}:{}", class.probability, class.index, class.label)).collect()
}

impl Values {
    /// Little-endian; a text is its length in 4 bytes and its bytes.
    fn to_raw(&self) -> Vec<u8> {
        match self {
            Values::Probabilities(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Classes(texts) => {
                let mut raw = Vec::new();
                for text in texts {
                    let length = u32::try_from(text.len()).expect("a label comes from a model file's header");
                    raw.extend(length.to_le_bytes());
                    raw.extend(text.as_bytes());
                }
                raw
            }
        }
    }
}
