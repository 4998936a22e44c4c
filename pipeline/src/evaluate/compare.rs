//! Two models answer the same images.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use ocelli_datasets::Source;
use ocelli_engine::model_file::ModelFile;
use serde::Serialize;

use super::measure::measure;
use super::options::EvaluateOptions;
use super::selection::{Selection, select};
use crate::data;
use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::mcnemar::{holm, two_sided};
use crate::metrics::{Evaluation, PredictionRow};

/// One model of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Part of the images whose most likely class is right.
    pub accuracy: f32,
    /// Its 95 % interval (Wilson, 1927).
    pub interval: (f32, f32),
    /// Mean recall over the classes.
    pub balanced_accuracy: f32,
    /// Mean F1 over the classes.
    pub macro_f1: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// Expected calibration error.
    pub ece: f32,
}

/// What changes for the images of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassChange {
    /// The class.
    pub name: String,
    /// Its images.
    pub images: usize,
    /// Part of them that the model gets right.
    pub model_recall: f32,
    /// Part of them that the other one gets right.
    pub other_recall: f32,
    /// Images that the model alone gets right.
    pub won: usize,
    /// Images that the other one alone gets right.
    pub lost: usize,
    /// McNemar's test, two-sided, after Holm's correction for the number of classes.
    pub p_value: f64,
}

/// An image that the two call by different names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flip {
    /// Name of the image within its data set.
    pub name: String,
    /// Its class.
    pub label: String,
    /// What the model says.
    pub model: String,
    /// What the other one says.
    pub other: String,
}

/// Two models on the same images. Images count as won where the first model alone is right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// `train`, `val`, `test` or `all`.
    pub split: String,
    /// Images that both answered.
    pub images: usize,
    /// The first model.
    pub model: Side,
    /// The one that it is compared with.
    pub other: Side,
    /// Images that both get right.
    pub both_right: usize,
    /// Images that the first model alone gets right.
    pub won: usize,
    /// Images that the other one alone gets right.
    pub lost: usize,
    /// Images that both get wrong.
    pub both_wrong: usize,
    /// The chance of such a difference, or a larger one to either side, between models that are equally good (McNemar's
    /// exact test, two-sided).
    pub p_value: f64,
    /// One row a class with images, in the order of the first model.
    pub classes: Vec<ClassChange>,
    /// Images with different answers, in the order of the data.
    pub flips: Vec<Flip>,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
}

/// Compares two models on the images that [`super::evaluate`] would take for the first, without those of classes that
/// the other does not know and those that it was trained on.
///
/// # Errors
/// As [`super::evaluate`], of either model.
pub fn compare(
    (model, other): (&ModelFile, &ModelFile),
    options: &EvaluateOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Comparison, PipelineError> {
    let exec = options.compute.exec()?;
    if model.meta.multi_label.is_some() || other.meta.multi_label.is_some() {
        let reason = "two models of these cannot be compared yet: evaluate each, and compare their mean average precision";
        return Err(PipelineError::MultiLabel { reason: reason.to_owned() });
    }
    let source = options.data.open_any()?;
    let first = select(&source, (model, Some(other)), options, (&exec.pool, stop), observe)?;
    let notes = first.notes.clone();
    for text in &notes {
        observe(&Event::note(text));
    }
    let second = again(&source, other, &first, options, (&exec.pool, stop), observe)?;
    let own = measure(model, (&source, &first), options, (&exec, stop), observe)?;
    drop(first);
    let its = measure(other, (&source, &second), options, (&exec, stop), observe)?;
    Ok(compared(&own, &its, notes))
}

/// The images of a selection as another model wants them.
fn again(
    source: &Source,
    file: &ModelFile,
    first: &Selection,
    options: &EvaluateOptions,
    (pool, stop): (&ocelli_engine::Pool, &AtomicBool),
    observe: Observe<'_>,
) -> Result<Selection, PipelineError> {
    let items: Vec<usize> = first.indices.iter().map(|&index| first.set.source_index(index)).collect();
    let pre = &file.meta.preprocessing;
    // Each of them was read a moment ago.
    let settings = (pool, options.max_bad);
    let set = data::load(source, Some(&items), pre, settings, stop, &mut |event| {
        observe(event);
        Ok(())
    })?;
    let indices = (0..set.len()).collect();
    Ok(Selection { set, indices, split: first.split.clone(), notes: Vec::new() })
}

fn side(evaluation: &Evaluation) -> Side {
    Side {
        accuracy: evaluation.accuracy,
        interval: evaluation.interval,
        balanced_accuracy: evaluation.balanced_accuracy,
        macro_f1: evaluation.macro_f1,
        loss: evaluation.loss,
        ece: evaluation.calibration.ece,
    }
}

/// Pairs the answers by the names of the images.
fn compared(own: &Evaluation, its: &Evaluation, notes: Vec<String>) -> Comparison {
    // Classes are spelled by each model in its own way: whether an answer is right is known to the row alone.
    let right = |row: &PredictionRow| row.label == row.predicted;
    let mut answers: BTreeMap<&str, Vec<&PredictionRow>> = BTreeMap::new();
    its.predictions.iter().for_each(|row| answers.entry(&row.name).or_default().push(row));
    answers.values_mut().for_each(|rows| rows.reverse());
    // Both right, won, lost, both wrong: of all, and by class.
    let mut all = [0; 4];
    let mut by_class: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut flips = Vec::new();
    for row in &own.predictions {
        let Some(other) = answers.get_mut(row.name.as_str()).and_then(Vec::pop) else { continue };
        let place = match (right(row), right(other)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        all[place] += 1;
        by_class.entry(&row.label).or_default()[place] += 1;
        if place == 1 || place == 2 || (place == 3 && row.predicted != other.predicted) {
            flips.push(Flip {
                name: row.name.clone(),
                label: row.label.clone(),
                model: row.predicted.clone(),
                other: other.predicted.clone(),
            });
        }
    }
    let named =
        own.per_class.iter().filter_map(|class| Some((&class.name, by_class.get(class.name.as_str())?)));
    let counts: Vec<(&String, &[usize; 4])> = named.collect();
    let p: Vec<f64> = counts.iter().map(|(_, [_, won, lost, _])| two_sided(*lost, *won)).collect();
    let change = |((name, [both, won, lost, neither]), p_value): (&(&String, &[usize; 4]), f64)| {
        let images = both + won + lost + neither;
        ClassChange {
            name: (*name).clone(),
            images,
            model_recall: (both + won) as f32 / images as f32,
            other_recall: (both + lost) as f32 / images as f32,
            won: *won,
            lost: *lost,
            p_value,
        }
    };
    let [both_right, won, lost, both_wrong] = all;
    Comparison {
        split: own.split.clone(),
        images: all.iter().sum(),
        model: side(own),
        other: side(its),
        both_right,
        won,
        lost,
        both_wrong,
        p_value: two_sided(lost, won),
        classes: counts.iter().zip(holm(&p)).map(change).collect(),
        flips,
        notes,
    }
}
