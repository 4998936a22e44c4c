//! From ranges to scales.

use super::ranges::{Clip, Statistics};
use crate::buffer::Buffer;
use crate::error::EngineError;
use crate::exec::Exec;
use crate::geometry::Conv2dGeometry;
use crate::layers::run::Weights;
use crate::parallel::Threads;
use crate::params::Model;
use crate::plan::{ByteConvolution, ByteStage};
use crate::quantization::{LayerScale, MAX_WEIGHT, Quantization, ValueScale};

/// Least factor of a channel beside the largest: a channel with a smaller range has fewer steps.
const MIN_FACTOR: f32 = 1.0 / 64.0;

/// What scales are found from.
pub(super) struct Scales<'a> {
    pub(super) stages: &'a [ByteStage],
    pub(super) statistics: &'a [Statistics],
    /// The range of each value of `statistics`.
    pub(super) clips: &'a [Clip],
    pub(super) equalize: bool,
    /// Nodes that stay in f32.
    pub(super) floats: &'a [usize],
}

/// A convolution with its weights.
pub(super) struct Folded {
    node: usize,
    geometry: Conv2dGeometry,
    input: usize,
    /// With what folds into them.
    w: Vec<f32>,
    /// The scales that were found last, and for which factors of the input.
    found: Option<(Vec<f32>, LayerScale)>,
}

impl Folded {
    /// The weights of all convolutions.
    pub(super) fn all(model: &Model, stages: &[ByteStage], exec: &Exec) -> Result<Vec<Folded>, EngineError> {
        let threads = Threads::new(&exec.pool, exec.wait, 0)?;
        let mut all = Vec::new();
        for stage in stages {
            let Some(ByteConvolution { node, geometry, filters }) = &stage.convolution else { continue };
            let mut folding = Buffer::zeros(filters.folding_len());
            let mut bias = vec![0.0; if filters.has_bias() { filters.cout } else { 0 }];
            let (params, isa) = (model.params(), exec.isa);
            let mut weights = Weights { params, folding: &mut folding, threads: &threads, isa };
            let w = filters.resolve(&mut weights, &mut bias).to_vec();
            let (node, geometry) = (*node, *geometry);
            all.push(Folded { node, geometry, input: stage.inputs[0], w, found: None });
        }
        Ok(all)
    }
}

