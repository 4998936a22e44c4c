//! Softmax and the cross-entropy of integer labels, one or two an image, with label smoothing and class weights.
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
    /// Rows whose largest logit (the first of several) is that of the label; of two labels, of the one with the larger
    /// share, the first where both are a half.
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

/// The classes of some images.
#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    /// One class for each image.
    One(&'a [u32]),
    /// Two classes for each image, as mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019) make them.
    Two {
        /// A class for each image.
        labels: &'a [u32],
        /// Another class for each image, which may be the same one.
        others: &'a [u32],
        /// Share of the first class for each image, in `0..=1`.
        share: &'a [f32],
    },
}

impl<'a> Labels<'a> {
    /// Number of images.
    ///
    /// # Panics
    /// When its lists differ in length.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        match self {
            Labels::One(labels) => labels.len(),
            Labels::Two { labels, others, share } => {
                assert!(others.len() == labels.len() && share.len() == labels.len(), "lists of one length");
                labels.len()
            }
        }
    }

    /// Those of the images `range`.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Labels<'a> {
        match self {
            Labels::One(labels) => Labels::One(&labels[range]),
            Labels::Two { labels, others, share } => Labels::Two {
                labels: &labels[range.clone()],
                others: &others[range.clone()],
                share: &share[range],
            },
        }
    }

    /// The classes of an image with their shares.
    fn of(&self, image: usize) -> [(usize, f64); 2] {
        match self {
            Labels::One(labels) => [(labels[image] as usize, 1.0), (labels[image] as usize, 0.0)],
            Labels::Two { labels, others, share } => {
                let share = f64::from(share[image]);
                [(labels[image] as usize, share), (others[image] as usize, 1.0 - share)]
            }
        }
    }
}

/// Sum of the class weights of all images, each class by its share: the number of images without weights.
///
/// # Panics
/// When a label has no weight.
pub fn weight_sum(labels: Labels, class_weights: Option<&[f32]>) -> f64 {
    let Some(weights) = class_weights else { return labels.len() as f64 };
    let weight = |(class, share): (usize, f64)| share * f64::from(weights[class]);
    (0..labels.len()).map(|image| labels.of(image).map(weight)).map(|[a, b]| a + b).sum()
}

