//! How much memory a training takes, before it is taken.
//!
//! The plan is counted by the engine to the byte, parameters and their copies by their number, images by their pixels.
//! What the rest takes (the program, its libraries, lists of names, what the allocator holds back) is an allowance, by
//! measurement. The estimate is 1.16 times the peak that the kernel counted (VmHWM) for keras-cnn on 32x32 images, 0.99 times
//! on 128x128, and 1.00 times for resnet18 on 224x224; `tests/service/child.rs` prints the figures.

use ocelli_datasets::Source;
use ocelli_engine::{Exec, Graph, Learning, Mode, Model, Optimizer, ParamLayout, Plan};
use serde::{Deserialize, Serialize};

use crate::batch::batch_for;
use crate::data::{self, Loaded};
use crate::error::PipelineError;
use crate::feed::BUFFERS;
use crate::recipe::{OptimizerKind, Recipe};
use crate::replay;
use crate::train_options::{TrainOptions, Within, network};
use crate::transfer;
use crate::unknown;

/// The program itself: its data, its threads' first pages, what the allocator holds back.
const PROGRAM: u64 = 16 << 20;
/// A thread: pages of its stack, and an arena of the allocator.
const THREAD: u64 = 1 << 20;
/// An image besides its pixels: its entries in the list of the source and in the set, with the ends of their names.
const ENTRY: u64 = 320;
/// Copies of an image's name: as listed, as a path, in the set.
const NAMES: u64 = 3;
/// Bytes for a pixel of an image that is being decoded, in its own size: decoded, turned, and half-way resized.
const DECODING: u64 = 9;

const FLOAT: u64 = size_of::<f32>() as u64;

/// Bytes that a training takes at its peak, by what takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEstimate {
    /// The compiled network: tensors, packed weights, scratch of all threads.
    pub plan: u64,
    /// Weights, gradients, the optimiser's moments, and the model that training starts from.
    pub parameters: u64,
    /// The lists that name the images.
    pub images: u64,
    /// Decoded images: of these, a file takes what does not fit.
    pub pixels: u64,
    /// The most that anything takes which does not last: batches on their way, copies for saving, evaluation.
    pub work: u64,
    /// The program.
    pub program: u64,
}

impl MemoryEstimate {
    /// All together.
    pub fn total(&self) -> u64 {
        self.least().saturating_add(self.pixels)
    }

    /// What it takes with all decoded images in a file.
    pub fn least(&self) -> u64 {
        [self.plan, self.parameters, self.images, self.work, self.program]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// A job that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Most images of a pass, where it must be fewer than the engine would choose.
    pub chunk: Option<u32>,
    /// What to say about that.
    pub note: Option<String>,
    /// What it takes.
    pub estimate: MemoryEstimate,
}

/// What a run takes. Opens the data and reads the headers of some images, decodes none.
///
/// # Errors
/// Those of the settings, the start model and the data.
pub(crate) fn needed(options: &TrainOptions) -> Result<MemoryEstimate, PipelineError> {
    expected(options, |needs, exec| needs.estimate(exec, needs.batch()))
}

/// Whether a run can be done with `limit` bytes, and with passes of how many images.
///
/// # Errors
/// [`PipelineError::Memory`] when it cannot; else as [`needed`].
pub(crate) fn fit(options: &TrainOptions, limit: u64) -> Result<Fitted, PipelineError> {
    expected(options, |needs, exec| needs.fit(exec, limit))
}

/// Calls `f` with what a run is expected to need by what its data looks like.
fn expected<T>(
    options: &TrainOptions,
    f: impl FnOnce(&Needs<'_>, &Exec) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    options.recipe.validate()?;
    let source = options.open()?;
    let options = &*transfer::with_start(options, &source)?;
    let (recipe, ..) = options.resolve(&source)?;
    let graph = network(&recipe, source.classes().len(), options)?;
    let start = options.start.as_ref().map(|start| &start.file.model);
    f(&Needs::expected(&graph, &recipe, &source, start).keeping(&options.within), &recipe.exec()?)
}

/// What decides how much memory a run takes.
pub(crate) struct Needs<'a> {
    graph: &'a Graph,
    recipe: &'a Recipe,
    /// Images to train on.
    train: usize,
    /// Bytes of the lists that name the images.
    images: u64,
    /// Bytes of the pixels in memory.
    pixels: u64,
    /// Bytes that decoding takes on all threads.
    decoding: u64,
    /// Parameters of the model that training starts from.
    start: u64,
    /// Whether features of images are kept at the end.
    replay: bool,
}

impl<'a> Needs<'a> {
    /// What a run needs with all images in memory, by what its data looks like.
    pub(crate) fn expected(
        graph: &'a Graph,
        recipe: &'a Recipe,
        source: &Source,
        start: Option<&Model>,
    ) -> Self {
        let items = source.items();
        let names = items.iter().map(|item| item.name.len() as u64).sum();
        let (width, height) = source.native_shape().median;
        let decoding = u64::from(width) * u64::from(height) * DECODING;
        Needs {
            graph,
            recipe,
            train: data::training_images(recipe, source),
            images: list_bytes(items.len(), names),
            pixels: items.len() as u64 * pixels(recipe),
            decoding: decoding * recipe.threads_used(),
            start: start.map_or(0, |model| model.layout().total() as u64),
            replay: false,
        }
    }

