//! `ocelli train`: arguments over recipe file over defaults, then a run.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ocelli_common::text::printable;
use ocelli_datasets::{AugmentLevel, Fit};
use ocelli_engine::{Isa, Precision, Shape, zoo};
use ocelli_pipeline::{
    ADDING_SETTINGS, Balance, Decay, ModelFile, Normalize, Norms, Numbers, Observe, OptimizerKind, Origins,
    Outcome, Parent, PipelineError, Quality, Ranks, Recipe, ResumeTo, Schedule, Start, StartModel, Task,
    TrainOptions, Within, is_cross_validation, is_network_file, network_text, open_model, version_id,
};
use serde::Serialize;

use crate::bytes::parse_bytes;
use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::{Output, Style};
use crate::ranks::RankArgs;
use crate::seconds::parse_seconds;
use crate::view::View;
use crate::{cross_validation, dry_run, label_report, paths, ranks, report};

/// A recipe file is a page of text; more than this is some other file.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

const DATA_HELP: &str = "\
DATA may be
  a folder of class folders      photos/cats/1.jpg, photos/dogs/2.png, ...
  a folder of split folders      photos/train/cats/1.jpg, photos/val/..., photos/test/..., by every usual name
  a ZIP of either                read in place
  a table (CSV, TSV)             image and label in columns; also beside images without class folders, or by --labels;
                                 several labels an image: cat|dog, a column for each label, or several rows
  IDX files                      MNIST and its relatives, plain or .gz: their folder, or the images file
  CIFAR-10 or CIFAR-100          the folder of the binary version
Images: JPEG, PNG, WebP, BMP, GIF, TIFF. Unreadable ones are skipped and named.
--dry-run says how the data is read and what is left out.";

/// Train a model on a folder of photos
#[derive(Debug, clap::Args)]
#[command(after_help = DATA_HELP, allow_negative_numbers = true)]
pub(crate) struct Args {
    /// Passes over the training images; with --resume, how many in all
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Folder that receives the run folder
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
    /// Name of the run folder, before its number; the name of the data if left out
    #[arg(long)]
    name: Option<String>,
    /// Cross-validation for small sets: train this many times, each time with another part of the images as the test
    #[arg(long, value_name = "N", conflicts_with_all = ["resume", "dry_run"])]
    folds: Option<u32>,
    /// After the folds, train a model on all images
    #[arg(long, requires = "folds")]
    r#final: bool,
    /// Continue the run or the cross-validation in this folder; with a larger --epochs, extend a run
    #[arg(long, value_name = "RUN_DIR", conflicts_with_all = ["data", "config", "out", "name", "start", "Settings"])]
    resume: Option<PathBuf>,
    /// With --resume: train no further, evaluate the best epoch so far and finish the run
    #[arg(long, requires = "resume", conflicts_with_all = ["data", "epochs"])]
    finish: bool,
    /// Add the classes of DATA to this model, a run folder or a model file with its folder `replay`, without losing those
    /// that it knows: the last layer is fitted again, the others stay; takes a small part of the time of training on all
    #[arg(long, value_name = "RUN", requires = "data",
          conflicts_with_all = ["resume", "start", "config", "folds", "dry_run", "epochs"])]
    add_classes: Option<PathBuf>,
    /// Memory for decoded images, e.g. 500M or 2G (60 % of what is free if left out): what does not fit goes to a file in
    /// .cache in the folder of the runs, which the next run on the same images reads again; `ocelli clean` removes it
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    cache_memory: Option<u64>,
    /// Keep no features of the images beside the model: no classes can be added to it later
    #[arg(long)]
    no_replay: bool,
    #[command(flatten)]
    view: View,
    /// Show data, recipe, layers, memory and the time that it will take by a few steps, then stop
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Print a network as a TOML file, to change it and train it with --model FILE.toml, then stop
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(zoo::NAMES),
          conflicts_with_all = ["data", "config", "resume", "start", "dry_run"])]
    print_network: Option<String>,
    #[command(flatten)]
    ranks: RankArgs,
    #[command(flatten)]
    input: Input,
}

