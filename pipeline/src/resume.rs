//! Going on with a run.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ocelli_datasets::LabelsPerImage;
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Exec, Trainer};
use serde::{Deserialize, Serialize};

use crate::data::{self, Loaded};
use crate::error::PipelineError;
use crate::event::Observe;
use crate::memory;
use crate::progress::Progress;
use crate::ranks::{RankCard, Ranks, from_bytes, to_bytes};
use crate::recipe::{Recipe, Task, with_number};
use crate::run::{Outcome, Run, Waits};
use crate::run_folder::{DatasetRecord, Reporter, RunFolder, hex};
use crate::train::{shared_config, shown_folder};
use crate::train_options::{ResumeTo, Within};
use crate::unknown;

/// Goes on with a run that was interrupted or killed, to the same bits as if it had not been; with `epochs` above those
/// of the run, extends it.
///
/// A finished run that is extended begins a new count of patience. Its schedule is stretched to the new number of
/// epochs, so the learning rate goes up again to where the longer schedule has it.
///
/// # Errors
/// [`PipelineError::Finished`] for a finished run without more `epochs`; [`PipelineError::Run`] for a folder that is no
/// run, whose data set has changed, or in which another process is training; and those of [`crate::train`].
pub fn resume(
    run_dir: &Path,
    epochs: Option<u32>,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Outcome, PipelineError> {
    resume_within(run_dir, epochs.into(), &Within::default(), stop, observe)
}

/// As [`resume`], within limits, and also to end a run early.
///
/// # Errors
/// As [`resume`], and [`PipelineError::Memory`]; [`PipelineError::Run`] for a run that is to end before its first epoch is
/// done.
pub fn resume_within(
    run_dir: &Path,
    to: ResumeTo,
    within: &Within,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Outcome, PipelineError> {
    let mut reporter = Reporter::new(observe);
    let Reopened { folder, recipe, text, dataset, file, progress } =
        reopened((run_dir, to), &within.ranks, &mut reporter)?;
    let exec = recipe.exec()?;
    let loaded = load((&folder, &dataset), (&recipe, &exec), &file, (within, stop), &mut reporter);
    let card = |loaded: &Loaded| Some(RankCard::new(&recipe, &exec, &hex(&loaded.set.digest())));
    let loaded = within.ranks.agree(loaded, card)?;
    let Some(training) = file.training else {
        return Err(PipelineError::run(&folder.last(), "holds no training state"));
    };
    let config = shared_config(&recipe, &loaded, file.model.graph(), &within.ranks);
    if config.optimizer.name() != training.optimizer {
        let reason = format!("the run used {}; the optimizer cannot be changed half-way", training.optimizer);
        return Err(PipelineError::run(&folder.file("recipe.toml"), reason));
    }
    let mut meta = file.meta;
    if let Some(trained) = meta.trained_mut() {
        trained.recipe = text;
    }
    let mut trainer = Trainer::among(within.ranks.collective(), file.model, config, &exec)?;
    trainer.restore(training.step, &training.moments)?;
    // As large as the weights and more: not for the length of the run.
    drop(training);
    let run_dir = shown_folder(&folder, within.folder.is_some());
    let pool = exec.pool.clone();
    let mut run = Run {
        folder,
        run_dir,
        recipe,
        dataset,
        loaded,
        meta,
        trainer,
        exec,
        progress,
        reporter,
        stop,
        waits: Waits::default(),
        replay: !within.no_replay,
        evaluation_time: None,
        ranks: within.ranks.clone(),
        log_steps: within.log_steps,
    };
    run.introduce()?;
    // From a thread of the pool: steps need no change of threads, and no thread computes beside those of the pool.
    pool.install(|| run.fit())?
}

/// A run as its folder has it, with what `to` changes.
struct Reopened {
    folder: RunFolder,
    recipe: Recipe,
    /// The recipe's text.
    text: String,
    dataset: DatasetRecord,
    file: ModelFile,
    progress: Progress,
}

/// What rank 0 tells the others of a run, besides the model file.
#[derive(Serialize, Deserialize)]
struct Shared {
    folder: PathBuf,
    text: String,
    dataset: DatasetRecord,
    progress: Progress,
}

/// Opens a run's folder, which the first rank alone reads and writes.
fn reopened(
    (run_dir, to): (&Path, ResumeTo),
    ranks: &Ranks,
    reporter: &mut Reporter<'_>,
) -> Result<Reopened, PipelineError> {
    if ranks.size() == 1 {
        return reopen(run_dir, to, reporter);
    }
    let own = if ranks.is_first() { reopen(run_dir, to, reporter).map(Some) } else { Ok(None) };
    let own = ranks.agree(own, |_| None)?;
    let shared = own.as_ref().map(|own| Shared {
        folder: own.folder.path().to_owned(),
        text: own.text.clone(),
        dataset: own.dataset.clone(),
        progress: own.progress.clone(),
    });
    let shared: Option<Shared> = from_bytes(&ranks.of_first(&to_bytes(&shared)));
    let bytes = match &own {
        Some(own) => std::fs::read(own.folder.last()).map_err(PipelineError::io(&own.folder.last()))?,
        None => Vec::new(),
    };
    let bytes = ranks.of_first(&bytes);
    match (own, shared) {
        (Some(own), _) => Ok(own),
        (None, Some(Shared { folder, text, dataset, progress })) => {
            let recipe = Recipe::from_toml(&text)?;
            let file = ModelFile::from_bytes(&bytes)?;
            Ok(Reopened { folder: RunFolder::foreign(folder), recipe, text, dataset, file, progress })
        }
        (None, None) => Err(PipelineError::run(run_dir, "rank 0 has told nothing of it")),
    }
}

/// Opens a run's folder, and writes what `to` changes.
fn reopen(run_dir: &Path, to: ResumeTo, reporter: &mut Reporter<'_>) -> Result<Reopened, PipelineError> {
    let folder = RunFolder::open(run_dir)?;
    let mut text = folder.read("recipe.toml")?;
    let mut recipe = Recipe::from_toml(&text)?;
    recipe.validate()?;
    if recipe.add_classes.is_some() {
        let reason = match folder.file("evaluation.json").is_file() {
            true => {
                "its classes are added and it has no epochs to go on with; add more classes to it, or train a new model"
            }
            false => "it was stopped while classes were added, which is done as a whole: add them again",
        };
        return Err(PipelineError::run(run_dir, reason));
    }
    if !folder.last().is_file() {
        let reason = "stopped before training began, nothing to resume; start it again";
        return Err(PipelineError::run(run_dir, reason));
    }
    reporter.open(&folder)?;
    let dataset: DatasetRecord = parse(&folder, "dataset.json", &folder.read("dataset.json")?)?;
    let file = ModelFile::load(&folder.last())?;
    let Some(training) = &file.training else {
        return Err(PipelineError::run(
            &folder.last(),
            "holds no training state; it was not written by a run",
        ));
    };
    let mut progress: Progress = parse(&folder, "weights/last.ocelli", &training.extra)?;

    let done = progress.epochs_done();
    let stopped_early = recipe.patience > 0 && progress.since_best >= recipe.patience;
    let finished = done >= recipe.last_epoch() || stopped_early || progress.time_up;
    let extended = match to {
        ResumeTo::Epochs(epochs) => Some(epochs).filter(|&epochs| epochs != recipe.epochs || finished),
        ResumeTo::Recipe | ResumeTo::BestSoFar => None,
    };
    if let Some(epochs) = extended {
        if epochs <= done {
            let reason = format!("{epochs} is not above the {done} epochs that are done; ask for more");
            return Err(PipelineError::recipe("epochs", reason));
        }
        let was_ended = recipe.end_after > 0;
        recipe = Recipe { epochs, end_after: 0, ..recipe };
        recipe.validate()?;
        if finished {
            (progress.since_best, progress.time_up) = (0, false);
            // The report is of the shorter run.
            remove(&folder.file("evaluation.json"))?;
        }
        text = with_number(&text, "epochs", epochs, "extended by resume");
        if was_ended {
            text = with_number(&text, "end_after", 0, "extended by resume");
        }
        folder.write("recipe.toml", &text)?;
        let note = format!(
            "{done} epochs done, going on to {epochs}: the {} schedule is stretched to that",
            recipe.schedule
        );
        reporter.note(note)?;
    } else if finished && folder.file("evaluation.json").is_file() {
        return Err(PipelineError::Finished { path: run_dir.to_owned(), epochs: done });
    } else if to == ResumeTo::BestSoFar && !finished {
        if done == 0 {
            let reason =
                "its first epoch is not done, so there are no weights to keep; resume it without ending it";
            return Err(PipelineError::run(run_dir, reason));
        }
        recipe.end_after = done;
        text = with_number(&text, "end_after", done, "ended early");
        folder.write("recipe.toml", &text)?;
        reporter.note(format!("ended early, after {done} of {} epochs", recipe.epochs))?;
    }
    if recipe.size.is_none() || recipe.channels.is_none() || recipe.hflip.is_none() || recipe.lr.is_none() {
        let reason = "size, channels, hflip or lr is missing; it was changed after the run began";
        return Err(PipelineError::run(&folder.file("recipe.toml"), reason));
    }
    Ok(Reopened { folder, recipe, text, dataset, file, progress })
}

/// Reads the images of a run again.
fn load(
    (folder, dataset): (&RunFolder, &DatasetRecord),
    (recipe, exec): (&Recipe, &Exec),
    file: &ModelFile,
    (within, stop): (&Within, &AtomicBool),
    reporter: &mut Reporter<'_>,
) -> Result<Loaded, PipelineError> {
    let per_image = match recipe.task {
        Some(Task::MultiLabel) => LabelsPerImage::Any,
        Some(Task::SingleLabel) | None => LabelsPerImage::One,
    };
    let mut source = dataset.data(folder.path()).open_labelled(per_image)?;
    // The order of a run that started from another model, and without the classes that could not be trained.
    source.align_classes(&file.meta.classes);
    unknown::set_apart(&mut source, file.meta.classes.len());
    source.note_fading(file.meta.classes.len());
    source.drop_untrained(file.meta.classes.len());
    let settings = (file.meta.classes.len(), &exec.pool);
    // A rank on another host may not see the folder, and keeps nothing beside it.
    let runs = match within.ranks.is_first() {
        true => std::fs::canonicalize(folder.path()).map_err(PipelineError::io(folder.path()))?,
        false => folder.path().to_owned(),
    };
    let room = within.pixels(runs.parent().unwrap_or(&runs), |limit| {
        memory::Needs::expected(file.model.graph(), recipe, &source, None)
            .keeping(within)
            .room_for_pixels(limit)
    })?;
    let mut loaded =
        data::load_all(&source, recipe, settings, &room, stop, &mut |event| reporter.report(event))?;
    let dataset_data = dataset.data(folder.path());
    loaded.add_strange(&dataset_data, (recipe, &exec.pool), &room, stop)?;
    let known = file.meta.trained().map(|trained| trained.data_hash);
    if known != Some(loaded.set.digest()) || loaded.set.classes() != file.meta.classes {
        let reason = format!(
            "the data set {} has changed since the run began; train a new model on it",
            source.name()
        );
        return Err(PipelineError::run(folder.path(), reason));
    }
    let pre = file.meta.preprocessing.clone();
    loaded.set_normalization(pre.mean, pre.std)?;
    if let Some(limit) = within.memory {
        memory::Needs::loaded(file.model.graph(), recipe, &loaded, None).keeping(within).check(limit)?;
    }
    Ok(loaded)
}

fn parse<T: serde::de::DeserializeOwned>(
    folder: &RunFolder,
    name: &str,
    text: &str,
) -> Result<T, PipelineError> {
    serde_json::from_str(text).map_err(|error| {
        PipelineError::run(&folder.file(name), format!("damaged ({error}); the run cannot be resumed"))
    })
}

fn remove(path: &Path) -> Result<(), PipelineError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PipelineError::io(path)(error)),
        _ => Ok(()),
    }
}
