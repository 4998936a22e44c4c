//! Cross-validation: a run for each fold of the data, what they say of the images that they were not trained on, and, if
//! asked, a model of all images.
//!
//! Every fold is a run like any other, in the folder of the cross-validation, with the setting `fold`: its test is the
//! fold, and validation is drawn from the others. So a fold that was interrupted goes on to the same bits, and a finished
//! one is not trained again. Images that the data set declares for the test stay out of all folds.

mod record;
mod report;
mod suspects;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_datasets::Split;
use ocelli_engine::Inference;

use crate::batch::batch_for;
use crate::built_in::open_model;
use crate::data;
use crate::error::PipelineError;
use crate::evaluate::{LabelledImages, class_map};
use crate::event::{Event, Observe};
use crate::metrics::Tally;
use crate::probability::temperature;
use crate::recipe::{MAX_FOLDS, MIN_FOLDS, Recipe};
use crate::resume::resume_within;
use crate::run::Outcome;
use crate::run_folder::{last_folder, next_folder};
use crate::train::train;
use crate::train_options::{ResumeTo, TrainOptions};

use record::Record;
use report::OutOfFold;
pub use report::{CrossValidation, FoldReport, Spread, Suspect};

/// What a cross-validation has come to.
#[derive(Clone, Debug)]
pub struct CrossOutcome {
    /// The folder of all its runs.
    pub folder: PathBuf,
    /// What the folds say; `None` when it was interrupted: [`resume_cross_validation`] goes on.
    pub report: Option<CrossValidation>,
}

/// Whether a folder is that of a cross-validation.
pub fn is_cross_validation(folder: &Path) -> bool {
    folder.join(record::FILE).is_file()
}

