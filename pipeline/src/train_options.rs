//! What to train, on what, from which weights, and within which limits.

use std::path::{Path, PathBuf};

use ocelli_datasets::{CacheFolder, LabelsPerImage, Source};
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{EngineError, Graph, Shape, zoo};

use crate::data::{self, Data, PixelRoom};
use crate::error::PipelineError;
use crate::machine;
use crate::network_file::{NETWORK_FILE, NetworkFile, is_network_file};
use crate::ranks::Ranks;
use crate::recipe::{Origins, Recipe, START_NETWORK, Start, Task, is_open};
use crate::unknown;

/// What to train, on what, and where the run goes.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// The images.
    pub data: Data,
    /// The recipe; what it leaves open is chosen from the data.
    pub recipe: Recipe,
    /// Where each setting came from.
    pub origins: Origins,
    /// Folder in which the run's folder is made.
    pub runs_dir: PathBuf,
    /// Name of the run; the data set's where there is none.
    pub name: Option<String>,
    /// What to call the data; its file's or folder's name where there is none.
    pub data_name: Option<String>,
    /// A model whose weights training starts from; fresh ones where there is none.
    pub start: Option<StartModel>,
    /// The network, where the recipe's `model` names a file.
    pub network: Option<NetworkFile>,
    /// What the run must stay within.
    pub within: Within,
}

impl TrainOptions {
    /// The default recipe on some images, its run folder to be made in `runs_dir`.
    pub fn new(data: Data, runs_dir: impl Into<PathBuf>) -> Self {
        TrainOptions {
            data,
            recipe: Recipe::default(),
            origins: Origins::new(),
            runs_dir: runs_dir.into(),
            name: None,
            data_name: None,
            start: None,
            network: None,
            within: Within::default(),
        }
    }

    /// With the network in a file, which the run keeps beside its recipe.
    ///
    /// # Errors
    /// Those of [`NetworkFile::read`].
    pub fn with_network(mut self, path: &Path) -> Result<Self, PipelineError> {
        self.network = Some(NetworkFile::read(path)?);
        self.recipe.model = NETWORK_FILE.to_owned();
        self.origins.insert("model".to_owned(), path.display().to_string());
        Ok(self)
    }
}

/// How far a run that is resumed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeTo {
    /// To the end that its recipe has.
    Recipe,
    /// To this number of epochs in all.
    Epochs(u32),
    /// No further: the best epoch so far is evaluated, and the run is finished.
    BestSoFar,
}

impl From<Option<u32>> for ResumeTo {
    /// To a number of epochs, where one is given.
    fn from(epochs: Option<u32>) -> ResumeTo {
        epochs.map_or(ResumeTo::Recipe, ResumeTo::Epochs)
    }
}

/// What a run must stay within.
#[derive(Clone, Debug, Default)]
pub struct Within {
    /// Bytes of memory; training that needs more is not begun.
    pub memory: Option<u64>,
    /// Bytes of decoded images that are kept in memory; the others go to a file. Where nobody says, what `memory` leaves, or
    /// else 60 % of what is free on the machine and in this process's control group.
    pub cache_memory: Option<u64>,
    /// A folder that may be moved with all that is in it: no file of the run names a place in it by its whole path, and
    /// decoded images go with the run.
    pub folder: Option<PathBuf>,
    /// Whether the run keeps no features of its images: no classes can be added to its model then.
    pub no_replay: bool,
    /// The ranks that train together.
    pub ranks: Ranks,
    /// Whether the loss of every step is told.
    pub log_steps: bool,
}

