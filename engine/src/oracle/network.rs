//! A whole network in f64, with the error that f32 may have in every value.
//!
//! Convolutions are products of patches (im2col) and weights through ndarray, whose f64 products are the crate
//! `matrixmultiply`'s; everything else is the naive [`reference`]. Nothing is shared with the kernels.
//!
//! **Errors** are variances, as in probabilistic rounding analysis (Higham and Mary, "A new approach to probabilistic
//! rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019): roundings are independent with mean zero, so a sum of `k`
//! products errs like `sqrt(k) u` times the sum of their magnitudes, in whatever order, and not like `k u`. What comes
//! with the inputs is added with the squares of the weights. A product counts two roundings, as without fused
//! multiply-adds, and two are left for a bias and for weights that were folded.
//!
//! Winograd's transforms mix the pixels of a tile, so an output there errs like the largest of its channel, times
//! [`TRANSFORMED`].

use ndarray::ArrayView2;

use crate::geometry::{Conv2dGeometry, PoolGeometry, Shape};
use crate::graph::{Activation, Op, ParamKind};
use crate::kernels::reference;
use crate::params::Model;

/// Half of the distance from 1 to the next float of 32 bits.
const UNIT_ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;

/// Error of Winograd's form as a multiple of that of the direct sum: what the tests of `kernels/winograd` hold it below.
const TRANSFORMED: f64 = 4.0;

/// A bound of the slope of GELU (1.13) and SiLU (1.10).
const STEEPEST: f64 = 1.13;

/// Error of GELU, SiLU and tanh as a part of their argument: what the tests of `kernels/activation` hold it below.
const OF_FUNCTIONS: f64 = 4e-7;

/// Error of the sigmoid: what the tests of `simd/math` hold it below.
const OF_SIGMOID: f64 = 1.2e-7;

/// What a layer gives for one image.
pub(super) struct Value {
    /// Its elements.
    pub(super) exact: Vec<f64>,
    /// The variances of their errors in f32.
    pub(super) variance: Vec<f64>,
}

/// All values of a graph for one image, the input first.
pub(super) fn values(model: &Model, shapes: &[Shape], image: &[f32], exact: bool) -> Vec<Value> {
    let input = image.iter().map(|&x| f64::from(x)).collect();
    let mut values = vec![Value { exact: input, variance: vec![0.0; image.len()] }];
    for (index, node) in model.graph().nodes.iter().enumerate() {
        let inputs: Vec<usize> = node.inputs.iter().map(|&value| value as usize).collect();
        let layer = Layer { model, node: index, shape: shapes[inputs[0]], exact };
        let inputs: Vec<&Value> = inputs.iter().map(|&value| &values[value]).collect();
        let value = layer.run(&node.op, &inputs);
        values.push(value);
    }
    values
}

/// One layer at work.
struct Layer<'a> {
    model: &'a Model,
    node: usize,
    /// Shape of the first input.
    shape: Shape,
    /// Whether every convolution is the plain sum of its products.
    exact: bool,
}

