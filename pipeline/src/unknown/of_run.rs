//! The threshold of a run's model: class means from its training images, the rest from its validation images.

use std::collections::HashMap;

use ocelli_engine::Graph;
use ocelli_engine::model_file::{InnerValue, Rejection};
use ocelli_engine::rejection::class_means;

use super::learn::{HeldOut, Learnt, learn};
use super::spread;
use crate::features::{Answers, Features};

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

/// Widest inner value that is looked at: its spread is a matrix of as many rows.
const WIDEST: u32 = 1024;

/// The inner values of a network that unknown images are told by, each with its channels.
pub(crate) fn inner_values(graph: &Graph) -> Vec<(usize, usize)> {
    let Ok(shapes) = graph.shapes() else { return Vec::new() };
    let narrow = graph.inner_values().into_iter().filter(|&value| shapes[value].c <= WIDEST);
    narrow.map(|value| (value, shapes[value].c as usize)).collect()
}

/// What there is to know of a network.
pub(crate) struct Network<'a> {
    pub(crate) classes: usize,
    /// The [`inner_values`] that it kept.
    pub(crate) values: &'a [(usize, usize)],
    /// Whether its training started from another model's weights.
    pub(crate) fine_tuned: bool,
}

/// Learns when an image is unknown by what the network makes of training images, of which those that [`for_means`] names
/// are looked at, of validation images, and of `strange` ones of no class. `None` where there are too few of
/// the latter, or the network has no features.
pub(crate) fn learn_from(
    (trained, held_out): (&Answers, &Answers),
    strange: &Features,
    network: &Network<'_>,
    false_rejects: f32,
) -> Option<Rejection> {
    let Network { classes, values, fine_tuned } = *network;
    if false_rejects == 0.0 || held_out.labels.is_empty() || held_out.features.len == 0 {
        return None;
    }
    let places: Vec<usize> = (0..trained.labels.len()).collect();
    let sample = for_means(&places, |place| trained.labels[place]);
    let rows = sample.iter().map(|&place| (trained.labels[place] as usize, trained.features.row(place)));
    let means = class_means(rows, (classes, trained.features.len));
    let learnt = Learnt { means, inner: spreads(values, trained, &sample, classes), fine_tuned };
    let Features { logits, values, inner, .. } = &held_out.features;
    let known = held_out.labels.iter().map(|&label| Some(label as usize));
    let nobody = std::iter::repeat_n(None, strange.logits.len() / classes);
    let held_out = HeldOut {
        logits: [&logits[..], &strange.logits].concat(),
        features: [&values[..], &strange.values].concat(),
        inner: [&inner[..], &strange.inner].concat(),
        labels: known.chain(nobody).collect(),
    };
    learn(&held_out, learnt, false_rejects)
}

/// The spread of training images in each inner value; none where one of them says nothing.
fn spreads(
    values: &[(usize, usize)],
    trained: &Answers,
    sample: &[usize],
    classes: usize,
) -> Vec<InnerValue> {
    let labels: Vec<usize> = sample.iter().map(|&place| trained.labels[place] as usize).collect();
    let mut first = 0;
    let fit = |&(value, channels): &(usize, usize)| {
        let Features { inner, inner_len, .. } = &trained.features;
        let rows: Vec<&[f32]> =
            sample.iter().map(|&place| &inner[place * inner_len + first..][..channels]).collect();
        first += channels;
        spread::fit(value as u32, &rows, &labels, classes)
    };
    values.iter().map(fit).collect::<Option<_>>().unwrap_or_default()
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
