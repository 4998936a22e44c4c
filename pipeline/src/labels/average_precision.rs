//! Average precision: how well a score ranks the images that have a label before the others.

use std::cmp::Ordering;

/// The images by falling score, with the places at which the score falls.
pub(super) struct Ranking {
    /// Indices of images.
    order: Vec<u32>,
    /// For each place in the order, whether the next score is lower.
    ends: Vec<bool>,
}

impl Ranking {
    pub(super) fn new(scores: &[f32]) -> Self {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let score = |image: u32| scores[image as usize];
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        let ends = (0..order.len())
            .map(|at| {
                order
                    .get(at + 1)
                    .is_none_or(|&next| score(next).total_cmp(&score(order[at])) == Ordering::Less)
            })
            .collect();
        Ranking { order, ends }
    }

    /// The sum over the falling scores of `(recall - recall before) * precision`, without interpolation; images of equal
    /// scores come in together. `times` says how often each image counts. `None` where no image has the label.
    pub(super) fn average_precision(
        &self,
        has: impl Fn(usize) -> bool,
        times: impl Fn(usize) -> u32,
    ) -> Option<f64> {
        let (mut hits, mut seen, mut before, mut sum) = (0u64, 0u64, 0u64, 0.0);
        for (&image, &ends) in self.order.iter().zip(&self.ends) {
            let n = u64::from(times(image as usize));
            seen += n;
            hits += if has(image as usize) { n } else { 0 };
            if ends && hits > before {
                sum += (hits - before) as f64 * hits as f64 / seen as f64;
                before = hits;
            }
        }
        (hits > 0).then(|| sum / hits as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scores: &[f32], has: &[u8]) -> Option<f64> {
        Ranking::new(scores).average_precision(|i| has[i] == 1, |_| 1)
    }

    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-12), "{found:?} {expected}");
    }

    #[test]
    fn by_hand() {
        // Ranked yes, no, yes, no: 1/2 * 1/1 + 1/2 * 2/3.
        close(of(&[0.9, 0.8, 0.7, 0.1], &[1, 0, 1, 0]), 0.5 + 1.0 / 3.0);
        close(of(&[0.1, 0.2], &[1, 0]), 0.5);
        close(of(&[0.3, 0.2, 0.1], &[1, 1, 1]), 1.0);
        // Equal scores come in together: precision 2/4 for all.
        close(of(&[0.5; 4], &[1, 0, 0, 1]), 0.5);
        close(of(&[0.9, 0.5, 0.5, 0.1], &[0, 1, 0, 1]), 0.5 / 3.0 + 0.5 / 2.0);
        assert_eq!(of(&[0.5, 0.1], &[0, 0]), None);
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn an_image_that_counts_twice_is_two_images() {
        let scores = [0.9, 0.8, 0.7, 0.7, 0.2];
        let has = [1, 0, 1, 0, 1];
        let times = [2, 0, 1, 3, 1];
        let ranking = Ranking::new(&scores);
        let weighted = ranking.average_precision(|i| has[i] == 1, |i| times[i]);
        let repeat = |values: &[f32]| -> Vec<f32> {
            (0..5).flat_map(|i| vec![values[i]; times[i] as usize]).collect()
        };
        let own: Vec<u8> = (0..5).flat_map(|i| vec![has[i]; times[i] as usize]).collect();
        close(weighted, of(&repeat(&scores), &own).unwrap());
    }
}