impl Layer<'_> {
    fn param(&self, kind: ParamKind) -> Option<Vec<f64>> {
        let range = self.model.layout().find(self.node, kind)?.range();
        Some(self.model.params()[range].iter().map(|&x| f64::from(x)).collect())
    }

    fn weights(&self, kind: ParamKind) -> Vec<f64> {
        self.param(kind).expect("a layer has its parameters")
    }

    fn name(&self) -> &str {
        &self.model.graph().nodes[self.node].name
    }

    fn run(&self, op: &Op, inputs: &[&Value]) -> Value {
        let x = inputs[0];
        let c = self.shape.c as usize;
        match op {
            Op::Conv2d(conv) => {
                let g = Conv2dGeometry::new(self.name(), self.shape, conv).expect("the graph is sound");
                let transformed = !self.exact && g.kernel == [3, 3] && g.stride == [1, 1];
                self.sums(x, g.w_len() / g.cout, transformed, |x, w| convolve(x, w, &g))
            }
            Op::Dense(_) => {
                let depth = self.shape.len();
                self.sums(x, depth, false, |x, w| product(x, w, depth))
            }
            Op::BatchNorm(norm) => self.normalised(x, norm.eps.into()),
            Op::MaxPool2d(pool) => {
                let g = PoolGeometry::new(self.name(), self.shape, pool).expect("the graph is sound");
                // The maximum of values that err errs like the one that errs most.
                Value {
                    exact: reference::max_pool(&x.exact, &g),
                    variance: reference::max_pool(&x.variance, &g),
                }
            }
            Op::AvgPool2d(pool) => {
                let g = PoolGeometry::new(self.name(), self.shape, pool).expect("the graph is sound");
                mean(x, g.kernel[0] * g.kernel[1], |x| reference::avg_pool(x, &g))
            }
            Op::GlobalAvgPool => mean(x, self.shape.len() / c, |x| reference::global_avg(x, c)),
            Op::GlobalMaxPool => Value {
                exact: reference::global_max(&x.exact, c),
                variance: reference::global_max(&x.variance, c),
            },
            Op::Activation(act) => activated(x, *act),
            Op::Dropout { .. } | Op::Flatten => {
                Value { exact: x.exact.clone(), variance: x.variance.clone() }
            }
            Op::Add => {
                let y = inputs[1];
                let exact: Vec<f64> = x.exact.iter().zip(&y.exact).map(|(x, y)| x + y).collect();
                let own = exact.iter().map(|sum| (UNIT_ROUNDOFF * sum).powi(2));
                let variance =
                    own.zip(&x.variance).zip(&y.variance).map(|((own, x), y)| own + x + y).collect();
                Value { exact, variance }
            }
            Op::Concat => {
                let pixels = self.shape.len() / c;
                let joined = |of: fn(&Value) -> &Vec<f64>| {
                    let parts: Vec<(&[f64], usize)> =
                        inputs.iter().map(|x| (of(x).as_slice(), of(x).len() / pixels)).collect();
                    reference::concat(&parts)
                };
                Value { exact: joined(|x| &x.exact), variance: joined(|x| &x.variance) }
            }
            Op::ChannelGather { channels } => {
                let of = |x: &[f64]| reference::channel_gather(x, c, channels);
                Value { exact: of(&x.exact), variance: of(&x.variance) }
            }
            Op::ChannelScale => {
                let factor = inputs[1];
                let exact = reference::channel_scale(&x.exact, &factor.exact);
                let squares = |x: &Value| map(&x.exact, |x| x * x);
                let of_x = reference::channel_scale(&x.variance, &squares(factor));
                let of_factor = reference::channel_scale(&squares(x), &factor.variance);
                let own = exact.iter().map(|y| (UNIT_ROUNDOFF * y).powi(2));
                let variance = own.zip(of_x).zip(of_factor).map(|((own, x), factor)| own + x + factor);
                let variance = variance.collect();
                Value { exact, variance }
            }
        }
    }

    /// Sums of `depth` products and a bias, `of(x, w)`.
    fn sums(
        &self,
        x: &Value,
        depth: usize,
        transformed: bool,
        of: impl Fn(&[f64], &[f64]) -> Vec<f64>,
    ) -> Value {
        let w = self.weights(ParamKind::Weight);
        let mut exact = of(&x.exact, &w);
        let mut magnitude = of(&map(&x.exact, f64::abs), &map(&w, f64::abs));
        let mut variance = of(&x.variance, &map(&w, |w| w * w));
        if let Some(bias) = self.param(ParamKind::Bias) {
            exact.iter_mut().zip(bias.iter().cycle()).for_each(|(y, b)| *y += b);
            magnitude.iter_mut().zip(bias.iter().cycle()).for_each(|(m, b)| *m += b.abs());
        }
        if transformed {
            let cout = w.len() / depth;
            let largest = reference::global_max(&magnitude, cout);
            magnitude
                .iter_mut()
                .zip(largest.iter().cycle())
                .for_each(|(m, largest)| *m = TRANSFORMED * largest);
        }
        let roundings = (2 * depth + 2) as f64;
        variance.iter_mut().zip(&magnitude).for_each(|(v, m)| *v += roundings * (UNIT_ROUNDOFF * m).powi(2));
        Value { exact, variance }
    }

    /// `x factor + offset`, as the engine computes it or folds it into the layer before.
    fn normalised(&self, x: &Value, eps: f64) -> Value {
        let [scale, shift, mean, var] =
            [ParamKind::Scale, ParamKind::Shift, ParamKind::RunningMean, ParamKind::RunningVar]
                .map(|kind| self.weights(kind));
        let exact = reference::batch_norm(&x.exact, (&scale, &shift), (&mean, &var), eps);
        let c = scale.len();
        let error = |(i, (x, variance)): (usize, (&f64, &f64))| {
            let factor = scale[i % c] / (var[i % c] + eps).sqrt();
            let magnitude = (x * factor).abs() + (mean[i % c] * factor).abs() + shift[i % c].abs();
            // The factor comes of three operations, the offset of two more.
            factor * factor * variance + (4.0 * UNIT_ROUNDOFF * magnitude).powi(2)
        };
        let variance = x.exact.iter().zip(&x.variance).enumerate().map(error).collect();
        Value { exact, variance }
    }
}

