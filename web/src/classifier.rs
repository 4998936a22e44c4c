//! A model that answers for one image at a time, as `ocelli predict` does.

use std::fmt;

use ocelli_datasets::{
    DecodeError, DecodeLimits, Image, Pixels, Prepare, Prepared, Preprocessing, decode_channels,
};
use ocelli_engine::model_file::{ModelFile, ModelMeta};
use ocelli_engine::probability::{probabilities, ranking, sigmoids, temperature};
use ocelli_engine::rejection::{Judge, Seen};
use ocelli_engine::{EngineError, Exec, Inference, Isa, Outputs, Precision};
use serde::Serialize;

/// How many of the likeliest classes an answer names.
const TOP: usize = 5;

/// How far a logit may be from the one stored in the model file, as a part of the largest: as when `ocelli` loads it.
const PROBE_TOLERANCE: f32 = 1.0 / 4096.0;

/// A model, compiled for single images on one thread.
pub struct Classifier {
    meta: ModelMeta,
    inference: Inference,
    judge: Option<Judge>,
    /// The network's input, logits, probabilities, features and inner values of the image in hand.
    input: Vec<f32>,
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    features: Vec<f32>,
    inner: Vec<f32>,
    /// Decoded and resized, and waiting for its answer.
    prepared: Option<Prepared>,
}

/// What a model is, for whoever shows its answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Class names in the order of the probabilities.
    pub classes: Vec<String>,
    /// Width and height of the network's input in pixels.
    pub size: [u32; 2],
    /// Channels of the network's input.
    pub channels: u8,
    /// Whether an image has any number of labels.
    pub several_labels: bool,
    /// Whether the model says of an image that it shows none of its classes.
    pub knows_unknown: bool,
    /// The instruction set that it computes with.
    pub isa: &'static str,
}

/// What a model says of one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The likeliest classes, at most five, likeliest first.
    pub top: Vec<Ranked>,
    /// Whether the image shows a class of the model; true where the model never says otherwise.
    pub known: bool,
    /// The labels that the image has, likeliest first, where images have any number of labels.
    pub labels: Option<Vec<Ranked>>,
}

/// A class with its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// Its place among the model's classes.
    pub class: usize,
    /// In `0..=1`.
    pub probability: f32,
}

/// Why a model or an image is refused.
#[derive(Debug)]
pub enum ClassifierError {
    /// The engine refuses the model.
    Engine(EngineError),
    /// The bytes are no image, or none that the model can take.
    Image(DecodeError),
    /// The model computes other numbers than its file says.
    Probe,
    /// An answer is asked for, but no image was given.
    NoImage,
}

impl fmt::Display for ClassifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassifierError::Engine(error) => error.fmt(f),
            ClassifierError::Image(error) => error.fmt(f),
            ClassifierError::Probe => f.write_str(
                "this browser computes other numbers than the model's file says: write the page again",
            ),
            ClassifierError::NoImage => f.write_str("no image was given"),
        }
    }
}

impl std::error::Error for ClassifierError {}

impl From<EngineError> for ClassifierError {
    fn from(error: EngineError) -> Self {
        ClassifierError::Engine(error)
    }
}

impl From<DecodeError> for ClassifierError {
    fn from(error: DecodeError) -> Self {
        ClassifierError::Image(error)
    }
}

impl Classifier {
    /// Reads a model file, compiles the network and asks it the first of the file's probe images.
    ///
    /// # Errors
    /// [`ClassifierError::Engine`] for a file that cannot be read or a network that takes too much memory,
    /// [`ClassifierError::Probe`] for other answers than the stored ones.
    pub fn load(model_file: &[u8]) -> Result<Classifier, ClassifierError> {
        let file = ModelFile::from_bytes(model_file)?;
        let exec = Exec::with_isa(Isa::best()?, 1)?.precision(Precision::F32);
        let judge = file.meta.rejection.clone().map(Judge::new);
        let values = judge.as_ref().map(Judge::inner_values).unwrap_or_default();
        let inference = Inference::keeping(&file.model, &values, 1, &exec)?;
        let wants_features = judge.as_ref().is_some_and(Judge::wants_features);
        let features = if wants_features { inference.feature_len().unwrap_or(0) } else { 0 };
        let mut own = Classifier {
            input: vec![0.0; inference.input_len()],
            logits: vec![0.0; inference.classes()],
            probabilities: vec![0.0; inference.classes()],
            features: vec![0.0; features],
            inner: vec![0.0; inference.inner_len()],
            meta: file.meta,
            inference,
            judge,
            prepared: None,
        };
        let probe = file.probes.and_then(|probes| probes.images.into_iter().next());
        if let Some(probe) = probe {
            if probe.pixels.len() != own.input.len() || probe.logits.len() != own.logits.len() {
                return Err(ClassifierError::Probe);
            }
            own.run(&Prepared { pixels: Pixels::U8(probe.pixels) })?;
            let largest = probe.logits.iter().fold(1.0f32, |largest, logit| largest.max(logit.abs()));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= PROBE_TOLERANCE * largest;
            if !own.logits.iter().zip(&probe.logits).all(near) {
                return Err(ClassifierError::Probe);
            }
        }
        Ok(own)
    }

    /// What the model is.
    pub fn description(&self) -> Description {
        let Preprocessing { width, height, channels, .. } = self.meta.preprocessing;
        Description {
            name: self.meta.name.clone(),
            classes: self.meta.classes.clone(),
            size: [width, height],
            channels,
            several_labels: self.meta.multi_label.is_some(),
            knows_unknown: self.meta.rejection.is_some(),
            isa: self.inference.exec().isa.name(),
        }
    }

