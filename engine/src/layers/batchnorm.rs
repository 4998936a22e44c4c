//! Batch normalisation with a fused clamp.

use super::filters::NormParams;
use super::run::{GradOut, Layer, Run};
use super::split::{CHUNKS, PIECE, chunk_images, piece};
use crate::arena::Slot;
use crate::graph::Activation;
use crate::kernels::Number;
use crate::kernels::batchnorm::{self, BnCoef, BnGate, BnSaved, BnSums, Moments};

/// `y = act((x - mean) / sqrt(var + eps) * scale + shift)` for each channel of `x [n, pixels, c]`: statistics of the
/// batch or running ones in training, running ones at inference.
pub(crate) struct BatchNormLayer<E> {
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
    pub(crate) x: Slot<E>,
    pub(crate) y: Slot<E>,
    pub(crate) act: Option<Activation>,
    pub(crate) params: NormParams,
    /// [`SAVED`] numbers of each channel.
    pub(crate) saved: Slot,
    pub(crate) training: Option<BatchNormTraining<E>>,
}

/// What training needs besides.
pub(crate) struct BatchNormTraining<E> {
    pub(crate) dy: Slot<E>,
    pub(crate) dx: Option<GradOut<E>>,
    pub(crate) statistics: Statistics,
    /// Two sums per channel for each chunk of images.
    pub(crate) partials: Slot,
}

/// The statistics that training normalises by.
#[derive(Clone, Copy)]
pub(crate) enum Statistics {
    /// Those of the batch.
    Batch {
        /// Moments `[mean, m2]` of each image, where the layer before took them.
        moments: Option<Slot>,
    },
    /// The running ones: constants, so that images stay apart.
    Running,
}

/// Floats of `saved`, per channel: mean, 1/std, factor and addend of the forward pass, two coefficients of the backward
/// pass.
pub(crate) const SAVED: usize = 6;
/// Floats of `partials`, per channel.
pub(crate) const PARTIALS: usize = 2 * CHUNKS;

impl<E: Number> BatchNormLayer<E> {
    fn apply(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let c = self.channels;
        let ([y], ([x], [saved])) = arena.split(*images, [self.y], ([self.x], [self.saved]));
        let (factor, offset) = (&saved[2 * c..3 * c], &saved[3 * c..4 * c]);
        let len = (PIECE / c).max(1) * c;
        threads.pieces(y.len() * 8, y, len, |i, y| {
            batchnorm::affine(*isa, y, piece(x, i, len), factor, offset, self.act);
        });
    }

    /// The running statistics, and the affine map that they give.
    fn take_running(&self, run: &mut Run) {
        let c = self.channels;
        let saved = run.arena.write(self.saved, run.images);
        for i in 0..c {
            (saved[i], saved[c + i]) = self.params.mean_inv_std(run.params, i);
            (saved[2 * c + i], saved[3 * c + i]) = self.params.factor_offset(run.params, i);
        }
    }

    /// The statistics of the batch, the affine map that they give, and the running ones that follow them.
    fn take_batch(&self, run: &mut Run, partials: Slot, moments: Option<Slot>) {
        let c = self.channels;
        let (isa, images) = (run.isa, run.images);
        let image = self.pixels * c;
        // Those of each image, or else those of a chunk of images.
        let chunk = if moments.is_some() { 1 } else { chunk_images(images) };
        let count = images.div_ceil(chunk);
        let source = moments.unwrap_or(partials);
        let ([partials, saved], [x]) = run.arena.split(images, [source, self.saved], [self.x]);
        if moments.is_none() {
            run.threads.pieces(x.len() * 8, &mut partials[..count * 2 * c], 2 * c, |i, partial| {
                let (mean, m2) = partial.split_at_mut(c);
                batchnorm::moments(isa, mean, m2, piece(x, i, chunk * image));
            });
        }
        let total = (images * self.pixels) as f64;
        for i in 0..c {
            let mut moments = Moments::default();
            for (k, partial) in partials[..count * 2 * c].chunks_exact(2 * c).enumerate() {
                let rows = (chunk.min(images - k * chunk) * self.pixels) as f64;
                moments.merge(Moments { count: rows, mean: partial[i].into(), m2: partial[c + i].into() });
            }
            let p = &self.params;
            let variance = moments.m2 / total;
            let inverse = 1.0 / (variance + f64::from(p.eps)).sqrt();
            let factor = f64::from(run.params[p.scale.start + i]) * inverse;
            saved[i] = moments.mean as f32;
            saved[c + i] = inverse as f32;
            saved[2 * c + i] = factor as f32;
            saved[3 * c + i] = (f64::from(run.params[p.shift.start + i]) - moments.mean * factor) as f32;
            // The running variance is the unbiased one, as in PyTorch and in the paper.
            let unbiased = moments.m2 / (total - 1.0).max(1.0);
            let mut update = |at: usize, value: f64| {
                let old = f64::from(run.params[at]);
                run.params[at] = (old + f64::from(p.momentum) * (value - old)) as f32;
            };
            update(p.mean.start + i, moments.mean);
            update(p.var.start + i, unbiased);
        }
    }
}

