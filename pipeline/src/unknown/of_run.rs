//! The threshold of a run's model: class means from its training images, the rest from its validation images.

use std::collections::HashMap;

use ocelli_engine::model_file::Rejection;

use super::learn::{HeldOut, learn};
use super::score::class_means;
use crate::features::Answers;

/// Most training images of a class that its mean is taken over: a hundred directions leave it within a tenth of their spread.
pub(crate) const PER_CLASS: usize = 100;

/// Those of `images`, in their order, whose features tell where the classes lie.
pub(crate) fn for_means(images: &[usize], class: impl Fn(usize) -> u32) -> Vec<usize> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    let mut first = |&i: &usize| {
        let count = counts.entry(class(i)).or_default();
        *count += 1;
        *count <= PER_CLASS
    };
    images.iter().copied().filter(|i| first(i)).collect()
}

/// Learns when an image is unknown by what the network makes of training images, of which those that [`for_means`] names
/// are looked at, and of validation images. `None` where there are too few of these, or the network has no features.
pub(crate) fn learn_from(
    trained: &Answers,
    held_out: &Answers,
    classes: usize,
    false_rejects: f32,
) -> Option<Rejection> {
    if false_rejects == 0.0 || held_out.labels.is_empty() || held_out.features.len == 0 {
        return None;
    }
    let places: Vec<usize> = (0..trained.labels.len()).collect();
    let sample = for_means(&places, |place| trained.labels[place]);
    let rows = sample.iter().map(|&place| (trained.labels[place] as usize, trained.features.row(place)));
    let means = class_means(rows, (classes, trained.features.len));
    let held_out = HeldOut {
        logits: held_out.features.logits.clone(),
        features: held_out.features.values.clone(),
        labels: held_out.labels.iter().map(|&label| Some(label as usize)).collect(),
    };
    learn(&held_out, means, false_rejects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_told_by_its_first_images() {
        let images: Vec<usize> = (0..250).rev().collect();
        let found = for_means(&images, |i| (i % 2) as u32);
        assert_eq!(found, images[..200]);
        assert_eq!(for_means(&images[..7], |_| 0), images[..7]);
    }
}
