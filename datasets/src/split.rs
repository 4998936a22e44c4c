//! Training, validation and test: declared by the layout, or drawn by content hash.

use crate::layout::words::exact_split;
use crate::{ContentHash, DatasetError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

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

impl FromStr for Split {
    type Err = DatasetError;

    /// Every usual name of a split: `train`, `Training`, `valid`, `dev`, `test`, `holdout` and their like.
    fn from_str(text: &str) -> Result<Self, DatasetError> {
        match exact_split(text) {
            Some(split) => Ok(split),
            None => Err(DatasetError::UnknownName {
                what: "split",
                given: text.to_owned(),
                allowed: "train, val, test",
            }),
        }
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

/// The split of every candidate, in their order.
///
/// Declared splits are kept. What is divided further depends on what the layout declares:
/// * nothing, or training only: all images into train, val and test;
/// * test but no val: val is taken out of train;
/// * val: nothing, images without a declaration are for training.
///
/// An image's place is a threshold on SHA-256(seed, content hash), so it depends on no other image: adding files
/// moves none, order does not matter, and copies of one file stay together. Only where that leaves a class of three
/// or more different images without training, validation or test images is the nearest one moved over.
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
    let test_below = threshold(f64::from(test));
    let val_below = threshold(f64::from(test) + f64::from(val));
    let pool: Vec<usize> = (0..candidates.len()).filter(|&i| splits[i] == Split::Train).collect();
    let mut groups: BTreeMap<&ContentHash, Group> = BTreeMap::new();
    for &i in &pool {
        let key = hash_key(seed, candidates[i].hash);
        let split = match key {
            k if k < test_below => Split::Test,
            k if k < val_below => Split::Val,
            _ => Split::Train,
        };
        let group = groups.entry(candidates[i].hash).or_insert(Group { key, split, classes: Vec::new() });
        if !group.classes.contains(&candidates[i].class) {
            group.classes.push(candidates[i].class);
        }
    }
    let mut groups: Vec<(&ContentHash, Group)> = groups.into_iter().collect();
    groups.sort_by_key(|(hash, group)| (group.key, *hash));
    let wanted: Vec<Split> = [(Split::Val, val), (Split::Test, test)]
        .into_iter()
        .filter_map(|(split, fraction)| (fraction > 0.0).then_some(split))
        .collect();
    fill_gaps(&mut groups, &wanted);

    let placed: BTreeMap<&ContentHash, Split> = groups.iter().map(|(hash, g)| (*hash, g.split)).collect();
    for &i in &pool {
        splits[i] = placed[candidates[i].hash];
    }
    splits
}

/// All copies of one content.
struct Group {
    key: u64,
    split: Split,
    classes: Vec<u32>,
}

/// Gives every class something to train on, and classes of three or more contents something in each wanted split.
/// `groups` is sorted by key, so the moves do not depend on the order of the files.
fn fill_gaps(groups: &mut [(&ContentHash, Group)], wanted: &[Split]) {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, (_, group)) in groups.iter().enumerate() {
        for &class in &group.classes {
            members.entry(class).or_default().push(i);
        }
    }
    let count = |groups: &[(&ContentHash, Group)], of: &[usize], split| {
        of.iter().filter(|&&i| groups[i].1.split == split).count()
    };
    // The largest key is the one nearest to the training side of the threshold.
    for of in members.values() {
        if count(groups, of, Split::Train) == 0 {
            groups[*of.last().expect("a class is listed because it has a group")].1.split = Split::Train;
        }
    }
    for of in members.values().filter(|of| of.len() >= 3) {
        for &want in wanted {
            if count(groups, of, want) > 0 {
                continue;
            }
            let donor = [Split::Train, Split::Val, Split::Test]
                .into_iter()
                .find(|&split| split != want && count(groups, of, split) >= 2);
            // A content that two classes share stays: moving it could empty the other class.
            let moved = of
                .iter()
                .copied()
                .find(|&i| Some(groups[i].1.split) == donor && groups[i].1.classes.len() == 1);
            if let Some(i) = moved {
                groups[i].1.split = want;
            }
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
