//! The definitions of all layers as naive loops in f64: what kernels are tested against and benches verify
//! with.
//!
//! Nothing here is shared with a kernel but the structs that describe shapes. Everything is one image or one
//! matrix, NHWC, and returns new vectors. Backward functions are written from the derivatives' definitions
//! and proved by finite differences in the tests of this file.

mod binary;
mod combine;
mod fold;

pub use binary::{binary_cross_entropy, binary_cross_entropy_backward};
pub use combine::{
    channel_gather, channel_gather_backward, channel_scale, channel_scale_backward, concat, concat_backward,
};
pub use fold::{fold, fold_backward};

use crate::geometry::{Conv2dGeometry, PoolGeometry};
use crate::graph::Activation;

/// The input pixel under tap `tap` of output `out`, if it is not padding.
fn position(
    out: usize,
    tap: usize,
    stride: usize,
    dilation: usize,
    padding: usize,
    size: usize,
) -> Option<usize> {
    let at = (out * stride + tap * dilation).checked_sub(padding)?;
    (at < size).then_some(at)
}

/// Calls `f(x, w, y)` with the offsets of every product `x * w` that is part of output `y`.
fn conv2d_products(g: &Conv2dGeometry, mut f: impl FnMut(usize, usize, usize)) {
    let (cin, cout) = (g.cin / g.groups, g.cout / g.groups);
    for oh in 0..g.oh {
        for ow in 0..g.ow {
            for kh in 0..g.kernel[0] {
                for kw in 0..g.kernel[1] {
                    let ih = position(oh, kh, g.stride[0], g.dilation[0], g.padding[0], g.h);
                    let iw = position(ow, kw, g.stride[1], g.dilation[1], g.padding[2], g.w);
                    let (Some(ih), Some(iw)) = (ih, iw) else { continue };
                    for co in 0..g.cout {
                        for ci in 0..cin {
                            let x = (ih * g.w + iw) * g.cin + co / cout * cin + ci;
                            let w = ((kh * g.kernel[1] + kw) * cin + ci) * g.cout + co;
                            f(x, w, (oh * g.ow + ow) * g.cout + co);
                        }
                    }
                }
            }
        }
    }
}

/// `y [oh, ow, cout]` of a convolution of `x [h, w, cin]` with `w [kh, kw, cin / groups, cout]`.
pub fn conv2d(x: &[f64], w: &[f64], bias: Option<&[f64]>, g: &Conv2dGeometry) -> Vec<f64> {
    let mut y: Vec<f64> = (0..g.y_len()).map(|i| bias.map_or(0.0, |b| b[i % g.cout])).collect();
    conv2d_products(g, |xi, wi, yi| y[yi] += x[xi] * w[wi]);
    y
}

/// `dx [h, w, cin]` of [`conv2d`].
pub fn conv2d_backward_data(dy: &[f64], w: &[f64], g: &Conv2dGeometry) -> Vec<f64> {
    let mut dx = vec![0.0; g.x_len()];
    conv2d_products(g, |xi, wi, yi| dx[xi] += dy[yi] * w[wi]);
    dx
}

/// `dw [kh, kw, cin / groups, cout]` of [`conv2d`].
pub fn conv2d_backward_weights(x: &[f64], dy: &[f64], g: &Conv2dGeometry) -> Vec<f64> {
    let mut dw = vec![0.0; g.w_len()];
    conv2d_products(g, |xi, wi, yi| dw[wi] += x[xi] * dy[yi]);
    dw
}

/// `y [rows, cols] = x [rows, depth] w [depth, cols] + bias [cols]`.
pub fn dense(x: &[f64], w: &[f64], bias: &[f64], depth: usize) -> Vec<f64> {
    let cols = bias.len();
    let rows = x.len() / depth;
    let mut y = vec![0.0; rows * cols];
    for r in 0..rows {
        for c in 0..cols {
            y[r * cols + c] = bias[c] + (0..depth).map(|k| x[r * depth + k] * w[k * cols + c]).sum::<f64>();
        }
    }
    y
}

/// `(dx, dw, dbias)` of [`dense`].
pub fn dense_backward(x: &[f64], w: &[f64], dy: &[f64], depth: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let cols = w.len() / depth;
    let rows = x.len() / depth;
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; cols]);
    for r in 0..rows {
        for c in 0..cols {
            let d = dy[r * cols + c];
            db[c] += d;
            for k in 0..depth {
                dx[r * depth + k] += d * w[k * cols + c];
                dw[k * cols + c] += d * x[r * depth + k];
            }
        }
    }
    (dx, dw, db)
}

