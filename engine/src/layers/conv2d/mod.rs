//! 2-d convolution with fused bias, residual, clamp and max pool.

mod data_gradient;
mod direct;
mod gradient;
mod method;
mod pointwise;
mod pooled;

use std::ops::Range;

use super::behind::Behind;
use super::filters::Filters;
use super::input::Input;
use super::outputs::Take;
use super::run::{Layer, Run, Weights};
use crate::arena::Slot;
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
pub(crate) use data_gradient::DataGradient;
pub(crate) use direct::{Call, direct};
use gradient::Saved;
pub(crate) use gradient::{FilterMethod, Gradient};
pub(crate) use method::{Method, Shared};
use pointwise::Pointwise;
pub(crate) use pointwise::made_len;
pub(crate) use pooled::{Pooled, PooledBackward};

/// `y [n, oh, ow, cout] = act(conv(x [n, h, w, cin], w) + b (+ residual))`, or the maxima of its windows.
pub(crate) struct Conv2dLayer {
    pub(crate) geometry: Conv2dGeometry,
    pub(crate) input: Input,
    pub(crate) y: Slot,
    pub(crate) residual: Option<Slot>,
    /// What is taken of the outputs.
    pub(crate) take: Take<f32>,
    pub(crate) act: Option<Activation>,
    pub(crate) filters: Filters,
    pub(crate) method: Method,
    /// The pool behind, if it is computed here.
    pub(crate) pool: Option<Pooled>,
    /// Panels of the forward pass, then the bias.
    pub(crate) packed: Range<usize>,
    pub(crate) backward: Option<Conv2dBackward>,
}

/// What the backward pass of a [`Conv2dLayer`] needs.
pub(crate) struct Conv2dBackward {
    /// The gradient of the convolution's output.
    pub(crate) dy: Slot,
    pub(crate) behind: Behind<f32>,
    pub(crate) dx: Option<DataGradient>,
    pub(crate) gradient: Gradient,
}

impl Layer for Conv2dLayer {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        let threads = weights.threads;
        let (panels, bias) = packed[self.packed.clone()].split_at_mut(self.method.packed_len());
        let w = self.filters.resolve(weights, bias);
        self.method.pack(panels, w, threads);
        if let Some(dx) = self.backward.as_ref().and_then(|b| b.dx.as_ref()) {
            dx.method.pack(&mut packed[dx.packed.clone()], w, threads);
        }
    }

    fn forward(&self, run: &mut Run) {
        let packed = run.packed;
        let (panels, bias) = packed[self.packed.clone()].split_at(self.method.packed_len());
        let bias = self.filters.has_bias().then_some(bias);
        let Conv2dLayer { y, input, residual, take, .. } = *self;
        let call = Call {
            y,
            x: input.x,
            packed: panels,
            bias,
            residual,
            clamp: self.act.and_then(Activation::clamp_range),
            take,
        };
        match (&self.pool, &self.method) {
            (Some(pool), method) => pool.run(method, run, call),
            (None, Method::Direct(sweep)) if input.norm.is_some() => {
                pointwise::forward(sweep, run, call, &input);
            }
            (None, method) => method.run(run, call),
        }
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        let pool = self.pool.as_ref().and_then(|pool| Some((pool, pool.backward?)));
        let saved = Saved { input: self.input, y: self.y, dy: backward.dy, behind: backward.behind, pool };
        let dx = backward.dx.as_ref();
        let common = dx.and_then(|dx| Pointwise::new(&self.geometry, &backward.gradient, dx));
        if !common.is_some_and(|common| common.run(run, &saved, &self.filters)) {
            backward.gradient.run(run, saved, &self.geometry, &self.filters);
            if let Some(dx) = dx {
                dx.run(run, self.input.x, backward.dy);
            }
        }
        if let Some(dx) = dx {
            dx.out.finish(run);
        }
    }

    fn finish_gradients(&self, weights: &mut Weights, grads: &mut [f32]) {
        if self.backward.is_some() {
            self.filters.finish_gradients(weights, grads);
        }
    }
}
