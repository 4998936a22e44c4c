//! A model that answers: image bytes in, class names and probabilities out.

use std::path::Path;

use ocelli_datasets::{
    DecodeError, DecodeLimits, Image, ImageHeader, Prepare, Prepared, Preprocessing, decode_channels, probe,
};
use ocelli_engine::model_file::{ModelFile, ModelMeta, version_id};
use ocelli_engine::{EngineError, Exec, Inference, Mode, Outputs, Plan, Precision};
use serde::{Deserialize, Serialize};

use crate::answering;
use crate::batch::{MAX_BATCH, batch_for};
use crate::built_in::{open_model, shipped_model};
use crate::compute::Compute;
use crate::error::PipelineError;
use crate::mirror::Mirror;
use crate::probability::{probabilities, ranking, sigmoids, temperature};
use crate::unknown::{Judge, Known, Seen};

/// One class with its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Ranked {
    /// Class name.
    pub label: String,
    /// Index of the class in the model.
    pub index: usize,
    /// Probability in 0..=1.
    pub probability: f32,
}

/// One label of an image that may have several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LabelAnswer {
    /// The label.
    pub label: String,
    /// Its index in the model.
    pub index: usize,
    /// Its probability by itself, in 0..=1.
    pub probability: f32,
    /// The probability from which the image has it.
    pub threshold: f32,
    /// Whether it has.
    pub applies: bool,
}

/// What a model says about one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Prediction {
    /// Name of the most likely class; of a model that says any number of labels, the most likely label, whether the image has
    /// it or not.
    pub label: String,
    /// Its index in the model.
    pub index: usize,
    /// Its probability in 0..=1.
    pub probability: f32,
    /// Whether it looks like a class of the model at all: false where `score` is above the model's threshold.
    pub known: bool,
    /// How little it looks like any class; larger for stranger images. Absent for a model that learnt no threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The most likely classes, most likely first; as many as were asked for, at least one.
    pub top: Vec<Ranked>,
    /// All labels in the order of the model, of a model that says any number of them; absent for others, whose images have one
    /// class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<LabelAnswer>>,
}

/// What to say of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// How many of the likeliest classes to name; held to 1 and the number of classes.
    pub top_k: usize,
    /// Whether its features are wanted.
    pub features: bool,
}

/// What a model says of one image, as far as it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// What the image shows.
    pub prediction: Prediction,
    /// What the last dense layer reads of it.
    pub features: Option<Vec<f32>>,
}

/// The half of prediction that needs no model: from the bytes of an image file to the network's pixels. Cheap to
/// clone, so that every thread of a server can have one.
#[derive(Clone, Debug)]
pub struct Decoder {
    preprocessing: Preprocessing,
    limits: DecodeLimits,
}

impl Decoder {
    /// The decoder of a model, with the default limits.
    pub fn new(meta: &ModelMeta) -> Self {
        Decoder { preprocessing: meta.preprocessing.clone(), limits: DecodeLimits::default() }
    }

    /// The same decoder with other limits on what it takes.
    pub fn with_limits(self, limits: DecodeLimits) -> Self {
        Decoder { limits, ..self }
    }

    /// What it makes of images.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Size and channels of an image file, from its header alone.
    ///
    /// # Errors
    /// As [`Decoder::prepare`], as far as the header shows them.
    pub fn probe(&self, bytes: &[u8]) -> Result<ImageHeader, DecodeError> {
        probe(bytes, &self.limits)
    }

    /// Decodes and resizes one image file, exactly as training and evaluation do.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong with the image.
    pub fn prepare(&self, bytes: &[u8]) -> Result<Prepared, DecodeError> {
        self.resize(&decode_channels(bytes, &self.limits, self.preprocessing.channels)?)
    }

    /// Resizes an image that is decoded already.
    ///
    /// # Errors
    /// [`DecodeError::BadShape`] for pixels that are not as many as the image says.
    pub fn resize(&self, image: &Image) -> Result<Prepared, DecodeError> {
        self.preprocessing.resize(image)
    }
}

