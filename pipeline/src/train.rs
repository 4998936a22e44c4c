//! Starting and resuming runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ocelli_datasets::{ImageSet, Source};
use ocelli_engine::model_file::{ModelMeta, MultiLabel, Origin, Trained};
use ocelli_engine::{AdamConfig, Decay, Graph, Model, Norms, Optimizer, TrainConfig, Trainer, zoo};

use crate::data::{self, Data, Loaded};
use crate::environment::Environment;
use crate::error::PipelineError;
use crate::event::Observe;
use crate::findings::{self, Findings, Use};
use crate::labels::DEFAULT_THRESHOLD;
use crate::lr_find::{LrFind, range_test};
use crate::network_file::NETWORK_FILE;
use crate::preparation::Planned;
use crate::progress::Progress;
use crate::ranks::{RankCard, Ranks};
use crate::recipe::{self, Balance, OptimizerKind, Recipe};
use crate::run::{Outcome, Run, Waits};
use crate::run_folder::{ClassCount, DatasetRecord, Reporter, RunFolder, hex};
use crate::train_options::TrainOptions;
use crate::transfer;

/// Trains a model in a new run folder.
///
/// After every epoch the folder holds all that [`crate::resume`] needs. When `stop` is raised, the current batch is finished
/// and the state after the last finished epoch is what is kept; the steps of the broken epoch are done again.
///
/// # Errors
/// Those of the recipe, the data set, the engine and the file system; [`PipelineError::Diverged`] when the loss is no
/// longer a number; [`PipelineError::Stopped`] when `stop` was raised before training began, and no folder is left then.
pub fn train(
    options: &TrainOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Outcome, PipelineError> {
    let begun = Instant::now();
    if options.recipe.add_classes.is_some() {
        let reason =
            "the recipe is of a model that learnt further classes: name that model to add them again";
        return Err(PipelineError::recipe("add_classes", reason));
    }
    let mut reporter = Reporter::new(observe);
    let ranks = options.within.ranks.clone();
    let prepared = Prepared::new(options, stop, &mut reporter);
    let made = prepared.as_ref().ok().map(|prepared| prepared.folder.clone());
    let prepared = ranks.agree(prepared, Prepared::card);
    let Prepared { mut planned, folder, path, table, loaded } = prepared.inspect_err(|_| {
        // This rank's part went well.
        made.into_iter().for_each(RunFolder::discard);
    })?;
    let folder = shared_folder(folder, &ranks);
    if planned.recipe.lr.is_none() {
        let found = find_rate(&mut planned, &loaded, stop, &mut reporter);
        found.inspect_err(|_| folder.clone().discard())?;
    }
    let channels_chosen = planned.channels_chosen();
    let Planned { source, recipe, origins, exec, mut model, options, .. } = planned;
    let built_in = matches!(options.data, Data::Bundled | Data::BundledPhotos);
    let how = Use { balance: recipe.balance, channels_chosen, built_in };
    let found = findings::look(&loaded, how).inspect_err(|_| folder.clone().discard())?;
    let dataset = record(&source, &loaded, found, (path, table));
    let text = recipe.to_toml(&origins);
    let meta = ModelMeta {
        name: folder_name(&folder),
        classes: loaded.set.classes().to_vec(),
        preprocessing: loaded.set.preprocessing().clone(),
        metrics: None,
        temperature: None,
        rejection: None,
        multi_label: loaded.set.is_multi_label().then(|| untested_labels(loaded.set.classes().len())),
        origin: Origin::Trained(Trained {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: recipe.seed,
            data_name: source.name().to_owned(),
            data_hash: loaded.set.digest(),
            recipe: text.clone(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
            epochs: 0,
            parent: options.start.as_ref().map(|start| start.version.clone()),
        }),
    };
    if recipe.head_epochs > 0 {
        let head = transfer::fit_head(&mut model, &loaded, &recipe, &exec, stop, &mut reporter);
        head.inspect_err(|_| folder.clone().discard())?;
    }
    let model = shared_model(model, &ranks);
    let config = shared_config(&recipe, &loaded, model.graph(), &ranks);
    let trainer = Trainer::among(ranks.collective(), model, config, &exec);
    let trainer = trainer.inspect_err(|_| folder.clone().discard())?;
    folder.write("recipe.toml", &text)?;
    folder.write("environment.json", &Environment::of(exec.isa).to_json())?;
    if let Some(network) = &options.network {
        folder.write(NETWORK_FILE, network.text())?;
    }
    folder.write("labels.txt", &(meta.classes.join("\n") + "\n"))?;
    if ranks.is_first() {
        reporter.open(&folder)?;
    }
    let progress = Progress { before: begun.elapsed().as_secs_f64(), ..Progress::default() };
    let movable = options.within.folder.is_some();
    let run_dir = shown_folder(&folder, movable);
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
        replay: !options.within.no_replay,
        evaluation_time: None,
        ranks,
        log_steps: options.within.log_steps,
    };
    run.write_dataset()?;
    if run.ranks.is_first() {
        run.save_last()?;
    }
    run.introduce()?;
    // From a thread of the pool: steps need no change of threads, and no thread computes beside those of the pool.
    pool.install(|| run.fit())?
}

/// What a process has prepared before it trains.
struct Prepared<'a> {
    planned: Planned<'a>,
    folder: RunFolder,
    /// The data set and its table of labels, as the run records them.
    path: Option<String>,
    table: Option<String>,
    loaded: Loaded,
}

