//! Passes over images in which every class counts the same.

use std::collections::BTreeMap;

use ocelli_datasets::rng::shuffle;

use crate::order::MAX_REPEATS;

/// Draws passes.
pub(crate) struct Balanced {
    classes: Vec<Class>,
    /// Images that a class gives to a pass.
    share: usize,
    seed: u64,
}

/// The images of a class in the order in which they are taken; the next one is at `next`.
struct Class {
    label: u32,
    images: Vec<usize>,
    next: usize,
    rounds: u64,
}

impl Balanced {
    /// Over images with these labels. A class gives as many as the mean over the classes, large ones in turns, small ones
    /// again and again, at most as often as in training with the setting `sampling`.
    pub(crate) fn new(labels: &[u32], seed: u64) -> Self {
        let mut by_label: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        labels.iter().enumerate().for_each(|(place, &label)| by_label.entry(label).or_default().push(place));
        let share = labels.len().div_ceil(by_label.len().max(1));
        let class = |(label, images): (u32, Vec<usize>)| {
            let next = images.len();
            Class { label, images, next, rounds: 0 }
        };
        Balanced { classes: by_label.into_iter().map(class).collect(), share, seed }
    }

    /// Images of a pass.
    pub(crate) fn images(&self) -> usize {
        self.classes.iter().map(|class| share_of(class, self.share)).sum()
    }

    /// The images of the next pass.
    pub(crate) fn pass(&mut self, number: usize) -> Vec<usize> {
        let mut places = Vec::with_capacity(self.images());
        for class in &mut self.classes {
            for _ in 0..share_of(class, self.share) {
                if class.next == class.images.len() {
                    shuffle(&mut class.images, self.seed ^ u64::from(class.label) << 32 ^ class.rounds);
                    (class.next, class.rounds) = (0, class.rounds + 1);
                }
                places.push(class.images[class.next]);
                class.next += 1;
            }
        }
        shuffle(&mut places, self.seed ^ number as u64);
        places
    }
}

fn share_of(class: &Class, share: usize) -> usize {
    share.min(class.images.len() * MAX_REPEATS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_count_the_same_and_no_image_is_forgotten() {
        // 300 images of class 0, 30 of class 1, 2 of class 3.
        let labels: Vec<u32> =
            (0..332).map(|i| if i < 300 { 0 } else { 1 + 2 * u32::from(i >= 330) }).collect();
        let mut balanced = Balanced::new(&labels, 5);
        let mut again = Balanced::new(&labels, 5);
        assert_eq!(balanced.images(), 111 + 111 + 20);
        let mut taken: Vec<i32> = vec![0; labels.len()];
        for number in 0..30 {
            let pass = balanced.pass(number);
            assert_eq!((pass.len(), &pass), (balanced.images(), &again.pass(number)));
            pass.into_iter().for_each(|place| taken[place] += 1);
        }
        let of = |range: std::ops::Range<usize>| taken[range].to_vec();
        let spread = |counts: &[i32]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
        assert!(spread(&of(0..300)) <= 1 && spread(&of(300..330)) <= 1 && of(330..332) == [300, 300]);
    }
}