/// What is trained, on what.
#[derive(Debug, clap::Args)]
pub(crate) struct Input {
    /// Images in class folders, a ZIP, a CSV, IDX or CIFAR files; the built-in Fashion-MNIST if left out
    data: Option<PathBuf>,
    /// Table (CSV, TSV) with the labels of the images in DATA, a folder or ZIP: one a row, or several between | or ;, or a column
    /// for each label
    #[arg(long, value_name = "FILE", requires = "data")]
    labels: Option<PathBuf>,
    /// Recipe file in TOML; options on the command line override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start from the weights of this model file or run, whose network and input stay and to which new classes are added;
    /// imagenet: those in this program; none: random ones
    #[arg(long, value_name = "MODEL")]
    start: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// The settings of a recipe; what is left out comes from the recipe file or the defaults.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct Settings {
    /// How much time for how good a model: decides network, size, variation and epochs where nothing else does
    #[arg(long, value_parser = words::<Quality>(Quality::WORDS))]
    quality: Option<Quality>,
    /// What an image has: one class, or any number of labels; multi-label by itself where a table shows images with several
    #[arg(long, value_parser = words::<Task>(Task::WORDS))]
    task: Option<Task>,
    /// Network: one of these, or a TOML file with its layers (--print-network shows what one looks like)
    #[arg(short, long, value_name = "NAME|FILE.toml", value_parser = NetworkParser)]
    model: Option<String>,
    /// Size of the network's input, e.g. 64 or 96x64 (width x height)
    #[arg(long, value_parser = parse_size, value_name = "N|WxH")]
    size: Option<(u32, u32)>,
    /// Channels of the network's input: 1 gray, 3 RGB, or as many samples as the pixels of your TIFF files have
    #[arg(long, value_name = "N")]
    channels: Option<u8>,
    /// How images of another shape are brought to the size
    #[arg(long, value_parser = words::<Fit>(Fit::WORDS))]
    fit: Option<Fit>,
    /// Images in a step
    #[arg(short, long, value_name = "N")]
    batch: Option<u32>,
    /// Highest learning rate; `auto` finds one by a range test before training (see `ocelli lr-find`)
    #[arg(long, value_name = "RATE|auto", value_parser = parse_rate)]
    lr: Option<Rate>,
    /// Factor on the learning rate of all layers but the last
    #[arg(long, value_name = "X")]
    body_rate: Option<f32>,
    /// Passes in which the last layer alone is trained, on features that are computed once
    #[arg(long, value_name = "N")]
    head_epochs: Option<u32>,
    /// What batch normalisations go by in training: statistics of the batch, or their own
    #[arg(long, value_parser = words::<Norms>(Norms::WORDS))]
    norms: Option<Norms>,
    /// Rule that turns gradients into steps
    #[arg(long, value_parser = words::<OptimizerKind>(OptimizerKind::WORDS))]
    optimizer: Option<OptimizerKind>,
    /// Momentum of sgd and muon
    #[arg(long, value_name = "X")]
    momentum: Option<f32>,
    /// Weight decay
    #[arg(long, value_name = "X")]
    weight_decay: Option<f32>,
    /// What weight decay is applied to: weights alone, or biases, scales and shifts too
    #[arg(long, value_parser = words::<Decay>(Decay::WORDS))]
    decay: Option<Decay>,
    /// Moving average of the weights: share of the old average that a step keeps, e.g. 0.998; 0 for none
    #[arg(long, value_name = "X")]
    ema: Option<f32>,
    /// How the learning rate moves over the run
    #[arg(long, value_parser = words::<Schedule>(Schedule::WORDS))]
    schedule: Option<Schedule>,
    /// Part of the run in which the learning rate rises
    #[arg(long, value_name = "PART")]
    warmup: Option<f32>,
    /// Label smoothing: part of the target that is spread over all classes
    #[arg(long, value_name = "PART")]
    label_smoothing: Option<f32>,
    /// Max gradient norm (0: off)
    #[arg(long, value_name = "X")]
    clip_norm: Option<f32>,
    /// Progressive resizing: shorter side of the training images at the begin, from where they grow to the size; saves time
    #[arg(long, value_name = "PIXELS")]
    first_size: Option<u32>,
    /// How strongly training images are varied
    #[arg(long, value_parser = words::<AugmentLevel>(AugmentLevel::WORDS))]
    augment: Option<AugmentLevel>,
    /// Whether images may be mirrored; wrong for letters and digits
    #[arg(long, value_name = "true|false")]
    hflip: Option<bool>,
    /// Mixup: blend pairs of images, with shares from Beta(ALPHA, ALPHA), e.g. 0.2; 0 for none
    #[arg(long, value_name = "ALPHA")]
    mixup: Option<f32>,
    /// CutMix: exchange rectangles between pairs of images, e.g. 1.0; 0 for none
    #[arg(long, value_name = "ALPHA")]
    cutmix: Option<f32>,
    /// What is done about classes with few images: their images count more in the loss (weights) or come more often
    /// (sampling); auto samples where the largest class has more than five times the images of the smallest
    #[arg(long, alias = "class-weights", value_parser = balance())]
    balance: Option<Balance>,
    /// Early stopping: epochs without a better validation result, 0 for never
    #[arg(long, value_name = "N")]
    patience: Option<u32>,
    /// Time that the whole run may take, e.g. 90s, 10m or 2h: it ends on time, with the learning rate down
    #[arg(long = "time", alias = "time-budget", value_parser = parse_seconds, value_name = "TIME")]
    time_budget: Option<u32>,
    /// Part of the images for validation, where the data declares none
    #[arg(long, value_name = "PART")]
    val_split: Option<f32>,
    /// Part of the images for the test, where the data declares none
    #[arg(long, value_name = "PART")]
    test_split: Option<f32>,
    /// Seed of weights, order, augmentation and split
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads, 0 for all cores; changes the time, not the result
    #[arg(short, long, value_name = "N")]
    threads: Option<u32>,
    /// Only direct convolutions: no Winograd transforms, whose rounding errors are about twice as large
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    exact: Option<bool>,
    /// Numbers between layers: f32, or bf16, which takes half of the memory; auto is bf16 where the processor has AMX, else
    /// f32
    #[arg(long, value_name = "auto|f32|bf16", value_parser = PossibleValuesParser::new(["auto", "f32", "bf16"]))]
    precision: Option<String>,
    /// Part of the images of known classes that may be called unknown, 0 for a model that calls none so; images of other things in
    /// a folder _unknown_ or _background_ beside the classes are no class and help to tell
    #[arg(long, value_name = "PART")]
    false_rejects: Option<f32>,
    /// Part of the images that may be unreadable
    #[arg(long, value_name = "PART")]
    max_bad: Option<f32>,
    /// What is done to the pixel values
    #[arg(long, value_parser = words::<Normalize>(Normalize::WORDS))]
    normalize: Option<Normalize>,
}

