//! What a model says of images with any number of labels, beside what they have.

use ocelli_datasets::rng::Rng;

use super::average_precision::Ranking;

/// Drawings of the images for an interval.
const DRAWS: usize = 500;
/// Fewest of them: with fewer, the ends of the interval are chance.
const LEAST_DRAWS: usize = 100;
/// Images times labels times drawings up to which an interval takes about a second.
const MOST_WORK: usize = 500_000_000;
/// Seed of the drawings.
const SEED: u64 = 0x6c61_6265_6c73;

/// Probabilities and labels of images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scores {
    labels: usize,
    /// `[images][labels]`
    probabilities: Vec<f32>,
    /// `[images][labels]`
    has: Vec<bool>,
}

/// Yes and no, said and so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) false_alarms: u64,
    pub(crate) misses: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.hits += other.hits;
        self.false_alarms += other.false_alarms;
        self.misses += other.misses;
    }

    /// Images that have the label.
    pub(crate) fn positives(&self) -> u64 {
        self.hits + self.misses
    }

    pub(crate) fn precision(&self) -> f64 {
        part(self.hits, self.hits + self.false_alarms)
    }

    pub(crate) fn recall(&self) -> f64 {
        part(self.hits, self.positives())
    }

    pub(crate) fn f1(&self) -> f64 {
        part(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)
    }
}

/// 0 of nothing.
fn part(some: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { some as f64 / all as f64 }
}

impl Scores {
    pub(crate) fn new(labels: usize) -> Self {
        Scores { labels, ..Scores::default() }
    }

    /// Takes an image in: the probability of each label, and the labels that it has.
    pub(crate) fn add(&mut self, probabilities: &[f32], labels: impl IntoIterator<Item = usize>) {
        self.probabilities.extend_from_slice(probabilities);
        let start = self.has.len();
        self.has.resize(start + self.labels, false);
        labels.into_iter().for_each(|label| self.has[start + label] = true);
    }

    pub(crate) fn images(&self) -> usize {
        self.has.len() / self.labels.max(1)
    }

    pub(crate) fn labels(&self) -> usize {
        self.labels
    }

    /// Probabilities of an image.
    pub(crate) fn row(&self, image: usize) -> &[f32] {
        &self.probabilities[image * self.labels..][..self.labels]
    }

    /// Which labels an image has.
    pub(crate) fn has(&self, image: usize) -> &[bool] {
        &self.has[image * self.labels..][..self.labels]
    }

    /// Probabilities of a label and whether the images have it.
    pub(crate) fn column(&self, label: usize) -> Vec<(f32, bool)> {
        (0..self.images()).map(|image| (self.row(image)[label], self.has(image)[label])).collect()
    }

    /// What is said of a label at a threshold.
    pub(crate) fn counts(&self, label: usize, threshold: f32) -> Counts {
        let mut counts = Counts::default();
        for image in 0..self.images() {
            match (self.row(image)[label] >= threshold, self.has(image)[label]) {
                (true, true) => counts.hits += 1,
                (true, false) => counts.false_alarms += 1,
                (false, true) => counts.misses += 1,
                (false, false) => {}
            }
        }
        counts
    }

    /// Part of the images of which exactly the right labels are said.
    pub(crate) fn subset_accuracy(&self, thresholds: &[f32]) -> f64 {
        let right = |image: &usize| {
            let said = self.row(*image).iter().zip(thresholds).map(|(p, threshold)| p >= threshold);
            said.eq(self.has(*image).iter().copied())
        };
        part((0..self.images()).filter(right).count() as u64, self.images() as u64)
    }

    fn ranking(&self, label: usize) -> Ranking {
        let scores: Vec<f32> = (0..self.images()).map(|image| self.row(image)[label]).collect();
        Ranking::new(&scores)
    }

    /// Average precision of every label; `None` for one that no image has.
    pub(crate) fn average_precisions(&self) -> Vec<Option<f64>> {
        let of = |label: usize| self.ranking(label).average_precision(|image| self.has(image)[label], |_| 1);
        (0..self.labels).map(of).collect()
    }

    /// Mean of the average precisions of the labels that images have; 0 without any.
    pub(crate) fn mean_average_precision(&self) -> f64 {
        mean(self.average_precisions().into_iter())
    }

