//! A running average of all parameters (Polyak and Juditsky, 1992), which is often better than the last of them.

use crate::buffer::Buffer;
use crate::graph::ParamKind;
use crate::kernels::update;
use crate::parallel::Threads;
use crate::params::{ParamEntry, ParamLayout};
use crate::simd::Isa;

/// Floats of a piece of the average.
const PIECE: usize = 16 * 1024;

/// An exponential average of parameters and running statistics. Running statistics are averaged as parameters are: those
/// of the last step belong to other weights.
pub(crate) struct Average {
    decay: f32,
    params: Buffer,
}

impl Average {
    /// An average that starts from `params`.
    pub(crate) fn new(decay: f32, params: &[f32]) -> Self {
        let mut average = Buffer::zeros(params.len());
        average.copy_from_slice(params);
        Average { decay, params: average }
    }

    /// The averaged parameters.
    pub(crate) fn params(&self) -> &[f32] {
        &self.params
    }

    /// Takes in the parameters after step `step`, which counts from 1.
    pub(crate) fn update(&mut self, (isa, threads): (Isa, &Threads), params: &[f32], step: u64) {
        let step = step as f64;
        let decay = f64::from(self.decay).min((1.0 + step) / (10.0 + step));
        let share = (1.0 - decay) as f32;
        threads.pieces(params.len() * 4, &mut self.params, PIECE, |i, average| {
            let params = &params[i * PIECE..i * PIECE + average.len()];
            update::average(isa, average, params, share);
        });
    }

    /// Number of [`Average::parts`].
    pub(crate) fn part_count(layout: &ParamLayout) -> usize {
        1 + usize::from(layout.total() > layout.trainable())
    }

    /// The average as lists of as many floats as there are learnable parameters, which is what a model file keeps for an
    /// optimiser: the learnable ones, then the running statistics if there are any, each mean where the scale of its node
    /// lies and each variance where the shift does.
    pub(crate) fn parts(&self, layout: &ParamLayout) -> Vec<Vec<f32>> {
        let mut parts = vec![vec![0.0; layout.trainable()]; Average::part_count(layout)];
        parts[0].copy_from_slice(&self.params[..layout.trainable()]);
        for (entry, place) in running(layout) {
            parts[1][place.range()].copy_from_slice(&self.params[entry.range()]);
        }
        parts
    }

    /// Takes over what [`Average::parts`] gave.
    pub(crate) fn restore(&mut self, layout: &ParamLayout, parts: &[Vec<f32>]) {
        self.params[..layout.trainable()].copy_from_slice(&parts[0]);
        for (entry, place) in running(layout) {
            self.params[entry.range()].copy_from_slice(&parts[1][place.range()]);
        }
    }
}

/// The running statistics of a network, each with the learnable tensor of its node and shape in whose place it is kept.
fn running(layout: &ParamLayout) -> impl Iterator<Item = (&ParamEntry, &ParamEntry)> {
    layout.entries().iter().filter_map(|entry| {
        let kind = match entry.kind {
            ParamKind::RunningMean => ParamKind::Scale,
            ParamKind::RunningVar => ParamKind::Shift,
            ParamKind::Weight | ParamKind::Bias | ParamKind::Scale | ParamKind::Shift => return None,
        };
        let place = layout.find(entry.node(), kind).expect("a batch normalisation has its scale and shift");
        Some((entry, place))
    })
}
