//! Images with any number of labels go through a model, and a report comes of it.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ocelli_engine::Inference;

use super::evaluation::{LabelEvaluation, LabelMistake, LabelRow};
use super::scores::Scores;
use crate::data;
use crate::error::PipelineError;
use crate::evaluate::{LabelledImages, Tell, WORST};
use crate::mirror::Mirror;
use crate::probability::sigmoids;

/// What a model says of images, and what they have.
pub(crate) struct Answers {
    pub(crate) scores: Scores,
    /// Mean binary cross-entropy of each image, in nats.
    pub(crate) losses: Vec<f32>,
}

impl Answers {
    /// Mean over the images.
    pub(crate) fn loss(&self) -> f64 {
        let sum: f64 = self.losses.iter().map(|&loss| f64::from(loss)).sum();
        sum / self.losses.len().max(1) as f64
    }
}

/// Binary cross-entropy of a logit in nats.
fn binary_cross_entropy(logit: f32, has: bool) -> f64 {
    let logit = f64::from(if has { -logit } else { logit });
    logit.max(0.0) + (-logit.abs()).exp().ln_1p()
}

/// Asks a model about images. Labels of the data that the model does not know are left out.
///
/// # Errors
/// Those of the engine and of reading pixels; [`PipelineError::Stopped`].
pub(crate) fn ask(
    images: &LabelledImages,
    (inference, mirror): (&mut Inference, Option<&mut Mirror>),
    stop: &AtomicBool,
    tell: Tell<'_>,
) -> Result<Answers, PipelineError> {
    let labels = images.classes.len();
    let mut answers =
        Answers { scores: Scores::new(labels), losses: Vec::with_capacity(images.indices.len()) };
    let mut of_image = vec![0.0; labels];
    images.logits((inference, mirror), (stop, tell), |index, logits| {
        sigmoids(logits, &mut of_image);
        let own: Vec<usize> = images.labels(index).collect();
        let losses = logits.iter().enumerate().map(|(i, &z)| binary_cross_entropy(z, own.contains(&i)));
        answers.losses.push((losses.sum::<f64>() / labels as f64) as f32);
        answers.scores.add(&of_image, own);
    })?;
    Ok(answers)
}

/// The whole report. With a mirror, of the means over images and mirror images.
///
/// # Errors
/// As [`ask`].
pub(crate) fn report(
    images: &LabelledImages,
    thresholds: &[f32],
    model: (&mut Inference, Option<&mut Mirror>),
    stop: &AtomicBool,
    tell: Tell<'_>,
) -> Result<LabelEvaluation, PipelineError> {
    let start = Instant::now();
    let answers = ask(images, model, stop, tell)?;
    let seconds = start.elapsed().as_secs_f32();
    let about = (images.split, answers.loss());
    let mut report = LabelEvaluation::of(&answers.scores, about, images.classes, thresholds);
    let names = |has: &dyn Fn(usize) -> bool| -> Vec<String> {
        (0..images.classes.len()).filter(|&i| has(i)).map(|i| images.classes[i].clone()).collect()
    };
    let row = |(place, &index): (usize, &usize)| {
        let (has, probabilities) = (answers.scores.has(place), answers.scores.row(place));
        LabelRow {
            name: images.set.name(index).to_owned(),
            labels: names(&|i| has[i]),
            predicted: names(&|i| probabilities[i] >= thresholds[i]),
            loss: answers.losses[place],
        }
    };
    report.predictions = images.indices.iter().enumerate().map(row).collect();
    for place in report.worst_mistakes(WORST) {
        let (row, png) = (report.predictions[place].clone(), images.picture(images.indices[place])?);
        report.worst.push(LabelMistake { row, png });
    }
    report.skipped = data::skipped(images.set);
    report.seconds = seconds;
    report.images_per_second = images.indices.len() as f32 / seconds.max(f32::MIN_POSITIVE);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_that_of_the_sigmoid_and_stays_finite() {
        for (logit, has, expected) in [
            (0.0, true, std::f64::consts::LN_2),
            (2.0, true, -(1.0 / (1.0 + (-2f64).exp())).ln()),
            (2.0, false, -(1.0 - 1.0 / (1.0 + (-2f64).exp())).ln()),
            (-300.0, true, 300.0),
            (300.0, true, 0.0),
        ] {
            let found = binary_cross_entropy(logit, has);
            assert!((found - expected).abs() < 1e-12, "{logit} {has}: {found}");
        }
    }
}
