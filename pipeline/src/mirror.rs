//! Test-time flip: the mean of what a model says about an image and about its mirror image.

use ocelli_datasets::Preprocessing;
use ocelli_engine::Inference;
use ocelli_engine::model_file::{ModelMeta, Origin};

use crate::error::PipelineError;
use crate::probability::temperature;
use crate::recipe::Recipe;

/// The second pass over a batch, with its memory.
pub(crate) struct Mirror {
    width: usize,
    channels: usize,
    temperature: f32,
    /// Whether each class is said by itself.
    multi_label: bool,
    images: Vec<f32>,
    logits: Vec<f32>,
}

impl Mirror {
    /// For a model whose images may be mirrored.
    ///
    /// # Errors
    /// [`PipelineError::NoMirror`] for a model whose recipe does not allow it, or that has none.
    pub(crate) fn new(meta: &ModelMeta) -> Result<Mirror, PipelineError> {
        allowed(meta)?;
        let Preprocessing { width, channels, .. } = meta.preprocessing;
        let (width, channels) = (width as usize, usize::from(channels));
        let temperature = temperature(meta);
        let multi_label = meta.multi_label.is_some();
        Ok(Mirror { width, channels, temperature, multi_label, images: Vec::new(), logits: Vec::new() })
    }

    /// Runs the mirror images of `n` images through the network and replaces `logits`, which the images themselves gave,
    /// by the logarithms of the mean probabilities, or by their logits where each class is said by itself. These need no
    /// temperature any more.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) fn average(
        &mut self,
        inference: &mut Inference,
        images: &[f32],
        n: usize,
        logits: &mut [f32],
    ) -> Result<(), PipelineError> {
        self.images.resize(images.len(), 0.0);
        flip(images, self.width, self.channels, &mut self.images);
        self.logits.resize(logits.len(), 0.0);
        inference.run(&self.images, n, &mut self.logits)?;
        let classes = inference.classes();
        for (row, other) in logits.chunks_exact_mut(classes).zip(self.logits.chunks_exact(classes)) {
            match self.multi_label {
                true => mean_logit(row, other),
                false => mean_log(row, other, self.temperature),
            }
        }
        Ok(())
    }
}

/// Whether the mirror images of a model's images show the same classes.
fn allowed(meta: &ModelMeta) -> Result<(), PipelineError> {
    let trained = match &meta.origin {
        Origin::Trained(trained) => trained,
        Origin::Imported(imported) => {
            let reason =
                format!("it comes from another program ({}), which says nothing about it", imported.format);
            return Err(PipelineError::NoMirror { reason });
        }
    };
    match Recipe::from_toml(&trained.recipe).map(|recipe| recipe.hflip) {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false)) => {
            let reason = "its recipe has `hflip = false`: its images must not be mirrored".to_owned();
            Err(PipelineError::NoMirror { reason })
        }
        Ok(None) | Err(_) => {
            Err(PipelineError::NoMirror { reason: "its recipe does not say `hflip = true`".to_owned() })
        }
    }
}

/// Images `[n][h][w][c]`, left and right exchanged.
fn flip(images: &[f32], width: usize, channels: usize, out: &mut [f32]) {
    let row = width * channels;
    for (from, to) in images.chunks_exact(row).zip(out.chunks_exact_mut(row)) {
        for (from, to) in from.chunks_exact(channels).zip(to.chunks_exact_mut(channels).rev()) {
            to.copy_from_slice(from);
        }
    }
}

/// Replaces logits by those of the mean of their sigmoids and those of `other`.
fn mean_logit(logits: &mut [f32], other: &[f32]) {
    // ln(sigmoid(a) + sigmoid(b)), without leaving the logarithms.
    let log_sum = |a: f64, b: f64| {
        let log = |z: f64| z.min(0.0) - (-z.abs()).exp().ln_1p();
        let (a, b) = (log(a), log(b));
        a.max(b) + (-(a - b).abs()).exp().ln_1p()
    };
    for (logit, &other) in logits.iter_mut().zip(other) {
        let (a, b) = (f64::from(*logit), f64::from(other));
        *logit = (log_sum(a, b) - log_sum(-a, -b)) as f32;
    }
}

/// Replaces logits by the logarithm of the mean of their probabilities and those of `other`. In logarithms, so that
/// classes of the smallest probabilities keep their order.
fn mean_log(logits: &mut [f32], other: &[f32], temperature: f32) {
    let (own, its) = (log_sum(logits, temperature), log_sum(other, temperature));
    for (logit, &other) in logits.iter_mut().zip(other) {
        let a = f64::from(*logit) / f64::from(temperature) - own;
        let b = f64::from(other) / f64::from(temperature) - its;
        *logit = (a.max(b) + ((-(a - b).abs()).exp().ln_1p() - std::f64::consts::LN_2)) as f32;
    }
}

/// `ln(sum of exp(logit / temperature))`.
fn log_sum(logits: &[f32], temperature: f32) -> f64 {
    let scaled = || logits.iter().map(|&logit| f64::from(logit) / f64::from(temperature));
    let max = scaled().fold(f64::NEG_INFINITY, f64::max);
    max + scaled().map(|z| (z - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_sigmoids_is_that_of_its_logit() {
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        for (a, b) in [(0.0f32, 0.0f32), (2.0, -1.0), (-7.5, -6.0), (12.0, 9.0)] {
            let mut logits = [a];
            mean_logit(&mut logits, &[b]);
            let mean = (sigmoid(a.into()) + sigmoid(b.into())) / 2.0;
            assert!((sigmoid(logits[0].into()) - mean).abs() < 1e-6, "{a} {b}: {}", logits[0]);
        }
        let mut far = [-2000.0];
        mean_logit(&mut far, &[-2000.0]);
        assert_eq!(far, [-2000.0]);
    }
    use crate::probability::probabilities;

    #[test]
    fn flipping_twice_is_nothing_and_once_exchanges_columns() {
        let images: Vec<f32> = (0..2 * 3 * 4 * 3).map(|v| v as f32).collect();
        let (mut once, mut twice) = (vec![0.0; images.len()], vec![0.0; images.len()]);
        flip(&images, 4, 3, &mut once);
        assert_eq!(once[..6], [9.0, 10.0, 11.0, 6.0, 7.0, 8.0]);
        flip(&once, 4, 3, &mut twice);
        assert_eq!(twice, images);
    }

    #[test]
    fn the_mean_is_that_of_the_probabilities() {
        for temperature in [0.5, 1.0, 3.0] {
            let (mut row, other) = ([2.0, -1.0, 0.5], [-3.0, 4.0, 0.25]);
            let mut expected = [0.0; 3];
            for logits in [&row, &other] {
                let mut one = [0.0; 3];
                probabilities(logits, temperature, &mut one);
                expected.iter_mut().zip(one).for_each(|(sum, p)| *sum += p / 2.0);
            }
            mean_log(&mut row, &other, temperature);
            let mut found = [0.0; 3];
            probabilities(&row, 1.0, &mut found);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
        }
        // Far apart, and classes that both find impossible keep their order.
        let mut row = [1000.0, -1000.0, -1001.0];
        mean_log(&mut row, &[1000.0, -1000.0, -1001.0], 1.0);
        assert!(row[0] == 0.0 && row[1] > row[2] && row[2].is_finite(), "{row:?}");
    }
}
