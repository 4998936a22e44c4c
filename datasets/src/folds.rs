//! Cross-validation: images dealt into folds of nearly equal size and nearly equal classes.

use crate::split::ContentHash;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The fold of every image, below `folds`, given by class and content hash.
///
/// Copies of one content stay together. Contents are dealt in the order of SHA-256(seed, content hash), each to the fold
/// that has the fewest images of its class, then the fewest in all, then the lowest number; a content that several
/// classes share counts as one of the class with most copies, the lowest of equals. So a class without copies differs by
/// one image at most between folds, and the order of the files does not matter.
pub(crate) fn deal(images: &[(u32, &ContentHash)], folds: usize, seed: u64) -> Vec<usize> {
    let mut contents: BTreeMap<&ContentHash, BTreeMap<u32, usize>> = BTreeMap::new();
    for &(class, hash) in images {
        *contents.entry(hash).or_default().entry(class).or_default() += 1;
    }
    let key = |hash: &ContentHash| {
        let digest = Sha256::new().chain_update(b"fold").chain_update(seed.to_le_bytes()).chain_update(hash);
        <[u8; 32]>::from(digest.finalize())
    };
    let mut order: Vec<([u8; 32], &ContentHash)> = contents.keys().map(|hash| (key(hash), *hash)).collect();
    order.sort_unstable();
    let mut of_class: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let mut in_all = vec![0; folds];
    let mut placed: BTreeMap<&ContentHash, usize> = BTreeMap::new();
    for (_, hash) in order {
        let copies = &contents[hash];
        let most = copies.values().max().copied().unwrap_or(0);
        let class = copies.iter().find(|(_, n)| **n == most).map_or(0, |(class, _)| *class);
        let counts = of_class.entry(class).or_insert_with(|| vec![0; folds]);
        let fold = (0..folds).min_by_key(|&fold| (counts[fold], in_all[fold], fold)).unwrap_or(0);
        counts[fold] += most;
        in_all[fold] += copies.values().sum::<usize>();
        placed.insert(hash, fold);
    }
    images.iter().map(|(_, hash)| placed[hash]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> ContentHash {
        Sha256::digest(n.to_le_bytes()).into()
    }

    #[test]
    fn classes_and_folds_are_even_for_every_number_of_folds() {
        for folds in 2..=10usize {
            for (a, b, c) in [(20, 20, 20), (7, 50, 23), (2, 3, 100), (0, 11, 1)] {
                let classes = (0..a).map(|_| 0).chain((0..b).map(|_| 1)).chain((0..c).map(|_| 2));
                let hashes: Vec<(u32, ContentHash)> =
                    classes.enumerate().map(|(n, class)| (class, hash(n as u64))).collect();
                let images: Vec<(u32, &ContentHash)> =
                    hashes.iter().map(|(class, hash)| (*class, hash)).collect();
                let found = deal(&images, folds, 7);
                let mut all = vec![0; folds];
                for class in 0..3 {
                    let mut counts = vec![0; folds];
                    let of = images.iter().zip(&found).filter(|((c, _), _)| *c == class);
                    of.for_each(|(_, &fold)| counts[fold] += 1);
                    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                    assert!(most - least <= 1, "{folds} {counts:?}");
                    counts.iter().zip(&mut all).for_each(|(n, all)| *all += n);
                }
                let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
                assert!(most - least <= 3, "{folds} {all:?}");
                // Neither the order of the files nor anything but the seed decides.
                let reversed: Vec<(u32, &ContentHash)> = images.iter().rev().copied().collect();
                let again: Vec<usize> = deal(&reversed, folds, 7).into_iter().rev().collect();
                assert_eq!(found, again);
            }
        }
        let hashes: Vec<ContentHash> = (0..40).map(hash).collect();
        let images: Vec<(u32, &ContentHash)> = hashes.iter().map(|hash| (0, hash)).collect();
        assert_ne!(deal(&images, 5, 1), deal(&images, 5, 2));
    }

    #[test]
    fn copies_stay_together_also_across_classes() {
        let hashes: Vec<ContentHash> = (0..30).map(hash).collect();
        let mut images: Vec<(u32, &ContentHash)> = Vec::new();
        for (n, hash) in hashes.iter().enumerate() {
            for copy in 0..1 + n % 3 {
                images.push(((copy % 2) as u32, hash));
            }
        }
        let found = deal(&images, 4, 3);
        for (i, (_, a)) in images.iter().enumerate() {
            for (j, (_, b)) in images.iter().enumerate() {
                assert!(a != b || found[i] == found[j]);
            }
        }
        assert!(deal(&[], 3, 1).is_empty());
    }
}
