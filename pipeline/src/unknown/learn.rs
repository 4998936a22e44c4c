//! Which score tells strange images better, and from which value on an image is called unknown: decided by images that the
//! model was not trained on.

use ocelli_engine::model_file::{MAX_MEANS, Rejection, RejectionScore};

use super::score::{distance, doubt};

/// Fewest held-out images: with fewer, chance sets the threshold.
const LEAST_IMAGES: usize = 10;

/// Images that the model was not trained on.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldOut {
    /// Logits `[images][classes]`.
    pub(crate) logits: Vec<f32>,
    /// Features `[images][features]`.
    pub(crate) features: Vec<f32>,
    /// The class of each image; `None` for an image of none of them.
    pub(crate) labels: Vec<Option<usize>>,
}

/// Learns when to answer `unknown`, so that at most a part `false_rejects` of the images of known classes is called so; as
/// near to it as their number allows. `means [classes][features]` are the mean features of the training images.
///
/// Which score is better is measured on strange images: those without a class where there are any, else each class in turn is
/// taken for strange, with its own mean and its own logit left out. The larger area under the ROC curve is better; the
/// distance of equals, as it also knows images that are far from everything.
///
/// `None` for fewer than 10 images of known classes.
pub(crate) fn learn(held_out: &HeldOut, means: Vec<f32>, false_rejects: f32) -> Option<Rejection> {
    let HeldOut { logits, features, labels } = held_out;
    let images = labels.len();
    let known: Vec<usize> = (0..images).filter(|&i| labels[i].is_some()).collect();
    if known.len() < LEAST_IMAGES || false_rejects <= 0.0 {
        return None;
    }
    let (classes, len) = (logits.len() / images, features.len() / images);
    let by_probability = |i: usize, without| doubt(&logits[i * classes..][..classes], without);
    let by_distance = |i: usize, without| distance(&features[i * len..][..len], &means, without);
    let of = |score: &dyn Fn(usize, Option<usize>) -> f32| {
        let scores: Vec<f32> = known.iter().map(|&i| score(i, None)).collect();
        let outside: Vec<f32> =
            (0..images).filter(|&i| labels[i].is_none()).map(|i| score(i, None)).collect();
        let strange =
            if outside.is_empty() { known.iter().map(|&i| score(i, labels[i])).collect() } else { outside };
        let area = area_under_roc(&scores, &strange);
        (scores, strange, area)
    };
    let probability = of(&by_probability);
    let fits = len > 0 && !means.is_empty() && means.len() <= MAX_MEANS;
    let far = fits.then(|| of(&by_distance)).filter(|far| far.2 >= probability.2);
    let (score, (mut scores, strange, area), means) = match far {
        Some(far) => (RejectionScore::Distance, far, means),
        None => (RejectionScore::Probability, probability, Vec::new()),
    };
    let threshold = quantile(&mut scores, 1.0 - false_rejects);
    let found = strange.iter().filter(|&&score| score > threshold).count();
    Some(Rejection {
        score,
        threshold,
        false_rejects,
        images: known.len() as u64,
        area: area as f32,
        detected: found as f32 / strange.len().max(1) as f32,
        means,
    })
}

/// The least of `values` such that a new one of the same kind is at most as large with probability `part`: the
/// `ceil((n + 1) part)`th, or the largest where that is beyond (conformal prediction; Vovk et al., 2005).
fn quantile(values: &mut [f32], part: f32) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let place = ((values.len() + 1) as f64 * f64::from(part)).ceil() as usize;
    values[place.clamp(1, values.len()) - 1]
}