/// One of some words, with all of them in the help and the nearest one in the error.
fn words<T>(known: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(known).try_map(|word| word.parse::<T>())
}

/// The name of a network, or of a file with one.
#[derive(Clone)]
struct NetworkParser;

impl TypedValueParser for NetworkParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        match value.to_str().filter(|name| is_network_file(name)) {
            Some(file) => Ok(file.to_owned()),
            None => PossibleValuesParser::new(zoo::NAMES).parse_ref(command, argument, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(zoo::NAMES.into_iter().map(PossibleValue::new)))
    }
}

/// The words of [`Balance`], with `balanced` as older versions called one of them.
fn balance() -> impl TypedValueParser<Value = Balance> {
    let named = |word: &&'static str| match *word {
        "weights" => PossibleValue::new("weights").alias("balanced"),
        word => PossibleValue::new(word),
    };
    let values: Vec<PossibleValue> = Balance::WORDS.iter().map(named).collect();
    PossibleValuesParser::new(values).try_map(|word| word.parse::<Balance>())
}

/// A learning rate; `None` for one that is to be found.
#[derive(Clone, Copy, Debug)]
struct Rate(Option<f32>);

impl From<Rate> for Option<f32> {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text {
        "auto" => Ok(Rate(None)),
        _ => text
            .parse()
            .map(|rate| Rate(Some(rate)))
            .map_err(|_| "write a number such as 0.001, or auto".to_owned()),
    }
}

pub(crate) fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let side =
        |text: &str| text.trim().parse::<u32>().map_err(|_| "write 64 or 96x64 (width x height)".to_owned());
    match text.split_once(['x', 'X']) {
        Some((width, height)) => Ok((side(width)?, side(height)?)),
        None => side(text).map(|side| (side, side)),
    }
}