impl<'a> Prepared<'a> {
    /// Reads the images; the first rank makes the run's folder.
    fn new(
        options: &'a TrainOptions,
        stop: &AtomicBool,
        reporter: &mut Reporter<'_>,
    ) -> Result<Self, PipelineError> {
        let mut planned = Planned::new(options)?;
        for text in std::mem::take(&mut planned.notes) {
            reporter.note(text)?;
        }
        let (full, table) = (recorded_path(&options.data)?, recorded_table(&options.data)?);
        let name = options.name.as_deref().unwrap_or(planned.source.name());
        // Before images are read: a folder that cannot be written.
        let folder = match options.within.ranks.is_first() {
            true => RunFolder::create(&options.runs_dir, name)?,
            false => RunFolder::foreign(PathBuf::new()),
        };
        let path = match &options.within.folder {
            Some(root) => path_within(full, root, folder.path()).inspect_err(|_| folder.clone().discard())?,
            None => full,
        };
        let loaded = planned.load(stop, reporter).inspect_err(|_| folder.clone().discard())?;
        Ok(Prepared { planned, folder, path, table, loaded })
    }

    fn card(&self) -> Option<RankCard> {
        Some(RankCard::new(&self.planned.recipe, &self.planned.exec, &hex(&self.loaded.set.digest())))
    }
}

/// The folder of rank 0, which it alone writes.
fn shared_folder(own: RunFolder, ranks: &Ranks) -> RunFolder {
    let path = ranks.of_first(own.path().as_os_str().as_encoded_bytes());
    if ranks.is_first() {
        own
    } else {
        RunFolder::foreign(String::from_utf8_lossy(&path).into_owned().into())
    }
}

/// The weights of rank 0: those of all, as they come from one seed, whatever a host makes of it.
fn shared_model(mut model: Model, ranks: &Ranks) -> Model {
    if ranks.size() > 1 {
        let own: Vec<u8> = model.params().iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let first = ranks.of_first(&own);
        for (weight, bytes) in model.params_mut().iter_mut().zip(first.chunks_exact(4)) {
            *weight = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        }
    }
    model
}

/// As [`train_config`], with the most images that a rank has of a batch.
pub(crate) fn shared_config(recipe: &Recipe, loaded: &Loaded, graph: &Graph, ranks: &Ranks) -> TrainConfig {
    let config = train_config(recipe, loaded, graph);
    TrainConfig { batch: ranks.most_of(config.batch), ..config }
}