/// The offsets in `x` of the window of output element `y`, padding left out, in row-major order.
fn window(g: &PoolGeometry, y: usize) -> Vec<usize> {
    let (oh, ow, c) = (y / g.c / g.ow, y / g.c % g.ow, y % g.c);
    let mut offsets = Vec::new();
    for kh in 0..g.kernel[0] {
        for kw in 0..g.kernel[1] {
            let ih = position(oh, kh, g.stride[0], 1, g.padding[0], g.h);
            let iw = position(ow, kw, g.stride[1], 1, g.padding[2], g.w);
            if let (Some(ih), Some(iw)) = (ih, iw) {
                offsets.push((ih * g.w + iw) * g.c + c);
            }
        }
    }
    offsets
}

/// Whether `x` is a maximum rather than `best`, which comes before it: a NaN is larger than any number.
fn exceeds(x: f64, best: f64) -> bool {
    x > best || (x.is_nan() && !best.is_nan())
}

/// Offset of the first largest element of a window, or of its first NaN.
fn argmax(x: &[f64], window: &[usize]) -> usize {
    window.iter().copied().fold(window[0], |best, i| if exceeds(x[i], x[best]) { i } else { best })
}

/// `y [oh, ow, c]`: the largest element of each window of `x [h, w, c]`, NaN where it holds one.
pub fn max_pool(x: &[f64], g: &PoolGeometry) -> Vec<f64> {
    (0..g.y_len()).map(|y| x[argmax(x, &window(g, y))]).collect()
}

/// `dx [h, w, c]` of [`max_pool`]: the first largest element of each window, or its first NaN, gets its gradient.
pub fn max_pool_backward(x: &[f64], dy: &[f64], g: &PoolGeometry) -> Vec<f64> {
    let mut dx = vec![0.0; g.x_len()];
    for (y, d) in dy.iter().enumerate() {
        dx[argmax(x, &window(g, y))] += d;
    }
    dx
}

/// `y [oh, ow, c]`: the mean of each window of `x [h, w, c]`, padding left out.
pub fn avg_pool(x: &[f64], g: &PoolGeometry) -> Vec<f64> {
    let mean = |window: &[usize]| window.iter().map(|&i| x[i]).sum::<f64>() / window.len() as f64;
    (0..g.y_len()).map(|y| mean(&window(g, y))).collect()
}

/// `dx [h, w, c]` of [`avg_pool`].
pub fn avg_pool_backward(dy: &[f64], g: &PoolGeometry) -> Vec<f64> {
    let mut dx = vec![0.0; g.x_len()];
    for (y, d) in dy.iter().enumerate() {
        let window = window(g, y);
        window.iter().for_each(|&i| dx[i] += d / window.len() as f64);
    }
    dx
}

/// `y [c]`: the mean of each channel of `x [pixels, c]`.
pub fn global_avg(x: &[f64], c: usize) -> Vec<f64> {
    let pixels = x.len() / c;
    (0..c).map(|c0| (0..pixels).map(|p| x[p * c + c0]).sum::<f64>() / pixels as f64).collect()
}

/// `dx [pixels, c]` of [`global_avg`].
pub fn global_avg_backward(dy: &[f64], pixels: usize) -> Vec<f64> {
    (0..pixels * dy.len()).map(|i| dy[i % dy.len()] / pixels as f64).collect()
}

/// Pixel of the first largest element, or of the first NaN, of each channel of `x [pixels, c]`.
fn global_argmax(x: &[f64], c: usize) -> Vec<usize> {
    let column = |c0: usize| (0..x.len() / c).map(|p| p * c + c0).collect::<Vec<_>>();
    (0..c).map(|c0| argmax(x, &column(c0)) / c).collect()
}

/// `y [c]`: the largest element of each channel of `x [pixels, c]`.
pub fn global_max(x: &[f64], c: usize) -> Vec<f64> {
    global_argmax(x, c).iter().enumerate().map(|(c0, p)| x[p * c + c0]).collect()
}

/// `dx [pixels, c]` of [`global_max`].
pub fn global_max_backward(x: &[f64], dy: &[f64]) -> Vec<f64> {
    let c = dy.len();
    let mut dx = vec![0.0; x.len()];
    for (c0, p) in global_argmax(x, c).into_iter().enumerate() {
        dx[p * c + c0] = dy[c0];
    }
    dx
}

