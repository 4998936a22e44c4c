//! Batch normalisation with a fused clamp and, in training, a fused max pool; in training the layers on either side compute part
//! of it ([`before`](super::before), [`behind`](super::behind), [`input`](super::input), [`outputs`](super::outputs)).

use super::filters::NormParams;
use super::norm_pool::{self, NormPool};
use super::run::{GradOut, Layer, Run};
use super::split::{CHUNKS, PIECE, chunk_images, piece};
use crate::arena::Slot;
use crate::buffer::cast_mut;
use crate::collective::Collective;
use crate::graph::Activation;
use crate::kernels::Number;
use crate::kernels::batchnorm::{self, BnCoef, BnGate, BnSaved, BnSums, Moments};

/// `y = act((x - mean) / sqrt(var + eps) * scale + shift)` for each channel of `x [n, pixels, c]`: statistics of the
/// batch or running ones in training, running ones at inference.
pub(crate) struct BatchNormLayer<E> {
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
    pub(crate) x: Slot<E>,
    /// None where what reads the output makes it: see [`Input`](super::input::Input).
    pub(crate) y: Option<Slot<E>>,
    pub(crate) act: Option<Activation>,
    /// The pool over the outputs, in training.
    pub(crate) pool: Option<NormPool<E>>,
    pub(crate) params: NormParams,
    /// [`SAVED`] numbers of each channel.
    pub(crate) saved: Slot,
    pub(crate) training: Option<BatchNormTraining<E>>,
}

/// What training needs besides.
pub(crate) struct BatchNormTraining<E> {
    pub(crate) dy: Slot<E>,
    /// None where the input has no gradient, or the layer that makes it computes that.
    pub(crate) dx: Option<GradOut<E>>,
    pub(crate) statistics: Statistics,
    /// The sums of each image, where the layer behind took them.
    pub(crate) sums: Option<Slot>,
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
/// Channels whose sums over parts are added up side by side: one line of each part.
const TOGETHER: usize = 16;
/// Numbers per channel of the sums of the backward pass, over an image or a chunk: [`BnSums`].
pub(crate) const NORM_SUMS: usize = 2;
/// Floats of `partials`, per channel.
pub(crate) const PARTIALS: usize = 2 * CHUNKS;

/// What a normalisation keeps of each channel between its passes, `[c]` each.
#[derive(Clone, Copy)]
pub(super) struct NormNumbers<'a> {
    pub(super) mean: &'a [f32],
    /// The forward pass: `x * factor + addend`.
    factor: &'a [f32],
    addend: &'a [f32],
    /// The backward pass: `dy * factor + x * slope + offset`.
    slope: &'a [f32],
    offset: &'a [f32],
}

impl<'a> NormNumbers<'a> {
    /// Those of a slot of [`SAVED`] numbers per channel.
    pub(super) fn of(saved: &'a [f32]) -> Self {
        let [mean, factor, addend, slope, offset] =
            [0, 2, 3, 4, 5].map(|i| piece(saved, i, saved.len() / SAVED));
        NormNumbers { mean, factor, addend, slope, offset }
    }

    pub(super) fn gate(&self, act: Option<Activation>) -> BnGate<'a> {
        BnGate { a: self.factor, b: self.addend, act }
    }

    pub(super) fn coefficients(&self) -> BnCoef<'a> {
        BnCoef { a: self.factor, b: self.slope, c: self.offset }
    }
}

