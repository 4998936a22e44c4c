//! Trains a finished run again and compares the bits of its weights.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_engine::model_file::{ModelFile, version_id};
use serde::Serialize;

use crate::add_classes::{Parent, add_classes};
use crate::added::{ADDED, AddedClasses};
use crate::built_in::{BUILT_IN, open_model};
use crate::environment::Environment;
use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::network_file::{NETWORK_FILE, is_network_file};
use crate::recipe::{Origins, Recipe};
use crate::run_folder::{DatasetRecord, RunFolder};
use crate::train::train;
use crate::train_options::{StartModel, TrainOptions, Within};

/// Something as the run recorded it, and as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// As recorded; `None` in runs of versions that did not write it down.
    pub recorded: Option<String>,
    /// As found.
    pub found: String,
}

impl Recorded {
    /// Whether both are known and differ.
    pub fn differs(&self) -> bool {
        self.recorded.as_ref().is_some_and(|recorded| *recorded != self.found)
    }
}

/// The first epoch whose numbers differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FirstDifference {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The column of `results.csv`.
    pub column: String,
    /// What the run wrote; empty where it has no such epoch.
    pub recorded: String,
    /// What the repetition wrote; empty where it has no such epoch.
    pub found: String,
}

/// How far the weights are apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightDifference {
    /// Numbers with other bits.
    pub differing: usize,
    /// Numbers in all.
    pub numbers: usize,
    /// The largest difference.
    pub largest: f32,
    /// The tensor that holds it.
    pub tensor: String,
}

/// What came of a repetition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Whether all weights have the same bits.
    pub same: bool,
    /// SHA-256 of the data set. Where it differs, nothing was trained.
    pub data: Recorded,
    /// Version of the program.
    pub version: Recorded,
    /// Instruction set.
    pub isa: Recorded,
    /// The first epoch with other numbers.
    pub first_difference: Option<FirstDifference>,
    /// How far the weights are apart; `None` where they are the same, or cannot be compared.
    pub weights: Option<WeightDifference>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Trains a finished run again, from its recipe and its data, in a temporary folder, and compares the weights of
