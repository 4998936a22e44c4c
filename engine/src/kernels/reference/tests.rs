//! Finite differences: every backward oracle is the gradient of its forward oracle.

use super::*;
use crate::Shape;
use crate::graph::{Conv2d, Padding, Pool2d};
use crate::kernels::testing::{normal, widen};

/// Checks `gradient` of `loss(x) = sum of r y(x)` for the fixed random `r` that the caller used as `dy`.
///
/// Central differences with step h err by `h^2 / 6` of the third derivative and `eps / h` of the loss: at
/// 1e-5 both are near 1e-10, so a relative 1e-6 leaves room for steep functions and none for a wrong term.
fn check(what: &str, x: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    const H: f64 = 1e-5;
    assert_eq!(x.len(), gradient.len(), "{what}: lengths differ");
    let scale = gradient.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
    let mut x = x.to_vec();
    for i in 0..x.len() {
        let at = x[i];
        x[i] = at + H;
        let above = loss(&x);
        x[i] = at - H;
        let below = loss(&x);
        x[i] = at;
        let slope = (above - below) / (2.0 * H);
        assert!(
            (slope - gradient[i]).abs() <= 1e-6 * scale,
            "{what}: gradient [{i}] is {:e}, slope {slope:e}",
            gradient[i]
        );
    }
}

fn random(seed: u64, len: usize) -> Vec<f64> {
    widen(&normal(seed, len))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn conv2d_gradients() {
    let dense = Conv2d { filters: 4, ..Conv2d::new(4, 3) };
    let cases = [
        dense.clone(),
        Conv2d { padding: Padding::Same, stride: [2, 1], ..dense.clone() },
        Conv2d { groups: 2, dilation: [1, 2], padding: Padding::Explicit([0, 2, 3, 1]), ..dense.clone() },
        Conv2d { groups: 4, kernel: [2, 3], stride: [2, 2], padding: Padding::Same, ..dense },
    ];
    for (case, conv) in cases.iter().enumerate() {
        let g = Conv2dGeometry::new("conv", Shape::new(5, 6, 4), conv).unwrap();
        let (x, w, b) = (random(1, g.x_len()), random(2, g.w_len()), random(3, g.cout));
        let r = random(4, g.y_len());
        let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&conv2d(x, w, Some(b), &g), &r);
        let what = format!("case {case}");
        check(&what, &x, &conv2d_backward_data(&r, &w, &g), |x| loss(x, &w, &b));
        check(&what, &w, &conv2d_backward_weights(&x, &r, &g), |w| loss(&x, w, &b));
    }
}

#[test]
fn dense_gradients() {
    let (x, w, b, r) = (random(1, 3 * 5), random(2, 5 * 4), random(3, 4), random(4, 3 * 4));
    let (dx, dw, db) = dense_backward(&x, &w, &r, 5);
    check("dx", &x, &dx, |x| dot(&dense(x, &w, &b, 5), &r));
    check("dw", &w, &dw, |w| dot(&dense(&x, w, &b, 5), &r));
    check("db", &b, &db, |b| dot(&dense(&x, &w, b, 5), &r));
}

#[test]
fn pool_gradients() {
    let pools = [
        Pool2d::new(2),
        Pool2d { kernel: [3, 3], stride: [2, 2], padding: Padding::Same },
        Pool2d { kernel: [3, 2], stride: [1, 2], padding: Padding::Explicit([1, 2, 1, 0]) },
    ];
    for pool in pools {
        let g = PoolGeometry::new("pool", Shape::new(5, 7, 2), &pool).unwrap();
        let (x, r) = (random(1, g.x_len()), random(2, g.y_len()));
        check("max", &x, &max_pool_backward(&x, &r, &g), |x| dot(&max_pool(x, &g), &r));
        check("avg", &x, &avg_pool_backward(&r, &g), |x| dot(&avg_pool(x, &g), &r));
    }
    let (x, r) = (random(3, 7 * 3), random(4, 3));
    check("global avg", &x, &global_avg_backward(&r, 7), |x| dot(&global_avg(x, 3), &r));
    check("global max", &x, &global_max_backward(&x, &r), |x| dot(&global_max(x, 3), &r));
}