/// A model ready to answer. With one [`Compute::exact`], an image gets the same bits alone, in any batch and on any
/// number of threads.
pub struct Predictor {
    inference: Inference,
    decoder: Decoder,
    meta: ModelMeta,
    version: String,
    exec: Exec,
    precision: Precision,
    parameters: usize,
    /// Where answers are means over images and mirror images.
    mirror: Option<Mirror>,
    /// Tells unknown images, where the model has learnt to.
    judge: Option<Judge>,
    /// Input of a batch, `[batch][h][w][c]`.
    images: Vec<f32>,
    /// Logits of a batch, `[batch][classes]`.
    logits: Vec<f32>,
    /// Features of a batch, `[batch][feature_len]`; empty for a model without.
    features: Vec<f32>,
    /// Inner values of a batch, `[batch][inner_len]`; empty for a model that does not judge by them.
    inner: Vec<f32>,
}

impl Predictor {
    /// Opens a model file, the best weights of a run folder, or a built-in model by its name.
    ///
    /// # Errors
    /// Those of [`open_model`] and [`Predictor::from_model_file`].
    pub fn open(path: &Path, compute: Compute) -> Result<Self, PipelineError> {
        Predictor::from_model_file(open_model(path)?, compute)
    }

    /// The model that ships with the program.
    ///
    /// # Errors
    /// [`PipelineError::NoShippedModel`] in a build without one.
    pub fn shipped(compute: Compute) -> Result<Self, PipelineError> {
        Predictor::from_model_file(shipped_model()?, compute)
    }

    /// A predictor from a model in memory.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] for a network or a number of threads that the engine refuses,
    /// [`PipelineError::Dataset`] for preprocessing that makes no sense, [`PipelineError::Probe`] for a model that does
    /// not answer as it did when its file was written.
    pub fn from_model_file(file: ModelFile, compute: Compute) -> Result<Self, PipelineError> {
        Predictor::with_batch(file, compute, MAX_BATCH)
    }

    /// As [`Predictor::from_model_file`], with memory for at most `batch` images at once.
    ///
    /// # Errors
    /// As [`Predictor::from_model_file`].
    pub fn with_batch(file: ModelFile, compute: Compute, batch: usize) -> Result<Self, PipelineError> {
        let exec = compute.exec()?;
        let decoder = Decoder::new(&file.meta);
        decoder.preprocessing.validate()?;
        let batch = batch_for(decoder.preprocessing.len()).min(batch.max(1));
        // Whoever asks for one image at a time wants the answer to it soon.
        let exec = if batch == 1 { exec.latency() } else { exec };
        let judge = file.meta.rejection.clone().map(Judge::new);
        let values = judge.as_ref().map(Judge::inner_values).unwrap_or_default();
        let precision = answering::precision(&file, &exec);
        let inference = answering::open(&file, &values, batch, &exec)?;
        // What only a resumed run needs is no part of the model's identity.
        let file = ModelFile { training: None, ..file };
        let version = version_id(&file.content_hash()?);
        let images = vec![0.0; batch * inference.input_len()];
        let logits = vec![0.0; batch * inference.classes()];
        let features = vec![0.0; batch * inference.feature_len().unwrap_or(0)];
        let parameters = file.model.layout().count();
        let inner = vec![0.0; batch * inference.inner_len()];
        Ok(Predictor {
            inference,
            decoder,
            meta: file.meta,
            version,
            precision,
            exec,
            parameters,
            mirror: None,
            judge,
            images,
            logits,
            features,
            inner,
        })
    }

