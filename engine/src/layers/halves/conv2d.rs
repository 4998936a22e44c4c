//! 2-d convolution of bf16 with fused bias, residual and clamp, and its gradients: sums over taps in f32.

use crate::arena::Slot;
use crate::bf16::Bf16;
use crate::buffer::cast_mut;
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::kernels::conv2d::{Sweep, WeightGradient};
use crate::kernels::{Halves, reduce};
use crate::layers::activation::apply_derivative;
use crate::layers::before::Before;
use crate::layers::behind::Behind;
use crate::layers::conv2d::{Call, direct};
use crate::layers::filters::Filters;
use crate::layers::outputs::Take;
use crate::layers::packed::Packed;
use crate::layers::run::{GradOut, Layer, Run, Weights};
use crate::layers::split::{piece, weight_chunks};

/// `y [n, oh, ow, cout] = act(conv(x [n, h, w, cin], w) + b (+ residual))`
pub(crate) struct HalfConv2dLayer {
    pub(crate) geometry: Conv2dGeometry,
    pub(crate) x: Slot<Bf16>,
    pub(crate) y: Slot<Bf16>,
    pub(crate) residual: Option<Slot<Bf16>>,
    /// What is taken of the outputs.
    pub(crate) take: Take<Bf16>,
    pub(crate) act: Option<Activation>,
    pub(crate) filters: Filters,
    pub(crate) sweep: Sweep<Halves>,
    /// Panels of the forward pass, then the bias.
    pub(crate) packed: Packed<Bf16>,
    pub(crate) backward: Option<HalfConv2dBackward>,
}

/// What the backward pass of a [`HalfConv2dLayer`] needs.
pub(crate) struct HalfConv2dBackward {
    /// The gradient of the output.
    pub(crate) dy: Slot<Bf16>,
    pub(crate) behind: Behind<Bf16>,
    pub(crate) dx: Option<HalfDataGradient>,
    pub(crate) weights: WeightGradient<Halves>,
    /// Partial gradients of chunks of images, in f32: `[weights, bias]`.
    pub(crate) partials: Slot,
}

/// The gradient of the input, prepared.
pub(crate) struct HalfDataGradient {
    pub(crate) out: GradOut<Bf16>,
    pub(crate) sweep: Sweep<Halves>,
    pub(crate) packed: Packed<Bf16>,
    pub(crate) before: Before<Bf16>,
}

impl HalfConv2dLayer {
    /// The gradients of filters and bias; those of earlier images are added to.
    fn filter_gradients(&self, run: &mut Run, backward: &HalfConv2dBackward) {
        let (g, w_len) = (&self.geometry, self.filters.w.len());
        let partial_len = w_len + self.filters.sums().map_or(0, ExactSizeIterator::len);
        let (isa, images, threads) = (run.isa, run.images, run.threads);
        // Images are summed in pairs: an odd chunk would leave one alone.
        let chunk = images.div_ceil(weight_chunks(partial_len)).next_multiple_of(2);
        let count = images.div_ceil(chunk);
        let (x_len, y_len) = (g.x_len(), g.y_len());
        let ([partials], [x, dy]) = run.arena.split(images, [backward.partials], [self.x, backward.dy]);
        let partials = &mut partials[..count * partial_len];
        threads.pieces(g.macs().saturating_mul(images), partials, partial_len, |i, partial| {
            partial.fill(0.0);
            let (dw, db) = partial.split_at_mut(w_len);
            let (x, dy) = (piece(x, i, chunk * x_len), piece(dy, i, chunk * y_len));
            backward.weights.accumulate(dw, cast_mut(&mut threads.scratch()), x, dy);
            if !db.is_empty() {
                reduce::column_sums(isa, db, dy);
            }
        });
        run.sum_partials(backward.partials, (count, partial_len), (0, &self.filters.w));
        if let Some(sums) = self.filters.sums() {
            run.sum_partials(backward.partials, (count, partial_len), (w_len, sums));
        }
    }
}

impl Layer for HalfConv2dLayer {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        let (panels, bias) = self.packed.parts_mut(packed);
        let w = self.filters.resolve(weights, bias);
        self.sweep.pack(panels, w);
        if let Some(dx) = self.backward.as_ref().and_then(|b| b.dx.as_ref()) {
            dx.sweep.pack(dx.packed.parts_mut(packed).0, w);
        }
    }

    fn forward(&self, run: &mut Run) {
        let (packed, bias) = self.packed.parts(run.packed);
        let bias = self.filters.has_bias().then_some(bias);
        let HalfConv2dLayer { y, x, residual, take, .. } = *self;
        let clamp = self.act.and_then(Activation::clamp_range);
        direct(&self.sweep, run, Call { y, x, packed, bias, residual, clamp, take });
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        backward.behind.apply(run, (backward.dy, self.y), self.geometry.cout);
        self.filter_gradients(run, backward);
        let Some(dx) = &backward.dx else { return };
        let (packed, _) = dx.packed.parts(run.packed);
        let (y, x) = (dx.out.target(), backward.dy);
        let call = Call { y, x, packed, bias: None, residual: None, clamp: None, take: dx.before.take() };
        direct(&dx.sweep, run, call);
        if let Some(act) = dx.before.activation() {
            apply_derivative(run, dx.out.target(), self.x, act);
        }
        dx.out.finish(run);
    }

    fn finish_gradients(&self, weights: &mut Weights, grads: &mut [f32]) {
        if self.backward.is_some() {
            self.filters.finish_gradients(weights, grads);
        }
    }
}
