//! A model gets scales for 8 bits, and what they cost is measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ocelli_datasets::Split;
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Calibration, Clip, DotIsa, Exec, Inference, Precision};
use serde::Serialize;

use crate::compute::Compute;
use crate::data::Data;
use crate::error::PipelineError;
use crate::evaluate::{EvaluateOptions, evaluate, select};
use crate::event::{Event, Observe};
use crate::metrics::Evaluation;

/// Most floats of the images that scales are found from: 512 MiB.
const MAX_FLOATS: usize = 128 << 20;
/// Difference of logits above which the most sensitive layer goes back to f32: mean square over variance.
const MAX_ERROR: f64 = 0.01;
/// Most layers that go back, and no more than a quarter of all.
const MAX_LEFT_OUT: usize = 12;
/// Answers whose median time is told.
const TIMED: usize = 30;

/// What to quantise with.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// The labelled images: those of the training split make the scales, those of the test split measure.
    pub data: Data,
    /// Images that make the scales.
    pub images: usize,
    /// How to compute; the precision is not looked at.
    pub compute: Compute,
    /// Part of the images that may be unreadable.
    pub max_bad: f32,
}

/// A number in f32 and in int8.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Both<T> {
    /// In f32.
    pub f32: T,
    /// In int8.
    pub int8: T,
}

/// What int8 gives and what it costs.
#[derive(Clone, Debug, Serialize)]
pub struct QuantizeReport {
    /// Images that made the scales.
    pub calibration_images: usize,
    /// The split that measured, and its images.
    pub split: String,
    /// See `split`.
    pub images: usize,
    /// Part of them that is called right.
    pub accuracy: Both<f32>,
    /// Accuracy lost, in points of a hundred; negative where it is gained.
    pub drop: f32,
    /// Part of them that is called the same.
    pub agreement: f32,
    /// Mean squared difference of the logits over their variance, on training images.
    pub logits_error: f64,
    /// Convolutions in 8 bits.
    pub layers: usize,
    /// Those that stay in f32, the most sensitive first.
    pub layers_in_f32: Vec<String>,
    /// How the ranges of most values were found: `extremes`, `squared_error` or `percentile`.
    pub ranges: &'static str,
    /// Whether channels between depthwise and pointwise convolutions were evened out.
    pub equalized: bool,
    /// Bytes of the weights of the convolutions in 8 bits.
    pub weight_bytes: Both<usize>,
    /// Milliseconds of an answer to one image, the median.
    pub milliseconds: Both<f64>,
    /// What multiplies bytes here, and whether the processor has instructions for it.
    pub unit: &'static str,
    /// See `unit`.
    pub unit_is_native: bool,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
}

