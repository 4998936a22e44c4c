//! From images to a model that knows more classes, and the files of its run.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ocelli_engine::model_file::{Metrics, ModelFile, ModelMeta, Origin, Trained};
use ocelli_engine::{Inference, Model};

use super::balanced::Balanced;
use super::images::{News, take_new};
use super::measure::old_classes;
use super::parent::Parent;
use crate::added::{ADDED, AddedClasses, ParentName};
use crate::batch::batch_for;
use crate::card::{Card, Results};
use crate::charts;
use crate::data::Loaded;
use crate::environment::Environment;
use crate::error::PipelineError;
use crate::evaluate::{LabelledImages, evaluated};
use crate::event::Event;
use crate::features::{Answers, Features};
use crate::findings::{self, Use};
use crate::metrics::{Evaluation, fit_temperature};
use crate::preparation::Planned;
use crate::probability::temperature;
use crate::probes;
use crate::progress::{EpochRow, Progress};
use crate::recipe::Balance;
use crate::replay::{Computed, DataName, Kept, Replay, Selection};
use crate::run::{Outcome, introduce};
use crate::run_folder::{DatasetRecord, Reporter, RunFolder};
use crate::run_report::{Shown, Training, run_report};
use crate::train::record;
use crate::transfer::{How, Pass, fit_layer, logits};
use crate::unknown;

/// Highest learning rate. On 20 and 5 classes of photos 5e-4 to 2e-3 come to the same within chance; higher ones win new
/// classes at the cost of old ones.
const LR: f32 = 1e-3;

/// A model that is not written yet.
pub(super) struct Grown {
    file: ModelFile,
    /// What is kept, unless nothing is to be.
    replay: Option<Replay>,
    evaluation: Evaluation,
    dataset: DatasetRecord,
    environment: Environment,
    added: AddedClasses,
    passes: Vec<Pass>,
}

/// Images and what is new among them.
pub(super) struct Images {
    pub(super) loaded: Loaded,
    pub(super) news: News,
}

