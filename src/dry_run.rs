//! `ocelli train --dry-run`: the data and the recipe as they were understood, without reading a single pixel.

use std::collections::BTreeMap;

use ocelli_common::text::{printable, thousands};
use ocelli_datasets::Split;
use ocelli_pipeline::TrainOptions;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;

/// Classes listed one by one; more are counted.
const MAX_CLASSES: usize = 50;

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    kind: &'a str,
    name: &'a str,
    images: usize,
    /// Images by class.
    classes: BTreeMap<&'a str, usize>,
    /// Images by the split that the data declares.
    splits: BTreeMap<String, usize>,
    notes: &'a [String],
    recipe: String,
}

/// Opens the data and prints what would be trained on it.
pub(crate) fn describe(options: &TrainOptions, json: bool, out: &mut Output) -> Result<(), Failure> {
    let source = options.open()?;
    let mut classes: BTreeMap<&str, usize> = source.classes().iter().map(|name| (name.as_str(), 0)).collect();
    let mut splits = BTreeMap::new();
    for item in source.items() {
        *classes.entry(&source.classes()[item.class as usize]).or_default() += 1;
        if let Some(split) = item.split {
            *splits.entry(split.to_string()).or_default() += 1;
        }
    }
    let recipe = options.recipe.to_toml(&options.origins);
    if json {
        let (kind, name, images, notes) =
            (source.kind(), source.name(), source.items().len(), source.notes());
        return out.json(&Record {
            schema: 1,
            r#type: "dry_run",
            kind,
            name,
            images,
            classes,
            splits,
            notes,
            recipe,
        });
    }
    let images = thousands(source.items().len() as u64);
    let count = source.classes().len();
    out.line(format_args!(
        "{} ({}): {images} images in {count} classes",
        printable(source.name()),
        source.kind()
    ))?;
    for name in source.classes().iter().take(MAX_CLASSES) {
        out.line(format_args!("{:>9}  {}", thousands(classes[name.as_str()] as u64), printable(name)))?;
    }
    if count > MAX_CLASSES {
        out.line(format_args!("           and {} more classes", count - MAX_CLASSES))?;
    }
    if splits.is_empty() {
        let (val, test) = (options.recipe.val_split, options.recipe.test_split);
        out.line(format_args!(
            "no splits declared: {val} of each class for validation, {test} for the test"
        ))?;
    } else {
        let of = |split: Split| thousands(splits.get(&split.to_string()).copied().unwrap_or(0) as u64);
        let [train, val, test] = [Split::Train, Split::Val, Split::Test].map(of);
        out.line(format_args!("declared splits: train {train}, validation {val}, test {test}"))?;
        if !splits.contains_key(&Split::Val.to_string()) {
            let part = options.recipe.val_split;
            out.line(format_args!("no validation images declared: {part} of the training images are taken"))?;
        }
    }
    for note in source.notes() {
        out.line(format_args!("note: {}", printable(note)))?;
    }
    out.line("")?;
    out.line(recipe.trim_end())?;
    out.line(
        "# size, channels, hflip, batch, epochs and augment are chosen from the data where nobody sets them",
    )
}
