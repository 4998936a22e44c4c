//! From the classifier's answers to the outputs.

use bytes::Bytes;
use hyper::Response;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::answer::Answer;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::models::serving::ModelInfo;
use crate::v2::codec::{HEADER_LENGTH, Kind, Output};
use crate::v2::expected::{KNOWN, PROBABILITIES, SCORE, bad};

/// The JSON of an answer.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Inferred<'a> {
    model_name: &'a str,
    model_version: &'a str,
    /// That of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// In the order in which they were asked for; raw ones follow each other in it.
    outputs: Vec<Tensor>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "V2OutputTensor")]
struct Tensor {
    name: &'static str,
    /// FP32, BYTES for a classification, BOOL for `known`.
    datatype: &'static str,
    /// Images, and classes where there is one value for each.
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Values>,
}

/// Of an output that follows the JSON.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "V2OutputParameters")]
struct Parameters {
    binary_data_size: usize,
}

/// Row by row.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "V2Values")]
enum Values {
    Probabilities(Vec<f32>),
    /// `probability:index:label`.
    Classes(Vec<String>),
    Known(Vec<bool>),
    Scores(Vec<f32>),
}

impl Output {
    /// Classes that the classifier must rank for this output.
    fn top_k(&self, model: &ModelInfo) -> usize {
        match self.kind {
            Kind::Probabilities => self.classification.unwrap_or(usize::MAX).min(model.classes.len()),
            Kind::Known | Kind::Score => 1,
        }
    }

    fn tensor(&self, model: &ModelInfo, answers: &[Answer]) -> (Tensor, Option<Vec<u8>>) {
        let images = answers.len();
        let predictions = answers.iter().map(|answer| &answer.prediction);
        let (name, datatype, values) = match (self.kind, self.classification) {
            (Kind::Probabilities, None) => {
                (PROBABILITIES, "FP32", Values::Probabilities(probabilities(answers, model.classes.len())))
            }
            (Kind::Probabilities, Some(_)) => (PROBABILITIES, "BYTES", Values::Classes(classes(answers))),
            (Kind::Known, _) => (KNOWN, "BOOL", Values::Known(predictions.map(|p| p.known).collect())),
            // Of a model without scores none are given: `check` refuses to be asked.
            (Kind::Score, _) => {
                (SCORE, "FP32", Values::Scores(predictions.map(|p| p.score.unwrap_or(0.0)).collect()))
            }
        };
        let shape = match self.kind {
            Kind::Probabilities => vec![images, self.top_k(model)],
            Kind::Known | Kind::Score => vec![images],
        };
        let raw = self.binary.then(|| values.to_raw());
        let parameters = raw.as_ref().map(|raw| Parameters { binary_data_size: raw.len() });
        let data = raw.is_none().then_some(values);
        (Tensor { name, datatype, shape, parameters, data }, raw)
    }
}

/// Classes that the classifier must rank for all outputs.
pub(crate) fn top_k(outputs: &[Output], model: &ModelInfo) -> usize {
    outputs.iter().map(|output| output.top_k(model)).max().unwrap_or(1)
}

/// Refuses an output that the model does not have.
pub(crate) fn check(outputs: &[Output], model: &ModelInfo) -> Result<(), Problem> {
    if !model.scores && outputs.iter().any(|output| output.kind == Kind::Score) {
        return Err(bad(format!(
            "output \"{SCORE}\" is not there: this version of the model learnt no threshold for unknown images"
        )));
    }
    Ok(())
}

/// The answer to a request.
pub(crate) fn respond(
    model: &ModelInfo,
    id: Option<&str>,
    outputs: &[Output],
    answers: &[Answer],
) -> Response<ResponseBody> {
    let tensors = outputs.iter().map(|output| output.tensor(model, answers));
    let (outputs, raw): (Vec<Tensor>, Vec<Option<Vec<u8>>>) = tensors.unzip();
    let inferred = Inferred { model_name: &model.name, model_version: &model.version, id, outputs };
    if raw.iter().all(Option::is_none) {
        return response::json(&inferred);
    }
    let mut body = serde_json::to_vec(&inferred).expect("a struct of strings and numbers is always JSON");
    let length = HeaderValue::from(body.len());
    raw.into_iter().flatten().for_each(|raw| body.extend(raw));
    let mut response = response::bytes("application/octet-stream", Bytes::from(body));
    response.headers_mut().insert(HEADER_LENGTH, length);
    response
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
            Values::Probabilities(values) | Values::Scores(values) => {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            Values::Known(values) => values.iter().map(|&known| u8::from(known)).collect(),
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
