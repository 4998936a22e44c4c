//! Which images of a data set a model is measured on.

use std::sync::atomic::AtomicBool;

use ocelli_datasets::{ImageSet, Item, Source, Split};
use ocelli_engine::Pool;
use ocelli_engine::model_file::ModelFile;

use super::classes::{class_map, match_classes, unmatched};
use super::options::EvaluateOptions;
use crate::data;
use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::recipe::Recipe;

/// Images in memory, and what they are to the model.
pub(crate) struct Selection {
    pub(crate) set: ImageSet,
    /// The images to measure on.
    pub(crate) indices: Vec<usize>,
    /// What they are: `train`, `val`, `test` or `all`.
    pub(crate) split: String,
    /// What a reader of the numbers should know.
    pub(crate) notes: Vec<String>,
}

/// Reads the images that `options` asks for, as `file` wants them. With `other`, only those whose classes both models
/// know and that neither was trained on.
pub(crate) fn select(
    source: &Source,
    (file, other): (&ModelFile, Option<&ModelFile>),
    options: &EvaluateOptions,
    (pool, stop): (&Pool, &AtomicBool),
    observe: Observe<'_>,
) -> Result<Selection, PipelineError> {
    let mut notes = source.notes().to_vec();
    let classes = &file.meta.classes;
    let map = match_classes(source.classes(), classes)?;
    notes.extend(unmatched(source, classes, &map));
    let of_other = other.map(|other| match_classes(source.classes(), &other.meta.classes)).transpose()?;
    let knows =
        |class: usize| map[class].is_some() && of_other.as_ref().is_none_or(|map| map[class].is_some());
    // An image with several labels is one whatever the model knows of them.
    let any = source.is_multi_label();
    let all_known = |item: &Item| any || item.labels.as_slice().iter().all(|&label| knows(label as usize));
    let known: Vec<usize> = (0..source.items().len()).filter(|&i| all_known(&source.items()[i])).collect();
    let by_first = |item: &&Item| any || map[item.labels.as_slice()[0] as usize].is_some();
    let of_first = source.items().iter().filter(by_first).count();
    if of_first > known.len() {
        let n = of_first - known.len();
        notes.push(format!("{n} images left out: the other model does not know their classes"));
    }

    let declares = |split| known.iter().any(|&i| source.items()[i].split == Some(split));
    let declared = match options.split {
        Some(split) => declares(split).then_some(split),
        None => [Split::Test, Split::Val].into_iter().find(|&split| declares(split)),
    };
    let pre = &file.meta.preprocessing;
    let mut load = |indices: &[usize]| {
        let settings = (pool, options.max_bad);
        data::load(source, Some(indices), pre, settings, stop, &mut |event: &Event| {
            observe(event);
            Ok(())
        })
    };
    let (set, indices, split) = match declared {
        // Training images are not even read, unless val has to be taken out of them.
        Some(split) if split != Split::Train || declares(Split::Val) => {
            let of_split: Vec<usize> =
                known.into_iter().filter(|&i| source.items()[i].split == Some(split)).collect();
            let set = load(&of_split)?;
            let all = (0..set.len()).collect();
            (set, all, split.to_string())
        }
        _ => {
            let mut set = load(&known)?;
            let (mut indices, split) = drawn_split(&mut set, file, options.split, source.name(), &mut notes)?;
            if let Some(other) = other {
                leave_out_trained(&mut set, &mut indices, other, source.name(), &mut notes)?;
            }
            (set, indices, split)
        }
    };
    if indices.is_empty() {
        return Err(PipelineError::EmptySplit {
            split: options.split.unwrap_or(Split::Test),
            data: source.name().to_owned(),
        });
    }
    Ok(Selection { set, indices, split, notes })
}

/// Images of a split that the layout does not declare.
fn drawn_split(
    set: &mut ImageSet,
    file: &ModelFile,
    wanted: Option<Split>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(Vec<usize>, String), PipelineError> {
    let same = draw_as_trained(set, file)?;
    if let Some(split) = wanted {
        return Ok((set.indices(split), split.to_string()));
    }
    if !same && file.meta.trained().is_none_or(|trained| trained.data_name != name) {
        return Ok(((0..set.len()).collect(), "all".to_owned()));
    }
    if !same {
        notes.push(format!(
            "{name} has changed since training; nearly all files that were there then are still in the split they were in"
        ));
    }
    for split in [Split::Test, Split::Val] {
        let indices = set.indices(split);
        if !indices.is_empty() {
            notes.push(format!("evaluated on the {split} split of the model's own data set"));
            return Ok((indices, split.to_string()));
        }
    }
    notes.push("the model was trained on all of these images: expect less on new ones".to_owned());
    Ok((set.indices(Split::Train), Split::Train.to_string()))
}

/// Draws the splits as the training of a model drew them; whether these are the very images that it was trained on.
fn draw_as_trained(set: &mut ImageSet, file: &ModelFile) -> Result<bool, PipelineError> {
    let trained = file.meta.trained();
    // A recipe of another program's model may be any text.
    let recipe = trained.and_then(|trained| Recipe::from_toml(&trained.recipe).ok());
    let recipe = recipe.filter(|recipe| recipe.validate().is_ok()).unwrap_or_default();
    let seed = trained.map_or(recipe.seed, |trained| trained.seed);
    data::assign_splits(set, &recipe, seed)?;
    Ok(trained.is_some_and(|trained| trained.data_hash == set.digest()))
}

/// Takes out what another model was trained on, where it was trained on this data set.
fn leave_out_trained(
    set: &mut ImageSet,
    indices: &mut Vec<usize>,
    other: &ModelFile,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(), PipelineError> {
    let same = draw_as_trained(set, other)?;
    if !same && other.meta.trained().is_none_or(|trained| trained.data_name != name) {
        return Ok(());
    }
    let before = indices.len();
    indices.retain(|&i| set.split(i) != Split::Train);
    if indices.len() < before {
        let n = before - indices.len();
        notes.push(format!("{n} images left out: the other model was trained on them"));
    }
    Ok(())
}

/// The classes of a model for each class of a source.
pub(crate) fn map_of(source: &Source, file: &ModelFile) -> Vec<Option<usize>> {
    class_map(source.classes(), &file.meta.classes)
}