    /// What a run needs whose images are loaded.
    pub(crate) fn loaded(
        graph: &'a Graph,
        recipe: &'a Recipe,
        loaded: &Loaded,
        start: Option<&Model>,
    ) -> Self {
        let set = &loaded.set;
        let names = (0..set.len()).map(|i| set.name(i).len() as u64).sum();
        Needs {
            graph,
            recipe,
            train: loaded.train.len(),
            images: list_bytes(set.len(), names),
            pixels: set.pixel_bytes(),
            decoding: 0,
            start: start.map_or(0, |model| model.layout().total() as u64),
            replay: false,
        }
    }

    /// With what a run keeps within its limits.
    pub(crate) fn keeping(self, within: &Within) -> Self {
        Needs { replay: !within.no_replay, ..self }
    }

    /// Images in a step.
    pub(crate) fn batch(&self) -> usize {
        (self.recipe.batch as usize).min(self.train).max(1)
    }

    /// # Errors
    /// [`PipelineError::Memory`] when it takes more than `limit` bytes.
    pub(crate) fn check(&self, limit: u64) -> Result<(), PipelineError> {
        let exec = self.recipe.exec()?;
        let needed = self.estimate(&exec, self.batch())?.total();
        if needed <= limit { Ok(()) } else { Err(self.too_large(&exec, needed, limit)) }
    }

    /// How many of `limit` bytes are left for pixels.
    pub(crate) fn room_for_pixels(&self, limit: u64) -> Result<u64, PipelineError> {
        let estimate = self.estimate(&self.recipe.exec()?, self.batch())?;
        Ok(limit.saturating_sub(estimate.least()))
    }

    fn fit(&self, exec: &Exec, limit: u64) -> Result<Fitted, PipelineError> {
        let batch = self.batch();
        let estimate = self.estimate(exec, batch)?;
        if estimate.least() <= limit {
            return Ok(Fitted { chunk: None, note: None, estimate });
        }
        let (_, mut chunk) = Plan::measure(self.graph, batch, Mode::Train(Learning::default()), exec)?;
        while chunk > 1 {
            let smaller = exec.clone().chunk(chunk.div_ceil(2));
            let (_, real) = Plan::measure(self.graph, batch, Mode::Train(Learning::default()), &smaller)?;
            // A layer that joins the images of a batch needs all of them at once.
            if real >= chunk {
                break;
            }
            chunk = real;
            let estimate = self.estimate(&smaller, batch)?;
            if estimate.least() <= limit {
                let note = format!(
                    "a batch is computed in passes of {chunk} images to fit into {} MiB, which changes results in their last bits",
                    limit >> 20
                );
                return Ok(Fitted { chunk: Some(chunk as u32), note: Some(note), estimate });
            }
        }
        Err(self.too_large(exec, estimate.least(), limit))
    }