#[test]
fn batch_norm_gradients() {
    const EPS: f64 = 1e-3;
    let (x, r, c) = (random(1, 8 * 3), random(2, 8 * 3), 3);
    let (gamma, beta) = (random(3, c), random(4, c));
    let train = |x: &[f64], gamma: &[f64], beta: &[f64]| {
        let (mean, var) = batch_statistics(x, c);
        dot(&batch_norm(x, (gamma, beta), (&mean, &var), EPS), &r)
    };
    let (dx, dgamma, dbeta) = batch_norm_backward(&x, &gamma, &r, EPS);
    check("dx", &x, &dx, |x| train(x, &gamma, &beta));
    check("dgamma", &gamma, &dgamma, |gamma| train(&x, gamma, &beta));
    check("dbeta", &beta, &dbeta, |beta| train(&x, &gamma, beta));

    let (mean, var) = (random(5, c), vec![0.5, 1.0, 2.0]);
    let infer =
        |x: &[f64], gamma: &[f64], beta: &[f64]| dot(&batch_norm(x, (gamma, beta), (&mean, &var), EPS), &r);
    let (dx, dgamma, dbeta) = batch_norm_infer_backward(&x, &gamma, (&mean, &var), &r, EPS);
    check("infer dx", &x, &dx, |x| infer(x, &gamma, &beta));
    check("infer dgamma", &gamma, &dgamma, |gamma| infer(&x, gamma, &beta));
    check("infer dbeta", &beta, &dbeta, |beta| infer(&x, &gamma, beta));
}

#[test]
fn activation_gradients() {
    // Wide enough to reach past 6, and never nearer to a corner than the step.
    let x: Vec<f64> = (0..200).map(|i| (f64::from(i) - 99.63) * 0.08).collect();
    let r = random(1, x.len());
    use Activation::{Clip, Gelu, HardSigmoid, HardSwish, LeakyRelu, Relu, Relu6, Sigmoid, Silu, Tanh};
    let (leaky, clip) = (LeakyRelu { slope: 0.125 }, Clip { min: -1.5, max: 2.5 });
    for act in [Relu, Relu6, Gelu, Silu, Sigmoid, HardSigmoid, HardSwish, Tanh, leaky, clip] {
        let name = format!("{act:?}");
        check(&name, &x, &activation_backward(&x, &r, act), |x| dot(&activation(x, act), &r));
    }
}

#[test]
fn erf_at_known_points() {
    // Abramowitz and Stegun, table 7.1.
    for (x, y) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)] {
        assert!((erf(x) - y).abs() < 1e-10 && (erf(-x) + y).abs() < 1e-10, "erf({x}) is {}", erf(x));
    }
    assert!((erf(3.5) - 0.999_999_256_901_628).abs() < 1e-14);
}

#[test]
fn cross_entropy_gradients() {
    let (labels, weights) = ([0, 3, 1], [1.0, 0.5, 2.0, 0.25]);
    let logits = random(1, 12);
    for smoothing in [0.0, 0.1, 1.0] {
        let gradient = cross_entropy_backward(&logits, &labels, &weights, smoothing);
        check("logits", &logits, &gradient, |x| cross_entropy(x, &labels, &weights, smoothing));
    }
}

#[test]
fn binary_cross_entropy_gradients() {
    let (targets, weights) = ([0.0, 1.0, 0.3, 1.0, 0.0, 1.0], [1.0, 0.5, 2.0]);
    let logits = random(1, 6);
    for smoothing in [0.0, 0.1, 1.0] {
        let gradient = binary_cross_entropy_backward(&logits, &targets, &weights, smoothing);
        check("logits", &logits, &gradient, |x| binary_cross_entropy(x, &targets, &weights, smoothing));
    }
}

