//! A model that explains its answers.

use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_datasets::{DecodeError, Prepare, Prepared, Preprocessing};
use ocelli_engine::model_file::{ModelFile, ModelMeta, version_id};
use ocelli_engine::{ClassGradients, EngineError, Exec, GradientOutputs, Inference};

use super::cam;
use super::layer::Layer;
use super::map::HeatMap;
use super::method::ExplainMethod;
use super::near::nearest;
use super::occlusion::Occlusion;
use crate::batch::batch_for;
use crate::compute::Compute;
use crate::error::PipelineError;
use crate::predict::Decoder;
use crate::probability::{probabilities, ranking, sigmoids, temperature};
use crate::probes;

/// Most images that are explained at a time: maps are looked at one by one.
const MAX_BATCH: usize = 8;

/// What maps are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExplainOptions {
    /// How.
    pub method: ExplainMethod,
    /// From which layer, by its name in the network; the last one whose output has more than one pixel where none is given.
    /// [`ExplainMethod::Occlusion`] looks at none.
    pub layer: Option<String>,
}

/// Why a model says what it says of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The class that the map is about.
    pub class: String,
    /// Its index in the model.
    pub index: usize,
    /// Its probability in 0..=1.
    pub probability: f32,
    /// What speaks for the class, at the resolution of the layer, or of the parts that were hidden.
    pub map: HeatMap,
}

/// A model ready to explain what it says. The same bits on any number of threads.
pub struct Explainer {
    network: Network,
    method: ExplainMethod,
    layer: Option<Layer>,
    decoder: Decoder,
    meta: ModelMeta,
    version: String,
    batch: usize,
}

enum Network {
    /// Values and gradients of a layer.
    Gradients(Box<ClassGradients>),
    /// Answers alone.
    Answers(Box<Inference>),
}

impl Explainer {
    /// An explainer of a model.
    ///
    /// # Errors
    /// [`PipelineError::NoMap`] for a network without a layer whose output has more than one pixel, and [`PipelineError::UnknownName`] for
    /// a layer that it does not have, but for occlusion; those of [`Predictor::from_model_file`].
    ///
    /// [`Predictor::from_model_file`]: crate::Predictor::from_model_file
    pub fn new(file: &ModelFile, options: &ExplainOptions, compute: Compute) -> Result<Self, PipelineError> {
        Explainer::with_batch(file, options, compute, MAX_BATCH)
    }

    /// As [`Explainer::new`], with memory for at most `batch` images at once.
    ///
    /// # Errors
    /// As [`Explainer::new`].
    pub fn with_batch(
        file: &ModelFile,
        options: &ExplainOptions,
        compute: Compute,
        batch: usize,
    ) -> Result<Self, PipelineError> {
        probes::check_probes(file, compute)?;
        let exec = compute.exec()?;
        let pre = &file.meta.preprocessing;
        pre.validate()?;
        let batch = batch_for(pre.len()).min(batch.clamp(1, MAX_BATCH));
        let layer = match options.method {
            ExplainMethod::GradCam | ExplainMethod::LayerCam => {
                Some(Layer::choose(file.model.graph(), options.layer.as_deref())?)
            }
            ExplainMethod::Occlusion => None,
        };
        Ok(Explainer {
            network: match &layer {
                Some(layer) => {
                    Network::Gradients(Box::new(ClassGradients::new(&file.model, layer.value, batch, &exec)?))
                }
                None => Network::Answers(Box::new(Inference::new(&file.model, batch, &exec)?)),
            },
            method: options.method,
            layer,
            decoder: Decoder::new(&file.meta),
            meta: file.meta.clone(),
            version: version_id(&file.content_hash()?),
            batch,
        })
    }

    /// Explains what the model says of images, as [`Decoder::prepare`] gives them: for each the class that `classes` names,
    /// or the likeliest one.
    ///
    /// # Errors
    /// [`PipelineError::Decode`] for an image that another model's decoder prepared, [`PipelineError::Engine`] for a class
    /// that the model does not have, [`PipelineError::Stopped`].
    ///
    /// # Panics
    /// When there are not as many classes as images.
    pub fn explain(
        &mut self,
        images: &[Prepared],
        classes: &[Option<usize>],
        stop: &AtomicBool,
    ) -> Result<Vec<Explanation>, PipelineError> {
        assert_eq!(images.len(), classes.len(), "a class for each image, or none");
        let pre = &self.meta.preprocessing;
        if let Some(other) = images.iter().find(|image| image.pixels.len() != pre.len()) {
            let Preprocessing { width, height, channels, .. } = *pre;
            let values = other.pixels.len();
            return Err(DecodeError::BadShape { width, height, channels, values }.into());
        }
        let mut found = Vec::with_capacity(images.len());
        for (images, classes) in images.chunks(self.batch).zip(classes.chunks(self.batch)) {
            if stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped);
            }
            let mut x = vec![0.0; images.len() * pre.len()];
            for (image, x) in images.iter().zip(x.chunks_exact_mut(pre.len())) {
                pre.normalize(image, x);
            }
            let classes: Vec<Option<u32>> =
                classes.iter().map(|class| class.map(|c| u32::try_from(c).unwrap_or(u32::MAX))).collect();
            match &mut self.network {
                Network::Gradients(network) => {
                    found.extend(by_gradients(network, self.method, &self.meta, (&x, &classes))?);
                }
                Network::Answers(network) => {
                    for (x, class) in x.chunks_exact(pre.len()).zip(classes) {
                        found.push(by_occlusion(network, &self.meta, (x, class), stop)?);
                    }
                }
            }
        }
        Ok(found)
    }

    /// The index of a class.
    ///
    /// # Errors
    /// [`PipelineError::UnknownName`], with the nearest names.
    pub fn class(&self, name: &str) -> Result<usize, PipelineError> {
        class_index(&self.meta.classes, name)
    }

    /// The name of the layer that maps are made from; none for occlusion.
    pub fn layer(&self) -> Option<&str> {
        self.layer.as_ref().map(|layer| layer.name.as_str())
    }

    /// How maps are made.
    pub fn method(&self) -> ExplainMethod {
        self.method
    }

    /// The decoder of this model, to prepare images on other threads.
    pub fn decoder(&self) -> Decoder {
        self.decoder.clone()
    }

    /// What the model file says about the model.
    pub fn meta(&self) -> &ModelMeta {
        &self.meta
    }

    /// The first 12 hexadecimal digits of the model's SHA-256.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it runs.
    pub fn exec(&self) -> &Exec {
        match &self.network {
            Network::Gradients(network) => network.exec(),
            Network::Answers(network) => network.exec(),
        }
    }
}

