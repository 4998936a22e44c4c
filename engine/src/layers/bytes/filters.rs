//! Filters as bytes, with what turns sums of products into bytes of the output.

use crate::layers::filters::Filters;
use crate::layers::run::Weights;
use crate::quantization::{LayerScale, ValueScale};

/// Largest magnitude of a bias in steps of the sums: leaves half of their range to the products.
const MAX_BIAS: f64 = (1 << 30) as f64;

/// The filters of a convolution, and the bytes on either side of it.
pub(crate) struct ByteFilters {
    pub(crate) filters: Filters,
    pub(crate) scales: LayerScale,
    pub(crate) input: ValueScale,
    pub(crate) output: ValueScale,
    /// Groups and input channels.
    pub(crate) groups: usize,
    pub(crate) cin: usize,
}

/// Filters that were rounded.
pub(super) struct Rounded {
    /// As the weights in f32 lie.
    pub(super) w: Vec<i8>,
    /// What sums start with: the bias, without what the input's zero adds to them.
    pub(super) bias: Vec<i32>,
    /// Steps of the output in a step of the sums.
    pub(super) scale: Vec<f32>,
}

impl ByteFilters {
    /// Rounds the filters, after a batch normalisation was folded into them.
    pub(super) fn round(&self, weights: &mut Weights) -> Rounded {
        let cout = self.filters.cout;
        let mut own = vec![0.0; if self.filters.has_bias() { cout } else { 0 }];
        let w = self.filters.resolve(weights, &mut own);
        let w = self.scales.round(w, &self.input, self.groups, self.cin);
        let mut sums = vec![0i64; cout];
        for row in w.chunks_exact(cout) {
            sums.iter_mut().zip(row).for_each(|(sum, &w)| *sum += i64::from(w));
        }
        let (mut bias, mut scale) = (Vec::with_capacity(cout), Vec::with_capacity(cout));
        for (co, &sum) in sums.iter().enumerate() {
            let step = f64::from(self.input.scale) * f64::from(self.scales.weights[co]);
            let at = |values: &[f32]| values.get(co).map_or(0.0, |&b| f64::from(b));
            let steps = (at(&own) + at(&self.scales.bias)) / step;
            let zero = (i64::from(self.input.zero) * sum) as f64;
            bias.push((steps.round_ties_even() - zero).clamp(-MAX_BIAS, MAX_BIAS) as i32);
            let output = f64::from(self.output.scale) * f64::from(self.output.factor(co));
            scale.push((step / output) as f32);
        }
        Rounded { w, bias, scale }
    }
}
