//! What comes before the first step: the recipe as the data has it, the network, the images in memory.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;

use ocelli_datasets::Source;
use ocelli_engine::{Exec, Model, zoo};

use crate::data::{self, Loaded};
use crate::error::PipelineError;
use crate::memory;
use crate::progressive;
use crate::recipe::{Origins, Recipe};
use crate::run_folder::Reporter;
use crate::train_options::{StartClasses, TrainOptions, check_trained, network};
use crate::transfer;

/// A training of which everything is decided and nothing read but names: a network that cannot be is refused before
/// images are read, which may take minutes.
pub(crate) struct Planned<'a> {
    /// With the model that training starts from, also where the data decided that.
    pub(crate) options: Cow<'a, TrainOptions>,
    pub(crate) source: Source,
    /// Resolved, but for a learning rate that is to be found.
    pub(crate) recipe: Recipe,
    pub(crate) origins: Origins,
    /// What was chosen, and why.
    pub(crate) notes: Vec<String>,
    pub(crate) exec: Exec,
    /// The first weights, for all classes of the source.
    pub(crate) model: Model,
}

impl<'a> Planned<'a> {
    /// # Errors
    /// Those of the recipe, the data set and the network.
    pub(crate) fn new(options: &'a TrainOptions) -> Result<Self, PipelineError> {
        options.recipe.validate()?;
        let exec = options.recipe.exec()?;
        let source = options.open()?;
        let options = transfer::with_start(options, &source)?;
        let (recipe, origins, notes) = options.resolve(&source)?;
        let model = first_weights(&options, &recipe, source.classes().len())?;
        progressive::check(&recipe, model.graph())?;
        Ok(Planned { options, source, recipe, origins, notes, exec, model })
    }

    /// Whether somebody said how many channels the input has.
    pub(crate) fn channels_chosen(&self) -> bool {
        self.options.recipe.channels.is_some() || self.options.start.is_some()
    }

    /// Reads the images; the model is built again where classes turn out to have none.
    ///
    /// # Errors
    /// Those of the data set; [`PipelineError::Memory`]; [`PipelineError::Stopped`].
    pub(crate) fn load(
        &mut self,
        stop: &AtomicBool,
        reporter: &mut Reporter<'_>,
    ) -> Result<Loaded, PipelineError> {
        let Planned { options, source, recipe, exec, model, .. } = self;
        let room = options.within.pixels(&options.runs_dir, |limit| {
            let start = options.start.as_ref().map(|start| &start.file.model);
            memory::Needs::expected(model.graph(), recipe, source, start)
                .keeping(&options.within)
                .room_for_pixels(limit)
        })?;
        let settings = (options.known().len(), &exec.pool);
        let mut loaded =
            data::load_all(source, recipe, settings, &room, stop, &mut |event| reporter.report(event))?;
        loaded.add_strange(&options.data, (recipe, &exec.pool), &room, stop)?;
        check_trained(source.name(), loaded.set.classes(), loaded.warnings.first().cloned())?;
        if loaded.set.classes().len() < source.classes().len() {
            *model = first_weights(options, recipe, loaded.set.classes().len())?;
        }
        if let Some(start) = &options.start {
            let pre = start.file.meta.preprocessing.clone();
            loaded.set_normalization(pre.mean, pre.std)?;
        }
        if options.start.is_none() && zoo::starts_from_images(&recipe.model) {
            prepare(model, recipe, &loaded)?;
        }
        if let Some(limit) = options.within.memory {
            let start = options.start.as_ref().map(|start| &start.file.model);
            memory::Needs::loaded(model.graph(), recipe, &loaded, start)
                .keeping(&options.within)
                .check(limit)?;
        }
        Ok(loaded)
    }
}

/// The network of a resolved recipe with the weights that training starts from.
fn first_weights(options: &TrainOptions, recipe: &Recipe, classes: usize) -> Result<Model, PipelineError> {
    let mut model = Model::init(network(recipe, classes, options)?, recipe.seed)?;
    match &options.start {
        Some(start) if start.classes == StartClasses::Keep => model.adopt(&start.file.model)?,
        Some(start) => model.adopt_body(&start.file.model)?,
        None => {}
    }
    Ok(model)
}

/// Gives a fresh model the first weights that its network makes from images: training images at even distances in the data
/// set.
fn prepare(model: &mut Model, recipe: &Recipe, loaded: &Loaded) -> Result<(), PipelineError> {
    let len = model.graph().input.len();
    let count = loaded.train.len().min(zoo::START_IMAGES);
    let mut images = vec![0.0; count * len];
    for (i, image) in images.chunks_exact_mut(len).enumerate() {
        loaded.set.fill(loaded.train[i * loaded.train.len() / count], image)?;
    }
    Ok(zoo::prepare(&recipe.model, model, &images)?)
}
