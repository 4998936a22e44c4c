//! Binary cross-entropy of logits, straight from its definition.

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Targets after smoothing.
fn smoothed(targets: &[f64], smoothing: f64) -> Vec<f64> {
    targets.iter().map(|t| (1.0 - smoothing) * t + smoothing * 0.5).collect()
}

/// `-w[c] (t log p + (1 - t) log(1 - p))` with `p = sigmoid(x)`, summed over rows of as many classes as there are weights.
pub fn binary_cross_entropy(logits: &[f64], targets: &[f64], weights: &[f64], smoothing: f64) -> f64 {
    let element = |i: usize, t: f64| {
        let p = sigmoid(logits[i]);
        -weights[i % weights.len()] * (t * p.ln() + (1.0 - t) * (1.0 - p).ln())
    };
    smoothed(targets, smoothing).into_iter().enumerate().map(|(i, t)| element(i, t)).sum()
}

/// Gradient of [`binary_cross_entropy`].
pub fn binary_cross_entropy_backward(
    logits: &[f64],
    targets: &[f64],
    weights: &[f64],
    smoothing: f64,
) -> Vec<f64> {
    let targets = smoothed(targets, smoothing);
    (0..logits.len()).map(|i| weights[i % weights.len()] * (sigmoid(logits[i]) - targets[i])).collect()
}