/// Runs a learning rate range test on the images of a training that is prepared, on a copy of its weights.
///
/// # Errors
/// Those of the recipe, the data set and the engine; [`PipelineError::Stopped`].
pub fn lr_find(
    options: &TrainOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<LrFind, PipelineError> {
    let mut reporter = Reporter::new(observe);
    let mut planned = Planned::new(options)?;
    for text in std::mem::take(&mut planned.notes) {
        reporter.note(text)?;
    }
    let loaded = planned.load(stop, &mut reporter)?;
    test_rates(&planned, &loaded, stop, &mut reporter)
}

/// Sets the learning rate to the one that a range test suggests, or to the default where it suggests none.
fn find_rate(
    planned: &mut Planned<'_>,
    loaded: &Loaded,
    stop: &AtomicBool,
    reporter: &mut Reporter<'_>,
) -> Result<(), PipelineError> {
    let found = test_rates(planned, loaded, stop, reporter)?;
    let default = Recipe::default().lr;
    let (lr, origin) = match found.valley {
        Some(lr) => (Some(lr), "lr-find (valley)"),
        None => (default, "default: lr-find saw no rate at which the loss falls"),
    };
    planned.recipe.lr = lr;
    planned.origins.insert("lr".to_owned(), origin.to_owned());
    reporter.note(format!("learning rate {:.2e}, {origin}", lr.unwrap_or(0.0)))
}

fn test_rates(
    planned: &Planned<'_>,
    loaded: &Loaded,
    stop: &AtomicBool,
    reporter: &mut Reporter<'_>,
) -> Result<LrFind, PipelineError> {
    let Planned { recipe, exec, model, .. } = planned;
    let mut trainer = Trainer::new(model.clone(), train_config(recipe, loaded, model.graph()), exec)?;
    // From a thread of the pool, as training.
    exec.pool.install(|| {
        range_test(&mut trainer, (loaded, recipe), &exec.pool, stop, &mut |event| reporter.report(event))
    })?
}

pub(crate) fn train_config(recipe: &Recipe, loaded: &Loaded, graph: &Graph) -> TrainConfig {
    let [momentum, weight_decay] = [recipe.momentum, recipe.weight_decay].map(f64::from);
    let adam = AdamConfig { weight_decay, ..AdamConfig::default() };
    TrainConfig {
        batch: (recipe.batch as usize).min(loaded.train.len()),
        optimizer: match recipe.optimizer {
            OptimizerKind::Sgd => {
                // Nesterov looks ahead along the momentum: without one there is nowhere to look.
                Optimizer::Sgd { momentum, nesterov: momentum > 0.0, weight_decay }
            }
            OptimizerKind::Adam => Optimizer::Adam(adam),
            OptimizerKind::AdamW => Optimizer::AdamW(adam),
            OptimizerKind::Muon => Optimizer::Muon { momentum, adam },
        },
        rates: match recipe.optimizer {
            OptimizerKind::Sgd | OptimizerKind::Adam | OptimizerKind::AdamW => {
                body_rates(recipe.body_rate, graph.nodes.len())
            }
            OptimizerKind::Muon => zoo::rates(&recipe.model, graph),
        },
        frozen: zoo::frozen(&recipe.model),
        loss: data::loss_of(&loaded.set),
        clip_norm: (recipe.clip_norm > 0.0).then_some(recipe.clip_norm),
        label_smoothing: recipe.label_smoothing,
        class_weights: match recipe.balance {
            Balance::Auto | Balance::None | Balance::Sampling => None,
            Balance::Weights => Some(balanced_weights(&loaded.set, &loaded.train)),
        },
        seed: recipe.seed,
        decay: match recipe.decay {
            recipe::Decay::All => Decay::All,
            recipe::Decay::Weights => Decay::Weights,
        },
        norms: match recipe.norms {
            recipe::Norms::Batch => Norms::Batch,
            recipe::Norms::Running => Norms::Running,
        },
        ema: (recipe.ema > 0.0).then_some(recipe.ema),
    }
}

/// Factors on the learning rate of `nodes` nodes: `body` for all but the last.
fn body_rates(body: f32, nodes: usize) -> Vec<f32> {
    if body == 1.0 {
        return Vec::new();
    }
    let mut rates = vec![body; nodes];
    rates.last_mut().into_iter().for_each(|last| *last = 1.0);
    rates
}

/// `images / (classes with images * images of the class)`: the mean over the images is one.
fn balanced_weights(set: &ImageSet, train: &[usize]) -> Vec<f32> {
    let mut counts = vec![0u64; set.classes().len()];
    train.iter().for_each(|&i| counts[set.class(i) as usize] += 1);
    let present = counts.iter().filter(|&&n| n > 0).count() as f64;
    let weight = |&n: &u64| if n == 0 { 1.0 } else { (train.len() as f64 / (present * n as f64)) as f32 };
    counts.iter().map(weight).collect()
}

/// What events and reports call a run's folder: its name alone where the place may change.
pub(crate) fn shown_folder(folder: &RunFolder, movable: bool) -> String {
    if movable { folder_name(folder) } else { folder.path().display().to_string() }
}

/// A whole path as it is from `from` on, where both lie in `root`.
fn path_within(full: Option<String>, root: &Path, from: &Path) -> Result<Option<String>, PipelineError> {
    let Some(full) = full else { return Ok(None) };
    let root = std::fs::canonicalize(root).map_err(PipelineError::io(root))?;
    let from = std::fs::canonicalize(from).map_err(PipelineError::io(from))?;
    let (Ok(to), Ok(from)) = (Path::new(&full).strip_prefix(&root), from.strip_prefix(&root)) else {
        return Ok(Some(full));
    };
    // Both are canonical: nothing but names is left in them.
    let common = to.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| "..");
    let down = to.components().skip(common).filter_map(|part| part.as_os_str().to_str());
    Ok(Some(up.chain(down).collect::<Vec<_>>().join("/")))
}