/// Trains a run for each of `folds` parts of the data and evaluates it on that part; `with_final` also trains a model on
/// all of them, without a test.
///
/// # Errors
/// [`PipelineError::Recipe`] for a number of folds that cannot be; those of [`train`].
pub fn cross_validate(
    options: &TrainOptions,
    (folds, with_final): (u32, bool),
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<CrossOutcome, PipelineError> {
    if !(MIN_FOLDS..=MAX_FOLDS).contains(&folds) {
        let reason = format!("{folds} folds: they go from {MIN_FOLDS} to {MAX_FOLDS}; 5 is usual");
        return Err(PipelineError::recipe("fold", reason));
    }
    // Whatever is wrong with data or recipe is said before there is a folder.
    let source = options.open()?;
    if source.is_multi_label() {
        let reason = "cross-validation is for images with one class each; train once, with more images for validation and test";
        return Err(PipelineError::MultiLabel { reason: reason.to_owned() });
    }
    options.resolve(&source)?;
    let name = options.name.as_deref().unwrap_or(source.name());
    let folder = next_folder(&options.runs_dir, name)?;
    let record = Record::create(&folder, options, (folds, with_final))?;
    run(&folder, &record, stop, observe)
}

/// Goes on with a cross-validation that was interrupted or killed.
///
/// # Errors
/// As [`cross_validate`], and those of [`crate::resume`].
pub fn resume_cross_validation(
    folder: &Path,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<CrossOutcome, PipelineError> {
    run(folder, &Record::open(folder)?, stop, observe)
}

fn run(
    folder: &Path,
    record: &Record,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<CrossOutcome, PipelineError> {
    let options = record.options(folder)?;
    let mut runs = Vec::new();
    for fold in 1..=record.folds {
        observe(&Event::note(format!("fold {fold} of {}", record.folds)));
        let options = of_fold(&options, (fold, record.folds));
        let Some(run) = finished(folder, &format!("fold-{fold}"), &options, stop, observe)? else {
            return Ok(CrossOutcome { folder: folder.to_owned(), report: None });
        };
        runs.push(run);
    }
    let found = out_of_fold(&options, &runs, stop)?;
    let mut report = found.report(folder, &runs)?;
    if record.with_final {
        observe(&Event::note("a model of all images"));
        let options = of_all(&options);
        let Some(run) = finished(folder, "final", &options, stop, observe)? else {
            return Ok(CrossOutcome { folder: folder.to_owned(), report: None });
        };
        report.final_run = Some(run);
    }
    report.write(folder)?;
    Ok(CrossOutcome { folder: folder.to_owned(), report: Some(report) })
}

/// The options of one fold's run.
fn of_fold(options: &TrainOptions, (fold, folds): (u32, u32)) -> TrainOptions {
    let mut own = options.clone();
    own.recipe.fold = Some((fold, folds));
    own.origins.insert("fold".to_owned(), "cross-validation".to_owned());
    own.name = Some(format!("fold-{fold}"));
    own.within.no_replay = true;
    own
}

/// The options of the run on all images: none are held out for a test, as the folds have done that.
fn of_all(options: &TrainOptions) -> TrainOptions {
    let mut own = options.clone();
    own.recipe.test_split = 0.0;
    own.origins.insert("test_split".to_owned(), "the folds were the test".to_owned());
    own.name = Some("final".to_owned());
    own
}

/// The folder of a run that is finished now: found so, resumed or trained. `None` when it was interrupted.
fn finished(
    folder: &Path,
    name: &str,
    options: &TrainOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Option<PathBuf>, PipelineError> {
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let ended = |outcome: Outcome| (!outcome.interrupted).then_some(outcome.run_dir);
    let trained = match last_folder(folder, name)? {
        Some(run) if run.join("evaluation.json").is_file() && open_model(&run).is_ok() => {
            return Ok(Some(run));
        }
        Some(run) if run.join("weights").join("last.ocelli").is_file() => {
            resume_within(&run, ResumeTo::Recipe, &options.within, stop, observe)
        }
        Some(run) => {
            // Killed before there was anything to go on with.
            std::fs::remove_dir_all(&run).map_err(PipelineError::io(&run))?;
            train(options, stop, observe)
        }
        None => train(options, stop, observe),
    };
    match trained {
        Err(PipelineError::Stopped) => Ok(None),
        trained => trained.map(ended),
    }
}

/// Asks each run about its fold.
fn out_of_fold(
    options: &TrainOptions,
    runs: &[PathBuf],
    stop: &AtomicBool,
) -> Result<OutOfFold, PipelineError> {
    let exec = options.recipe.exec()?;
    let source = options.open()?;
    let files = runs.iter().map(|run| open_model(run)).collect::<Result<Vec<_>, _>>()?;
    let first = &files[0].meta;
    let items = data::not_test(&source);
    let settings = (&exec.pool, options.recipe.max_bad);
    let mut set = data::load(&source, Some(&items), &first.preprocessing, settings, stop, &mut |_| Ok(()))?;
    let classes = first.classes.clone();
    let mut found = OutOfFold::new(classes.clone(), set.len());
    for (fold, (file, run)) in files.iter().zip(runs).enumerate() {
        let pre = &file.meta.preprocessing;
        if file.meta.classes != classes || pre.clone().len() != first.preprocessing.clone().len() {
            return Err(PipelineError::run(run, "its classes or its input are not those of the other folds"));
        }
        let changed = match file.meta.trained() {
            Some(trained) => {
                let recipe = Recipe::from_toml(&trained.recipe)?;
                data::assign_splits(&mut set, &recipe, recipe.seed)?;
                trained.data_hash != set.digest()
            }
            None => true,
        };
        if changed {
            let reason =
                format!("the data set {} has changed since it was trained; begin anew", source.name());
            return Err(PipelineError::run(run, reason));
        }
        set.set_normalization(pre.mean.clone(), pre.std.clone())?;
        let map = class_map(set.classes(), &classes);
        let indices = set.indices(Split::Test);
        let mut inference = Inference::new(&file.model, batch_for(pre.clone().len()), &exec)?;
        let temperature = temperature(&file.meta);
        let images = LabelledImages {
            set: &set,
            indices: &indices,
            map: &map,
            classes: &classes,
            split: "test",
            temperature,
        };
        let mut tally = Tally::new(classes.len(), temperature)?;
        let mut rows = Vec::with_capacity(indices.len());
        exec.pool.install(|| {
            images.logits((&mut inference, None), (stop, &mut |_| Ok(())), |index, logits| {
                let class = images.class(index);
                tally.add(logits, class);
                let scaled: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
                rows.push((index, scaled, class));
            })
        })??;
        found.folds.push(tally.report("test", &classes));
        for (index, logits, class) in rows {
            found.add(set.name(index), fold, (logits, class));
        }
    }
    Ok(found)
}