impl Scales<'_> {
    pub(super) fn find(&self, folded: &mut [Folded]) -> Quantization {
        let mut values: Vec<ValueScale> = Vec::with_capacity(self.statistics.len());
        for (own, &clip) in self.statistics.iter().zip(self.clips) {
            let maker = self.stages.iter().find(|stage| stage.output == own.value);
            let scale = match maker {
                Some(pool) if pool.keeps_scale => {
                    let found = values.iter().find(|scale| scale.value as usize == pool.inputs[0]);
                    let input = found.expect("values are in the order in which stages make them");
                    ValueScale { value: own.value as u32, ..input.clone() }
                }
                _ => self.value(own, clip, maker.map_or(f32::INFINITY, |stage| stage.high), folded),
            };
            values.push(scale);
        }
        let layers = folded.iter_mut().filter(|layer| !self.floats.contains(&layer.node));
        let layers = layers.map(|layer| self.layer(layer, &values)).collect();
        Quantization { values, layers }
    }

    fn value(&self, own: &Statistics, clip: Clip, limit: f32, folded: &[Folded]) -> ValueScale {
        // The image itself is cut off nowhere.
        let clip = if own.value == 0 { Clip::Extremes } else { clip };
        let (low, high) = own.range(clip);
        let high = high.min(limit);
        let value = own.value as u32;
        if low < 0.0 || high == 0.0 {
            let scale = positive((high - low) / 255.0);
            let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8;
            return ValueScale { value, scale, zero, factors: Vec::new() };
        }
        let ranges: Vec<f32> = own.high.iter().map(|&channel| channel.clamp(0.0, high)).collect();
        let factors = self.factors(own.value, &ranges, limit, folded);
        let wanted = |(channel, &range): (usize, &f32)| range / factors.get(channel).unwrap_or(&1.0);
        let scale = ranges.iter().enumerate().map(wanted).fold(0.0, f32::max).min(limit) / 255.0;
        ValueScale { value, scale: positive(scale), zero: 0, factors }
    }

    /// Factors of the channels of a value that is not negative.
    ///
    /// Depthwise convolutions alone take each channel as it is, at no cost. Pointwise ones behind a depthwise one do so by
    /// way of their weights: the geometric mean leaves both as even as each other.
    fn factors(&self, value: usize, ranges: &[f32], limit: f32, folded: &[Folded]) -> Vec<f32> {
        let readers: Vec<&ByteStage> =
            self.stages.iter().filter(|stage| stage.inputs.contains(&value)).collect();
        let convolutions: Vec<&ByteConvolution> =
            readers.iter().filter_map(|stage| stage.convolution.as_ref()).collect();
        let filters_alone = convolutions.len() == readers.len()
            && readers
                .iter()
                .all(|stage| stage.inputs.len() == 1 || stage.inputs[1..].iter().all(|&v| v != value));
        if !filters_alone || readers.is_empty() {
            return Vec::new();
        }
        let largest = ranges.iter().copied().fold(0.0, f32::max);
        if convolutions.iter().all(|own| own.geometry.is_depthwise()) {
            return ranges.iter().map(|&range| (range / largest).clamp(MIN_FACTOR, 1.0)).collect();
        }
        let is_filtered = self.stages.iter().any(|stage| {
            let depthwise = |own: &ByteConvolution| own.geometry.is_depthwise();
            stage.output == value && stage.convolution.as_ref().is_some_and(depthwise)
        });
        if !self.equalize || !is_filtered || convolutions.iter().any(|own| own.geometry.groups > 1) {
            return Vec::new();
        }
        let mut weights = vec![0.0f32; ranges.len()];
        for layer in folded.iter().filter(|layer| layer.input == value) {
            for (row, w) in layer.w.chunks_exact(layer.geometry.cout).enumerate() {
                let channel = &mut weights[row % ranges.len()];
                *channel = w.iter().fold(*channel, |most, w| most.max(w.abs()));
            }
        }
        let even = |(&range, &weight): (&f32, &f32)| {
            if range > 0.0 && weight > 0.0 { (range / weight).sqrt() } else { 0.0 }
        };
        let mut factors: Vec<f32> = ranges.iter().zip(&weights).map(even).collect();
        let most = factors.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        for (factor, &range) in factors.iter_mut().zip(ranges) {
            // No channel's bytes reach past the limit of the activation.
            *factor = (*factor / most).clamp(MIN_FACTOR, 1.0).max(range / limit);
        }
        factors
    }

    fn layer(&self, layer: &mut Folded, values: &[ValueScale]) -> LayerScale {
        let Folded { node, geometry, w, found, .. } = layer;
        let input = values.iter().find(|scale| scale.value as usize == layer.input);
        let input = input.expect("what a convolution reads has a scale");
        if let Some((_, scale)) = found.as_ref().filter(|(factors, _)| *factors == input.factors) {
            return scale.clone();
        }
        let own = self.statistics.iter().find(|own| own.value == layer.input);
        let own = own.expect("what a convolution reads was looked at");
        let (inner, outer) = (geometry.cin / geometry.groups, geometry.cout / geometry.groups);
        let channel = |row: usize, co: usize| co / outer * inner + row % inner;
        let rows = w.len() / geometry.cout;
        let weights = (0..geometry.cout).map(|co| {
            let column = (0..rows).map(|row| w[row * geometry.cout + co] * input.factor(channel(row, co)));
            weight_scale(&column.collect::<Vec<f32>>())
        });
        let mut scale = LayerScale { node: *node as u32, weights: weights.collect(), bias: Vec::new() };
        // What rounding changes in the mean of each output, as far as that follows from the means of the inputs.
        let rounded = scale.round(w, input, geometry.groups, geometry.cin);
        let mut bias = vec![0.0f64; geometry.cout];
        for (index, (&w, &rounded)) in w.iter().zip(&rounded).enumerate() {
            let (row, co) = (index / geometry.cout, index % geometry.cout);
            let channel = channel(row, co);
            let stands_for =
                f64::from(rounded) * f64::from(scale.weights[co]) / f64::from(input.factor(channel));
            bias[co] -= (stands_for - f64::from(w)) * own.mean(channel);
        }
        scale.bias = bias.into_iter().map(|b| b as f32).collect();
        *found = Some((input.factors.clone(), scale.clone()));
        scale
    }
}

/// A scale that divides: where nothing was seen, any will do.
fn positive(scale: f32) -> f32 {
    if scale.is_normal() { scale } else { 1.0 }
}

/// The distance between the weights of a filter with the least squared error.
fn weight_scale(w: &[f32]) -> f32 {
    let largest = w.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let error = |scale: f32| {
        let each = w.iter().map(|&w| {
            let rounded = (w / scale).clamp(-MAX_WEIGHT, MAX_WEIGHT).round_ties_even() * scale;
            f64::from(w - rounded).powi(2)
        });
        each.sum::<f64>()
    };
    let scales = (14..=20).map(|part| positive(largest / MAX_WEIGHT * part as f32 / 20.0));
    scales
        .rev()
        .map(|scale| (error(scale), scale))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(1.0, |best| best.1)
}