impl Within {
    /// Where the decoded images of a run in `runs` are kept; `room` says how many bytes of a limit are left for them.
    pub(crate) fn pixels(
        &self,
        runs: &Path,
        room: impl FnOnce(u64) -> Result<u64, PipelineError>,
    ) -> Result<PixelRoom, PipelineError> {
        let memory = match (self.cache_memory, self.memory) {
            (Some(bytes), _) => bytes,
            (None, Some(limit)) => room(limit)?,
            (None, None) => machine::free_memory() / 10 * 6 / self.ranks.on_this_host() as u64,
        };
        if !self.ranks.is_first() {
            // Only the first rank writes beside the runs.
            let name = format!("ocelli-rank-{}-{}", self.ranks.rank(), std::process::id());
            let cache = CacheFolder::passing(std::env::temp_dir().join(name));
            return Ok(PixelRoom { memory, cache: Some(cache) });
        }
        let folder = cache_folder(runs);
        let cache =
            if self.folder.is_some() { CacheFolder::passing(folder) } else { CacheFolder::new(folder) };
        Ok(PixelRoom { memory, cache: Some(cache) })
    }
}

/// The folder beside the runs in `runs` for decoded images that do not fit in memory.
pub fn cache_folder(runs: &Path) -> PathBuf {
    runs.join(".cache")
}

/// A model to start from. Its network and normalisation stay.
#[derive(Clone, Debug)]
pub struct StartModel {
    /// Its version, which the new model names as its parent.
    pub version: String,
    /// The model.
    pub file: ModelFile,
    /// What becomes of its classes.
    pub classes: StartClasses,
}

/// What becomes of the classes of a model that training starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartClasses {
    /// They keep their places, and classes of the data that it does not know come after them. Its input stays, too.
    Keep,
    /// The classes of the data take their place: the last layer is a new one. The input may have another size.
    Replace,
}

impl TrainOptions {
    /// Opens the data with the classes that the model will have: those of the model that training starts from, then those
    /// of the data that have something to train on. What was left out stands in the notes of the source.
    ///
    /// # Errors
    /// Those of [`Source::open`]; [`PipelineError::TooFewTrained`] where fewer than two classes are left.
    pub fn open(&self) -> Result<Source, PipelineError> {
        let per_image = self.labels_per_image()?;
        let mut source = match &self.start {
            // With the classes of the model there are enough.
            Some(StartModel { classes: StartClasses::Keep, .. }) => self.data.open_labelled(per_image)?,
            _ => self.data.open_for_training(per_image)?,
        };
        let keeps = self.start.as_ref().filter(|start| start.classes == StartClasses::Keep);
        if source.is_multi_label() && keeps.is_some_and(|start| start.file.meta.multi_label.is_none()) {
            let reason =
                "the model that training starts from tells classes apart, one an image; train without it"
                    .to_owned();
            return Err(PipelineError::MultiLabel { reason });
        }
        if let Some(name) = &self.data_name {
            source = source.named(name);
        }
        let known = self.known();
        source.align_classes(known);
        unknown::set_apart(&mut source, known.len());
        if self.recipe.add_classes.is_none() {
            source.note_fading(known.len());
        }
        let left_out = source.drop_untrained(known.len());
        check_trained(source.name(), source.classes(), left_out)?;
        Ok(source)
    }

    /// How many labels an image has: as the recipe says, as the model that training starts from has it, or as tables show.
    fn labels_per_image(&self) -> Result<LabelsPerImage, PipelineError> {
        let kept = self.start.as_ref().filter(|start| start.classes == StartClasses::Keep);
        let several = kept.is_some_and(|start| start.file.meta.multi_label.is_some());
        match self.recipe.task {
            Some(Task::SingleLabel) if several => {
                let reason = "the model that training starts from says any number of labels; leave it out";
                Err(PipelineError::recipe("task", reason))
            }
            Some(Task::SingleLabel) => Ok(LabelsPerImage::One),
            Some(Task::MultiLabel) => Ok(LabelsPerImage::Any),
            None if several => Ok(LabelsPerImage::Any),
            None => Ok(LabelsPerImage::AsFound),
        }
    }

    /// The recipe with all that the start model and the data decide, where each setting came from, and what to say
    /// about it.
    pub(crate) fn resolve(&self, source: &Source) -> Result<(Recipe, Origins, Vec<String>), PipelineError> {
        self.recipe.validate()?;
        let (mut recipe, mut origins) = (self.recipe.clone(), self.origins.clone());
        if let Some(start) = &self.start {
            start.apply(&mut recipe, &mut origins);
        }
        let notes = data::resolve(&mut recipe, &mut origins, source, self.network.as_ref())?;
        recipe.validate()?;
        Ok((recipe, origins, notes))
    }

