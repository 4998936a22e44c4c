//! Which class of the model a class of the data is.

use std::borrow::Cow;
use std::collections::HashMap;

use ocelli_datasets::Source;
use ocelli_datasets::names::nfc;

use crate::data::list;
use crate::error::PipelineError;

/// The model's index of each class of the data, by name after NFC. A model that has several spellings of one name tells
/// them apart.
pub(crate) fn class_map(data: &[String], model: &[String]) -> Vec<Option<usize>> {
    let exact: HashMap<&str, usize> = model.iter().zip(0..).map(|(name, i)| (name.as_str(), i)).collect();
    let mut composed: HashMap<Cow<str>, usize> = HashMap::new();
    for (name, i) in model.iter().zip(0..) {
        composed.entry(nfc(name)).or_insert(i);
    }
    data.iter().map(|name| exact.get(name.as_str()).or_else(|| composed.get(&nfc(name))).copied()).collect()
}

/// As [`class_map`], for data that must have something to do with the model.
pub(super) fn match_classes(data: &[String], model: &[String]) -> Result<Vec<Option<usize>>, PipelineError> {
    let map = class_map(data, model);
    if map.iter().all(Option::is_none) {
        let names = |names: &[String]| list(names.iter().map(String::as_str));
        return Err(PipelineError::NoCommonClass { data: names(data), model: names(model) });
    }
    Ok(map)
}

/// What to say about classes that only one side has.
pub(super) fn unmatched(source: &Source, model: &[String], map: &[Option<usize>]) -> Vec<String> {
    let mut notes = Vec::new();
    let foreign = || source.classes().iter().zip(map).filter(|(_, m)| m.is_none()).map(|(n, _)| n.as_str());
    let is_foreign = |label: &u32| map[*label as usize].is_none();
    let images = source.items().iter().filter(|item| item.labels.as_slice().iter().any(is_foreign)).count();
    if foreign().next().is_some() && source.is_multi_label() {
        let names = list(foreign());
        notes.push(format!("the model does not know these labels, which {images} images have: {names}"));
    } else if foreign().next().is_some() {
        let names = list(foreign());
        notes.push(format!("{images} images left out: the model does not know their classes ({names})"));
    }
    let missing = || (0..model.len()).filter(|&i| !map.contains(&Some(i))).map(|i| model[i].as_str());
    if missing().next().is_some() {
        notes.push(format!("the data has no images of these classes of the model: {}", list(missing())));
    }
    notes
}