/// What is to be done, checked.
enum Plan {
    Train(Box<TrainOptions>),
    Add { options: Box<TrainOptions>, parent: Box<Parent> },
    Resume { run_dir: PathBuf, to: ResumeTo, within: Within },
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    if let Some(name) = &args.print_network {
        return print_network(name, &args.input.settings, args.view.json, out);
    }
    let (view, dry_run) = (args.view, args.dry_run);
    let json = view.json;
    let (folds, with_final) = (args.folds, args.r#final);
    let joining = args.ranks;
    let plan = args.plan().map_err(ranks::named)?;
    match (plan.together(joining, folds.is_some() || dry_run)?, folds) {
        (Plan::Train(options), Some(folds)) => {
            cross_validation::run(&options, (folds, with_final), view, out)
        }
        (Plan::Add { options, parent }, _) => {
            let interrupt = Interrupt::listen()?;
            let outcome = watched(&options.within.ranks, (&interrupt, view), out, |observe| {
                ocelli_pipeline::add_classes(&options, &parent, &interrupt.stop, observe)
            })?;
            finish(&outcome, json, out)
        }
        (Plan::Train(options), None) if dry_run => dry_run::describe(&options, json, out),
        (Plan::Train(options), None) => {
            let outcome = train(&options, &*Interrupt::listen()?, view, out)?;
            finish(&outcome, json, out)
        }
        (Plan::Resume { run_dir, .. }, _) if is_cross_validation(&run_dir) => {
            cross_validation::resume(&run_dir, view, out)
        }
        (Plan::Resume { run_dir, to, within }, _) => {
            let interrupt = Interrupt::listen()?;
            let outcome = watched(&within.ranks, (&interrupt, view), out, |observe| {
                ocelli_pipeline::resume_within(&run_dir, to, &within, &interrupt.stop, observe)
            })?;
            finish(&outcome, json, out)
        }
    }
}

impl Plan {
    /// With the other processes of a launcher joined, where it started several; `alone` for what one process does.
    fn together(self, joining: RankArgs, alone: bool) -> Result<Plan, Failure> {
        match &self {
            Plan::Add { .. } => ranks::refuse("adding classes")?,
            Plan::Resume { run_dir, .. } if is_cross_validation(run_dir) => {
                ranks::refuse("a cross-validation")?;
            }
            Plan::Train(_) if alone => ranks::refuse("a cross-validation or a dry run")?,
            Plan::Train(_) | Plan::Resume { .. } => {}
        }
        let mut plan = self;
        let within = match &mut plan {
            Plan::Train(options) | Plan::Add { options, .. } => &mut options.within,
            Plan::Resume { within, .. } => within,
        };
        (within.ranks, within.log_steps) = (joining.join()?, joining.log_steps);
        Ok(plan)
    }
}

/// What `--print-network --json` prints.
#[derive(Serialize)]
struct NetworkRecord<'a> {
    schema: u32,
    r#type: &'static str,
    name: &'a str,
    /// The file's text.
    toml: String,
}

