//! Training, validation and test: declared by the layout, or drawn by content hash.

use crate::error::DatasetError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// SHA-256 of an image's content.
pub type ContentHash = [u8; 32];

/// The part of a data set an image belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Weights are fitted to these.
    Train,
    /// Decisions (best epoch, early stopping) are made on these.
    Val,
    /// Looked at once, at the end.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

/// How much of an undivided data set goes to validation and test; the rest is for training.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct SplitFractions {
    /// Fraction for validation, 0 for none. Where only the test part is declared, a fraction of the training part.
    pub val: f32,
    /// Fraction for test, 0 for none.
    pub test: f32,
}

impl Default for SplitFractions {
    /// 10 % each.
    fn default() -> Self {
        Self { val: 0.1, test: 0.1 }
    }
}

impl SplitFractions {
    /// Checks that both are at least 0 and their sum is below 1.
    ///
    /// # Errors
    /// [`DatasetError::BadFractions`].
    pub fn validate(&self) -> Result<(), DatasetError> {
        let fine = self.val >= 0.0 && self.test >= 0.0 && self.val + self.test < 1.0;
        fine.then_some(()).ok_or(DatasetError::BadFractions { val: self.val, test: self.test })
    }
}

/// One image as the division sees it.
pub(crate) struct Candidate<'a> {
    pub(crate) class: u32,
    pub(crate) declared: Option<Split>,
    pub(crate) hash: &'a ContentHash,
}

/// Images of a class up to which each of its parts is kept within one image of its share.
const SMALL_CLASS: f64 = 50.0;

/// Part of its share by which a part may be off for the images beyond [`SMALL_CLASS`]. At 1000 images and 10 % this is
/// two standard deviations of what the hash draws, so for large classes the hash almost always decides alone.
const SLACK: f64 = 0.2;

/// Fractions are `f32`: 0.1 is a little more than a tenth, and 50 images times 0.1 must not be more than 5.
const ROUNDING: f64 = 1e-6;

/// The split of every candidate, in their order.
///
/// Declared splits are kept. What is divided further depends on what the layout declares:
/// * nothing, or training only: all images into train, val and test;
/// * test but no val: val is taken out of train;
/// * val: nothing, images without a declaration are for training.
///
/// An image's place is a threshold on SHA-256(seed, content hash), corrected for each class by as few images as it
/// takes, those nearest to the thresholds first, so that
/// * every class has something to train on, and a class of three or more different images something in each part;
/// * a part of a class of `n` images has its share, `n` times the fraction, within one image for `n` up to
///   [`SMALL_CLASS`], within `1 + SLACK * fraction * (n - SMALL_CLASS)` images above.
///
/// The order of the files does not matter, and copies of one content stay together. Contents that two classes share are
/// not moved, as that could harm the other class; they, and contents with many copies, are why a class may be further
/// off. In the sweeps of the tests a file that was added moved at most three contents of its class, mostly none.
pub(crate) fn divide(candidates: &[Candidate], fractions: SplitFractions, seed: u64) -> Vec<Split> {
    let declares = |split| candidates.iter().any(|c| c.declared == Some(split));
    let (val, test) = match (declares(Split::Val), declares(Split::Test)) {
        (true, _) => (0.0, 0.0),
        (false, true) => (fractions.val, 0.0),
        (false, false) => (fractions.val, fractions.test),
    };
    let mut splits: Vec<Split> = candidates.iter().map(|c| c.declared.unwrap_or(Split::Train)).collect();
    if val <= 0.0 && test <= 0.0 {
        return splits;
    }
    let (val, test) = (f64::from(val), f64::from(test));
    let (test_below, val_below) = (threshold(test), threshold(test + val));
    let pool: Vec<usize> = (0..candidates.len()).filter(|&i| splits[i] == Split::Train).collect();
    let mut groups: BTreeMap<&ContentHash, Group> = BTreeMap::new();
    for &i in &pool {
        let group = groups.entry(candidates[i].hash).or_insert_with(|| {
            let key = hash_key(seed, candidates[i].hash);
            let split = match key {
                k if k < test_below => Split::Test,
                k if k < val_below => Split::Val,
                _ => Split::Train,
            };
            Group { key, split, images: BTreeMap::new() }
        });
        *group.images.entry(candidates[i].class).or_default() += 1;
    }
    let mut groups: Vec<(&ContentHash, Group)> = groups.into_iter().collect();
    groups.sort_by_key(|(hash, group)| (group.key, *hash));
    let hashes: Vec<&ContentHash> = groups.iter().map(|(hash, _)| *hash).collect();
    let mut groups: Vec<Group> = groups.into_iter().map(|(_, group)| group).collect();
    let wanted: Vec<(Split, f64)> = [(Split::Val, val), (Split::Test, test)]
        .into_iter()
        .filter(|&(_, fraction)| fraction > 0.0)
        .collect();
    even_out(&mut groups, &wanted);

    let placed: BTreeMap<&ContentHash, Split> =
        hashes.into_iter().zip(groups.iter().map(|group| group.split)).collect();
    for &i in &pool {
        splits[i] = placed[candidates[i].hash];
    }
    splits
}

