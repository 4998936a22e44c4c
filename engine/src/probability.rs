//! From logits to probabilities and ranks: the only place that does it, for training reports, evaluation, prediction, service
//! and the page that `export --to web` writes.

use crate::infer::softmax;
use crate::model_file::ModelMeta;

/// What a model's logits are divided by: 1 where its file holds no temperature, as in all files of earlier versions.
pub fn temperature(meta: &ModelMeta) -> f32 {
    meta.temperature.unwrap_or(1.0)
}

/// Softmax of `logits / temperature`, in the order of the logits. A temperature above 1 moves probabilities towards each
/// other, one below 1 apart; at 1 they are those of the network, to the last bit. The ranking is that of the logits.
///
/// # Panics
/// When the two do not have the same length.
pub fn probabilities(logits: &[f32], temperature: f32, out: &mut [f32]) {
    if temperature == 1.0 {
        return softmax(logits, out);
    }
    let scaled: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
    softmax(&scaled, out);
}

/// The sigmoid of every logit: the probability of each label by itself.
///
/// # Panics
/// When the two do not have the same length.
pub fn sigmoids(logits: &[f32], out: &mut [f32]) {
    assert_eq!(logits.len(), out.len(), "a probability for each logit");
    for (out, &logit) in out.iter_mut().zip(logits) {
        *out = (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32;
    }
}

/// The `k` classes with the largest logits, largest first; the lower index of equals. Training, evaluation and
/// prediction all rank by it.
pub fn ranking(logits: &[f32], k: usize) -> Vec<usize> {
    let order = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    let k = k.min(classes.len());
    if k < classes.len() {
        classes.select_nth_unstable_by(k, order);
        classes.truncate(k);
    }
    classes.sort_unstable_by(order);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_of_one_changes_no_bit_and_others_move_towards_or_away_from_equal() {
        let logits = [0.5, 3.0, -1.25, 1e-3];
        let (mut plain, mut out) = ([0.0; 4], [0.0; 4]);
        softmax(&logits, &mut plain);
        probabilities(&logits, 1.0, &mut out);
        assert_eq!(out.map(f32::to_bits), plain.map(f32::to_bits));
        let mut last = f32::INFINITY;
        for temperature in [0.1, 0.5, 1.0, 2.0, 10.0, 1000.0] {
            probabilities(&logits, temperature, &mut out);
            assert!(out[1] < last, "{temperature}: {}", out[1]);
            assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            last = out[1];
        }
        assert!((last - 0.25).abs() < 1e-3, "{last}");
    }
}
