//! Binary cross-entropy of logits: one yes or no for each class, as images with several labels need it.
//!
//! Rows are few and short next to the layers before them, so this is plain Rust in f64.

use super::softmax::LossSums;

/// Settings of [`binary_cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct BinaryLossConfig<'a> {
    /// Length of a row of logits.
    pub classes: usize,
    /// Share of each target that is replaced by a half, in `0..=1`.
    pub smoothing: f32,
    /// A weight for each class; all 1 when absent.
    pub class_weights: Option<&'a [f32]>,
    /// The gradient is that of the summed loss divided by this: images of the batch times classes for the mean.
    pub denominator: f32,
}

/// The loss of all elements, summed, and its gradient (overwrites `dlogits`), with the meaning of PyTorch's
/// `BCEWithLogitsLoss`: with targets `t` in `0..=1`, smoothing `s` and class weights `w`,
/// ```text
/// u       = (1 - s) t + s / 2
/// loss    = sum over rows and classes: w[c] (max(x, 0) - x u + log(1 + e^-|x|))
/// dlogits = w[c] (sigmoid(x) - u) / denominator
/// ```
/// which no finite logit overflows. [`LossSums::weight`] is the number of elements; a row is correct when every class is on
/// the side of its target: a logit above zero where the target is a half or more.
///
/// # Panics
/// When lengths do not fit.
pub fn binary_cross_entropy(
    dlogits: &mut [f32],
    logits: &[f32],
    targets: &[f32],
    config: BinaryLossConfig,
) -> LossSums {
    let BinaryLossConfig { classes, smoothing, class_weights, denominator } = config;
    assert!(dlogits.len() == logits.len() && targets.len() == logits.len(), "a target for each logit");
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "whole rows of classes");
    let (smoothing, scale) = (f64::from(smoothing), 1.0 / f64::from(denominator));
    let mut sums = LossSums::default();
    let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
    for (gradient, (logits, targets)) in dlogits.chunks_exact_mut(classes).zip(rows) {
        let mut correct = true;
        for (c, (g, (&logit, &target))) in gradient.iter_mut().zip(logits.iter().zip(targets)).enumerate() {
            let (x, t) = (f64::from(logit), f64::from(target));
            let t_smooth = (1.0 - smoothing) * t + smoothing / 2.0;
            let weight = class_weights.map_or(1.0, |weights| f64::from(weights[c]));
            let small = (-x.abs()).exp();
            let sigmoid = if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
            sums.loss += weight * (x.max(0.0) - x * t_smooth + small.ln_1p());
            *g = (weight * (sigmoid - t_smooth) * scale) as f32;
            correct &= (x > 0.0) == (t >= 0.5);
        }
        sums.weight += classes as f64;
        sums.correct += usize::from(correct);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::kernels::testing::{Guarded, UNIT_ROUNDOFF, assert_close, normal, widen};

    const ROWS: usize = 5;

    #[test]
    fn loss_and_gradient_follow_the_definition() {
        for (classes, smoothing) in [1, 2, 3, 17].into_iter().flat_map(|c| [0.0, 0.1, 1.0].map(|s| (c, s))) {
            let logits: Vec<f32> = normal(1, ROWS * classes).iter().map(|x| 4.0 * x).collect();
            let targets: Vec<f32> = (0..logits.len()).map(|i| [0.0, 1.0, 0.25, 1.0][i % 4]).collect();
            let weights: Vec<f32> = (0..classes).map(|c| 0.25 + (c % 4) as f32).collect();
            for weights in [None, Some(&weights[..])] {
                let denominator = logits.len() as f32;
                let config = BinaryLossConfig { classes, smoothing, class_weights: weights, denominator };
                let mut gradient = Guarded::nan(logits.len());
                let sums = binary_cross_entropy(&mut gradient, &logits, &targets, config);
                let weights = weights.map_or(vec![1.0; classes], widen);
                let (x, t) = (widen(&logits), widen(&targets));
                let loss = reference::binary_cross_entropy(&x, &t, &weights, smoothing.into());
                assert!((sums.loss - loss).abs() <= 1e-10 * loss, "{} is not {loss}", sums.loss);
                assert_eq!(sums.weight, logits.len() as f64);
                let exact = reference::binary_cross_entropy_backward(&x, &t, &weights, smoothing.into());
                let exact: Vec<f64> = exact.iter().map(|g| g / f64::from(denominator)).collect();
                // f64 but for the rounding of the result.
                assert_close("gradient", &gradient, &exact, |i| 2.0 * UNIT_ROUNDOFF * exact[i].abs() + 1e-12);
            }
        }
    }

    #[test]
    fn extreme_logits_neither_overflow_nor_lose_the_gradient() {
        let config = BinaryLossConfig { classes: 2, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        let mut gradient = [f32::NAN; 2];
        let right = binary_cross_entropy(&mut gradient, &[3e38, -3e38], &[1.0, 0.0], config);
        assert_eq!((right.loss, right.correct, gradient), (0.0, 1, [0.0, 0.0]));
        let wrong = binary_cross_entropy(&mut gradient, &[-1e4, 1e4], &[1.0, 0.0], config);
        assert_eq!((wrong.loss, wrong.correct, gradient), (2e4, 0, [-1.0, 1.0]));
        assert!(binary_cross_entropy(&mut gradient, &[f32::NAN, 0.0], &[1.0, 0.0], config).loss.is_nan());
    }

    #[test]
    fn a_row_is_correct_when_every_class_is() {
        let config = BinaryLossConfig { classes: 3, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        let correct =
            |logits: [f32; 3]| binary_cross_entropy(&mut [0.0; 3], &logits, &[1.0, 0.0, 0.5], config).correct;
        assert_eq!(correct([2.0, -1.0, 0.1]), 1);
        assert_eq!(correct([2.0, 0.0, 0.1]), 1, "zero is no");
        assert_eq!(correct([2.0, 1.0, 0.1]), 0);
        assert_eq!(correct([-2.0, -1.0, 0.1]), 0);
    }
}
