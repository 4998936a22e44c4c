//! Which score tells strange images best, and from which value on an image is called unknown: decided by images that the
//! model was not trained on.

use ocelli_engine::model_file::{InnerValue, MAX_MEANS, Rejection, RejectionScore};
use ocelli_engine::rejection::{channels, distance, doubt, inner_distance, spread_distance};

/// Fewest held-out images: with fewer, chance sets the threshold.
const LEAST_IMAGES: usize = 10;

/// Images that the model was not trained on.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldOut {
    /// Logits `[images][classes]`.
    pub(crate) logits: Vec<f32>,
    /// Features `[images][features]`.
    pub(crate) features: Vec<f32>,
    /// Means over pixels of the inner values `[images][channels of all]`.
    pub(crate) inner: Vec<f32>,
    /// The class of each image; `None` for an image of none of them.
    pub(crate) labels: Vec<Option<usize>>,
}

/// What the training images say of their classes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Learnt {
    /// Mean directions of the features `[classes][features]`.
    pub(crate) means: Vec<f32>,
    /// The spread in each inner value; empty where there is none.
    pub(crate) inner: Vec<InnerValue>,
    /// Whether the network had learnt something else before.
    pub(crate) fine_tuned: bool,
}

/// One way to tell strange images, as measured.
struct Candidate {
    score: RejectionScore,
    /// Of the held-out images of known classes.
    known: Vec<f32>,
    /// Of the strange ones.
    strange: Vec<f32>,
    area: f64,
}

/// Learns when to answer `unknown`, so that at most a part `false_rejects` of the images of known classes is called so; as
/// near to it as their number allows.
///
/// Which score is best is measured on strange images where there are any: the largest area under the ROC curve, and of equals the
/// first of inner values, features and probabilities. Where there are none, a network that was fine-tuned is judged by its
/// inner values, if it has any: fine-tuning on few classes draws the features of all images towards these, the inner values
/// less, and over several draws of photos these were better on average, though not in every one. Else each class in turn is
/// taken for strange, for features and probabilities; of networks that were trained from nothing no score was better.
///
/// `None` for fewer than 10 images of known classes.
pub(crate) fn learn(held_out: &HeldOut, learnt: Learnt, false_rejects: f32) -> Option<Rejection> {
    let fine_tuned = learnt.fine_tuned;
    let HeldOut { logits, features, inner, labels } = held_out;
    let images = labels.len();
    let known: Vec<usize> = (0..images).filter(|&i| labels[i].is_some()).collect();
    if known.len() < LEAST_IMAGES || false_rejects <= 0.0 {
        return None;
    }
    let lens = [logits, features, inner].map(|values| values.len() / images);
    let spread = scaled(learnt.inner, inner, lens[2], &known);
    let means = learnt.means;
    let candidate = |score, of: &dyn Fn(usize, Option<usize>) -> f32| {
        let outside: Vec<f32> = (0..images).filter(|&i| labels[i].is_none()).map(|i| of(i, None)).collect();
        let strange =
            if outside.is_empty() { known.iter().map(|&i| of(i, labels[i])).collect() } else { outside };
        let known: Vec<f32> = known.iter().map(|&i| of(i, None)).collect();
        let area = area_under_roc(&known, &strange);
        Candidate { score, known, strange, area }
    };
    let strange_images = images - known.len();
    let mut candidates = Vec::new();
    if !spread.is_empty() && (fine_tuned || strange_images > 0) {
        candidates.push(candidate(RejectionScore::Inner, &|i, without| {
            inner_distance(&inner[i * lens[2]..][..lens[2]], &spread, without)
        }));
    }
    if candidates.is_empty() || strange_images > 0 {
        if lens[1] > 0 && !means.is_empty() && means.len() <= MAX_MEANS {
            candidates.push(candidate(RejectionScore::Distance, &|i, without| {
                distance(&features[i * lens[1]..][..lens[1]], &means, without)
            }));
        }
        candidates.push(candidate(RejectionScore::Probability, &|i, without| {
            doubt(&logits[i * lens[0]..][..lens[0]], without)
        }));
    }
    let best = candidates.into_iter().reduce(|best, next| if next.area > best.area { next } else { best })?;
    let Candidate { score, known: mut scores, strange, area } = best;
    let threshold = quantile(&mut scores, 1.0 - false_rejects);
    let found = strange.iter().filter(|&&score| score > threshold).count();
    Some(Rejection {
        score,
        threshold,
        false_rejects,
        images: known.len() as u64,
        area: area as f32,
        detected: found as f32 / strange.len().max(1) as f32,
        strange: strange_images as u64,
        means: if score == RejectionScore::Distance { means } else { Vec::new() },
        inner: if score == RejectionScore::Inner { spread } else { Vec::new() },
    })
}