#[test]
fn gradients_of_operations_on_more_than_one_value() {
    let (a, b, c, r) = (random(1, 4 * 2), random(2, 4 * 3), random(3, 4), random(4, 4 * 6));
    let joined = |a: &[f64], b: &[f64], c: &[f64]| dot(&concat(&[(a, 2), (b, 3), (c, 1)]), &r);
    let dx = concat_backward(&r, &[2, 3, 1]);
    check("first", &a, &dx[0], |a| joined(a, &b, &c));
    check("second", &b, &dx[1], |b| joined(&a, b, &c));
    check("third", &c, &dx[2], |c| joined(&a, &b, c));

    let (x, s, r) = (random(5, 7 * 3), random(6, 3), random(7, 7 * 3));
    let (dx, ds) = channel_scale_backward(&x, &s, &r);
    check("dx", &x, &dx, |x| dot(&channel_scale(x, &s), &r));
    check("ds", &s, &ds, |s| dot(&channel_scale(&x, s), &r));

    // One channel twice, one not at all.
    let (x, channels, r) = (random(8, 5 * 3), [2, 0, 2, 0, 2], random(9, 5 * 5));
    let dx = channel_gather_backward(&r, 3, &channels);
    check("dx of a gather", &x, &dx, |x| dot(&channel_gather(x, 3, &channels), &r));
}

/// The formulas at the top of `kernels/fold.rs`: a convolution with folded filters is one with a normalisation behind it, in
/// its outputs and in all of its gradients.
#[test]
fn folded_normalisation() {
    const EPS: f64 = 1e-3;
    let conv = Conv2d { padding: Padding::Same, stride: [2, 1], ..Conv2d::new(3, 3) };
    let g = Conv2dGeometry::new("conv", Shape::new(5, 6, 4), &conv).unwrap();
    let c = g.cout;
    let (x, w, b, r) = (random(1, g.x_len()), random(2, g.w_len()), random(3, c), random(4, g.y_len()));
    let (scale, shift, mean, var) = (random(5, c), random(6, c), random(7, c), vec![0.5, 1.0, 2.0]);
    let inv_std: Vec<f64> = var.iter().map(|var| 1.0 / (var + EPS).sqrt()).collect();
    let factors: Vec<f64> = (0..c).map(|i| scale[i] * inv_std[i]).collect();

    let sums = conv2d(&x, &w, Some(&b), &g);
    let y = batch_norm(&sums, (&scale, &shift), (&mean, &var), EPS);
    let folded = fold(&w, &factors);
    let bias: Vec<f64> = (0..c).map(|i| shift[i] + (b[i] - mean[i]) * factors[i]).collect();
    let same = |what: &str, a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-11, "{what}: {a} and {b}"));
    };
    same("y", &conv2d(&x, &folded, Some(&bias), &g), &y);

    let (dsums, dscale, dshift) = batch_norm_infer_backward(&sums, &scale, (&mean, &var), &r, EPS);
    let (dw, df) = fold_backward(&conv2d_backward_weights(&x, &r, &g), &w, &factors);
    same("dx", &conv2d_backward_data(&r, &folded, &g), &conv2d_backward_data(&dsums, &w, &g));
    same("dw", &dw, &conv2d_backward_weights(&x, &dsums, &g));
    let column = |d: &[f64], i: usize| d.iter().skip(i).step_by(c).sum::<f64>();
    let db: Vec<f64> = (0..c).map(|i| column(&r, i)).collect();
    same("dshift", &db, &dshift);
    let from_folded: Vec<f64> = (0..c).map(|i| (df[i] + db[i] * (b[i] - mean[i])) * inv_std[i]).collect();
    same("dscale", &from_folded, &dscale);
    let bias: Vec<f64> = (0..c).map(|i| db[i] * factors[i]).collect();
    same("db", &bias, &(0..c).map(|i| column(&dsums, i)).collect::<Vec<_>>());
}