impl<E: Number> BatchNormLayer<E> {
    fn apply(&self, run: &mut Run) {
        let Some(y) = self.y else { return };
        let Run { arena, threads, isa, images, .. } = run;
        if let Some(pool) = &self.pool {
            let (([argmax], [y, picked]), ([saved], [x])) =
                arena.split(*images, ([pool.argmax], [y, pool.picked]), ([self.saved], [self.x]));
            let gate = NormNumbers::of(saved).gate(self.act);
            let (x_len, y_len) = (pool.geometry.x_len(), pool.geometry.y_len());
            let outs = [(y, y_len), (picked, y_len)];
            threads.pieces_of(x.len() * 8, (argmax, y_len), None, outs, |i, (argmax, _), outs| {
                let scratch = &mut threads.scratch();
                pool.forward(*isa, cast_mut(scratch), outs, argmax, (piece(x, i, x_len), gate));
            });
            return;
        }
        let c = self.channels;
        let ([y], ([x], [saved])) = arena.split(*images, [y], ([self.x], [self.saved]));
        let BnGate { a, b, act } = NormNumbers::of(saved).gate(self.act);
        let len = (PIECE / c).max(1) * c;
        threads.pieces(y.len() * 8, y, len, |i, y| {
            batchnorm::affine(*isa, y, piece(x, i, len), a, b, act);
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
        let partials = &partials[..count * 2 * c];
        let merged = |first: usize| {
            let mut merged = [Moments::default(); TOGETHER];
            for (k, partial) in partials.chunks_exact(2 * c).enumerate() {
                let rows = (chunk.min(images - k * chunk) * self.pixels) as f64;
                let own = partial[first..c].iter().zip(&partial[c + first..]);
                for (merged, (&mean, &m2)) in merged.iter_mut().zip(own) {
                    merged.merge(Moments { count: rows, mean: mean.into(), m2: m2.into() });
                }
            }
            merged
        };
        let own = (0..c).step_by(TOGETHER).flat_map(merged).take(c);
        let p = &self.params;
        let take = |(i, moments): (usize, Moments)| {
            let total = moments.count;
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
        };
        match run.team.ranks {
            None => own.enumerate().for_each(take),
            Some(ranks) => merged_over(ranks, own).into_iter().enumerate().for_each(take),
        }
    }

    /// The sums of each chunk of images, and where they are. Behind a pool all other gradients are zero.
    fn take_sums(&self, run: &mut Run, training: &BatchNormTraining<E>) -> Slot {
        let (c, isa, images) = (self.channels, run.isa, run.images);
        let x = self.pool.map_or(self.x, |pool| pool.picked);
        let ([partials], ([saved], [x, dy])) =
            run.arena.split(images, [training.partials], ([self.saved], [x, training.dy]));
        let chunk = chunk_images(images);
        let len = chunk * x.len() / images;
        let numbers = NormNumbers::of(saved);
        let saved = BnSaved { mean: numbers.mean, gate: numbers.gate(self.act) };
        let partials = &mut partials[..images.div_ceil(chunk) * NORM_SUMS * c];
        run.threads.pieces(x.len() * 8, partials, NORM_SUMS * c, |i, partial| {
            partial.fill(0.0);
            let (sum, dy_x) = partial.split_at_mut(c);
            batchnorm::backward_sums(
                isa,
                BnSums { dy: sum, dy_x },
                piece(x, i, len),
                piece(dy, i, len),
                saved,
            );
        });
        training.partials
    }

    /// The gradient of the input, from that of the output.
    fn input_gradient(&self, run: &mut Run, dy: Slot<E>, dx: Slot<E>) {
        let Run { arena, threads, isa, images, .. } = run;
        let argmax = self.pool.map(|pool| [pool.argmax]);
        let ([dx], ([x, dy], ([saved], argmax))) =
            arena.split(*images, [dx], ([self.x, dy], ([self.saved], argmax)));
        let numbers = NormNumbers::of(saved);
        let work = dx.len() * 8;
        if let Some((NormPool { geometry: g, .. }, [argmax])) = self.pool.as_ref().zip(argmax) {
            return threads.pieces(work, dx, g.x_len(), |i, dx| {
                let from = (piece(dy, i, g.y_len()), piece(argmax, i, g.y_len()));
                norm_pool::backward(*isa, dx, piece(x, i, g.x_len()), from, (g, numbers.coefficients()));
            });
        }
        let with = (numbers.coefficients(), numbers.gate(self.act));
        let len = (PIECE / self.channels).max(1) * self.channels;
        threads.pieces(work, dx, len, |i, dx| {
            batchnorm::backward_dx(*isa, dx, piece(x, i, len), piece(dy, i, len), with);
        });
    }

    /// The gradients of scale and shift, and the coefficients of the input's gradient, from the sums of all images or chunks.
    fn find_coefficients(&self, run: &mut Run, training: &BatchNormTraining<E>, sums: Slot) {
        let (c, images) = (self.channels, run.images);
        let parts = if training.sums.is_some() { images } else { images.div_ceil(chunk_images(images)) };
        let ([saved], [sums]) = run.arena.split(images, [self.saved], [sums]);
        // dx = factor * (dy - (dbeta + xhat * dgamma) / N) = factor * dy + slope * x + offset; statistics that are
        // constants leave the first term alone, as an infinite N does.
        let own_total = match training.statistics {
            Statistics::Batch { .. } => (images * self.pixels) as f64,
            Statistics::Running => f64::INFINITY,
        };
        let added = run.first > 0;
        let (forward, coefficients) = saved.split_at_mut(4 * c);
        let (slope, offset) = coefficients.split_at_mut(c);
        let sums = &sums[..parts * NORM_SUMS * c];
        let added_up = |first: usize| {
            let mut added_up = [(0.0, 0.0); TOGETHER];
            for part in sums.chunks_exact(NORM_SUMS * c) {
                let own = part[first..c].iter().zip(&part[c + first..]);
                for (to, (&dy, &dy_x)) in added_up.iter_mut().zip(own) {
                    *to = (to.0 + f64::from(dy), to.1 + f64::from(dy_x));
                }
            }
            added_up
        };
        let own = (0..c).step_by(TOGETHER).flat_map(added_up).take(c);
        // The gradients of scale and shift are those of this rank's images, as all gradients of parameters before they are
        // summed over the ranks; the coefficients are those of the whole batch.
        let mut gradients = |i: usize, inv_std: f64, (dbeta, dy_x): (f64, f64)| {
            let dgamma = dy_x * inv_std;
            for (at, sum) in [(self.params.shift.start + i, dbeta), (self.params.scale.start + i, dgamma)] {
                let before = if added { f64::from(run.grads[at]) } else { 0.0 };
                run.grads[at] = (before + sum) as f32;
            }
        };
        let mut take = |i: usize, own: (f64, f64), (dbeta, dy_x): (f64, f64), total: f64| {
            let [mean, inv_std, factor] = [0, 1, 2].map(|k| f64::from(forward[k * c + i]));
            let b = -factor * inv_std * (dy_x * inv_std) / total;
            slope[i] = b as f32;
            offset[i] = (-factor * dbeta / total - b * mean) as f32;
            gradients(i, inv_std, own);
        };
        match run.team.ranks.filter(|_| own_total.is_finite()) {
            None => own.enumerate().for_each(|(i, own)| take(i, own, own, own_total)),
            Some(ranks) => {
                let own: Vec<(f64, f64)> = own.collect();
                let (all, total) = summed_over(ranks, &own, own_total);
                (0..c).for_each(|i| take(i, own[i], all[i], total));
            }
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
        let sums = training.sums.unwrap_or_else(|| self.take_sums(run, training));
        self.find_coefficients(run, training, sums);
        if let Some(dx) = training.dx {
            self.input_gradient(run, training.dy, dx.target());
            dx.finish(run);
        }
    }

    fn forward_without_images(&self, run: &mut Run) {
        if let Some(BatchNormTraining { statistics: Statistics::Batch { moments }, partials, .. }) =
            &self.training
        {
            self.take_batch(run, *partials, *moments);
        }
    }

    fn backward_without_images(&self, run: &mut Run) {
        let Some(training) = &self.training else { return };
        self.find_coefficients(run, training, training.sums.unwrap_or(training.partials));
    }
}

/// The moments of each channel over the images of all ranks, from those of this one's, merged in the order of the ranks.
fn merged_over(ranks: &dyn Collective, own: impl Iterator<Item = Moments>) -> Vec<Moments> {
    let own: Vec<f64> = own.flat_map(|moments| [moments.count, moments.mean, moments.m2]).collect();
    let mut merged = vec![Moments::default(); own.len() / 3];
    for rank in ranks.gather(&own).chunks_exact(own.len()) {
        for (merged, own) in merged.iter_mut().zip(rank.chunks_exact(3)) {
            merged.merge(Moments { count: own[0], mean: own[1], m2: own[2] });
        }
    }
    merged
}

/// The sums of the backward pass and their number of rows over all ranks, in the order of the ranks.
fn summed_over(ranks: &dyn Collective, own: &[(f64, f64)], rows: f64) -> (Vec<(f64, f64)>, f64) {
    let sent: Vec<f64> = own.iter().flat_map(|&(dy, dy_x)| [dy, dy_x]).chain([rows]).collect();
    let (mut sums, mut total) = (vec![(0.0, 0.0); own.len()], 0.0);
    for rank in ranks.gather(&sent).chunks_exact(sent.len()) {
        for (sum, own) in sums.iter_mut().zip(rank.chunks_exact(2)) {
            *sum = (sum.0 + own[0], sum.1 + own[1]);
        }
        total += rank[rank.len() - 1];
    }
    (sums, total)
}