/// Probability that a strange image has a larger score than a known one, ties counting half (Mann and Whitney, 1947).
fn area_under_roc(known: &[f32], strange: &[f32]) -> f64 {
    let mut all: Vec<(f32, bool)> =
        known.iter().map(|&s| (s, false)).chain(strange.iter().map(|&s| (s, true))).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for ties in all.chunk_by(|a, b| a.0 == b.0) {
        let strange = ties.iter().filter(|(_, strange)| *strange).count() as f64;
        let known = ties.len() as f64 - strange;
        wins += strange * (below + known / 2.0);
        below += known;
    }
    let pairs = known.len() as f64 * strange.len() as f64;
    if pairs > 0.0 { wins / pairs } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use ocelli_datasets::rng::Rng;

    use super::*;

    #[test]
    fn quantiles_hold_what_they_promise_on_average() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.99), 3.0);
        // Of 39 values, the 38th leaves one in twenty above it.
        let mut rng = Rng::new(1);
        let (mut above, rounds) = (0, 4000);
        for _ in 0..rounds {
            let mut values: Vec<f32> = (0..39).map(|_| rng.unit_f32()).collect();
            above += usize::from(rng.unit_f32() > quantile(&mut values, 0.95));
        }
        let rate = above as f64 / f64::from(rounds);
        assert!((rate - 0.05).abs() < 0.015, "{rate}");
    }

    #[test]
    fn area_counts_pairs() {
        assert_eq!(area_under_roc(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(area_under_roc(&[3.0, 4.0], &[1.0, 2.0]), 0.0);
        assert_eq!(area_under_roc(&[1.0, 1.0], &[1.0]), 0.5);
        let (known, strange) = ([0.1, 0.4, 0.4, 0.9], [0.4, 0.5, 0.05]);
        let pairs = known.iter().flat_map(|k| strange.iter().map(move |s| (k, s)));
        let wins: f64 = pairs
            .map(|(k, s)| {
                if s > k {
                    1.0
                } else if s == k {
                    0.5
                } else {
                    0.0
                }
            })
            .sum();
        assert!((area_under_roc(&known, &strange) - wins / 12.0).abs() < 1e-12);
        assert_eq!(area_under_roc(&[], &[1.0]), 0.5);
    }

    /// `n` images of two classes whose features lie along two axes, and logits that say nothing.
    fn apart(n: usize) -> (HeldOut, Vec<f32>) {
        let mut held_out = HeldOut::default();
        for i in 0..n {
            let noise = i as f32 / n as f32 * 0.1;
            held_out.labels.push(Some(i % 2));
            held_out.features.extend(if i % 2 == 0 { [1.0, noise, 0.0] } else { [noise, 1.0, 0.0] });
            held_out.logits.extend([0.0, 0.0]);
        }
        (held_out, vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    }

    #[test]
    fn the_better_score_is_taken_and_few_images_teach_nothing() {
        let (held_out, means) = apart(40);
        let rejection = learn(&held_out, means.clone(), 0.05).unwrap();
        assert_eq!((rejection.score, rejection.images), (RejectionScore::Distance, 40));
        assert!(rejection.area > 0.99 && rejection.detected > 0.99 && rejection.threshold < 0.01);

        // The same with features that say nothing and logits that do.
        let mut flat = held_out.clone();
        flat.features.fill(1.0);
        for (row, label) in flat.logits.chunks_exact_mut(2).zip(&held_out.labels) {
            row[label.unwrap()] = 8.0;
        }
        flat.labels.push(None);
        flat.logits.extend([0.0, 0.0]);
        flat.features.extend([1.0; 3]);
        let rejection = learn(&flat, means.clone(), 0.05).unwrap();
        assert_eq!(rejection.score, RejectionScore::Probability);
        assert!(rejection.means.is_empty() && rejection.detected == 1.0);

        assert_eq!(learn(&apart(9).0, means.clone(), 0.05), None);
        assert_eq!(learn(&apart(40).0, means, 0.0), None);
        assert_eq!(learn(&HeldOut::default(), Vec::new(), 0.05), None);
    }

    #[test]
    fn at_most_the_asked_part_of_the_known_is_rejected() {
        let (held_out, means) = apart(200);
        for part in [0.01, 0.05, 0.2, 0.5] {
            let rejection = learn(&held_out, means.clone(), part).unwrap();
            let rows = held_out.features.chunks_exact(3);
            let rejected = rows.filter(|row| distance(row, &means, None) > rejection.threshold).count();
            assert!(rejected as f32 <= part * 200.0, "{part}: {rejected}");
        }
    }
}
