//! What a training would be, told before it is begun: the data as it is read, the network layer by layer, memory, and the
//! time that it will take by a few steps on images of the data.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ocelli_datasets::{ImageSet, Preprocessing, Source, Split};
use ocelli_engine::{Graph, Inference, ParamLayout, Trainer};
use serde::Serialize;

use crate::batch::batch_for;
use crate::data::{self, Loaded, split_sizes};
use crate::error::PipelineError;
use crate::event::Observe;
use crate::feed::{Flow, feed};
use crate::memory::{MemoryEstimate, Needs};
use crate::network_file::word;
use crate::order::{Epoch, batch};
use crate::preparation::Planned;
use crate::recipe::Normalize;
use crate::run_folder::Reporter;
use crate::train::train_config;
use crate::train_options::TrainOptions;

/// Images that are decoded for the timed steps; a batch beyond them takes them again.
const DECODED: usize = 64;
/// Steps that are timed, after one that is not: it touches its memory for the first time.
const TIMED_STEPS: usize = 3;

/// What a training would be.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    /// Layout of the data, e.g. `class folders`.
    pub kind: String,
    /// What the data is called.
    pub name: String,
    /// Images in all.
    pub images: usize,
    /// Images by class.
    pub classes: BTreeMap<String, usize>,
    /// Images by the split that the data declares.
    pub splits: BTreeMap<String, usize>,
    /// What the reader noticed, and what was chosen.
    pub notes: Vec<String>,
    /// The recipe as a commented TOML text.
    pub recipe: String,
    /// Images to train on, to validate on and for the test, about.
    pub split_sizes: [usize; 3],
    /// The layers in order.
    pub layers: Vec<LayerSummary>,
    /// Learnable numbers.
    pub parameters: usize,
    /// Multiply-adds for one image, forward.
    pub macs: u64,
    /// Bytes of the tensors in the model file; some kilobytes come on top.
    pub model_bytes: u64,
    /// Bytes that training takes at its peak.
    pub memory: MemoryEstimate,
    /// How long it will take; none where no image could be read.
    pub timing: Option<Timing>,
}

/// A layer of the network.
#[derive(Clone, Debug, Serialize)]
pub struct LayerSummary {
    /// Its name.
    pub name: String,
    /// The word for its operation, as in the file of a network.
    pub op: &'static str,
    /// Height, width and channels of its output.
    pub output: [u32; 3],
    /// Learnable numbers.
    pub parameters: usize,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// Bytes of its output for one image.
    pub activation_bytes: u64,
}

/// Times in seconds, measured on images of the data.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// Images that were decoded for it.
    pub decoded: usize,
    /// The timed training steps, varying the images included.
    pub steps_s: Vec<f64>,
    /// Images of a step.
    pub batch: usize,
    /// Training images a second, by the median step.
    pub images_per_second: f64,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Epochs of the run.
    pub epochs: u32,
    /// Reading all images.
    pub loading_s: f64,
    /// Running an image through the finished network.
    pub validation_image_s: f64,
    /// An epoch with its validation.
    pub epoch_s: f64,
    /// The whole run.
    pub run_s: f64,
}

