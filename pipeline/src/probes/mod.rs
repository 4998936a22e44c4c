//! Probe images: whether this machine computes with a model file what was computed when it was written.
//!
//! Two things are compared. A hash of weights, class names and normalisation finds whatever changed in them since the
//! answers were given, even where no image shows it; a forward pass finds a machine, a kernel or a graph that makes
//! something else of them.
//!
//! The answers are written in the direct form (`--exact`), whose rounding is the least, and compared with whatever serves:
//! any instruction set, any number of threads, Winograd's transforms or not. All of these are sums of the same products
//! in another order, so they differ by rounding alone; `docs/accuracy.md` has the measurements behind [`TOLERANCE`].

use ocelli_datasets::{DatasetError, ImageSet, Pixels, Prepare, Prepared, Preprocessing};
use ocelli_engine::model_file::{MAX_PROBES, ModelFile, ModelMeta, Probe, Probes};
use ocelli_engine::{Exec, Inference, Precision};

use crate::compute::Compute;
use crate::error::PipelineError;
use crate::metrics::ranking;
use crate::probability::{probabilities, temperature};

mod layers;

pub use layers::{LayerReport, compare_layers};

/// How far a logit may be from the stored one, as a part of the largest stored magnitude. Twenty times the largest
/// distance between two ways to compute that was seen in any network of the zoo (see the test below), and a small part
/// of what damage does: a weight whose exponent changes by one bit becomes twice or half of what it was, or worse.
const TOLERANCE: f32 = 1.0 / 4096.0;

/// The magnitude that [`TOLERANCE`] is a part of, at least: differences of logits that are far smaller than one change no
/// probability that anybody would see.
const LEAST_SCALE: f32 = 1.0;

/// Pixels that the probes of a file may take: larger images get fewer of them.
const MAX_PIXEL_BYTES: usize = 8 << 20;

/// Asks a model about images of `indices`, which the set holds as the model wants them, spread over the classes. `None` where there are none, or where a single one
/// would be larger than all may be.
pub(crate) fn ask(
    file: &ModelFile,
    set: &ImageSet,
    indices: &[usize],
    exec: &Exec,
) -> Result<Option<Probes>, PipelineError> {
    let pre = set.preprocessing();
    let count = MAX_PROBES.min(MAX_PIXEL_BYTES / pre.len().max(1));
    let chosen = spread(set, indices, count);
    if chosen.is_empty() {
        return Ok(None);
    }
    let images: Vec<Vec<u8>> = chosen
        .into_iter()
        .map(|index| Ok(narrow(set.prepared(index)?)))
        .collect::<Result<_, DatasetError>>()?;
    ask_about(file, images, exec)
}

/// Asks a model about images of 8 bits, resized as it wants them and not normalised. `None` where it gives no numbers.
pub(crate) fn ask_about(
    file: &ModelFile,
    images: Vec<Vec<u8>>,
    exec: &Exec,
) -> Result<Option<Probes>, PipelineError> {
    let count = MAX_PROBES.min(MAX_PIXEL_BYTES / images.first().map_or(1, Vec::len).max(1));
    let images: Vec<Vec<u8>> = images.into_iter().take(count).collect();
    if images.is_empty() {
        return Ok(None);
    }
    let pre = &file.meta.preprocessing;
    let exec = exec.clone().exact(true).precision(Precision::F32);
    let mut inference = Inference::new(&file.model, images.len(), &exec)?;
    let logits = answers(&mut inference, pre, images.iter().map(Vec::as_slice))?;
    if !logits.iter().flatten().all(|logit| logit.is_finite()) {
        return Ok(None);
    }
    let images = images.into_iter().zip(logits).map(|(pixels, logits)| Probe { pixels, logits });
    Ok(Some(Probes { asked: file.answering_hash(), images: images.collect() }))
}

/// Runs the probe images of a model file and compares the answers with the stored ones. A file without probes passes.
///
/// # Errors
/// [`PipelineError::Probe`] for other answers or other class names; those of compiling the network.
pub fn check_probes(file: &ModelFile, compute: Compute) -> Result<(), PipelineError> {
    if file.probes.is_none() {
        return Ok(());
    }
    let exec = compute.exec()?.precision(Precision::F32);
    check(&mut Inference::new(&file.model, MAX_PROBES, &exec)?, file)
}