/// `(mean, biased variance)` of each channel of `x [rows, c]`.
pub fn batch_statistics(x: &[f64], c: usize) -> (Vec<f64>, Vec<f64>) {
    let mean = global_avg(x, c);
    let squares: Vec<f64> = x.iter().enumerate().map(|(i, x)| (x - mean[i % c]).powi(2)).collect();
    (mean, global_avg(&squares, c))
}

/// `y [rows, c] = gamma (x - mean) / sqrt(var + eps) + beta` with given statistics; `affine` is `(gamma,
/// beta)` and `statistics` is `(mean, variance)`, each `[c]`.
pub fn batch_norm(x: &[f64], affine: (&[f64], &[f64]), statistics: (&[f64], &[f64]), eps: f64) -> Vec<f64> {
    let ((gamma, beta), (mean, var), c) = (affine, statistics, affine.0.len());
    let normalise =
        |(i, x): (usize, &f64)| gamma[i % c] * (x - mean[i % c]) / (var[i % c] + eps).sqrt() + beta[i % c];
    x.iter().enumerate().map(normalise).collect()
}

/// `(dx, dgamma, dbeta)` of [`batch_norm`] with the statistics of `x` itself.
pub fn batch_norm_backward(x: &[f64], gamma: &[f64], dy: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let c = gamma.len();
    let rows = (x.len() / c) as f64;
    let (mean, var) = batch_statistics(x, c);
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; c], vec![0.0; c]);
    for c0 in 0..c {
        let std = (var[c0] + eps).sqrt();
        let column = || (c0..x.len()).step_by(c);
        // d loss / d xhat, and from there through xhat, the variance and the mean.
        let dxhat = |i: usize| dy[i] * gamma[c0];
        let dvar: f64 = column().map(|i| dxhat(i) * (x[i] - mean[c0]) * -0.5 / std.powi(3)).sum();
        let dmean: f64 = column().map(|i| -dxhat(i) / std - dvar * 2.0 * (x[i] - mean[c0]) / rows).sum();
        for i in column() {
            dx[i] = dxhat(i) / std + dvar * 2.0 * (x[i] - mean[c0]) / rows + dmean / rows;
            dgamma[c0] += dy[i] * (x[i] - mean[c0]) / std;
            dbeta[c0] += dy[i];
        }
    }
    (dx, dgamma, dbeta)
}

/// `(dx, dgamma, dbeta)` of [`batch_norm`] with statistics that are constants.
pub fn batch_norm_infer_backward(
    x: &[f64],
    gamma: &[f64],
    (mean, var): (&[f64], &[f64]),
    dy: &[f64],
    eps: f64,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let c = gamma.len();
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; c], vec![0.0; c]);
    for i in 0..x.len() {
        let std = (var[i % c] + eps).sqrt();
        dx[i] = dy[i] * gamma[i % c] / std;
        dgamma[i % c] += dy[i] * (x[i] - mean[i % c]) / std;
        dbeta[i % c] += dy[i];
    }
    (dx, dgamma, dbeta)
}

/// The error function: `2 / sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!`, whose terms all have one sign
/// (Abramowitz and Stegun 7.1.6).
pub fn erf(x: f64) -> f64 {
    // Beyond 6 the distance to 1 is below one part in 10^16.
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

/// Distribution function of the standard normal.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `act(x)` of each element.
pub fn activation(x: &[f64], act: Activation) -> Vec<f64> {
    let f = |&x: &f64| match act {
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Gelu => x * normal_cdf(x),
        Activation::Silu => x * logistic(x),
        Activation::Sigmoid => logistic(x),
        Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Tanh => x.tanh(),
        Activation::LeakyRelu { slope } => x.max(0.0) + f64::from(slope) * x.min(0.0),
        Activation::Clip { min, max } => x.max(min.into()).min(max.into()),
    };
    x.iter().map(f).collect()
}

/// `dx = dy act'(x)`; at a corner the slope on its left, or 0 where one side is flat.
pub fn activation_backward(x: &[f64], dy: &[f64], act: Activation) -> Vec<f64> {
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let derivative = |x: f64| match act {
        Activation::Relu => f64::from(x > 0.0),
        Activation::Relu6 => f64::from(x > 0.0 && x < 6.0),
        Activation::Gelu => normal_cdf(x) + x * density(x),
        Activation::Silu => logistic(x) + x * logistic(x) * (1.0 - logistic(x)),
        Activation::Sigmoid => logistic(x) * (1.0 - logistic(x)),
        Activation::HardSigmoid if x > -3.0 && x < 3.0 => 1.0 / 6.0,
        Activation::HardSigmoid => 0.0,
        Activation::HardSwish if x > -3.0 && x < 3.0 => (2.0 * x + 3.0) / 6.0,
        Activation::HardSwish => f64::from(x >= 3.0),
        Activation::Tanh => 1.0 - x.tanh().powi(2),
        Activation::LeakyRelu { slope } => {
            if x > 0.0 {
                1.0
            } else {
                f64::from(slope)
            }
        }
        Activation::Clip { min, max } => f64::from(x > f64::from(min) && x < f64::from(max)),
    };
    x.iter().zip(dy).map(|(&x, dy)| dy * derivative(x)).collect()
}

/// Probabilities of each row of logits.
pub fn softmax(logits: &[f64], classes: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        row.iter().map(|x| (x - max).exp() / sum).collect::<Vec<_>>()
    };
    logits.chunks_exact(classes).flat_map(row).collect()
}