/// Describes the training that `options` ask for, and times some steps of it. Writes nothing.
///
/// # Errors
/// Those of the recipe, the data set, the network and the engine; [`PipelineError::Stopped`].
pub fn dry_run(
    options: &TrainOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<DryRun, PipelineError> {
    let planned = Planned::new(options)?;
    let Planned { source, recipe, origins, notes, exec, model, .. } = &planned;
    let graph = model.graph();
    let start = options.start.as_ref().map(|start| &start.file.model);
    let needs = Needs::expected(graph, recipe, source, start).keeping(&options.within);
    let memory = needs.estimate(exec, needs.batch())?;
    let mut classes: BTreeMap<String, usize> =
        source.classes().iter().map(|name| (name.clone(), 0)).collect();
    let mut splits = BTreeMap::new();
    for item in source.items() {
        for &label in item.labels.as_slice() {
            *classes.entry(source.classes()[label as usize].clone()).or_default() += 1;
        }
        if let Some(split) = item.split {
            *splits.entry(split.to_string()).or_default() += 1;
        }
    }
    let layers = layers(graph)?;
    let layout = ParamLayout::new(graph)?;
    let mut reporter = Reporter::new(observe);
    Ok(DryRun {
        kind: source.kind().to_owned(),
        name: source.name().to_owned(),
        images: source.items().len(),
        classes,
        splits,
        notes: source.notes().iter().chain(notes).cloned().collect(),
        recipe: recipe.to_toml(origins),
        split_sizes: split_sizes(recipe, source),
        macs: layers.iter().map(|layer| layer.macs).sum(),
        layers,
        parameters: layout.count(),
        model_bytes: (layout.total() * size_of::<f32>()) as u64,
        memory,
        timing: time(&planned, stop, &mut reporter)?,
    })
}

fn layers(graph: &Graph) -> Result<Vec<LayerSummary>, PipelineError> {
    let shapes = graph.shapes()?;
    let rows = graph.nodes.iter().zip(&shapes[1..]).map(|(node, &y)| {
        let x = shapes[node.inputs[0] as usize];
        let learnt = node.op.params(x).into_iter().filter(|(kind, _)| kind.is_trainable());
        LayerSummary {
            name: node.name.clone(),
            op: word(&node.op),
            output: [y.h, y.w, y.c],
            parameters: learnt.map(|(_, shape)| shape.iter().product::<usize>()).sum(),
            macs: node.op.macs(x, y) as u64,
            activation_bytes: (y.len() * size_of::<f32>()) as u64,
        }
    });
    Ok(rows.collect())
}

/// Some images of the data that training images are taken from, evenly spread.
fn sample(source: &Source) -> Vec<usize> {
    let of_training = |&i: &usize| matches!(source.items()[i].split, None | Some(Split::Train));
    let all: Vec<usize> = (0..source.items().len()).filter(of_training).collect();
    all.iter().copied().step_by(all.len().div_ceil(DECODED).max(1)).collect()
}

/// Decodes some images and trains some steps on them, as training would.
fn time(
    planned: &Planned<'_>,
    stop: &AtomicBool,
    reporter: &mut Reporter<'_>,
) -> Result<Option<Timing>, PipelineError> {
    let Planned { source, recipe, exec, model, .. } = planned;
    let (width, height) = recipe.size.expect("the recipe is resolved");
    let channels = recipe.channels.expect("the recipe is resolved");
    let preprocessing = Preprocessing::new(width, height, channels, recipe.fit);
    let indices = sample(source);
    let begun = Instant::now();
    // Unreadable images are no reason against a few steps: training says what it makes of them.
    let mut set =
        data::load(source, Some(&indices), &preprocessing, (&exec.pool, 1.0), stop, &mut |event| {
            reporter.report(event)
        })?;
    let loading_s = begun.elapsed().as_secs_f64() * source.items().len() as f64 / indices.len().max(1) as f64;
    let decoded = set.len();
    if decoded == 0 {
        return Ok(None);
    }
    if recipe.normalize == Normalize::Dataset {
        let all: Vec<usize> = (0..decoded).collect();
        let (mean, std) = set.channel_stats(&all)?;
        set.set_normalization(mean, std)?;
    }
    let [train, val, test] = split_sizes(recipe, source);
    let step = (recipe.batch as usize).min(train).max(1);
    let loaded = Loaded {
        set,
        train: (0..step).map(|i| i % decoded).collect(),
        val: Vec::new(),
        test: Vec::new(),
        warnings: Vec::new(),
        strange: None,
    };
    let mut trainer = Trainer::new(model.clone(), train_config(recipe, &loaded, model.graph()), exec)?;
    let steps_s = exec.pool.install(|| timed_steps(&mut trainer, planned, &loaded))??;
    let validation_image_s = timed_inference(planned, &loaded.set)?;
    let mut sorted = steps_s.clone();
    sorted.sort_by(f64::total_cmp);
    let a_step = sorted[sorted.len() / 2];
    let steps_per_epoch = train.div_ceil(step).max(1);
    let epoch_s = a_step * steps_per_epoch as f64 + validation_image_s * val as f64;
    let last = if test > 0 { test } else { val };
    Ok(Some(Timing {
        decoded,
        steps_s,
        batch: step,
        images_per_second: step as f64 / a_step.max(1e-9),
        steps_per_epoch,
        epochs: recipe.epochs,
        loading_s,
        validation_image_s,
        epoch_s,
        run_s: loading_s + epoch_s * f64::from(recipe.epochs) + validation_image_s * last as f64,
    }))
}

fn timed_steps(
    trainer: &mut Trainer,
    planned: &Planned<'_>,
    loaded: &Loaded,
) -> Result<Vec<f64>, PipelineError> {
    let Planned { recipe, exec, .. } = planned;
    let image_len = loaded.set.preprocessing().len();
    let mut times = Vec::with_capacity(TIMED_STEPS);
    for step in 0..=TIMED_STEPS {
        let begun = Instant::now();
        let epoch = Epoch::new(loaded, recipe, step as u32 + 1);
        let fill = |place: usize, x: &mut [f32]| epoch.fill(place, x);
        feed(&exec.pool, (&epoch.places(), batch(recipe, loaded)), image_len, fill, |places, x| {
            // The rate does not change the time; this one changes no weight for the worse.
            epoch.step(trainer, (places, None), x, 0.0)?;
            Ok(Flow::Go)
        })?;
        if step > 0 {
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}

/// Seconds for an image of a validation.
fn timed_inference(planned: &Planned<'_>, set: &ImageSet) -> Result<f64, PipelineError> {
    let Planned { exec, model, .. } = planned;
    let len = set.preprocessing().len();
    let mut inference = Inference::new(model, batch_for(len), exec)?;
    let n = inference.batch().min(set.len());
    let mut x = vec![0.0; n * len];
    for (i, image) in x.chunks_exact_mut(len).enumerate() {
        set.fill(i, image)?;
    }
    let mut logits = vec![0.0; n * inference.classes()];
    inference.run(&x, n, &mut logits)?;
    let begun = Instant::now();
    inference.run(&x, n, &mut logits)?;
    Ok(begun.elapsed().as_secs_f64() / n as f64)
}
