//! A model in another program's format, read back and asked the same images.

use ocelli_datasets::{Pixels, Prepare, Prepared, Preprocessing};
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Exec, Inference, Model, Precision, Quantization};
use ocelli_exchange::{ExportOptions, Import, ImportOptions, Numbers, Target};
use serde::Serialize;

use super::pictures::pictures;
use crate::compute::Compute;
use crate::error::PipelineError;
use crate::probability::ranking;

/// Images that both models are asked about.
const IMAGES: usize = 64;
/// Largest difference of logits, as a part of their range, of an export in f32: far above rounding, far below any mistake.
const TOLERANCE: f32 = 1e-3;

/// An export beside the model that it was made of.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// The format.
    pub format: &'static str,
    /// Length of the file.
    pub bytes: usize,
    /// What came of reading it back; absent for formats that are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<ExportCheck>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// How an export that was read back answers beside the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ExportCheck {
    /// Images that both were asked about.
    pub images: usize,
    /// Largest difference of two logits.
    pub largest_difference: f32,
    /// The same as a part of the range of all logits.
    pub relative_difference: f32,
    /// Part of the images whose likeliest class is the same, in `0..=1`.
    pub agreement: f32,
}

/// Writes a model in a format and reads it back with our importer: both answer the model's probe images and copies of them, or
/// drawn ones.
///
/// # Errors
/// [`PipelineError::Exchange`] for a model that the format cannot hold; [`PipelineError::ExportDiffers`] for an export in f32
/// that answers otherwise than the model does.
pub fn export_model(
    file: &ModelFile,
    options: &ExportOptions,
    compute: Compute,
) -> Result<(Vec<u8>, ExportReport), PipelineError> {
    let bytes = ocelli_exchange::export(file, options).map_err(PipelineError::Exchange)?;
    let format = options.target.name();
    let mut report = ExportReport { format, bytes: bytes.len(), check: None, notes: Vec::new() };
    if options.target == Target::Npz {
        report.notes.push("npz holds arrays and no network: it was not read back".to_owned());
        return Ok((bytes, report));
    }
    let pre = &file.meta.preprocessing;
    let import_options = ImportOptions { size: Some((pre.height, pre.width)), network: None };
    let import = ocelli_exchange::import(&bytes, &import_options).map_err(PipelineError::Exchange)?;
    let exec = compute.exec()?.precision(match options.numbers {
        Numbers::Int8 => Precision::Int8,
        Numbers::F32 | Numbers::F16 => Precision::F32,
    });
    let check = compare(file, &import, &exec)?;
    if options.numbers == Numbers::F32 && (check.relative_difference > TOLERANCE || check.agreement < 1.0) {
        return Err(PipelineError::ExportDiffers { format, difference: check.relative_difference });
    }
    if options.numbers == Numbers::Int8 && import.quantization.is_none() {
        report.notes.push("read back, it has no scales for 8 bits: it was compared in f32".to_owned());
    }
    if import.labels.as_ref() != Some(&file.meta.classes) {
        report.notes.push("the file does not hold the class names".to_owned());
    }
    if let Some(several) = &file.meta.multi_label
        && import.thresholds.as_ref() != Some(&several.thresholds)
        && several.thresholds.iter().any(|&threshold| threshold != 0.5)
    {
        report.notes.push("the file does not hold the thresholds of the labels".to_owned());
    }
    if file.meta.rejection.is_some() {
        report.notes.push("the file does not hold the rule for images of no class".to_owned());
    }
    report.check = Some(check);
    Ok((bytes, report))
}

fn compare(file: &ModelFile, import: &Import, exec: &Exec) -> Result<ExportCheck, PipelineError> {
    let images = pictures(file, IMAGES);
    let own = &file.meta.preprocessing;
    // What the file itself says of its input is tried with it.
    let mut theirs = own.clone();
    if let Some((mean, std)) = import.input.mean_std.clone() {
        (theirs.mean, theirs.std) = (mean, std);
    }
    let expected = answers(&file.model, file.quantization.as_ref(), (own, &images), exec)?;
    let found = answers(&import.model, import.quantization.as_ref(), (&theirs, &images), exec)?;
    let [expected, found] = [(expected, file.meta.temperature), (found, import.temperature)]
        .map(|(logits, temperature)| divided(logits, temperature));
    let classes = file.meta.classes.len();
    if found.len() != expected.len() {
        return Err(PipelineError::ExportDiffers { format: import.format.name(), difference: f32::INFINITY });
    }
    let ends = expected
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &logit| (low.min(logit), high.max(logit)));
    let largest = expected.iter().zip(&found).fold(0.0f32, |largest, (a, b)| {
        let difference = (a - b).abs();
        // A NaN is near nothing.
        if difference.is_nan() { f32::INFINITY } else { largest.max(difference) }
    });
    let rows = || expected.chunks_exact(classes).zip(found.chunks_exact(classes));
    let same = rows().filter(|(a, b)| ranking(a, 1) == ranking(b, 1)).count();
    Ok(ExportCheck {
        images: images.len(),
        largest_difference: largest,
        relative_difference: if largest == 0.0 { 0.0 } else { largest / (ends.1 - ends.0) },
        agreement: same as f32 / images.len() as f32,
    })
}

/// Logits as probabilities are made of them: a format may have the temperature in its weights.
fn divided(mut logits: Vec<f32>, temperature: Option<f32>) -> Vec<f32> {
    let temperature = temperature.unwrap_or(1.0);
    logits.iter_mut().for_each(|logit| *logit /= temperature);
    logits
}

/// Logits of all images, one row each.
fn answers(
    model: &Model,
    scales: Option<&Quantization>,
    (pre, images): (&Preprocessing, &[Vec<u8>]),
    exec: &Exec,
) -> Result<Vec<f32>, PipelineError> {
    let scales = scales.filter(|_| exec.precision == Precision::Int8);
    let mut inference = Inference::quantized(model, scales, &[], 8, exec)?;
    let (len, classes) = (inference.input_len(), inference.classes());
    let mut logits = vec![f32::NAN; images.len() * classes];
    let mut x = vec![0.0; 8 * len];
    for (images, logits) in images.chunks(8).zip(logits.chunks_mut(8 * classes)) {
        for (image, x) in images.iter().zip(x.chunks_exact_mut(len)) {
            pre.normalize(&Prepared { pixels: Pixels::U8(image.clone()) }, x);
        }
        inference.run(&x[..images.len() * len], images.len(), logits)?;
    }
    Ok(logits)
}