impl<E: Number> Layer for BatchNormLayer<E> {
    fn forward(&self, run: &mut Run) {
        match &self.training {
            Some(BatchNormTraining { statistics: Statistics::Batch { moments }, partials, .. }) => {
                self.take_batch(run, *partials, *moments);
            }
            Some(_) | None => self.take_running(run),
        }
        self.apply(run);
    }

    fn backward(&self, run: &mut Run) {
        let Some(training) = &self.training else { return };
        let (c, isa, images) = (self.channels, run.isa, run.images);
        let image = self.pixels * c;
        let chunk = chunk_images(images);
        let count = images.div_ceil(chunk);
        let ([partials, saved], [x, dy]) =
            run.arena.split(images, [training.partials, self.saved], [self.x, training.dy]);
        let (forward, coefficients) = saved.split_at_mut(4 * c);
        let [mean, inverse, factor, addend] = [0, 1, 2, 3].map(|i| &forward[i * c..(i + 1) * c]);
        let statistics =
            BnSaved { mean, inv_std: inverse, gate: BnGate { a: factor, b: addend, act: self.act } };
        let partials = &mut partials[..count * 2 * c];
        run.threads.pieces(x.len() * 8, partials, 2 * c, |i, partial| {
            let (dbeta, dgamma) = partial.split_at_mut(c);
            let (x, dy) = (piece(x, i, chunk * image), piece(dy, i, chunk * image));
            batchnorm::backward_sums(isa, BnSums { dbeta, dgamma }, x, dy, statistics);
        });
        // dx = factor * (dy - (dbeta + xhat * dgamma) / N) = factor * dy + slope * x + offset; statistics that are
        // constants leave the first term alone, as an infinite N does.
        let total = match training.statistics {
            Statistics::Batch { .. } => (images * self.pixels) as f64,
            Statistics::Running => f64::INFINITY,
        };
        let added = run.first > 0;
        let (slope, offset) = coefficients.split_at_mut(c);
        for i in 0..c {
            let sum =
                |first: usize| partials.iter().skip(first).step_by(2 * c).map(|&v| f64::from(v)).sum::<f64>();
            let (dbeta, dgamma) = (sum(i), sum(c + i));
            let k = f64::from(factor[i]);
            let b = -k * f64::from(inverse[i]) * dgamma / total;
            slope[i] = b as f32;
            offset[i] = (-k * dbeta / total - b * f64::from(mean[i])) as f32;
            for (at, sum) in [(self.params.shift.start + i, dbeta), (self.params.scale.start + i, dgamma)] {
                let before = if added { f64::from(run.grads[at]) } else { 0.0 };
                run.grads[at] = (before + sum) as f32;
            }
        }
        if let Some(dx) = training.dx {
            let ([out], ([x, dy], [saved])) =
                run.arena.split(images, [dx.target()], ([self.x, training.dy], [self.saved]));
            let [factor, addend, slope, offset] = [2, 3, 4, 5].map(|i| &saved[i * c..(i + 1) * c]);
            let gate = BnGate { a: factor, b: addend, act: self.act };
            let coef = BnCoef { a: factor, b: slope, c: offset };
            let len = (PIECE / c).max(1) * c;
            run.threads.pieces(out.len() * 8, out, len, |i, out| {
                batchnorm::backward_dx(isa, out, piece(x, i, len), piece(dy, i, len), (coef, gate));
            });
            dx.finish(run);
        }
    }
}