/// The data set's path as it must be written down to find it again from another folder.
pub(crate) fn recorded_path(data: &Data) -> Result<Option<String>, PipelineError> {
    match data {
        Data::Bundled | Data::BundledPhotos => Ok(None),
        Data::Path(path) | Data::Labelled { images: path, .. } => full_path(path).map(Some),
    }
}

/// The path of the table of labels, where it was given beside the images.
fn recorded_table(data: &Data) -> Result<Option<String>, PipelineError> {
    match data {
        Data::Labelled { table, .. } => full_path(table).map(Some),
        _ => Ok(None),
    }
}

fn full_path(path: &Path) -> Result<String, PipelineError> {
    let full = std::fs::canonicalize(path).map_err(PipelineError::io(path))?;
    match full.into_os_string().into_string() {
        Ok(full) => Ok(full),
        Err(_) => {
            Err(PipelineError::run(path, "the path is not UTF-8 and could not be found again; rename it"))
        }
    }
}

/// What a model for images with several labels needs, before its thresholds are chosen.
fn untested_labels(labels: usize) -> MultiLabel {
    MultiLabel { thresholds: vec![DEFAULT_THRESHOLD; labels], quality: None }
}

pub(crate) fn record(
    source: &Source,
    loaded: &Loaded,
    found: Findings,
    (path, labels): (Option<String>, Option<String>),
) -> DatasetRecord {
    let mut classes: Vec<ClassCount> = loaded
        .set
        .classes()
        .iter()
        .map(|name| ClassCount { name: name.clone(), train: 0, val: 0, test: 0 })
        .collect();
    let Loaded { set, train, val, test, .. } = loaded;
    let mut count = |images: &[usize], add: fn(&mut ClassCount)| {
        let labels = images.iter().flat_map(|&i| set.labels(i));
        labels.for_each(|&label| add(&mut classes[label as usize]));
    };
    count(train, |class| class.train += 1);
    count(val, |class| class.val += 1);
    count(test, |class| class.test += 1);
    let images = [train, val, test].map(Vec::len);
    DatasetRecord {
        schema: 1,
        path,
        labels,
        kind: source.kind().to_owned(),
        name: source.name().to_owned(),
        digest: hex(&loaded.set.digest()),
        images: loaded.set.is_multi_label().then_some(images),
        classes,
        notes: source.notes().iter().cloned().chain(found.notes).collect(),
        warnings: found.warnings,
        skipped: data::skipped(&loaded.set),
    }
}

fn folder_name(folder: &RunFolder) -> String {
    folder.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