    /// Decodes the bytes of an image file and brings it to the size of the network's input.
    ///
    /// # Errors
    /// [`ClassifierError::Image`].
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(), ClassifierError> {
        self.prepared = None;
        let pre = &self.meta.preprocessing;
        let image = decode_channels(bytes, &DecodeLimits::default(), pre.channels)?;
        self.prepared = Some(pre.resize(&image)?);
        Ok(())
    }

    /// Takes `width * height` pixels of red, green, blue and opacity, a byte each, whose opacity is ignored: a frame of a
    /// camera.
    ///
    /// # Errors
    /// [`ClassifierError::Image`] for another number of bytes, and for a model of images of other channels.
    pub fn pixels(&mut self, rgba: &[u8], width: u32, height: u32) -> Result<(), ClassifierError> {
        self.prepared = None;
        let rgb = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let image = Image { width, height, channels: 3, pixels: Pixels::U8(rgb) };
        self.prepared = Some(self.meta.preprocessing.resize(&image)?);
        Ok(())
    }

    /// What the model says of the image that was given last.
    ///
    /// # Errors
    /// [`ClassifierError::NoImage`] where the last one was refused or has been answered.
    pub fn answer(&mut self) -> Result<Answer, ClassifierError> {
        let prepared = self.prepared.take().ok_or(ClassifierError::NoImage)?;
        self.run(&prepared)?;
        let multi_label = self.meta.multi_label.as_ref();
        match multi_label {
            Some(_) => sigmoids(&self.logits, &mut self.probabilities),
            None => probabilities(&self.logits, temperature(&self.meta), &mut self.probabilities),
        }
        let ranked = |class: usize| Ranked { class, probability: self.probabilities[class] };
        let labels = multi_label.map(|labels| {
            let all = ranking(&self.logits, self.logits.len()).into_iter().map(ranked);
            all.filter(|label| label.probability >= labels.thresholds[label.class]).collect()
        });
        let seen = Seen { logits: &self.logits, features: &self.features, inner: &self.inner };
        Ok(Answer {
            top: ranking(&self.logits, TOP).into_iter().map(ranked).collect(),
            known: self.judge.as_ref().is_none_or(|judge| judge.judge(seen).known),
            labels,
        })
    }

    fn run(&mut self, image: &Prepared) -> Result<(), EngineError> {
        self.meta.preprocessing.normalize(image, &mut self.input);
        let (logits, features, inner) = (&mut self.logits[..], &mut self.features[..], &mut self.inner[..]);
        self.inference.run_outputs(&self.input, 1, Outputs { logits, features, inner })
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classifier").field("name", &self.meta.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_engine::model_file::{Probe, Probes};

    const FASHION: &[u8] = include_bytes!("../../weights/fashion-mnist-keras-cnn.ocelli");

    #[test]
    fn pixels_of_a_camera_are_answered_as_the_same_pixels_in_a_file() {
        let mut own = Classifier::load(FASHION).unwrap();
        let description = own.description();
        assert_eq!((description.classes.len(), description.size, description.channels), (10, [28, 28], 1));
        let rgb: Vec<u8> = (0..40 * 30 * 3u32).map(|i| (i * i % 251) as u8).collect();
        own.decode(&ocelli_datasets::png(&rgb, (40, 30), true)).unwrap();
        let from_file = own.answer().unwrap();
        let rgba: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        own.pixels(&rgba, 40, 30).unwrap();
        assert_eq!(own.answer().unwrap(), from_file);
        assert_eq!(from_file.top.len(), TOP);
        assert!(from_file.top.is_sorted_by(|a, b| a.probability >= b.probability));
        assert_eq!(from_file.labels, None);
    }

    #[test]
    fn what_is_no_image_is_refused_and_leaves_nothing_behind() {
        let mut own = Classifier::load(FASHION).unwrap();
        own.pixels(&[7; 4 * 6], 3, 2).unwrap();
        assert!(own.decode(b"hello").unwrap_err().to_string().contains("image"));
        assert!(matches!(own.answer(), Err(ClassifierError::NoImage)));
        assert!(matches!(own.pixels(&[0; 15], 2, 2), Err(ClassifierError::Image(_))));
        assert!(matches!(own.pixels(&[], 0, 0), Err(ClassifierError::Image(_))));
        assert!(Classifier::load(b"no model").unwrap_err().to_string().contains("model file"));
    }

    #[test]
    fn a_model_that_computes_something_else_than_its_probe_says_does_not_load() {
        let mut file = ModelFile::from_bytes(FASHION).unwrap();
        let mut own = Classifier::load(FASHION).unwrap();
        let pixels: Vec<u8> = (0..28 * 28u32).map(|i| (i * i % 251) as u8).collect();
        let rgba: Vec<u8> = pixels.iter().flat_map(|&value| [value, value, value, 255]).collect();
        own.pixels(&rgba, 28, 28).unwrap();
        own.answer().unwrap();
        let probe = Probe { pixels, logits: own.logits.clone() };
        file.probes = Some(Probes { asked: file.answering_hash(), images: vec![probe] });
        Classifier::load(&file.to_bytes().unwrap()).unwrap();
        file.probes.as_mut().unwrap().images[0].logits[3] += 1.0;
        assert!(matches!(Classifier::load(&file.to_bytes().unwrap()), Err(ClassifierError::Probe)));
    }
}