/// The spreads with the median distance of the known images as their scale, so that each counts the same. None where they
/// are too large for a model file.
fn scaled(spread: Vec<InnerValue>, rows: &[f32], len: usize, known: &[usize]) -> Vec<InnerValue> {
    let floats: usize = spread.iter().map(|inner| inner.whitening.len() + inner.means.len()).sum();
    if floats > MAX_MEANS {
        return Vec::new();
    }
    let mut first = 0;
    let scale = |inner: InnerValue| {
        let channels = channels(&inner);
        let of = |&i: &usize| spread_distance(&rows[i * len + first..][..channels], &inner, None);
        let mut distances: Vec<f64> = known.iter().map(of).collect();
        first += channels;
        distances.sort_unstable_by(f64::total_cmp);
        let median = distances[distances.len() / 2] as f32;
        let scale = if median.is_finite() && median > 0.0 { median } else { 1.0 };
        InnerValue { scale, ..inner }
    };
    spread.into_iter().map(scale).collect()
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
    fn apart(n: usize) -> (HeldOut, Learnt) {
        let mut held_out = HeldOut::default();
        for i in 0..n {
            let noise = i as f32 / n as f32 * 0.1;
            held_out.labels.push(Some(i % 2));
            held_out.features.extend(if i % 2 == 0 { [1.0, noise, 0.0] } else { [noise, 1.0, 0.0] });
            held_out.logits.extend([0.0, 0.0]);
        }
        let means = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        (held_out, Learnt { means, ..Learnt::default() })
    }

    #[test]
    fn the_better_score_is_taken_and_few_images_teach_nothing() {
        let (held_out, learnt) = apart(40);
        let rejection = learn(&held_out, learnt.clone(), 0.05).unwrap();
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
        let rejection = learn(&flat, learnt.clone(), 0.05).unwrap();
        assert_eq!(rejection.score, RejectionScore::Probability);
        assert!(rejection.means.is_empty() && rejection.detected == 1.0);

        assert_eq!(learn(&apart(9).0, learnt.clone(), 0.05), None);
        assert_eq!(learn(&apart(40).0, learnt, 0.0), None);
        assert_eq!(learn(&HeldOut::default(), Learnt::default(), 0.05), None);
    }

    #[test]
    fn at_most_the_asked_part_of_the_known_is_rejected() {
        let (held_out, learnt) = apart(200);
        for part in [0.01, 0.05, 0.2, 0.5] {
            let rejection = learn(&held_out, learnt.clone(), part).unwrap();
            let rows = held_out.features.chunks_exact(3);
            let rejected =
                rows.filter(|row| distance(row, &learnt.means, None) > rejection.threshold).count();
            assert!(rejected as f32 <= part * 200.0, "{part}: {rejected}");
        }
    }

    /// Inner values with two channels, whose first tells strange images and whose second is noise.
    fn inside(n: usize) -> (HeldOut, Learnt) {
        let (mut held_out, mut learnt) = apart(n);
        let mut rng = Rng::new(11);
        let mut row = |class: usize| [4.0 * class as f32 + rng.unit_f32(), 9.0 * rng.unit_f32()];
        let training: Vec<[f32; 2]> = (0..200).map(|i| row(i % 2)).collect();
        let rows: Vec<&[f32]> = training.iter().map(|row| &row[..]).collect();
        let labels: Vec<usize> = (0..200).map(|i| i % 2).collect();
        learnt.inner = vec![super::super::spread::fit(1, &rows, &labels, 2).unwrap()];
        held_out.inner = (0..n).flat_map(|i| row(i % 2)).collect();
        (held_out, learnt)
    }

    #[test]
    fn fine_tuned_networks_are_judged_by_inner_values_unless_strange_images_speak_against_them() {
        let (held_out, mut learnt) = inside(60);
        assert_eq!(learn(&held_out, learnt.clone(), 0.1).unwrap().score, RejectionScore::Distance);
        learnt.fine_tuned = true;
        let rejection = learn(&held_out, learnt.clone(), 0.1).unwrap();
        assert_eq!((rejection.score, rejection.strange), (RejectionScore::Inner, 0));
        assert!(rejection.means.is_empty() && rejection.inner[0].scale != 1.0);
        let rows = held_out.inner.chunks_exact(2);
        let rejected =
            rows.filter(|row| inner_distance(row, &rejection.inner, None) > rejection.threshold).count();
        assert!(rejected <= 6, "{rejected}");

        // Strange images that inner values do not tell and features do.
        let mut strange = held_out.clone();
        for i in 0..20 {
            strange.labels.push(None);
            strange.features.extend([0.0, 0.0, 1.0]);
            strange.logits.extend([0.0, 0.0]);
            strange.inner.extend_from_slice(&held_out.inner[2 * i..][..2]);
        }
        let rejection = learn(&strange, learnt.clone(), 0.1).unwrap();
        assert_eq!((rejection.score, rejection.strange), (RejectionScore::Distance, 20));
        assert!(rejection.inner.is_empty() && rejection.detected == 1.0 && rejection.images == 60);

        // And the other way round.
        for i in 0..20 {
            strange.features[3 * (60 + i)..][..3].copy_from_slice(&[1.0, 0.0, 0.0]);
            strange.inner[2 * (60 + i)] = 12.0;
        }
        let rejection = learn(&strange, learnt, 0.1).unwrap();
        assert_eq!((rejection.score, rejection.detected), (RejectionScore::Inner, 1.0));
    }
}
