//! What a run keeps of its images.

use std::collections::HashMap;

use super::files::{DataName, Kept, Replay, short_hash};
use super::sample::{HELD_OUT, TRAINING, sample};
use crate::data::Loaded;
use crate::features::Answers;

/// The images of a run whose features are kept.
pub(crate) struct Selection {
    pub(crate) train: Vec<usize>,
    pub(crate) val: Vec<usize>,
    pub(crate) test: Vec<usize>,
}

/// What the network makes of them, and perhaps of others.
pub(crate) struct Computed<'a> {
    pub(crate) train: &'a Answers,
    pub(crate) val: &'a Answers,
    pub(crate) test: &'a Answers,
}

impl Selection {
    /// Draws them by a seed.
    pub(crate) fn of(loaded: &Loaded, seed: u64) -> Self {
        let Loaded { set, train, val, test, .. } = loaded;
        let drawn = |images: &[usize], limit| sample(images, |i| set.class(i), limit, seed);
        Selection { train: drawn(train, TRAINING), val: drawn(val, HELD_OUT), test: drawn(test, HELD_OUT) }
    }

    /// The replay of a run: all images of the selection were computed.
    pub(crate) fn replay(&self, loaded: &Loaded, computed: &Computed<'_>, data: DataName) -> Replay {
        let mut seen: Vec<u64> = (0..loaded.set.len()).map(|i| short_hash(loaded.set.hash(i))).collect();
        seen.sort_unstable();
        seen.dedup();
        Replay {
            len: computed.train.features.len,
            train: kept(&self.train, computed.train, loaded.train.len()),
            val: kept(&self.val, computed.val, loaded.val.len()),
            test: kept(&self.test, computed.test, loaded.test.len()),
            seen,
            data: vec![data],
        }
    }
}

fn kept(images: &[usize], computed: &Answers, of: usize) -> Kept {
    let places: HashMap<usize, usize> = computed.images.iter().copied().zip(0..).collect();
    let mut kept = Kept { of, ..Kept::default() };
    for image in images {
        let place = places[image];
        kept.features.extend_from_slice(computed.features.row(place));
        kept.labels.push(computed.labels[place]);
    }
    kept
}