/// The loss of every row, summed, and its gradient (overwrites `dlogits`), with the meaning of PyTorch's
/// `CrossEntropyLoss`: with `p = softmax(logits)`, label `t`, smoothing `s` and class weights `w`,
/// ```text
/// loss    = sum over rows: (1 - s) w[t] (-log p[t]) + s / C sum over c: w[c] (-log p[c])
/// dlogits = gradient of loss / denominator
/// ```
/// With two labels the loss of a row is that of each label times its share: class weights and smoothing mean for each of
/// them what they mean for one. A NaN among the logits makes the loss NaN.
///
/// # Panics
/// When lengths do not fit or a label is not below the number of classes.
pub fn cross_entropy(dlogits: &mut [f32], logits: &[f32], labels: Labels, config: LossConfig) -> LossSums {
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
    for (image, (gradient, logits)) in rows.enumerate() {
        let pair = labels.of(image);
        for (label, _) in pair {
            assert!(label < classes, "label {label} is not below {classes} classes");
        }
        let (max, sum) = exponentials(gradient, logits);
        let log_sum = sum.ln() + f64::from(max);
        let own = pair.map(|(label, share)| (1.0 - smoothing) * (share * weight_of(label)));
        // A label without a share costs nothing, even where its logit is minus infinity.
        let cost = |i: usize| {
            let (label, share) = pair[i];
            if share == 0.0 { 0.0 } else { own[i] * (log_sum - f64::from(logits[label])) }
        };
        let mut loss = cost(0) + cost(1);
        if smoothing > 0.0 {
            let losses = logits.iter().enumerate();
            loss += losses.map(|(c, &x)| spread * weight_of(c) * (log_sum - f64::from(x))).sum::<f64>();
        }
        let total = own[0] + own[1] + spread_sum;
        for (c, g) in gradient.iter_mut().enumerate() {
            let part = |i: usize| if c == pair[i].0 { own[i] } else { 0.0 };
            let target = part(0) + part(1) + spread * weight_of(c);
            *g = ((f64::from(*g) / sum * total - target) * scale) as f32;
        }
        sums.loss += loss;
        sums.weight += pair.iter().map(|&(label, share)| share * weight_of(label)).sum::<f64>();
        let foremost = if pair[1].1 > pair[0].1 { pair[1].0 } else { pair[0].0 };
        sums.correct += usize::from(argmax(logits) == foremost);
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
                let denominator = weight_sum(Labels::One(&labels), weights) as f32;
                let config = LossConfig { classes, smoothing, class_weights: weights, denominator };
                let mut gradient = Guarded::nan(logits.len());
                let sums = cross_entropy(&mut gradient, &logits, Labels::One(&labels), config);
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

    /// The loss of two labels is that of one, by their shares; so are its gradient and its denominator.
    #[test]
    fn two_labels_cost_what_each_costs_by_its_share() {
        for (classes, smoothing) in [2, 3, 10, 101].into_iter().flat_map(|c| [0.0, 0.1, 1.0].map(|s| (c, s)))
        {
            let (logits, labels) = (normal(2, ROWS * classes), labels(classes));
            let others: Vec<u32> = (0..ROWS).map(|i| (i * 3 % classes) as u32).collect();
            let share = [1.0, 0.0, 0.5, 0.25, 0.9, 0.3, 0.125];
            let mixed = Labels::Two { labels: &labels, others: &others, share: &share };
            let weights: Vec<f32> = (0..classes).map(|c| 0.25 + (c % 4) as f32).collect();
            for weights in [None, Some(&weights[..])] {
                let denominator = weight_sum(mixed, weights) as f32;
                let config = LossConfig { classes, smoothing, class_weights: weights, denominator };
                let mut gradient = Guarded::nan(logits.len());
                let sums = cross_entropy(&mut gradient, &logits, mixed, config);
                let weights = weights.map_or(vec![1.0; classes], widen);
                let smoothing = f64::from(smoothing);
                let (mut loss, mut weight, mut exact) = (0.0, 0.0, Vec::new());
                for (row, logits) in widen(&logits).chunks_exact(classes).enumerate() {
                    let parts =
                        [(labels[row], f64::from(share[row])), (others[row], 1.0 - f64::from(share[row]))];
                    let mut row = vec![0.0; classes];
                    for (label, share) in parts {
                        loss += share * reference::cross_entropy(logits, &[label], &weights, smoothing);
                        weight += share * weights[label as usize];
                        let g = reference::cross_entropy_backward(logits, &[label], &weights, smoothing);
                        row.iter_mut().zip(g).for_each(|(sum, g)| *sum += share * g);
                    }
                    exact.extend(row);
                }
                exact.iter_mut().for_each(|g| *g /= f64::from(denominator));
                assert!((sums.loss - loss).abs() <= RELATIVE * loss, "{} is not {loss}", sums.loss);
                assert!((sums.weight - weight).abs() <= 1e-12 * weight, "{} is not {weight}", sums.weight);
                let largest = weights.iter().fold(0.0, |m: f64, w| m.max(*w)) / f64::from(denominator);
                assert_close("gradient", &gradient, &exact, |_| RELATIVE * largest);
            }
        }
    }

    #[test]
    fn a_share_of_one_gives_the_bits_of_one_label() {
        let (classes, labels) = (10, labels(10));
        let logits = normal(2, ROWS * classes);
        let config = LossConfig { classes, smoothing: 0.1, class_weights: None, denominator: ROWS as f32 };
        let [mut one, mut two] = [vec![0.0; logits.len()], vec![0.0; logits.len()]];
        let others = vec![3; ROWS];
        let mixed = Labels::Two { labels: &labels, others: &others, share: &[1.0; ROWS] };
        let expected = cross_entropy(&mut one, &logits, Labels::One(&labels), config);
        assert_eq!(cross_entropy(&mut two, &logits, mixed, config), expected);
        assert_eq!(one, two);
    }

    #[test]
    fn the_label_with_the_larger_share_is_the_right_one() {
        let config = LossConfig { classes: 3, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        let correct = |share: f32| {
            let labels = Labels::Two { labels: &[1], others: &[2], share: &[share] };
            cross_entropy(&mut [0.0; 3], &[0.0, 1.0, 0.5], labels, config).correct
        };
        assert_eq!([0.0, 0.49, 0.5, 1.0].map(correct), [0, 0, 1, 1]);
    }

    #[test]
    fn correct_counts_the_first_largest() {
        let config = LossConfig { classes: 3, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        let logits = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, -1.0, -2.0, -3.0];
        let sums = cross_entropy(&mut [0.0; 9], &logits, Labels::One(&[1, 2, 0]), config);
        assert_eq!(sums.correct, 2);
    }

    #[test]
    fn extreme_logits() {
        let config = LossConfig { classes: 2, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        let mut gradient = [f32::NAN; 2];
        // Certain and right, certain and wrong: no overflow on the way.
        assert_eq!(cross_entropy(&mut gradient, &[3e38, -3e38], Labels::One(&[0]), config).loss, 0.0);
        assert_eq!(gradient, [0.0, 0.0]);
        let wrong = cross_entropy(&mut gradient, &[1e4, -1e4], Labels::One(&[1]), config).loss;
        assert_eq!((wrong, gradient), (2e4, [1.0, -1.0]));
        // A masked class costs nothing as long as it is not the label.
        let masked = cross_entropy(&mut gradient, &[0.0, f32::NEG_INFINITY], Labels::One(&[0]), config).loss;
        assert_eq!((masked, gradient), (0.0, [0.0, 0.0]));
        assert!(cross_entropy(&mut gradient, &[0.0, f32::NAN], Labels::One(&[0]), config).loss.is_nan());
    }

    #[test]
    #[should_panic(expected = "label 2 is not below 2 classes")]
    fn labels_are_checked() {
        let config = LossConfig { classes: 2, smoothing: 0.0, class_weights: None, denominator: 1.0 };
        cross_entropy(&mut [0.0; 2], &[0.0; 2], Labels::One(&[2]), config);
    }
}