/// Means of at most `count` elements.
fn mean(x: &Value, count: usize, of: impl Fn(&[f64]) -> Vec<f64>) -> Value {
    let magnitude = of(&map(&x.exact, f64::abs));
    // The mean of the variances is more than the variance of the mean: errors of neighbours may be alike.
    let mut variance = of(&x.variance);
    let roundings = (count + 2) as f64;
    variance.iter_mut().zip(magnitude).for_each(|(v, m)| *v += roundings * (UNIT_ROUNDOFF * m).powi(2));
    Value { exact: of(&x.exact), variance }
}

fn activated(x: &Value, act: Activation) -> Value {
    let exact = reference::activation(&x.exact, act);
    // The largest slope, and the error of the function itself: a part of its argument, and besides.
    let (slope, relative, absolute) = match act {
        Activation::Relu | Activation::Relu6 | Activation::Clip { .. } => (1.0, 0.0, 0.0),
        Activation::Gelu | Activation::Silu => (STEEPEST, OF_FUNCTIONS, 0.0),
        Activation::Sigmoid => (0.25, 0.0, OF_SIGMOID),
        // A product and a sum of numbers up to 1.
        Activation::HardSigmoid => (1.0 / 6.0, 0.0, 2.0 * UNIT_ROUNDOFF),
        Activation::HardSwish => (1.5, 3.0 * UNIT_ROUNDOFF, 0.0),
        Activation::Tanh => (1.0, OF_FUNCTIONS, 0.0),
        Activation::LeakyRelu { .. } => (1.0, UNIT_ROUNDOFF, 0.0),
    };
    let error =
        |(x, variance): (&f64, &f64)| slope * slope * variance + (relative * x.abs() + absolute).powi(2);
    let variance = x.exact.iter().zip(&x.variance).map(error).collect();
    Value { exact, variance }
}

fn map(x: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    x.iter().map(|&x| f(x)).collect()
}

/// `x [rows, depth] w [depth, cols]`
fn product(x: &[f64], w: &[f64], depth: usize) -> Vec<f64> {
    let view = |data, shape| ArrayView2::from_shape(shape, data).expect("whole rows");
    let y = view(x, (x.len() / depth, depth)).dot(&view(w, (depth, w.len() / depth)));
    y.as_standard_layout().iter().copied().collect()
}

/// A convolution without bias, a row of outputs at a time: patches `[ow][kh][kw][cin / groups]` times weights.
fn convolve(x: &[f64], w: &[f64], g: &Conv2dGeometry) -> Vec<f64> {
    if g.groups > 1 {
        // Products of a channel or few are none for a matrix.
        return reference::conv2d(x, w, None, g);
    }
    let depth = g.kernel[0] * g.kernel[1] * g.cin;
    let mut y = Vec::with_capacity(g.y_len());
    let mut patches = vec![0.0; g.ow * depth];
    let inside = |out: usize, tap: usize, axis: usize| {
        let at = (out * g.stride[axis] + tap * g.dilation[axis]).checked_sub(g.padding[2 * axis])?;
        (at < [g.h, g.w][axis]).then_some(at)
    };
    for oh in 0..g.oh {
        let places = (0..g.ow * g.kernel[0] * g.kernel[1]).zip(patches.chunks_exact_mut(g.cin));
        for (place, patch) in places {
            let (ow, kh, kw) =
                (place / (g.kernel[0] * g.kernel[1]), place / g.kernel[1] % g.kernel[0], place % g.kernel[1]);
            match (inside(oh, kh, 0), inside(ow, kw, 1)) {
                (Some(ih), Some(iw)) => patch.copy_from_slice(&x[(ih * g.w + iw) * g.cin..][..g.cin]),
                _ => patch.fill(0.0),
            }
        }
        y.extend(product(&patches, w, depth));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv2d, Padding};
    use crate::kernels::testing::{normal, widen};

    /// Products of patches are the naive sums, for every kind of geometry.
    #[test]
    fn patches_times_weights_are_convolutions() {
        let base = || Conv2d::new(5, 3);
        let cases = [
            base(),
            Conv2d { padding: Padding::Same, ..base() },
            Conv2d { stride: [2, 3], padding: Padding::Explicit([2, 0, 1, 2]), ..base() },
            Conv2d { dilation: [2, 1], padding: Padding::Same, ..base() },
            Conv2d { kernel: [1, 4], ..base() },
            Conv2d { groups: 2, filters: 6, ..base() },
        ];
        for conv in cases {
            let g = Conv2dGeometry::new("conv", Shape::new(7, 8, 4), &conv).unwrap();
            let (x, w) = (widen(&normal(1, g.x_len())), widen(&normal(2, g.w_len())));
            let found = convolve(&x, &w, &g);
            let expected = reference::conv2d(&x, &w, None, &g);
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-13), "{conv:?}");
        }
    }
}
