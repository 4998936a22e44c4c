//! Factors on filters, by output channel.

/// `w'[k, c] = w[k, c] f[c]`.
pub fn fold(w: &[f64], factors: &[f64]) -> Vec<f64> {
    w.iter().enumerate().map(|(i, w)| w * factors[i % factors.len()]).collect()
}

/// `(dw, df)` of [`fold`] from the gradient `folded` of `w'`.
pub fn fold_backward(folded: &[f64], w: &[f64], factors: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut df = vec![0.0; factors.len()];
    for (i, d) in folded.iter().enumerate() {
        df[i % factors.len()] += d * w[i];
    }
    (fold(folded, factors), df)
}
