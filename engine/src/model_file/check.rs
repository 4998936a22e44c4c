//! What must hold between the parts of a model file; asked before one is written and after one is read.

use std::collections::HashSet;

use super::bytes::{error, invalid_network};
use super::contents::{
    InnerValue, MAX_CLASS_NAME_BYTES, MAX_CLASSES, MAX_MEANS, Metrics, ModelMeta, MultiLabel, Preprocessing,
    Rejection, RejectionScore,
};
use super::half::{from_f16, to_f16};
use crate::error::EngineError;
use crate::geometry::Shape;
use crate::graph::Graph;
use crate::params::{ParamEntry, ParamKind};

pub(super) fn meta(graph: &Graph, meta: &ModelMeta) -> Result<(), EngineError> {
    let logits = graph.classes().map_err(invalid_network)?;
    if meta.classes.len() != logits || logits > MAX_CLASSES {
        return Err(error(format!(
            "{} class names for {logits} logits: both must be equal and at most {MAX_CLASSES}",
            meta.classes.len()
        )));
    }
    let mut seen = HashSet::with_capacity(meta.classes.len());
    for (index, name) in meta.classes.iter().enumerate() {
        if name.is_empty() || name.len() > MAX_CLASS_NAME_BYTES {
            return Err(error(format!(
                "the name of class {index} has {} bytes, not 1..={MAX_CLASS_NAME_BYTES}",
                name.len()
            )));
        }
        if !seen.insert(name) {
            return Err(error(format!("two classes are named {name:?}")));
        }
    }
    preprocessing(graph.input, &meta.preprocessing)?;
    if let Some(temperature) = meta.temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
        return Err(error(format!("temperature {temperature} is not a positive number")));
    }
    meta.rejection.as_ref().map_or(Ok(()), |r| rejection(graph, r, logits))?;
    meta.multi_label.as_ref().map_or(Ok(()), |labels| multi_label(labels, logits))?;
    meta.metrics.as_ref().map_or(Ok(()), metrics)
}

fn multi_label(labels: &MultiLabel, classes: usize) -> Result<(), EngineError> {
    let MultiLabel { thresholds, quality } = labels;
    if thresholds.len() != classes {
        return Err(error(format!("{} thresholds for {classes} labels", thresholds.len())));
    }
    let quality = quality.as_ref().map_or([0.0; 3], |q| [q.mean_average_precision, q.micro_f1, q.macro_f1]);
    match thresholds.iter().chain(&quality).find(|value| !(0.0..=1.0).contains(*value)) {
        Some(value) => Err(error(format!("a threshold or quality of labels of {value} is not in 0..=1"))),
        None => Ok(()),
    }
}

fn rejection(graph: &Graph, rejection: &Rejection, classes: usize) -> Result<(), EngineError> {
    let Rejection { score, threshold, false_rejects, area, detected, means, inner, .. } = rejection;
    let fractions = [("false rejects", false_rejects), ("area", area), ("detected part", detected)];
    if let Some((what, value)) = fractions.iter().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
        return Err(error(format!("{what} {value} of the rejection is not in 0..=1")));
    }
    let expected = match score {
        RejectionScore::Distance => classes.saturating_mul(graph.feature_len().unwrap_or(0)),
        RejectionScore::Probability | RejectionScore::Inner => 0,
    };
    if means.len() != expected
        || expected > MAX_MEANS
        || (*score == RejectionScore::Distance && expected == 0)
    {
        let found = means.len();
        return Err(error(format!("{found} floats of class means, not {expected}, of at most {MAX_MEANS}")));
    }
    inner_values(graph, rejection, classes)?;
    let floats = inner.iter().flat_map(|inner| inner.whitening.iter().chain(&inner.means));
    let mut means = means.iter().chain(floats);
    if !threshold.is_finite() || !means.all(|mean| mean.is_finite()) {
        return Err(error("the rejection holds a value that is not finite".to_owned()));
    }
    Ok(())
}

/// Inner values are some of the network's, in order, each with as many floats as its channels ask for.
fn inner_values(graph: &Graph, rejection: &Rejection, classes: usize) -> Result<(), EngineError> {
    let Rejection { score, inner, .. } = rejection;
    if (*score == RejectionScore::Inner) == inner.is_empty() {
        return Err(error(format!("a rejection by {score:?} with {} inner values", inner.len())));
    }
    if inner.is_empty() {
        return Ok(());
    }
    let (values, shapes) = (graph.inner_values(), graph.shapes().map_err(invalid_network)?);
    let mut floats = 0usize;
    for (place, InnerValue { value, scale, whitening, means }) in inner.iter().enumerate() {
        let later = place == 0 || inner[place - 1].value < *value;
        let value = *value as usize;
        if !later || !values.contains(&value) {
            return Err(error(format!("inner value {value} is not one of {values:?} in their order")));
        }
        let channels = shapes[value].c as usize;
        let expected = (channels * (channels + 1) / 2, classes.saturating_mul(channels));
        if (whitening.len(), means.len()) != expected {
            let found = (whitening.len(), means.len());
            return Err(error(format!("inner value {value} with {found:?} floats, not {expected:?}")));
        }
        if !(scale.is_finite() && *scale > 0.0) {
            return Err(error(format!("inner value {value} with the scale {scale}, no positive number")));
        }
        floats = floats.saturating_add(expected.0).saturating_add(expected.1);
    }
    if floats > MAX_MEANS {
        return Err(error(format!("{floats} floats of inner values, more than {MAX_MEANS}")));
    }
    Ok(())
}

fn preprocessing(input: Shape, p: &Preprocessing) -> Result<(), EngineError> {
    let found = Shape { h: p.height, w: p.width, c: p.channels.into() };
    if found != input {
        return Err(error(format!("preprocessing gives {found}, the network takes {input}")));
    }
    p.check_normalization().map_err(|reason| error(format!("preprocessing has {reason}")))
}

fn metrics(metrics: &Metrics) -> Result<(), EngineError> {
    let fractions = [("accuracy", metrics.accuracy), ("top-5 accuracy", metrics.top5)];
    match fractions.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
        Some((what, value)) => Err(error(format!("{what} {value} is not in 0..=1"))),
        None => Ok(()),
    }
}

/// Weights that no inference or resumed training can use are refused with the layer that holds them.
pub(super) fn values(what: &str, entry: &ParamEntry, values: &[f32]) -> Result<(), EngineError> {
    if !values.iter().all(|v| v.is_finite()) {
        return Err(error(format!(
            "{what} `{}` holds a value that is not finite: the training diverged, train with a lower learning rate",
            entry.name
        )));
    }
    if entry.kind == ParamKind::RunningVar && values.iter().any(|&v| v < 0.0) {
        return Err(error(format!("{what} `{}` holds a negative variance", entry.name)));
    }
    Ok(())
}

/// What is stored in f16 must come back as it was.
pub(super) fn exact_in_f16(entry: &ParamEntry, values: &[f32]) -> Result<(), EngineError> {
    match values.iter().find(|value| from_f16(to_f16(**value)).to_bits() != value.to_bits()) {
        Some(value) => Err(error(format!("tensor `{}` holds {value}, which is no f16 number", entry.name))),
        None => Ok(()),
    }
}