    /// The classes of the model that training starts from.
    pub(crate) fn known(&self) -> &[String] {
        match &self.start {
            Some(StartModel { file, classes: StartClasses::Keep, .. }) => &file.meta.classes,
            _ => &[],
        }
    }
}

/// Refuses what is no choice: `left_out` says what became of the other classes.
pub(crate) fn check_trained(
    data: &str,
    classes: &[String],
    left_out: Option<String>,
) -> Result<(), PipelineError> {
    if classes.len() >= 2 {
        return Ok(());
    }
    let reason = left_out.unwrap_or_else(|| "the others have the same name".to_owned());
    Err(PipelineError::TooFewTrained { data: data.to_owned(), class: classes.first().cloned(), reason })
}

/// Highest learning rate of runs that start from trained weights, where nobody chose one: the default would undo them.
const START_LR: f32 = 1e-3;

impl StartModel {
    /// A model that goes on learning: its classes and its input stay.
    pub fn new(version: impl Into<String>, file: ModelFile) -> Self {
        StartModel { version: version.into(), file, classes: StartClasses::Keep }
    }

    /// Whether training can start from a model: its last layer can be given other classes.
    pub fn usable(file: &ModelFile) -> bool {
        file.model.graph().with_classes(file.meta.classes.len()).is_ok()
    }

    /// What a recipe calls the model's network: by a name that builds this very network, or as that of a start model.
    fn network_name(&self) -> String {
        let (graph, meta) = (self.file.model.graph(), &self.file.meta);
        let own = meta.trained().and_then(|trained| Recipe::from_toml(&trained.recipe).ok());
        let builds = |name: &String| {
            zoo::build(name, graph.input, meta.classes.len()).is_ok_and(|built| built == *graph)
        };
        own.map(|recipe| recipe.model).filter(builds).unwrap_or_else(|| START_NETWORK.to_owned())
    }

    fn apply(&self, recipe: &mut Recipe, origins: &mut Origins) {
        if self.classes == StartClasses::Replace {
            recipe.start = Some(Start::ImageNet);
            return;
        }
        let input = self.file.meta.preprocessing.clone();
        recipe.model = self.network_name();
        recipe.size = Some((input.width, input.height));
        recipe.channels = Some(input.channels);
        recipe.fit = input.fit;
        for name in ["model", "size", "channels", "fit"] {
            origins.insert(name.to_owned(), format!("of version {}, which it starts from", self.version));
        }
        if is_open(origins, "lr") && recipe.lr > Some(START_LR) {
            recipe.lr = Some(START_LR);
            origins.insert("lr".to_owned(), "chosen for weights that are trained already".to_owned());
        }
    }
}

/// The network of a resolved recipe, or of the model that training starts from, with other classes.
pub(crate) fn network(
    recipe: &Recipe,
    classes: usize,
    options: &TrainOptions,
) -> Result<Graph, PipelineError> {
    let (width, height) = recipe.size.expect("the recipe is resolved");
    let channels = recipe.channels.expect("the recipe is resolved");
    let input = Shape::new(height as usize, width as usize, usize::from(channels));
    if let Some(start) = &options.start {
        let graph = start.file.model.graph();
        if start.classes == StartClasses::Replace {
            return Ok(graph.with_input(input)?.with_classes(classes)?);
        }
        if graph.input != input {
            let (expected, found) = (graph.input.to_string(), input.to_string());
            return Err(EngineError::Shape { what: "input of the start model", expected, found }.into());
        }
        return Ok(graph.with_classes(classes)?);
    }
    if recipe.model == START_NETWORK {
        let reason =
            format!("`{START_NETWORK}` is the network of the model that training starts from: there is none");
        return Err(PipelineError::recipe("model", reason));
    }
    if is_network_file(&recipe.model) {
        return match &options.network {
            Some(file) => file.build(input, classes),
            None => Err(PipelineError::recipe("model", format!("the file {} was not read", recipe.model))),
        };
    }
    Ok(zoo::build(&recipe.model, input, classes)?)
}