/// Finds scales for a model, and measures it with and without them. The model that comes back has them.
///
/// # Errors
/// Those of [`evaluate`]; [`PipelineError::Engine`] for a network without a convolution.
pub fn quantize(
    file: ModelFile,
    options: &QuantizeOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<(ModelFile, QuantizeReport), PipelineError> {
    if file.meta.multi_label.is_some() {
        let reason = "int8 is measured by the accuracy of models with one class an image, and this one says any number of labels";
        return Err(PipelineError::MultiLabel { reason: reason.to_owned() });
    }
    let file = ModelFile { quantization: None, ..file };
    let exec = options.compute.exec()?;
    let images = training_images(&file, options, (&exec, stop), observe)?;
    let count = images.len() / file.model.graph().input.len();
    observe(&Event::note(format!("{count} training images make the scales")));
    let mut told = 0;
    let calibration = Calibration::new(&file.model, &images, &exec, |part| {
        let done = (part * 100.0) as usize;
        if done > told {
            told = done;
            observe(&Event::Calibrating { done, total: 100 });
        }
        !stop.load(Ordering::Relaxed)
    })?;
    let mut calibration = calibration.ok_or(PipelineError::Stopped)?;
    let convolutions = calibration.quantization().layers.len();
    while calibration.error() > MAX_ERROR && calibration.left_out().len() < MAX_LEFT_OUT.min(convolutions / 4)
    {
        if stop.load(Ordering::Relaxed) {
            return Err(PipelineError::Stopped);
        }
        if !calibration.leave_out_one()? {
            break;
        }
    }
    let quantization = calibration.quantization();
    quantization.check(file.model.graph())?;
    let [int8, f32] = quantization.weight_bytes(file.model.graph())?;
    let choice = calibration.choice();
    let name = |&node: &usize| file.model.graph().nodes[node].name.clone();
    let layers_in_f32 = calibration.left_out().iter().map(name).collect();
    let (logits_error, layers) = (calibration.error(), quantization.layers.len());
    let file = ModelFile { quantization: Some(quantization), ..file };

    let mut measured = |precision| {
        let compute = Compute { precision, ..options.compute };
        let options = EvaluateOptions {
            data: options.data.clone(),
            split: None,
            compute,
            max_bad: options.max_bad,
            mirror: false,
        };
        evaluate(&file, &options, stop, observe)
    };
    let (before, after) = (measured(Precision::F32)?, measured(Precision::Int8)?);
    let unit = DotIsa::of(exec.isa);
    let report = QuantizeReport {
        calibration_images: count,
        split: before.split.clone(),
        images: before.images,
        accuracy: Both { f32: before.accuracy, int8: after.accuracy },
        drop: 100.0 * (before.accuracy - after.accuracy),
        agreement: agreement(&before, &after),
        logits_error,
        layers,
        layers_in_f32,
        ranges: match choice.clip {
            Clip::Extremes => "extremes",
            Clip::SquaredError => "squared_error",
            Clip::Percentile => "percentile",
        },
        equalized: choice.equalize,
        weight_bytes: Both { f32, int8 },
        milliseconds: milliseconds(&file, &exec, &images)?,
        unit: unit.name(),
        unit_is_native: unit.is_native(),
        notes: before.notes,
    };
    Ok((file, report))
}

/// Images of the training split at even distances, normalised.
fn training_images(
    file: &ModelFile,
    options: &QuantizeOptions,
    (exec, stop): (&Exec, &AtomicBool),
    observe: Observe<'_>,
) -> Result<Vec<f32>, PipelineError> {
    let source = options.data.open_any()?;
    let of_training = EvaluateOptions {
        data: options.data.clone(),
        split: Some(Split::Train),
        compute: options.compute,
        max_bad: options.max_bad,
        mirror: false,
    };
    let selection = select(&source, (file, None), &of_training, (&exec.pool, stop), observe)?;
    let (indices, len) = (selection.indices, file.model.graph().input.len());
    let count = options.images.min(indices.len()).min((MAX_FLOATS / len).max(1));
    let mut images = vec![0.0; count * len];
    for (i, image) in images.chunks_exact_mut(len).enumerate() {
        selection.set.fill(indices[i * indices.len() / count], image)?;
    }
    Ok(images)
}

/// Part of the images that both call the same.
fn agreement(a: &Evaluation, b: &Evaluation) -> f32 {
    let same = a.predictions.iter().zip(&b.predictions).filter(|(a, b)| a.predicted == b.predicted);
    same.count() as f32 / a.predictions.len().max(1) as f32
}

/// Median times of an answer to one image, in turn.
fn milliseconds(file: &ModelFile, exec: &Exec, images: &[f32]) -> Result<Both<f64>, PipelineError> {
    let exec = exec.clone().latency();
    let len = file.model.graph().input.len();
    let mut floats = Inference::new(&file.model, 1, &exec)?;
    let mut bytes = Inference::quantized(&file.model, file.quantization.as_ref(), &[], 1, &exec)?;
    let mut logits = vec![0.0; floats.classes()];
    let mut times = [Vec::new(), Vec::new()];
    for (i, image) in images.chunks_exact(len).cycle().take(TIMED).enumerate() {
        for (inference, times) in [&mut floats, &mut bytes].into_iter().zip(&mut times) {
            let start = Instant::now();
            inference.run(image, 1, &mut logits)?;
            // The first ones touch memory for the first time.
            if i >= 3 {
                times.push(1e3 * start.elapsed().as_secs_f64());
            }
        }
    }
    let [f32, int8] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Ok(Both { f32, int8 })
}
