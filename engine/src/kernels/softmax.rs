//! Softmax and the cross-entropy of integer labels, with label smoothing and class weights.
//!
//! Rows are few and short next to the layers before them (a batch of logits), so this is plain Rust; sums are
//! f64.

/// `y[i] = e^(logits[i] - max) / sum`, row by row of `classes` numbers. A NaN makes its whole row NaN.
///
/// # Panics
/// When lengths differ or are not whole rows.
pub fn softmax(y: &mut [f32], logits: &[f32], classes: usize) {
    assert_eq!(y.len(), logits.len(), "as many probabilities as logits");
    assert!(classes > 0 && y.len().is_multiple_of(classes), "whole rows of classes");
    for (y, logits) in y.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)) {
        let (_, sum) = exponentials(y, logits);
        y.iter_mut().for_each(|y| *y = (f64::from(*y) / sum) as f32);
    }
}

/// Writes `e^(logit - max)` of a row; gives the largest logit and the sum.
fn exponentials(y: &mut [f32], logits: &[f32]) -> (f32, f64) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (y, &logit) in y.iter_mut().zip(logits) {
        *y = (logit - max).exp();
        sum += f64::from(*y);
    }
    (max, sum)
}

/// Settings of [`cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct LossConfig<'a> {
    /// Length of a row of logits.
    pub classes: usize,
    /// Share of the target that is spread evenly over all classes, in `0..=1` (Szegedy et al., 2016).
    pub smoothing: f32,
    /// A weight for each class; all 1 when absent.
    pub class_weights: Option<&'a [f32]>,
    /// The gradient is that of the summed loss divided by this: [`weight_sum`] of the whole batch for the
    /// mean.
    pub denominator: f32,
}

/// What [`cross_entropy`] adds up over its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// Weighted loss; the mean loss is `loss / weight`.
    pub loss: f64,
    /// Weights of the labels.
    pub weight: f64,
    /// Rows whose largest logit (the first of several) is that of the label.
    pub correct: usize,
}

impl LossSums {
    /// Takes in the sums of further rows.
    pub fn add(&mut self, other: LossSums) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.correct += other.correct;
    }
}

/// Sum of the class weights of all labels: the number of labels without weights.
///
/// # Panics
/// When a label has no weight.
pub fn weight_sum(labels: &[u32], class_weights: Option<&[f32]>) -> f64 {
    match class_weights {
        Some(weights) => labels.iter().map(|&label| f64::from(weights[label as usize])).sum(),
        None => labels.len() as f64,
    }
}

/// The loss of every row, summed, and its gradient (overwrites `dlogits`), with the meaning of PyTorch's
/// `CrossEntropyLoss`: with `p = softmax(logits)`, label `t`, smoothing `s` and class weights `w`,
/// ```text
/// loss    = sum over rows: (1 - s) w[t] (-log p[t]) + s / C sum over c: w[c] (-log p[c])
/// dlogits = gradient of loss / denominator
/// ```
/// A NaN among the logits makes the loss NaN.
///
/// # Panics
/// When lengths do not fit or a label is not below the number of classes.
pub fn cross_entropy(dlogits: &mut [f32], logits: &[f32], labels: &[u32], config: LossConfig) -> LossSums {
    let LossConfig { classes, class_weights, .. } = config;
    assert_eq!(dlogits.len(), logits.len(), "as many gradients as logits");
    assert_eq!(logits.len(), labels.len() * classes, "one row of logits for each label");
    let weight_of = |class: usize| class_weights.map_or(1.0, |weights| f64::from(weights[class]));
    let smoothing = f64::from(config.smoothing);
    let scale = 1.0 / f64::from(config.denominator);
    // What smoothing adds for class c is `spread * weight_of(c)`.
    let spread = smoothing / classes as f64;
    let spread_sum = spread * (0..classes).map(weight_of).sum::<f64>();
    let mut sums = LossSums::default();
    let rows = dlogits.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
    for ((gradient, logits), &label) in rows.zip(labels) {
        let label = label as usize;
        assert!(label < classes, "label {label} is not below {classes} classes");
        let (max, sum) = exponentials(gradient, logits);
        let log_sum = sum.ln() + f64::from(max);
        let own = (1.0 - smoothing) * weight_of(label);
        let mut loss = own * (log_sum - f64::from(logits[label]));
        if smoothing > 0.0 {
            let losses = logits.iter().enumerate();
            loss += losses.map(|(c, &x)| spread * weight_of(c) * (log_sum - f64::from(x))).sum::<f64>();
        }
        let total = own + spread_sum;
        for (c, g) in gradient.iter_mut().enumerate() {
            let target = if c == label { own } else { 0.0 } + spread * weight_of(c);
            *g = ((f64::from(*g) / sum * total - target) * scale) as f32;
        }
        sums.loss += loss;
        sums.weight += weight_of(label);
        sums.correct += usize::from(argmax(logits) == label);
    }
    sums
}