    /// Bytes of memory that [`Predictor::with_batch`] takes for a model at most, known before any is taken. The file itself is
    /// not among them.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] for a network that the engine refuses.
    pub fn memory_needed(file: &ModelFile, compute: Compute, batch: usize) -> Result<u64, PipelineError> {
        let exec = compute.exec()?;
        let input = file.meta.preprocessing.len();
        let batch = batch_for(input).min(batch.max(1));
        let (plan, _) = Plan::measure(file.model.graph(), batch, Mode::Infer, &exec)?;
        let of_images = batch * (input + file.meta.classes.len()) + file.model.layout().total();
        Ok((plan.total() + of_images * size_of::<f32>()) as u64)
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> u64 {
        let own = self.images.len() + self.logits.len() + self.features.len() + self.inner.len();
        (self.inference.memory().total() + own * size_of::<f32>()) as u64
    }

    /// The numbers that it computes with.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// From here on answers are means over each image and its mirror image.
    ///
    /// # Errors
    /// [`PipelineError::NoMirror`] where the model's recipe does not allow mirroring.
    pub fn average_mirrored(&mut self) -> Result<(), PipelineError> {
        self.mirror = Some(Mirror::new(&self.meta)?);
        Ok(())
    }

    /// Decodes one image file and says what it shows; `top_k` is held to 1 and the number of classes.
    ///
    /// # Errors
    /// [`PipelineError::Decode`] says what is wrong with the image.
    pub fn predict_bytes(&mut self, bytes: &[u8], top_k: usize) -> Result<Prediction, PipelineError> {
        let prepared = self.decoder.prepare(bytes)?;
        let mut answers = self.predict_prepared(std::slice::from_ref(&prepared), top_k)?;
        Ok(answers.pop().expect("one image has one answer"))
    }

    /// Says what any number of images show, in their order; `top_k` is held to 1 and the number of classes.
    ///
    /// # Errors
    /// [`PipelineError::Decode`] for an image that another model's decoder prepared.
    pub fn predict_prepared(
        &mut self,
        images: &[Prepared],
        top_k: usize,
    ) -> Result<Vec<Prediction>, PipelineError> {
        let answers = self.answer(images, Ask { top_k, features: false })?;
        Ok(answers.into_iter().map(|answered| answered.prediction).collect())
    }

    /// As [`Predictor::predict_prepared`], with features where they are wanted.
    ///
    /// # Errors
    /// [`PipelineError::Decode`] for an image that another model's decoder prepared, [`PipelineError::Engine`] where features
    /// are wanted of a network without a dense layer.
    pub fn answer(&mut self, images: &[Prepared], ask: Ask) -> Result<Vec<Answered>, PipelineError> {
        let mut of_image = vec![0.0; self.inference.classes()];
        let top_k = ask.top_k.clamp(1, of_image.len());
        // Means have their temperature already.
        let temperature = if self.mirror.is_some() { 1.0 } else { temperature(&self.meta) };
        let mut answers = Vec::with_capacity(images.len());
        let judge = self.judge.take();
        let wanted = ask.features || judge.as_ref().is_some_and(Judge::wants_features);
        let passed = self.pass(images, wanted, |meta, seen| {
            let Seen { logits, features, .. } = seen;
            match &meta.multi_label {
                Some(_) => sigmoids(logits, &mut of_image),
                None => probabilities(logits, temperature, &mut of_image),
            }
            let known = judge.as_ref().map(|judge| judge.judge(seen));
            let prediction = prediction((logits, &of_image), meta, top_k, known);
            answers.push(Answered { prediction, features: ask.features.then(|| features.to_vec()) });
        });
        self.judge = judge;
        passed.map(|()| answers)
    }

    /// Appends the features of any number of images, in their order.
    ///
    /// # Errors
    /// As [`Predictor::answer`].
    pub fn features(&mut self, images: &[Prepared], to: &mut Vec<f32>) -> Result<(), PipelineError> {
        self.pass(images, true, |_, seen| to.extend_from_slice(seen.features))
    }

    /// Logits `[n][classes]` of images `[n][h][w][c]` that are normalised already, as [`Prepare::normalize`] leaves them: neither
    /// divided by the model's temperature nor averaged over mirror images.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] for values that are no whole number of images.
    pub fn logits(&mut self, x: &[f32]) -> Result<Vec<f32>, PipelineError> {
        let (len, classes) = (self.inference.input_len(), self.inference.classes());
        if !x.len().is_multiple_of(len) {
            let expected = format!("a multiple of {len} floats");
            return Err(EngineError::Shape { what: "images", expected, found: x.len().to_string() }.into());
        }
        let batch = self.inference.batch();
        let mut logits = vec![0.0; x.len() / len * classes];
        for (x, logits) in x.chunks(batch * len).zip(logits.chunks_mut(batch * classes)) {
            self.inference.run(x, logits.len() / classes, logits)?;
        }
        Ok(logits)
    }

    /// Length of an image's features.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] for a network without a dense layer.
    pub fn feature_len(&self) -> Result<usize, PipelineError> {
        let no_features = || {
            EngineError::Config(
                "the network has no dense layer, whose input would be the features".to_owned(),
            )
        };
        Ok(self.inference.feature_len().ok_or_else(no_features)?)
    }

    /// Runs images in batches and gives the logits of each, its inner values where the model judges by them, and its features
    /// (neither those of its mirror image) where they are wanted.
    fn pass(
        &mut self,
        images: &[Prepared],
        wanted: bool,
        mut tell: impl FnMut(&ModelMeta, Seen<'_>),
    ) -> Result<(), PipelineError> {
        let (len, classes) = (self.inference.input_len(), self.inference.classes());
        let feature_len = if wanted { self.feature_len()? } else { 0 };
        let inner_len = self.inference.inner_len();
        let pre = &self.decoder.preprocessing;
        if let Some(other) = images.iter().find(|image| image.pixels.len() != len) {
            let Preprocessing { width, height, channels, .. } = *pre;
            let values = other.pixels.len();
            return Err(DecodeError::BadShape { width, height, channels, values }.into());
        }
        for batch in images.chunks(self.inference.batch()) {
            for (image, x) in batch.iter().zip(self.images.chunks_exact_mut(len)) {
                pre.normalize(image, x);
            }
            let n = batch.len();
            let (x, logits) = (&self.images[..n * len], &mut self.logits[..n * classes]);
            let features = &mut self.features[..n * feature_len];
            let inner = &mut self.inner[..n * inner_len];
            self.inference.run_outputs(x, n, Outputs { logits, features, inner })?;
            let (features, inner) = (&self.features[..n * feature_len], &self.inner[..n * inner_len]);
            let logits = &mut self.logits[..n * classes];
            if let Some(mirror) = &mut self.mirror {
                mirror.average(&mut self.inference, x, n, logits)?;
            }
            for (image, logits) in logits.chunks_exact(classes).enumerate() {
                let features = &features[image * feature_len..][..feature_len];
                tell(&self.meta, Seen { logits, features, inner: &inner[image * inner_len..][..inner_len] });
            }
        }
        Ok(())
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

    /// Where and how it runs.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    /// Learnable numbers of the network.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Most images that go through the network at once; more are split.
    pub fn batch(&self) -> usize {
        self.inference.batch()
    }
}

/// The answer for one image from its logits and probabilities.
fn prediction(
    (logits, probabilities): (&[f32], &[f32]),
    meta: &ModelMeta,
    top_k: usize,
    known: Option<Known>,
) -> Prediction {
    let classes = &meta.classes;
    let answer = |(index, &threshold): (usize, &f32)| LabelAnswer {
        label: classes[index].clone(),
        index,
        probability: probabilities[index],
        threshold,
        applies: probabilities[index] >= threshold,
    };
    let labels = meta.multi_label.as_ref().map(|l| l.thresholds.iter().enumerate().map(answer).collect());
    let ranked =
        |index: usize| Ranked { label: classes[index].clone(), index, probability: probabilities[index] };
    let top: Vec<Ranked> = ranking(logits, top_k).into_iter().map(ranked).collect();
    let Ranked { label, index, probability } = top[0].clone();
    let (score, known) = (known.map(|known| known.score), known.is_none_or(|known| known.known));
    Prediction { label, index, probability, known, score, top, labels }
}
