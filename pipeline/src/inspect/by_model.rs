//! Images whose label may be wrong, by a model that knows the classes and was not trained on these images.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use ocelli_common::text::thousands;
use ocelli_engine::model_file::ModelFile;

use super::facts::Facts;
use super::report::{LabelSearch, Method};
use super::suspects::{Suspect, reason};
use crate::compute::Compute;
use crate::data::Data;
use crate::error::PipelineError;
use crate::evaluate::{EvaluateOptions, class_map, evaluate};
use crate::event::{Event, Observe};

/// Whether a model says one class of each image, and has one of the data's.
pub(super) fn knows(model: &ModelFile, classes: &[String]) -> bool {
    model.meta.multi_label.is_none() && class_map(classes, &model.meta.classes).iter().any(Option::is_some)
}

/// Images that a model takes for another class, by how much likelier that is to it than the label. Which images it is asked
/// about, [`evaluate`] decides: those that it was not trained on, where it was trained on this data.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn suspects(
    (model, name): (&ModelFile, &str),
    data: &Data,
    facts: &Facts,
    (compute, stop): (Compute, &AtomicBool),
    observe: Observe<'_>,
) -> Result<(LabelSearch, Vec<Suspect>), PipelineError> {
    // What cannot be read was told already.
    let options = EvaluateOptions { data: data.clone(), split: None, compute, max_bad: 1.0, mirror: false };
    let mut quiet = |event: &Event| {
        if matches!(event, Event::Loading { .. } | Event::Evaluating { .. }) {
            observe(event);
        }
    };
    let evaluation = evaluate(model, &options, stop, &mut quiet)?;
    let places: HashMap<&str, usize> =
        facts.items.iter().zip(0..).map(|(item, index)| (item.name.as_str(), index)).collect();
    let mistakes = evaluation.predictions.iter().filter(|row| row.predicted != row.label);
    let mut suspects: Vec<Suspect> = mistakes
        .filter_map(|row| {
            // The loss is the negative logarithm of the probability of the label.
            let own = (-row.loss).exp();
            Some(Suspect {
                index: *places.get(row.name.as_str())?,
                suggested: row.predicted.clone(),
                score: (row.probability - own).max(0.0),
                reason: reason([&row.label, &row.predicted], (own, row.probability)),
            })
        })
        .collect();
    suspects.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
    let which = match evaluation.split.as_str() {
        "train" => "images that the model was trained on, so that it finds fewer wrong labels than there are",
        "all" => "images",
        "val" => "images of the validation split",
        _ => "images of the test split",
    };
    let (images, of) = (evaluation.images, facts.pictures().count());
    let note = format!(
        "{} {which} were looked at, of {}, by {name}",
        thousands(images as u64),
        thousands(of as u64)
    );
    let search = LabelSearch { method: Method::Model, model: Some(name.to_owned()), images, of, note };
    Ok((search, suspects))
}
