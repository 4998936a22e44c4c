//! Which images of a run are kept as features.

use std::collections::BTreeMap;

use ocelli_datasets::rng::shuffle;

/// Most images of a class and of all classes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) per_class: usize,
    pub(crate) all: usize,
}

/// Of training images: 20,000 times 1,280 features are 98 MiB.
pub(crate) const TRAINING: Limit = Limit { per_class: 500, all: 20_000 };

/// Of validation and of test images, each.
pub(crate) const HELD_OUT: Limit = Limit { per_class: 200, all: 5_000 };

/// Most training images of a number of classes.
pub(crate) fn most_kept(classes: usize) -> usize {
    classes.saturating_mul(TRAINING.per_class).min(TRAINING.all.max(classes))
}

/// Draws images within a limit by a seed: all classes give as many as the others, or all they have where that is less.
/// Ascending where `images` are.
pub(crate) fn sample(images: &[usize], class: impl Fn(usize) -> u32, limit: Limit, seed: u64) -> Vec<usize> {
    let mut by_class: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    images.iter().enumerate().for_each(|(place, &i)| by_class.entry(class(i)).or_default().push(place));
    let counts: Vec<usize> = by_class.values().map(Vec::len).collect();
    let quota = quota(&counts, limit);
    let mut places: Vec<usize> = Vec::with_capacity(limit.all.min(images.len()));
    for (class, mut of_class) in by_class {
        if of_class.len() > quota {
            shuffle(&mut of_class, seed ^ u64::from(class) << 32);
            of_class.truncate(quota);
        }
        places.extend(of_class);
    }
    places.sort_unstable();
    places.into_iter().map(|place| images[place]).collect()
}

/// The most images of each class that stay within the limit; at least one, however many classes there are.
fn quota(counts: &[usize], limit: Limit) -> usize {
    let taken = |quota: usize| counts.iter().map(|&count| count.min(quota)).sum::<usize>();
    (1..=limit.per_class).rev().find(|&quota| taken(quota) <= limit.all).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_give_equally_many_and_small_ones_all() {
        // 1000 images of class 0, 10 of class 1, 300 of class 2.
        let class = |i: usize| if i < 1000 { 0 } else { 1 + u32::from(i >= 1010) };
        let images: Vec<usize> = (0..1310).collect();
        let count = |found: &[usize]| {
            let mut counts = [0; 3];
            found.iter().for_each(|&i| counts[class(i) as usize] += 1);
            counts
        };
        let found = |per_class, all| sample(&images, class, Limit { per_class, all }, 7);
        assert_eq!(count(&found(500, 20_000)), [500, 10, 300]);
        assert_eq!(count(&found(500, 210)), [100, 10, 100]);
        assert_eq!(count(&found(500, 2)), [1, 1, 1]);
        assert_eq!(found(5000, 20_000), images);
        let some = found(100, 20_000);
        assert!(some.is_sorted() && some[..100] != images[..100]);
        assert_eq!(some, found(100, 20_000));
        assert_ne!(some, sample(&images, class, Limit { per_class: 100, all: 20_000 }, 8));
        assert!(sample(&[], class, TRAINING, 1).is_empty());
    }
}