    /// The error, with the largest batch of half, a quarter ... that would fit.
    fn too_large(&self, exec: &Exec, needed: u64, limit: u64) -> PipelineError {
        let halves = std::iter::successors(Some(self.batch() / 2), |batch| Some(batch / 2));
        let fits =
            |&batch: &usize| self.estimate(exec, batch).is_ok_and(|estimate| estimate.least() <= limit);
        // Of one image there are no statistics.
        let batch = halves.take_while(|&batch| batch > 1).find(fits).map(|batch| batch as u32);
        PipelineError::Memory { needed, limit, batch }
    }

    /// Floats of the features and logits by which unknown images are told.
    fn features_kept(&self) -> Result<usize, PipelineError> {
        let classes = self.graph.classes()?;
        let for_means = match self.recipe.false_rejects > 0.0 {
            true => classes.saturating_mul(unknown::PER_CLASS),
            false => 0,
        };
        let replay = if self.replay { replay::most_kept(classes) } else { 0 };
        let inner: usize = unknown::inner_values(self.graph).iter().map(|&(_, channels)| channels).sum();
        let an_image = self.graph.feature_len().unwrap_or(0) + classes + inner;
        Ok(self.train.min(for_means.saturating_add(replay)).saturating_mul(an_image))
    }

    /// What it takes with steps of `batch` images.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) fn estimate(&self, exec: &Exec, batch: usize) -> Result<MemoryEstimate, PipelineError> {
        let floats = |count: usize| count as u64 * FLOAT;
        let layout = ParamLayout::new(self.graph)?;
        let (all, trainable) = (floats(layout.total()), floats(layout.trainable()));
        let moments = match self.recipe.optimizer {
            OptimizerKind::Sgd => trainable,
            OptimizerKind::Adam | OptimizerKind::AdamW | OptimizerKind::Muon => 2 * trainable,
        };
        let orthogonal = match self.recipe.optimizer {
            OptimizerKind::Muon => floats(Optimizer::muon_floats(self.graph, &layout, exec.isa)),
            OptimizerKind::Sgd | OptimizerKind::Adam | OptimizerKind::AdamW => 0,
        };
        let (plan, _) = Plan::measure(self.graph, batch, Mode::Train(Learning::default()), exec)?;
        let len = pixels(self.recipe) as usize;
        let at_a_time = batch_for(len);
        let (answers, _) = Plan::measure(self.graph, at_a_time, Mode::Infer, exec)?;
        // Three things that come one after another: batches are filled while others are in work; a file is written from
        // copies; a model is read, compiled and asked.
        let filling = floats(BUFFERS * batch * len);
        let saving = all + moments;
        let asking =
            2 * all + answers.total() as u64 + floats(BUFFERS * at_a_time * len + self.features_kept()?);
        let training = filling.max(saving).max(asking);
        let lasting = plan.total() as u64 + trainable + moments + orthogonal;
        Ok(MemoryEstimate {
            plan: plan.total() as u64,
            parameters: all + trainable + moments + orthogonal + self.start * FLOAT,
            images: self.images,
            pixels: self.pixels,
            // Images are decoded before anything but the model is there.
            work: training.max(self.decoding.saturating_sub(lasting)),
            program: PROGRAM + THREAD * exec.threads() as u64,
        })
    }
}

/// Bytes of one image, or floats of it as the network's input.
fn pixels(recipe: &Recipe) -> u64 {
    let (width, height) = recipe.size.expect("the recipe is resolved");
    let channels = recipe.channels.expect("the recipe is resolved");
    u64::from(width) * u64::from(height) * u64::from(channels)
}

fn list_bytes(images: usize, names: u64) -> u64 {
    images as u64 * ENTRY + NAMES * names
}