/// All copies of one content.
struct Group {
    key: u64,
    split: Split,
    /// Copies by class.
    images: BTreeMap<u32, usize>,
}

/// Moves what [`divide`] promises to move. `groups` is sorted by key, so the moves do not depend on the order of the files.
fn even_out(groups: &mut [Group], wanted: &[(Split, f64)]) {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, group) in groups.iter().enumerate() {
        for &class in group.images.keys() {
            members.entry(class).or_default().push(i);
        }
    }
    // The largest key is the one nearest to the training side of the threshold. This move alone may be of a content
    // that two classes share, so all classes have something to train on before any is evened out.
    for of in members.values() {
        if of.iter().all(|&i| groups[i].split != Split::Train) {
            groups[*of.last().expect("a class is listed because it has a group")].split = Split::Train;
        }
    }
    for (&class, of) in &members {
        let images = |i: usize, groups: &[Group]| groups[i].images[&class];
        let total: usize = of.iter().map(|&i| images(i, groups)).sum();
        let parts: Vec<Part> = wanted
            .iter()
            .map(|&(split, fraction)| Part::new(split, fraction * total as f64, fraction, of.len()))
            .collect();
        let mut class = Class { id: class, members: of, groups };
        for (part, other) in parts.iter().zip(parts.iter().rev()) {
            class.take_from(part, (part.split != other.split).then_some(other));
        }
        for (part, other) in parts.iter().zip(parts.iter().rev()) {
            class.give_to(part, (part.split != other.split).then_some(other));
        }
    }
}

/// How many images of a class a part may have.
struct Part {
    split: Split,
    least: usize,
    most: usize,
    /// Whether the class has enough different images to be in every part.
    never_empty: bool,
}

impl Part {
    fn new(split: Split, share: f64, fraction: f64, contents: usize) -> Part {
        let never_empty = contents >= 3;
        let off = 1.0 + SLACK * (share - SMALL_CLASS * fraction).max(0.0) + ROUNDING;
        let least = ((share - off).ceil().max(0.0) as usize).max(usize::from(never_empty));
        Part { split, least, most: ((share + off).floor() as usize).max(least), never_empty }
    }
}

/// The contents of one class, by key.
struct Class<'a> {
    id: u32,
    members: &'a [usize],
    groups: &'a mut [Group],
}

impl Class<'_> {
    fn count(&self, split: Split) -> usize {
        self.members.iter().filter(|&&i| self.groups[i].split == split).map(|&i| self.images(i)).sum()
    }

    fn images(&self, group: usize) -> usize {
        self.groups[group].images[&self.id]
    }

    /// Contents of a part that no other class has, by key.
    fn movable(&self, split: Split) -> impl DoubleEndedIterator<Item = usize> {
        let own = move |&i: &usize| self.groups[i].split == split && self.groups[i].images.len() == 1;
        self.members.iter().copied().filter(own)
    }

    /// Takes images out of a part that has too many, for `other` if that has too few, else for training.
    fn take_from(&mut self, part: &Part, other: Option<&Part>) {
        loop {
            let count = self.count(part.split);
            if count <= part.most {
                return;
            }
            // One with many copies may have to go and leave too few behind.
            let fits = self.movable(part.split).rev().find(|&i| count - self.images(i) >= part.least);
            let Some(moved) = fits.or_else(|| self.movable(part.split).next_back()) else { return };
            let needs = |other: &&Part| {
                let there = self.count(other.split);
                there < other.least && there + self.images(moved) <= other.most
            };
            self.groups[moved].split = other.filter(needs).map_or(Split::Train, |other| other.split);
        }
    }

    /// Gives images to a part that has too few: training images as long as some are left to train on, else what `other`
    /// can do without.
    fn give_to(&mut self, part: &Part, other: Option<&Part>) {
        loop {
            let count = self.count(part.split);
            if count >= part.least {
                return;
            }
            let several =
                |split| self.members.iter().filter(|&&i| self.groups[i].split == split).nth(1).is_some();
            let fits = |i: &usize| count + self.images(*i) <= part.most;
            let moved = if several(Split::Train) {
                self.movable(Split::Train).find(fits)
            } else {
                other.and_then(|other| {
                    let there = self.count(other.split);
                    let spared = |i: &usize| fits(i) && there - self.images(*i) >= other.least;
                    self.movable(other.split).find(spared)
                })
            };
            // A part that is too large is better than an empty one.
            let any = || {
                let donors = [Some(Split::Train), other.map(|other| other.split)];
                let donor = donors.into_iter().flatten().find(|&split| several(split))?;
                self.movable(donor).min_by_key(|&i| self.images(i))
            };
            let moved = moved.or_else(|| if part.never_empty && count == 0 { any() } else { None });
            let Some(moved) = moved else { return };
            self.groups[moved].split = part.split;
        }
    }
}

/// The first 64 bits of SHA-256(seed as little-endian, content hash).
fn hash_key(seed: u64, hash: &ContentHash) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(hash).finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"))
}

/// The key below which a fraction of all keys lies.
fn threshold(fraction: f64) -> u64 {
    (fraction * 2f64.powi(64)) as u64
}

#[cfg(test)]
mod tests;