/// The network of a name as a file, for the size and channels that were given: a dense layer may depend on them.
fn print_network(name: &str, settings: &Settings, json: bool, out: &mut Output) -> Result<(), Failure> {
    let (width, height) = settings.size.unwrap_or((64, 64));
    let input = Shape::new(height as usize, width as usize, settings.channels.unwrap_or(3).into());
    // Any number of classes: the text says "classes".
    let toml = network_text(&zoo::build(name, input, 2)?);
    match json {
        true => out.json(&NetworkRecord { schema: 1, r#type: "network", name, toml }),
        false => {
            out.line(format_args!(
                "# {name}, for images of {width}x{height}; `ocelli train DATA --model FILE.toml` trains it"
            ))?;
            out.line(toml.trim_end())
        }
    }
}

impl Args {
    /// Reads the recipe file and checks every setting.
    fn plan(self) -> Result<Plan, Failure> {
        let within =
            Within { cache_memory: self.cache_memory, no_replay: self.no_replay, ..Within::default() };
        if let Some(run_dir) = self.resume {
            if self.finish && is_cross_validation(&run_dir) {
                return Err(Failure::usage(
                    "--finish ends a run, and this is the folder of a cross-validation",
                    "leave --finish out to go on with its folds",
                ));
            }
            let to = if self.finish { ResumeTo::BestSoFar } else { self.epochs.into() };
            return Ok(Plan::Resume { run_dir, to, within });
        }
        if self.add_classes.is_some() {
            self.input.settings.check_for_adding()?;
        }
        let options = self.input.options(self.epochs, self.out, self.name)?;
        let options = Box::new(TrainOptions { within, ..options });
        match self.add_classes {
            Some(path) => Ok(Plan::Add { options, parent: Box::new(Parent::open(&path)?) }),
            None => Ok(Plan::Train(options)),
        }
    }
}

impl Input {
    /// Reads the recipe file and the network's, and checks every setting.
    pub(crate) fn options(
        self,
        epochs: Option<u32>,
        runs_dir: PathBuf,
        name: Option<String>,
    ) -> Result<TrainOptions, Failure> {
        let (mut recipe, mut origins) = match &self.config {
            Some(path) => read_recipe(path)?,
            None => (Recipe::default(), Origins::new()),
        };
        let start = match self.start.as_deref().map(|path| (path, built_in_start(path))) {
            Some((_, Some(start))) => {
                recipe.start = Some(start);
                origins.insert("start".to_owned(), "command line".to_owned());
                None
            }
            Some((path, None)) => {
                self.settings.check_for_start()?;
                Some(start_model(path)?)
            }
            None => None,
        };
        let given = self.settings.model.is_some();
        self.settings.apply(epochs, &mut recipe, &mut origins);
        recipe.validate()?;
        let data = paths::data(self.data, self.labels);
        let named = is_network_file(&recipe.model).then(|| PathBuf::from(&recipe.model));
        // A recipe names a file from its own folder on.
        let from = self.config.filter(|_| !given);
        let named =
            named.map(|path| from.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).join(path));
        let mut options = TrainOptions { recipe, origins, name, start, ..TrainOptions::new(data, runs_dir) };
        if let Some(path) = named {
            options = options.with_network(&path)?;
        }
        Ok(options)
    }
}

impl Settings {
    /// Nothing but how to compute.
    pub(crate) fn with_compute(threads: Option<u32>, exact: bool) -> Self {
        Settings { threads, exact: exact.then_some(true), ..Settings::default() }
    }

    /// Refuses settings that a model which training starts from has already.
    fn check_for_start(&self) -> Result<(), Failure> {
        let given = [
            ("--model", self.model.is_some()),
            ("--size", self.size.is_some()),
            ("--channels", self.channels.is_some()),
            ("--fit", self.fit.is_some()),
            ("--normalize", self.normalize.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                let text = format!(
                    "{option} cannot be used with the --start of a model: its network and input stay"
                );
                Err(Failure::usage(
                    text,
                    format!("leave {option} out, or --start imagenet for the weights in this program"),
                ))
            }
            None => Ok(()),
        }
    }

    /// Refuses settings that were decided when the model was trained that classes are added to.
    fn check_for_adding(&self) -> Result<(), Failure> {
        let (mut recipe, mut given) = (Recipe::default(), Origins::new());
        self.clone().apply(None, &mut recipe, &mut given);
        let stays = |(name, origin): &(&String, &String)| {
            *origin == "command line" && !ADDING_SETTINGS.contains(&name.as_str())
        };
        match given.iter().find(stays) {
            Some((name, _)) => {
                let (option, allowed) = (option(name), ADDING_SETTINGS.map(option).join(", "));
                let text = format!(
                    "{option} cannot be used with --add-classes: it was decided when the model was trained"
                );
                Err(Failure::usage(text, format!("these can be chosen: {allowed}")))
            }
            None => Ok(()),
        }
    }

    /// Lays what was given over a recipe, and notes where it came from.
    pub(crate) fn apply(self, epochs: Option<u32>, recipe: &mut Recipe, origins: &mut Origins) {
        macro_rules! set {
            ($from:expr, $field:ident) => {
                if let Some(value) = $from {
                    recipe.$field = value.into();
                    origins.insert(stringify!($field).to_owned(), "command line".to_owned());
                }
            };
            ($($field:ident),+) => { $(set!(self.$field, $field);)+ };
        }
        set!(epochs, epochs);
        if let Some(numbers) = numbers(self.precision.as_deref(), origins.contains_key("precision")) {
            recipe.precision = numbers;
            let origin = if self.precision.is_some() { "command line" } else { "this processor" };
            origins.insert("precision".to_owned(), origin.to_owned());
        }
        set!(
            quality,
            task,
            model,
            size,
            first_size,
            channels,
            fit,
            batch,
            lr,
            body_rate,
            head_epochs,
            norms,
            optimizer,
            momentum,
            weight_decay,
            decay,
            ema,
            schedule,
            warmup,
            label_smoothing,
            clip_norm,
            augment,
            hflip,
            mixup,
            cutmix,
            balance,
            patience,
            time_budget,
            val_split,
            test_split,
            seed,
            threads,
            exact,
            false_rejects,
            max_bad,
            normalize
        );
    }
}

/// The numbers to train in, where they were given or this processor is much faster with others than f32; `known` where a
/// recipe has them.
fn numbers(given: Option<&str>, known: bool) -> Option<Numbers> {
    match given {
        None if known => None,
        None | Some("auto") => {
            let isa = Isa::best().ok()?;
            (Precision::Auto.resolve(isa) == Precision::Bf16).then_some(Numbers::Bf16)
        }
        Some(word) => word.parse().ok(),
    }
}

/// The option of a setting.
fn option(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}

/// The weights in this program that a word names, where no file has that name.
fn built_in_start(path: &Path) -> Option<Start> {
    let word = path.to_str().and_then(|word| word.parse::<Start>().ok())?;
    (!path.exists()).then_some(word)
}

/// A model to start from.
pub(crate) fn start_model(path: &Path) -> Result<StartModel, Failure> {
    let file = ModelFile { training: None, ..open_model(path)? };
    if !StartModel::usable(&file) {
        let text =
            format!("{}: its last layer is not dense, so it cannot learn other classes", path.display());
        return Err(Failure::usage(text, "leave --start out for fresh weights"));
    }
    Ok(StartModel::new(version_id(&file.content_hash()?), file))
}

fn read_recipe(path: &Path) -> Result<(Recipe, Origins), Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_RECIPE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| Failure::io(path, &error))?;
    let located = |error: PipelineError| {
        Failure::usage(
            format!("{}: {error}", path.display()),
            "recipe.toml of any run folder shows every setting",
        )
    };
    let recipe = Recipe::from_toml(&text).map_err(located)?;
    let named = Recipe::named_in(&text).map_err(located)?;
    let origin = path.display().to_string();
    Ok((recipe, named.into_iter().map(|name| (name, origin.clone())).collect()))
}