/// Targets of the cross-entropy: `(1 - smoothing) w[label]` at the label plus `smoothing / C w[c]`
/// everywhere.
fn targets(labels: &[u32], weights: &[f64], smoothing: f64) -> Vec<f64> {
    let classes = weights.len();
    let target = |label: u32, c: usize| {
        let own = if c == label as usize { (1.0 - smoothing) * weights[c] } else { 0.0 };
        own + smoothing / classes as f64 * weights[c]
    };
    labels.iter().flat_map(|&label| (0..classes).map(move |c| target(label, c))).collect()
}

/// Summed loss of all rows, with label smoothing and a weight for each class.
pub fn cross_entropy(logits: &[f64], labels: &[u32], weights: &[f64], smoothing: f64) -> f64 {
    let p = softmax(logits, weights.len());
    p.iter().zip(targets(labels, weights, smoothing)).map(|(p, t)| -t * p.ln()).sum()
}

/// Gradient of [`cross_entropy`].
pub fn cross_entropy_backward(logits: &[f64], labels: &[u32], weights: &[f64], smoothing: f64) -> Vec<f64> {
    let classes = weights.len();
    let p = softmax(logits, classes);
    let t = targets(labels, weights, smoothing);
    let total = |i: usize| t[i / classes * classes..][..classes].iter().sum::<f64>();
    (0..p.len()).map(|i| p[i] * total(i) - t[i]).collect()
}

/// `x`, or zero where it is subnormal as a float of 32 bits.
fn flushed(x: f64) -> f64 {
    if x.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { x }
}

/// One step of stochastic gradient descent on `(w, v)`, as `torch.optim.SGD` defines it, but for subnormal velocities,
/// which are zero.
pub fn sgd(w: &mut [f64], v: &mut [f64], g: &[f64], [lr, momentum, weight_decay]: [f64; 3], nesterov: bool) {
    for i in 0..w.len() {
        let gradient = g[i] + weight_decay * w[i];
        v[i] = flushed(momentum * v[i] + gradient);
        w[i] -= lr * if nesterov { gradient + momentum * v[i] } else { v[i] };
    }
}

/// Settings of [`adam`].
#[derive(Clone, Copy)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Shares of the last moments that are kept.
    pub betas: [f64; 2],
    /// Added to the root.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// AdamW instead of Adam.
    pub decoupled: bool,
}

/// Step number `t` (from 1) of Adam or AdamW on `[w, m, v]`, as `torch.optim` defines them, but for subnormal moments,
/// which are zero.
pub fn adam([w, m, v]: [&mut [f64]; 3], g: &[f64], t: i32, settings: Adam) {
    let Adam { lr, betas: [b1, b2], eps, weight_decay, decoupled } = settings;
    for i in 0..w.len() {
        let mut gradient = g[i];
        if decoupled {
            w[i] -= lr * weight_decay * w[i];
        } else {
            gradient += weight_decay * w[i];
        }
        m[i] = flushed(b1 * m[i] + (1.0 - b1) * gradient);
        v[i] = flushed(b2 * v[i] + (1.0 - b2) * gradient * gradient);
        let (m_hat, v_hat) = (m[i] / (1.0 - b1.powi(t)), v[i] / (1.0 - b2.powi(t)));
        w[i] -= lr * m_hat / (v_hat.sqrt() + eps);
    }
}

#[cfg(test)]
mod tests;