/// The index of a class among the names of all.
///
/// # Errors
/// [`PipelineError::UnknownName`], with the nearest names.
pub fn class_index(classes: &[String], name: &str) -> Result<usize, PipelineError> {
    classes.iter().position(|class| class == name).ok_or_else(|| PipelineError::UnknownName {
        what: "class",
        name: name.to_owned(),
        near: nearest(name, classes.iter().map(String::as_str)),
    })
}

/// Maps of a layer for some normalised images.
fn by_gradients(
    network: &mut ClassGradients,
    method: ExplainMethod,
    meta: &ModelMeta,
    (x, classes): (&[f32], &[Option<u32>]),
) -> Result<Vec<Explanation>, PipelineError> {
    let (n, shape, count) = (classes.len(), network.shape(), network.classes());
    let (mut logits, len) = (vec![0.0; n * count], shape.len());
    let (mut values, mut gradients) = (vec![0.0; n * len], vec![0.0; n * len]);
    let outputs = GradientOutputs { logits: &mut logits, values: &mut values, gradients: &mut gradients };
    let chosen = network.run(x, classes, outputs)?;
    let parts = values.chunks_exact(len).zip(gradients.chunks_exact(len));
    let images = logits.chunks_exact(count).zip(parts).zip(chosen);
    Ok(images
        .map(|((logits, (values, gradients)), index)| {
            let raw = cam::map(method, values, gradients, shape.c as usize);
            let map = HeatMap::normalized((shape.w as usize, shape.h as usize), &raw);
            explanation(meta, logits, index as usize, map)
        })
        .collect())
}

/// What hiding parts of a normalised image takes from the probability of a class.
fn by_occlusion(
    network: &mut Inference,
    meta: &ModelMeta,
    (x, class): (&[f32], Option<u32>),
    stop: &AtomicBool,
) -> Result<Explanation, PipelineError> {
    let count = network.classes();
    let mut whole = vec![0.0; count];
    network.run(x, 1, &mut whole)?;
    let index = match class {
        Some(label) if label as usize >= count => {
            return Err(EngineError::Label { label, classes: count }.into());
        }
        Some(label) => label as usize,
        None => ranking(&whole, 1)[0],
    };
    let before = probability(meta, &whole, index);
    let occlusion = Occlusion::new(&meta.preprocessing);
    let parts: Vec<usize> = (0..occlusion.parts()).collect();
    let mut raw = Vec::with_capacity(parts.len());
    for parts in parts.chunks(network.batch()) {
        if stop.load(Ordering::Relaxed) {
            return Err(PipelineError::Stopped);
        }
        let mut images = x.repeat(parts.len());
        for (&part, image) in parts.iter().zip(images.chunks_exact_mut(x.len())) {
            occlusion.hide(part, image);
        }
        let mut logits = vec![0.0; parts.len() * count];
        network.run(&images, parts.len(), &mut logits)?;
        raw.extend(logits.chunks_exact(count).map(|logits| before - probability(meta, logits, index)));
    }
    let map = HeatMap::normalized((occlusion.columns, occlusion.rows), &raw);
    Ok(explanation(meta, &whole, index, map))
}

fn explanation(meta: &ModelMeta, logits: &[f32], index: usize, map: HeatMap) -> Explanation {
    let probability = probability(meta, logits, index);
    Explanation { class: meta.classes[index].clone(), index, probability, map }
}

/// The probability of one class, as prediction gives it.
fn probability(meta: &ModelMeta, logits: &[f32], index: usize) -> f32 {
    let mut all = vec![0.0; logits.len()];
    match &meta.multi_label {
        Some(_) => sigmoids(logits, &mut all),
        None => probabilities(logits, temperature(meta), &mut all),
    }
    all[index]
}