/// `best.ocelli` bit by bit. `start` is the model that the run started from, where it started from one that is not in this
/// program. Classes that were added to a model are added again; `start` is that model, where it is not at its place any more.
///
/// # Errors
/// [`PipelineError::Run`] for a folder that is no finished run, or one that cannot be repeated;
/// [`PipelineError::Stopped`]; those of training.
pub fn verify(
    run_dir: &Path,
    start: Option<&Path>,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Verification, PipelineError> {
    let folder = RunFolder::open(run_dir)?;
    if !folder.file("evaluation.json").is_file() {
        return Err(PipelineError::run(
            run_dir,
            "the run has not finished; there is nothing to compare with",
        ));
    }
    let file = open_model(run_dir)?;
    let text = folder.read("recipe.toml")?;
    let mut recipe = Recipe::from_toml(&text)?;
    let parent = match &recipe.add_classes {
        Some(hash) => Some(parent_of(&folder, hash, start)?),
        None => None,
    };
    let start = match start {
        // The recipe names the weights in this program that it took, or the model that classes were added to.
        _ if recipe.start.is_some() || parent.is_some() => None,
        None => built_in_start(&file)?,
        Some(path) => Some(start_model(path)?),
    };
    let dataset: DatasetRecord = parse(&folder, "dataset.json")?;
    // Whatever the recipe says was decided then, and is not to be chosen again.
    let origins: Origins =
        Recipe::named_in(&text)?.into_iter().map(|name| (name, "recipe of the run".to_owned())).collect();
    if recipe.start.is_none() && parent.is_none() {
        check_start(run_dir, &file, start.as_ref())?;
    }
    let mut notes = Vec::new();
    if recipe.time_budget > 0 {
        notes.push(
            "the run had a time budget: its learning rate followed another number of epochs in the first one"
                .to_owned(),
        );
        recipe.time_budget = 0;
    }
    let scratch = Scratch::new()?;
    let mut options = TrainOptions {
        recipe,
        origins,
        start,
        data_name: Some(dataset.name.clone()),
        within: Within { no_replay: true, ..Within::default() },
        ..TrainOptions::new(dataset.data(folder.path()), &scratch.path)
    };
    if is_network_file(&options.recipe.model) {
        options = options.with_network(&folder.file(NETWORK_FILE))?;
    }
    let exec = options.recipe.exec()?;
    let here = Environment::of(exec.isa);
    let there =
        folder.file("environment.json").is_file().then(|| parse::<Environment>(&folder, "environment.json"));
    let there = there.transpose()?;
    let version = file.meta.trained().map(|trained| trained.version.clone());
    let mut found = Verification {
        same: false,
        data: Recorded { recorded: Some(dataset.digest.clone()), found: String::new() },
        version: Recorded { recorded: version, found: here.version },
        isa: Recorded { recorded: there.map(|there| there.isa), found: here.isa },
        first_difference: None,
        weights: None,
        notes,
    };
    let again = match &parent {
        Some(parent) => add_again(&options, parent, &mut found.data, stop, observe)?,
        None => repeat(&options, &mut found.data, stop, observe)?,
    };
    let Some(again) = again else { return Ok(found) };
    let (own, its) = (folder.read("results.csv")?, again.read("results.csv")?);
    found.first_difference = first_difference(&own, &its);
    let other = ModelFile::load(&again.best())?;
    if file.model.graph() == other.model.graph() {
        found.weights = weight_difference(&file, &other);
        found.same = found.weights.is_none();
    } else {
        found.notes.push("the networks differ in their layers or shapes".to_owned());
    }
    Ok(found)
}

fn start_model(path: &Path) -> Result<StartModel, PipelineError> {
    let file = ModelFile { training: None, ..open_model(path)? };
    Ok(StartModel::new(version_id(&file.content_hash()?), file))
}

/// The model that a run added classes to: at `path`, or where it was then.
fn parent_of(folder: &RunFolder, hash: &str, path: Option<&Path>) -> Result<Parent, PipelineError> {
    let recorded: AddedClasses = parse(folder, ADDED)?;
    let path = path.unwrap_or(Path::new(&recorded.parent.path));
    let parent = Parent::open(path)?;
    if parent.hash != hash {
        let reason = format!(
            "it added classes to version {}, and {} is version {}; that model is needed to repeat it",
            recorded.parent.version,
            path.display(),
            parent.version
        );
        return Err(PipelineError::run(folder.path(), reason));
    }
    Ok(parent)
}

/// Adds the classes again; `None` where the data is not what it was.
fn add_again(
    options: &TrainOptions,
    parent: &Parent,
    data: &mut Recorded,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Option<RunFolder>, PipelineError> {
    let outcome = add_classes(options, parent, stop, observe)?;
    data.found = digest(&outcome.run_dir)?;
    if data.differs() { Ok(None) } else { RunFolder::open(&outcome.run_dir).map(Some) }
}

/// The model in this program that a model was trained from, where it was trained from one of them.
fn built_in_start(file: &ModelFile) -> Result<Option<StartModel>, PipelineError> {
    let Some(parent) = file.meta.trained().and_then(|trained| trained.parent.as_deref()) else {
        return Ok(None);
    };
    for built_in in &BUILT_IN {
        let file = built_in.load()?;
        let version = version_id(&file.content_hash()?);
        if version == parent {
            return Ok(Some(StartModel::new(version, file)));
        }
    }
    Ok(None)
}

/// A run that started from a model needs that very model.
fn check_start(run_dir: &Path, file: &ModelFile, start: Option<&StartModel>) -> Result<(), PipelineError> {
    let parent = file.meta.trained().and_then(|trained| trained.parent.as_deref());
    match (parent, start) {
        (Some(parent), None) => {
            let reason =
                format!("it started from the weights of version {parent}; that model is needed to repeat it");
            Err(PipelineError::run(run_dir, reason))
        }
        (Some(parent), Some(start)) if start.version != parent => {
            let reason = format!("it started from version {parent}, not from version {}", start.version);
            Err(PipelineError::run(run_dir, reason))
        }
        (None, Some(_)) => Err(PipelineError::run(run_dir, "it did not start from another model")),
        _ => Ok(()),
    }
}

/// Trains again; `None` where the data is not what it was, which ends the training before its first step.
fn repeat(
    options: &TrainOptions,
    data: &mut Recorded,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Option<RunFolder>, PipelineError> {
    // Training is also stopped from here.
    let halt = AtomicBool::new(false);
    let mut failed = None;
    let outcome = train(options, &halt, &mut |event| {
        if stop.load(Ordering::Relaxed) {
            halt.store(true, Ordering::Relaxed);
        }
        // The record of the data is written before this event.
        if let Event::Model { run_dir, .. } = event {
            match digest(Path::new(run_dir)) {
                Ok(digest) => data.found = digest,
                Err(error) => failed = Some(error),
            }
            if failed.is_some() || data.differs() {
                halt.store(true, Ordering::Relaxed);
            }
        }
        observe(event);
    });
    if let Some(error) = failed {
        return Err(error);
    }
    if !data.found.is_empty() && data.differs() {
        return Ok(None);
    }
    let outcome = outcome?;
    if outcome.interrupted {
        return Err(PipelineError::Stopped);
    }
    RunFolder::open(&outcome.run_dir).map(Some)
}

fn digest(run_dir: &Path) -> Result<String, PipelineError> {
    let record: DatasetRecord = parse(&RunFolder::open(run_dir)?, "dataset.json")?;
    Ok(record.digest)
}

fn parse<T: serde::de::DeserializeOwned>(folder: &RunFolder, name: &str) -> Result<T, PipelineError> {
    serde_json::from_str(&folder.read(name)?)
        .map_err(|error| PipelineError::run(&folder.file(name), format!("damaged ({error})")))
}

/// The first epoch in which two `results.csv` differ, times left out.
fn first_difference(own: &str, its: &str) -> Option<FirstDifference> {
    let columns: Vec<&str> = own.lines().next()?.split(',').collect();
    let rows = |text: &str| -> Vec<Vec<String>> {
        text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
    };
    let (own, its) = (rows(own), rows(its));
    let value = |rows: &[Vec<String>], place: usize, column: usize| {
        rows.get(place).and_then(|row| row.get(column)).cloned().unwrap_or_default()
    };
    (0..own.len().max(its.len())).find_map(|place| {
        let differs = |&column: &usize| {
            columns[column] != "time_s" && value(&own, place, column) != value(&its, place, column)
        };
        let column = (0..columns.len()).find(differs)?;
        Some(FirstDifference {
            epoch: place as u32 + 1,
            column: columns[column].to_owned(),
            recorded: value(&own, place, column),
            found: value(&its, place, column),
        })
    })
}

/// How far the weights of two models of one network are apart; `None` where all bits are the same.
fn weight_difference(own: &ModelFile, its: &ModelFile) -> Option<WeightDifference> {
    let (a, b) = (own.model.params(), its.model.params());
    let mut found = WeightDifference { differing: 0, numbers: 0, largest: 0.0, tensor: String::new() };
    for entry in own.model.layout().entries() {
        found.numbers += entry.len();
        for (a, b) in a[entry.range()].iter().zip(&b[entry.range()]) {
            if a.to_bits() == b.to_bits() {
                continue;
            }
            found.differing += 1;
            if found.tensor.is_empty() || (a - b).abs() > found.largest {
                found.largest = (a - b).abs();
                found.tensor.clone_from(&entry.name);
            }
        }
    }
    (found.differing > 0).then_some(found)
}

/// A folder that goes away with its value.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Scratch, PipelineError> {
        let parent = std::env::temp_dir();
        for number in 0u32.. {
            let path = parent.join(format!("ocelli-verify-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Scratch { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(PipelineError::io(&path)(error)),
            }
        }
        Err(PipelineError::run(&parent, "no free name for a temporary folder"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which clears its temporary folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_epoch_is_found_and_times_do_not_count() {
        let own = "epoch,time_s,lr,train_loss\n1,1.5,0.1,2\n2,3.0,0.1,1\n";
        assert_eq!(first_difference(own, &own.replace("1.5", "7.5")), None);
        let found = first_difference(own, &own.replace("0.1,1\n", "0.1,1.25\n")).unwrap();
        assert_eq!((found.epoch, found.column.as_str()), (2, "train_loss"));
        assert_eq!((found.recorded.as_str(), found.found.as_str()), ("1", "1.25"));
        let shorter = first_difference(own, "epoch,time_s,lr,train_loss\n1,1.5,0.1,2\n").unwrap();
        assert_eq!((shorter.epoch, shorter.column.as_str(), shorter.found.as_str()), (2, "epoch", ""));
        let longer = first_difference("epoch,time_s\n", own).unwrap();
        assert_eq!((longer.epoch, longer.recorded.as_str()), (1, ""));
    }

    #[test]
    fn scratch_folders_differ_and_go_away() {
        let (a, b) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        assert_ne!(a.path, b.path);
        let path = a.path.clone();
        fs::write(path.join("x"), "x").unwrap();
        drop(a);
        assert!(!path.exists() && b.path.is_dir());
    }
}