/// As [`check_probes`], with the very plan that is going to serve.
pub(crate) fn check(inference: &mut Inference, file: &ModelFile) -> Result<(), PipelineError> {
    let Some(probes) = &file.probes else { return Ok(()) };
    let (pre, classes) = (file.meta.preprocessing.clone(), &file.meta.classes);
    pre.validate()?;
    let wrong = |probe: usize, what: String| PipelineError::Probe { probe, of: probes.images.len(), what };
    if probes.asked != file.answering_hash() {
        let what = "weights, class names or normalisation are not those that it was answered with";
        return Err(wrong(0, what.to_owned()));
    }
    let shape = |probe: &Probe| probe.pixels.len() == pre.len() && probe.logits.len() == classes.len();
    if let Some(index) = probes.images.iter().position(|probe| !shape(probe)) {
        return Err(wrong(index, "it does not have the shape of the network".to_owned()));
    }
    let found = answers(inference, &pre, probes.images.iter().map(|probe| probe.pixels.as_slice()))?;
    let largest =
        probes.images.iter().flat_map(|probe| &probe.logits).fold(LEAST_SCALE, |m, l| m.max(l.abs()));
    for (index, (found, probe)) in found.iter().zip(&probes.images).enumerate() {
        // A NaN is near nothing.
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * largest;
        if !found.iter().zip(&probe.logits).all(near) {
            let what = format!(
                "the file says {}, this computes {}",
                told(&probe.logits, &file.meta),
                told(found, &file.meta)
            );
            return Err(wrong(index, what));
        }
    }
    Ok(())
}

/// The most likely class with its probability and logit.
fn told(logits: &[f32], meta: &ModelMeta) -> String {
    let mut found = vec![0.0; logits.len()];
    probabilities(logits, temperature(meta), &mut found);
    match ranking(logits, 1).first() {
        Some(&best) if logits.iter().all(|logit| logit.is_finite()) => {
            let (percent, logit) = (100.0 * found[best], logits[best]);
            format!("{:?} with {percent:.2} % (logit {logit})", meta.classes[best])
        }
        _ => "no numbers".to_owned(),
    }
}

/// Logits of 8-bit images, in batches that the plan takes.
fn answers<'a>(
    inference: &mut Inference,
    pre: &Preprocessing,
    images: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Vec<f32>>, PipelineError> {
    let (batch, len, classes) = (inference.batch(), inference.input_len(), inference.classes());
    let images: Vec<&[u8]> = images.collect();
    let mut rows = Vec::with_capacity(images.len());
    for images in images.chunks(batch) {
        let mut x = vec![0.0; images.len() * len];
        for (image, x) in images.iter().zip(x.chunks_exact_mut(len)) {
            pre.normalize(&Prepared { pixels: Pixels::U8(image.to_vec()) }, x);
        }
        let mut logits = vec![0.0; images.len() * classes];
        inference.run(&x, images.len(), &mut logits)?;
        rows.extend(logits.chunks_exact(classes).map(<[f32]>::to_vec));
    }
    Ok(rows)
}

/// Up to `count` of the images: one of each class in turn, of classes evenly apart where there are more classes.
fn spread(set: &ImageSet, indices: &[usize], count: usize) -> Vec<usize> {
    // Images without a label are a class of their own, those with several are of the first.
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); set.classes().len() + 1];
    let class = |index: usize| set.labels(index).first().map_or(set.classes().len(), |&label| label as usize);
    indices.iter().for_each(|&index| of_class[class(index)].push(index));
    of_class.retain(|images| !images.is_empty());
    let classes = of_class.len();
    let asked: Vec<&Vec<usize>> = match classes > count {
        true => (0..count).map(|i| &of_class[i * classes / count]).collect(),
        false => of_class.iter().collect(),
    };
    let rounds = asked.iter().map(|images| images.len()).max().unwrap_or(0);
    let turns = (0..rounds).flat_map(|round| asked.iter().filter_map(move |images| images.get(round)));
    turns.copied().take(count).collect()
}

/// The upper bytes of 16-bit pixels: a probe is an image like any other, whatever it was made of.
fn narrow(image: Prepared) -> Vec<u8> {
    match image.pixels {
        Pixels::U8(values) => values,
        Pixels::U16(values) => values.into_iter().map(|value| (value >> 8) as u8).collect(),
    }
}

#[cfg(test)]
mod tests;
