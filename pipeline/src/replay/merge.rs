//! What a model keeps that has learnt further classes.

use super::files::{Kept, Replay};
use super::sample::{HELD_OUT, Limit, TRAINING, sample};

impl Replay {
    /// The images of both within the limits of one run. Labels of `new` are those of the grown model, which counts old
    /// classes as before.
    pub(crate) fn merged(&self, new: &Replay, seed: u64) -> Replay {
        let mut seen: Vec<u64> = self.seen.iter().chain(&new.seen).copied().collect();
        seen.sort_unstable();
        seen.dedup();
        let part = |old: &Kept, new: &Kept, limit| old.merged(new, (self.len, limit), seed);
        Replay {
            len: self.len,
            train: part(&self.train, &new.train, TRAINING),
            val: part(&self.val, &new.val, HELD_OUT),
            test: part(&self.test, &new.test, HELD_OUT),
            seen,
            data: self.data.iter().chain(&new.data).cloned().collect(),
        }
    }
}

impl Kept {
    fn merged(&self, new: &Kept, (len, limit): (usize, Limit), seed: u64) -> Kept {
        let labels: Vec<u32> = self.labels.iter().chain(&new.labels).copied().collect();
        let places: Vec<usize> = (0..labels.len()).collect();
        let mut kept = Kept { of: self.of + new.of, ..Kept::default() };
        for place in sample(&places, |place| labels[place], limit, seed) {
            let (rows, place_in) = match place.checked_sub(self.labels.len()) {
                None => (&self.features, place),
                Some(place) => (&new.features, place),
            };
            kept.features.extend_from_slice(&rows[place_in * len..][..len]);
            kept.labels.push(labels[place]);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_kept_within_the_limits_of_one() {
        let rows = |labels: &[u32], first: f32| Kept {
            features: (0..labels.len()).flat_map(|i| [first, i as f32]).collect(),
            labels: labels.to_vec(),
            of: labels.len(),
        };
        let old = rows(&[0, 1, 0, 1, 0], 1.0);
        let new = rows(&[2, 2, 0], 2.0);
        let all = old.merged(&new, (2, TRAINING), 3);
        assert_eq!((all.of, &all.labels[..]), (8, &[0, 1, 0, 1, 0, 2, 2, 0][..]));
        assert_eq!(all.features[..10], old.features[..]);
        assert_eq!(all.features[10..], new.features[..]);
        let few = old.merged(&new, (2, Limit { per_class: 2, all: 100 }), 3);
        assert_eq!((few.of, few.labels.len(), few.features.len()), (8, 6, 12));
        let seen = |seen: &[u64]| Replay { len: 2, seen: seen.to_vec(), ..Replay::default() };
        assert_eq!(seen(&[1, 5]).merged(&seen(&[2, 5, 9]), 3).seen, [1, 2, 5, 9]);
    }
}
