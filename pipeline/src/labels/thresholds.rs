//! The probability from which an image has a label.

use super::scores::{Counts, Scores};

/// Fewest held-out images with a label for a threshold of its own: with fewer, the best one is chance.
pub(crate) const LEAST_POSITIVES: usize = 5;

/// The threshold where nothing was measured.
pub(crate) const DEFAULT: f32 = 0.5;

/// For each label the threshold with the highest F1 on these images, of equals the one nearest to a half. A label that fewer
/// than [`LEAST_POSITIVES`] of them have gets the threshold with the highest F1 over all labels together, and that is
/// [`DEFAULT`] where they are fewer in all.
pub(crate) fn choose(scores: &Scores) -> Vec<f32> {
    let columns: Vec<Vec<(f32, bool)>> = (0..scores.labels()).map(|label| scores.column(label)).collect();
    let shared = best(columns.concat()).unwrap_or(DEFAULT);
    columns.into_iter().map(|column| best(column).unwrap_or(shared)).collect()
}

/// How many labels have no threshold of their own.
pub(crate) fn without_own(scores: &Scores) -> usize {
    let few =
        |label: &usize| scores.column(*label).into_iter().filter(|(_, has)| *has).count() < LEAST_POSITIVES;
    (0..scores.labels()).filter(few).count()
}

/// The best threshold between two probabilities that differ, or below all; `None` for too few images that have the label.
fn best(mut answers: Vec<(f32, bool)>) -> Option<f32> {
    let positives = answers.iter().filter(|(_, has)| *has).count() as u64;
    if positives < LEAST_POSITIVES as u64 {
        return None;
    }
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut counts = Counts { misses: positives, ..Counts::default() };
    let mut best = (f64::NEG_INFINITY, DEFAULT);
    for (at, &(probability, has)) in answers.iter().enumerate() {
        if has {
            (counts.hits, counts.misses) = (counts.hits + 1, counts.misses - 1);
        } else {
            counts.false_alarms += 1;
        }
        let next = answers.get(at + 1).map_or(0.0, |next| next.0);
        let threshold = between(next, probability);
        if answers.get(at + 1).is_some_and(|next| next.0 == probability) {
            continue;
        }
        let f1 = counts.f1();
        let nearer = (threshold - DEFAULT).abs() < (best.1 - DEFAULT).abs();
        if f1 > best.0 || f1 == best.0 && nearer {
            best = (f1, threshold);
        }
    }
    Some(best.1)
}

/// A number above `low` and at most `high`, in the middle as far as there is one.
fn between(low: f32, high: f32) -> f32 {
    let middle = low + (high - low) / 2.0;
    if middle > low { middle } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(columns: &[&[(f32, bool)]]) -> Scores {
        let mut scores = Scores::new(columns.len());
        for image in 0..columns[0].len() {
            let row: Vec<f32> = columns.iter().map(|column| column[image].0).collect();
            scores.add(&row, (0..columns.len()).filter(|&label| columns[label][image].1));
        }
        scores
    }

    #[test]
    fn the_threshold_has_the_highest_f1_of_all() {
        let mut rng = ocelli_datasets::rng::Rng::new(1);
        for round in 0..50 {
            let column: Vec<(f32, bool)> = (0..40)
                .map(|_| {
                    let has = rng.below(3) == 0;
                    let p = 0.5 * rng.unit_f32() + if has { 0.3 } else { 0.0 };
                    (if round % 2 == 0 { (p * 10.0).round() / 10.0 } else { p }, has)
                })
                .collect();
            let scores = scores(&[&column]);
            let found = scores.counts(0, choose(&scores)[0]).f1();
            let every = column.iter().map(|&(p, _)| scores.counts(0, p).f1()).fold(0.0, f64::max);
            assert!((found - every).abs() < 1e-12, "{found} {every}");
        }
    }

    #[test]
    fn rare_labels_share_a_threshold_and_without_images_it_is_a_half() {
        let often: Vec<(f32, bool)> = (0..20).map(|i| (i as f32 / 20.0, i >= 6)).collect();
        let rare: Vec<(f32, bool)> = (0..20).map(|i| (i as f32 / 40.0, i == 3)).collect();
        let both = scores(&[&often, &rare]);
        let chosen = choose(&both);
        assert!(chosen[0] > 0.25 && chosen[0] <= 0.3, "{chosen:?}");
        assert_eq!(without_own(&both), 1);
        let shared = |threshold: f32| {
            let mut counts = both.counts(0, threshold);
            counts.add(both.counts(1, threshold));
            counts.f1()
        };
        assert!((1..100).all(|i| shared(i as f32 / 100.0) <= shared(chosen[1])), "{chosen:?}");
        assert_eq!(choose(&scores(&[&rare])), [DEFAULT]);
        assert_eq!(choose(&Scores::new(3)), [DEFAULT; 3]);
    }

    #[test]
    fn a_label_that_all_images_have_is_said_of_all() {
        let column = [(1e-30f32, true); 9];
        let threshold = choose(&scores(&[&column]))[0];
        assert!(threshold <= 1e-30 && threshold > 0.0);
    }
}