impl Images {
    /// Reads the images and leaves out those that the model has seen.
    pub(super) fn load(
        planned: &mut Planned<'_>,
        parent: &Parent,
        (stop, reporter): (&AtomicBool, &mut Reporter<'_>),
    ) -> Result<Images, PipelineError> {
        let mut loaded = planned.load(stop, reporter)?;
        let news = take_new(&mut loaded, parent)?;
        Ok(Images { loaded, news })
    }
}

/// Computes all there is to write. `run_dir` is the folder that it will go to.
pub(super) fn compute(
    planned: &mut Planned<'_>,
    images: Images,
    parent: &Parent,
    (run_dir, path): (&Path, Option<String>),
    (stop, reporter): (&AtomicBool, &mut Reporter<'_>),
) -> Result<Grown, PipelineError> {
    let Images { loaded, news } = images;
    let Planned { options, source, recipe, origins, exec, model, .. } = planned;
    let how = Use { balance: Balance::Sampling, channels_chosen: true, built_in: path.is_none() };
    let mut found = findings::look(&loaded, how)?;
    found.notes.extend(news.notes());
    found.warnings.extend(news.warning());
    let dataset = record(source, &loaded, found, (path, None));
    let name =
        |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let parameters = model.layout().count();
    let shown = run_dir.display().to_string();
    let event = Event::Model { name: recipe.model.clone(), parameters, run_dir: shown };
    introduce(reporter, (&loaded, &dataset), &event)?;

    let Loaded { set, val, .. } = &loaded;
    let selection = Selection::of(&loaded, recipe.seed);
    let mut inference = Inference::new(model, batch_for(set.preprocessing().len()), exec)?;
    let mut tell = |done, total| reporter.report(&Event::Features { done, total });
    let new_train = Answers::compute(&mut inference, (set, &selection.train), stop, &mut tell)?;
    let new_val = Answers::compute(&mut inference, (set, val), stop, &mut |_, _| Ok(()))?;
    let mut strange = match &loaded.strange {
        Some(set) => {
            let all: Vec<usize> = (0..set.len()).collect();
            Features::compute(&mut inference, (set, &all), stop, &mut |_, _| Ok(()))?
        }
        None => Features::default(),
    };
    drop(inference);

    // The last layer, on old and new features.
    let known = parent.file.meta.classes.len();
    let trained = joined(&parent.replay, &parent.replay.train, &new_train);
    let mut layer = model.last_layer()?;
    clear_new(&mut layer, known);
    let mut balanced = Balanced::new(&trained.labels, recipe.seed);
    let how = How {
        images: balanced.images(),
        passes: recipe.head_epochs,
        lr: LR,
        label_smoothing: recipe.label_smoothing,
    };
    let rows = (&trained.features, &trained.labels);
    let (layer, passes) = fit_layer(layer, rows, &how, |pass| balanced.pass(pass), (exec, stop))?;
    model.set_last_layer(&layer)?;

    // What its probabilities are worth, and when an image is unknown.
    let mut held_out = joined(&parent.replay, &parent.replay.val, &new_val);
    held_out.features.logits = logits(&layer, &held_out.features.values, exec)?;
    strange.logits = logits(&layer, &strange.values, exec)?;
    let classes = set.classes().to_vec();
    // Inner values were not kept: unknown images are told by features and probabilities.
    let network = unknown::Network { classes: classes.len(), values: &[], fine_tuned: true };
    let trained_by = Trained {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: recipe.seed,
        data_name: source.name().to_owned(),
        data_hash: set.digest(),
        recipe: recipe.to_toml(origins),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
        epochs: 0,
        parent: Some(parent.version.clone()),
    };
    let meta = ModelMeta {
        name: name(run_dir),
        classes: classes.clone(),
        preprocessing: set.preprocessing().clone(),
        multi_label: None,
        metrics: None,
        temperature: fit_temperature(&held_out.features.logits, &held_out.classes()),
        rejection: unknown::learn_from((&trained, &held_out), &strange, &network, recipe.false_rejects),
        origin: Origin::Trained(trained_by),
    };
    if let Some(rejection) = &meta.rejection {
        reporter.note(unknown::about(rejection))?;
    }
    let old_layer = parent.file.model.last_layer()?;
    let added = AddedClasses {
        schema: 1,
        parent: ParentName {
            version: parent.version.clone(),
            sha256: parent.hash.clone(),
            path: whole(&parent.path),
        },
        known,
        added: news.added,
        further: news.further,
        replayed: parent.replay.train.labels.len(),
        old_classes: old_classes(&parent.replay, (&old_layer, &layer), exec)?,
        seconds: 0.0,
    };
    let mut file = ModelFile::new(model.clone(), meta);
    let Tested { evaluation, tested, indices } =
        test(&file, (&layer, &loaded, &selection), &parent.replay, (exec, stop), reporter)?;
    file.meta.metrics = (evaluation.split != "train").then(|| Metrics {
        accuracy: evaluation.accuracy,
        top5: evaluation.top5,
        loss: evaluation.loss,
        split: evaluation.split.clone(),
        images: evaluation.images as u64,
    });
    file.probes = probes::ask(&file, set, indices, exec)?;
    let data = DataName { name: dataset.name.clone(), digest: dataset.digest.clone() };
    let new = selection.replay(&loaded, &Computed { train: &new_train, val: &new_val, test: &tested }, data);
    let replay = (!options.within.no_replay).then(|| parent.replay.merged(&new, recipe.seed));
    let environment = Environment::of(exec.isa);
    Ok(Grown { file, replay, evaluation, dataset, environment, added, passes })
}

/// A path as it is found from anywhere.
fn whole(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Kept images and new ones.
fn joined(replay: &Replay, kept: &Kept, new: &Answers) -> Answers {
    Answers {
        images: Vec::new(),
        features: Features {
            len: replay.len,
            values: [&kept.features[..], &new.features.values].concat(),
            ..Features::default()
        },
        labels: [&kept.labels[..], &new.labels].concat(),
    }
}

/// Makes the weights of all classes behind the first `known` ones zero.
fn clear_new(layer: &mut Model, known: usize) {
    let ranges: Vec<_> = layer
        .layout()
        .entries()
        .iter()
        .map(|entry| (entry.range(), *entry.shape.last().unwrap_or(&1)))
        .collect();
    for (range, classes) in ranges {
        layer.params_mut()[range].chunks_exact_mut(classes).for_each(|row| row[known..].fill(0.0));
    }
}

/// The report on held-out images, and the features of those that are kept.
struct Tested<'a> {
    evaluation: Evaluation,
    tested: Answers,
    /// The new images that it is about.
    indices: &'a [usize],
}

/// Asks the model about its new test images, or else validation images, together with the kept ones of the same split.
fn test<'a>(
    file: &ModelFile,
    (layer, loaded, selection): (&Model, &'a Loaded, &Selection),
    replay: &Replay,
    (exec, stop): (&ocelli_engine::Exec, &AtomicBool),
    reporter: &mut Reporter<'_>,
) -> Result<Tested<'a>, PipelineError> {
    let Loaded { set, train, val, test, .. } = loaded;
    let none = Kept::default();
    let (indices, split, kept) = match (test.is_empty(), val.is_empty()) {
        (false, _) => (test, "test", &replay.test),
        (true, false) => (val, "val", &replay.val),
        (true, true) => (train, "train", &none),
    };
    let map: Vec<Option<usize>> = (0..file.meta.classes.len()).map(Some).collect();
    let (classes, temperature) = (&file.meta.classes, temperature(&file.meta));
    let images = LabelledImages { set, indices, map: &map, classes, split, temperature };
    let mut tested = Answers::default();
    let mut keep = |index, row: &[f32]| {
        if selection.test.binary_search(&index).is_ok() {
            tested.add(index, set.class(index), row);
        }
    };
    let earlier = (&logits(layer, &kept.features, exec)?[..], &kept.labels[..]);
    let mut inference = Inference::new(&file.model, batch_for(set.preprocessing().len()), exec)?;
    let mut tell = |event: &Event| reporter.report(event);
    let mut evaluation = images.run_after(earlier, (&mut inference, &mut keep), stop, &mut tell)?;
    if !kept.labels.is_empty() {
        evaluation.notes.push(format!(
            "{} of these images are features that the model kept of its earlier {split} images; predictions and worst mistakes are of the new ones",
            kept.labels.len()
        ));
    }
    match split {
        "test" => {}
        "val" => {
            evaluation.notes.push("no new test images: the same images chose the temperature".to_owned())
        }
        _ => evaluation.notes.push("no held-out images: expect less on new ones".to_owned()),
    }
    for text in evaluation.notes.clone() {
        reporter.note(text)?;
    }
    Ok(Tested { evaluation, tested, indices })
}

impl Grown {
    /// Writes the run folder; the report on held-out images comes last and says that it is whole.
    pub(super) fn write(
        mut self,
        folder: &RunFolder,
        begun: Instant,
        reporter: &mut Reporter<'_>,
    ) -> Result<Outcome, PipelineError> {
        reporter.open(folder)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.added.seconds = seconds as f32;
        let progress = self.progress(seconds);
        let meta = &self.file.meta;
        let recipe = meta.trained().map_or("", |trained| &trained.recipe);
        folder.write("recipe.toml", recipe)?;
        folder.write("environment.json", &self.environment.to_json())?;
        folder.write("labels.txt", &(meta.classes.join("\n") + "\n"))?;
        folder.write("dataset.json", &pretty(&self.dataset))?;
        folder.write("results.csv", &progress.to_csv())?;
        folder.write("curves.svg", &charts::curves(&meta.name, &progress.history, progress.best_epoch))?;
        folder.write(ADDED, &pretty(&self.added))?;
        let hash = self.file.save(&folder.best())?;
        if let Some(replay) = &self.replay {
            let bytes = replay.write(&folder.best(), &hash, &meta.classes)?;
            reporter.note(replay.describe(bytes))?;
        }
        let card = Card {
            meta,
            hash,
            parameters: self.file.model.layout().count(),
            dataset: &self.dataset,
            progress: &progress,
            results: Results::Classes(&self.evaluation),
            added: Some(&self.added),
        };
        folder.write("README.md", &card.to_markdown())?;
        let training = Training {
            meta,
            parameters: self.file.model.layout().count(),
            dataset: &self.dataset,
            progress: &progress,
            added: Some(&self.added),
            batch: &[],
            environment: self.environment.clone(),
        };
        folder.write("report.html", &run_report(&training, &self.evaluation, Shown::default()))?;
        self.evaluation.write_into(folder.path(), &meta.name)?;
        reporter.report(&Event::ClassesAdded { added: self.added.clone() })?;
        reporter.report(&evaluated(&self.evaluation))?;
        let passes = self.passes.len() as u32;
        reporter.report(&Event::Done {
            run_dir: folder.path().display().to_string(),
            split: self.evaluation.split.clone(),
            accuracy: self.evaluation.accuracy,
            best_epoch: passes,
            epochs: passes,
            seconds: seconds as f32,
            waited: 0.0,
            mean_average_precision: None,
        })?;
        Ok(Outcome {
            run_dir: folder.path().to_owned(),
            best: folder.best(),
            evaluation: Some(self.evaluation),
            label_evaluation: None,
            interrupted: false,
            epochs_done: passes,
            best_epoch: Some(passes),
        })
    }

    /// The passes of the last layer as the course of the run.
    fn progress(&self, seconds: f64) -> Progress {
        let row = |(pass, number): (&Pass, u32)| EpochRow {
            epoch: number,
            seconds,
            lr: pass.lr.into(),
            train_loss: pass.loss.into(),
            train_accuracy: pass.accuracy.into(),
            val_loss: None,
            val_accuracy: None,
            val_map: None,
            communication: None,
        };
        Progress {
            best_epoch: Some(self.passes.len() as u32),
            history: self.passes.iter().zip(1..).map(row).collect(),
            ..Progress::default()
        }
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain values with text keys") + "\n"
}