/// The first of the largest numbers; 0 for an empty slice.
fn argmax(x: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in x.iter().enumerate() {
        if *value > x[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::kernels::testing::{Guarded, UNIT_ROUNDOFF, assert_close, normal, widen};

    const ROWS: usize = 7;

    fn labels(classes: usize) -> Vec<u32> {
        (0..ROWS).map(|i| (i * 5 % classes) as u32).collect()
    }

    /// `e^x` of arguments down to -30 and its division: the argument's rounding counts 30 times.
    const RELATIVE: f64 = 40.0 * UNIT_ROUNDOFF;

    #[test]
    fn rows_are_distributions() {
        for (classes, scale) in
            [1, 2, 3, 10, 17, 1000].into_iter().flat_map(|c| [0.0, 1.0, 5.0, 1e30].map(|s| (c, s)))
        {
            let x: Vec<f32> = normal(1, ROWS * classes).iter().map(|x| x * scale).collect();
            let mut y = Guarded::nan(x.len());
            softmax(&mut y, &x, classes);
            for row in y.chunks_exact(classes) {
                let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
                assert!(
                    (sum - 1.0).abs() < classes as f64 * UNIT_ROUNDOFF,
                    "{classes} classes add up to {sum}"
                );
            }
            let expected = reference::softmax(&widen(&x), classes);
            assert_close("softmax", &y, &expected, |i| RELATIVE * expected[i] + 1e-30);
        }
    }

    #[test]
    fn loss_and_gradient() {
        for (classes, smoothing) in [2, 3, 10, 101].into_iter().flat_map(|c| [0.0, 0.1, 1.0].map(|s| (c, s)))
        {
            let (logits, labels) = (normal(2, ROWS * classes), labels(classes));
            let weights: Vec<f32> = (0..classes).map(|c| 0.25 + (c % 4) as f32).collect();
            for weights in [None, Some(&weights[..])] {
                let denominator = weight_sum(&labels, weights) as f32;
                let config = LossConfig { classes, smoothing, class_weights: weights, denominator };
                let mut gradient = Guarded::nan(logits.len());
                let sums = cross_entropy(&mut gradient, &logits, &labels, config);
                let weights = weights.map_or(vec![1.0; classes], widen);
                let smoothing = f64::from(smoothing);
                let loss = reference::cross_entropy(&widen(&logits), &labels, &weights, smoothing);
                assert!((sums.loss - loss).abs() <= RELATIVE * loss, "{} is not {loss}", sums.loss);
                assert_eq!(sums.weight, f64::from(denominator));
                let exact = reference::cross_entropy_backward(&widen(&logits), &labels, &weights, smoothing);
                let exact: Vec<f64> = exact.iter().map(|g| g / f64::from(denominator)).collect();
                let largest = weights.iter().fold(0.0, |m: f64, w| m.max(*w)) / f64::from(denominator);
                assert_close("gradient", &gradient, &exact, |_| RELATIVE * largest);
            }
        }
    }

    #[test]
    fn correct_counts_the_first_largest() {
        let config = LossConfig { classes: 3, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        let logits = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, -1.0, -2.0, -3.0];
        let sums = cross_entropy(&mut [0.0; 9], &logits, &[1, 2, 0], config);
        assert_eq!(sums.correct, 2);
    }

    #[test]
    fn extreme_logits() {
        let config = LossConfig { classes: 2, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        let mut gradient = [f32::NAN; 2];
        // Certain and right, certain and wrong: no overflow on the way.
        assert_eq!(cross_entropy(&mut gradient, &[3e38, -3e38], &[0], config).loss, 0.0);
        assert_eq!(gradient, [0.0, 0.0]);
        let wrong = cross_entropy(&mut gradient, &[1e4, -1e4], &[1], config).loss;
        assert_eq!((wrong, gradient), (2e4, [1.0, -1.0]));
        // A masked class costs nothing as long as it is not the label.
        let masked = cross_entropy(&mut gradient, &[0.0, f32::NEG_INFINITY], &[0], config).loss;
        assert_eq!((masked, gradient), (0.0, [0.0, 0.0]));
        assert!(cross_entropy(&mut gradient, &[0.0, f32::NAN], &[0], config).loss.is_nan());
    }

    #[test]
    #[should_panic(expected = "label 2 is not below 2 classes")]
    fn labels_are_checked() {
        let config = LossConfig { classes: 2, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        cross_entropy(&mut [0.0; 2], &[0.0; 2], &[2], config);
    }
}