/// Trains with progress on the terminal, until it is done or a signal comes.
pub(crate) fn train(
    options: &TrainOptions,
    interrupt: &Interrupt,
    view: View,
    out: &mut Output,
) -> Result<Outcome, Failure> {
    let ranks = &options.within.ranks;
    watched(ranks, (interrupt, view), out, |observe| {
        ocelli_pipeline::train(options, &interrupt.stop, observe)
    })
}

fn watched(
    ranks: &Ranks,
    (interrupt, view): (&Interrupt, View),
    out: &mut Output,
    work: impl FnOnce(Observe<'_>) -> Result<Outcome, PipelineError>,
) -> Result<Outcome, Failure> {
    if ranks.is_first() {
        interrupt.announce("stopping after this batch; a second Ctrl-C stops at once");
    }
    match ranks::watch(ranks, (interrupt, view), out, work)? {
        Ok(outcome) if outcome.interrupted => {
            let text = match outcome.epochs_done {
                1 => "1 epoch is done and saved".to_owned(),
                n => format!("{n} epochs are done and saved"),
            };
            let run = paths::shell_word(&outcome.run_dir);
            let finish = match outcome.epochs_done {
                0 => "",
                _ => "with --finish added, the best epoch so far is evaluated and the run ends; ",
            };
            let hint = format!("{finish}go on with: ocelli train --resume {run}");
            Err(Failure::Interrupted {
                signal: interrupt.signal(),
                message: Message { text, hint: Some(hint) },
            })
        }
        result => result.map_err(|error| interrupt.failure(error)),
    }
}

/// The results of a run that has ended well. With `--json` the last event has told them.
pub(crate) fn finish(outcome: &Outcome, json: bool, out: &mut Output) -> Result<(), Failure> {
    if json {
        return Ok(());
    }
    if let Some(evaluation) = &outcome.evaluation {
        if !out.quiet() {
            out.line("")?;
            report::print(evaluation, report::Sort::default(), out)?;
        }
        out.line(report::accuracy_line(&evaluation.split, evaluation.accuracy))?;
    }
    if let Some(evaluation) = &outcome.label_evaluation {
        if !out.quiet() {
            out.line("")?;
            label_report::print(evaluation, report::Sort::default(), out)?;
        }
        out.line(label_report::precision_line(evaluation))?;
    }
    let run_dir = printable(&outcome.run_dir.display().to_string());
    out.line(format_args!("run folder {run_dir}"))?;
    out.flush()?;
    let word = paths::shell_word(&outcome.run_dir);
    let try_it =
        out.message_paint.apply(Style::Dim, format_args!("try it: ocelli predict --model {word} IMAGE..."));
    out.say(try_it);
    Ok(())
}