    /// 95 % interval of the mean average precision: images are drawn again and again, as many as there are, with putting back
    /// (Efron, 1979), and 95 % of the results lie within. `None` where that would take long.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        let images = self.images();
        let draws = (MOST_WORK / (images * self.labels).max(1)).min(DRAWS);
        if draws < LEAST_DRAWS || images == 0 {
            return None;
        }
        let rankings: Vec<Ranking> = (0..self.labels).map(|label| self.ranking(label)).collect();
        let mut rng = Rng::new(SEED);
        let mut times = vec![0u32; images];
        let mut means: Vec<f64> = (0..draws)
            .map(|_| {
                times.fill(0);
                (0..images).for_each(|_| times[rng.below(images as u64) as usize] += 1);
                let of = |(label, ranking): (usize, &Ranking)| {
                    ranking.average_precision(|image| self.has(image)[label], |image| times[image])
                };
                mean(rankings.iter().enumerate().map(of))
            })
            .collect();
        means.sort_by(f64::total_cmp);
        let at = |part: f64| means[(part * (draws - 1) as f64).round() as usize];
        Some((at(0.025), at(0.975)))
    }
}

/// Mean of those that are there; 0 without any.
fn mean(values: impl Iterator<Item = Option<f64>>) -> f64 {
    let (sum, n) = values.flatten().fold((0.0, 0usize), |(sum, n), value| (sum + value, n + 1));
    if n == 0 { 0.0 } else { sum / n as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Fixture {
        threshold: f32,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        scores: Vec<Vec<f32>>,
        has: Vec<Vec<u8>>,
        average_precision: Vec<f64>,
        mean_average_precision: f64,
        micro_f1: f64,
        macro_f1: f64,
        subset_accuracy: f64,
        hamming_loss: f64,
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    /// `scikit_learn.py` makes the numbers.
    #[test]
    fn the_numbers_are_those_of_scikit_learn() {
        let fixture: Fixture = serde_json::from_str(include_str!("scikit_learn.json")).unwrap();
        for case in fixture.cases {
            let labels = case.average_precision.len();
            let mut scores = Scores::new(labels);
            for (row, has) in case.scores.iter().zip(&case.has) {
                scores.add(row, (0..labels).filter(|&label| has[label] == 1));
            }
            for (found, expected) in scores.average_precisions().into_iter().zip(case.average_precision) {
                close(found.unwrap(), expected);
            }
            close(scores.mean_average_precision(), case.mean_average_precision);
            let counts: Vec<Counts> = (0..labels).map(|i| scores.counts(i, fixture.threshold)).collect();
            let mut all = Counts::default();
            counts.iter().for_each(|&counts| all.add(counts));
            close(all.f1(), case.micro_f1);
            close(counts.iter().map(Counts::f1).sum::<f64>() / labels as f64, case.macro_f1);
            close(scores.subset_accuracy(&vec![fixture.threshold; labels]), case.subset_accuracy);
            let wrong = (all.false_alarms + all.misses) as f64;
            close(wrong / (scores.images() * labels) as f64, case.hamming_loss);
        }
    }

    #[test]
    fn an_interval_holds_the_value_and_is_narrow_for_many_images() {
        let width = |images: usize| {
            let mut scores = Scores::new(2);
            let mut rng = Rng::new(3);
            for _ in 0..images {
                let has = [rng.below(3) == 0, rng.below(2) == 0];
                let score = |has: bool, rng: &mut Rng| 0.4 * f32::from(u8::from(has)) + 0.6 * rng.unit_f32();
                let row = has.map(|has| score(has, &mut rng));
                scores.add(&row, (0..2).filter(|&label| has[label]));
            }
            let (low, high) = scores.interval().unwrap();
            let value = scores.mean_average_precision();
            assert!(low < value && value < high, "{low} {value} {high}");
            high - low
        };
        assert!(width(2000) < 0.5 * width(100));
        assert_eq!(Scores::new(2).interval(), None);
    }

    #[test]
    fn a_label_that_no_image_has_does_not_count() {
        let mut scores = Scores::new(2);
        scores.add(&[0.9, 0.8], [0]);
        scores.add(&[0.1, 0.9], []);
        assert_eq!(scores.average_precisions(), [Some(1.0), None]);
        close(scores.mean_average_precision(), 1.0);
        assert_eq!(Scores::new(1).mean_average_precision(), 0.0);
    }
}
