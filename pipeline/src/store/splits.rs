//! The split that an image gets when it comes, and keeps.
//!
//! What an archive declares is kept. Where it declares no held-out images, a fifth of each class is drawn, half of it for
//! test and half for validation, counted with the images that the class has already: of 3 to 7 images one is held out, of 8
//! to 12 two. Which of the new ones follows from their content. Nothing that comes later moves an image.

use ocelli_datasets::Split;

use crate::store::database::SplitCounts;
use crate::store::image::Id;

/// What an upload says about splits as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) val: bool,
    pub(super) test: bool,
}

impl Declared {
    pub(super) fn of(splits: impl Iterator<Item = Option<Split>>) -> Declared {
        splits.fold(Declared::default(), |found, split| Declared {
            val: found.val || split == Some(Split::Val),
            test: found.test || split == Some(Split::Test),
        })
    }
}

/// The splits of the new images of one class, in their order. `there` are the images that the class has, `fresh` the new
/// ones with what was declared of each.
pub(super) fn draw(there: SplitCounts, fresh: &[(Id, Option<Split>)], declared: Declared) -> Vec<Split> {
    let mut splits: Vec<Split> = fresh.iter().map(|(_, split)| split.unwrap_or(Split::Train)).collect();
    let all = there.iter().sum::<usize>() + fresh.len();
    // Somebody divided them.
    if declared.val || declared.test {
        return splits;
    }
    let held_out = (all + 2) / 5;
    let (test, val) = (held_out.div_ceil(2), held_out / 2);
    let have = |split: Split, place: usize| there[place] + splits.iter().filter(|own| **own == split).count();
    let wanted = [
        (Split::Test, test.saturating_sub(have(Split::Test, 2))),
        (Split::Val, val.saturating_sub(have(Split::Val, 1))),
    ];
    let mut free: Vec<usize> = (0..fresh.len()).filter(|&i| splits[i] == Split::Train).collect();
    free.sort_by_key(|&i| fresh[i].0);
    // Something is left to train on.
    let most = if there[0] > 0 { free.len() } else { free.len().saturating_sub(1) };
    let mut drawn = free.into_iter().take(most);
    for (split, count) in wanted {
        drawn.by_ref().take(count).for_each(|i| splits[i] = split);
    }
    splits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(from: usize, n: usize) -> Vec<(Id, Option<Split>)> {
        (from..from + n).map(|i| (Id::of(&i.to_le_bytes()), None)).collect()
    }

    fn counts(splits: &[Split]) -> SplitCounts {
        [Split::Train, Split::Val, Split::Test]
            .map(|split| splits.iter().filter(|own| **own == split).count())
    }

    #[test]
    fn a_fifth_is_held_out_however_the_images_come() {
        for n in 0..200 {
            let at_once = counts(&draw([0; 3], &ids(0, n), Declared::default()));
            let mut one_by_one = [0; 3];
            for i in 0..n {
                let split = draw(one_by_one, &ids(i, 1), Declared::default())[0];
                one_by_one[counts(&[split]).iter().position(|&c| c == 1).unwrap()] += 1;
            }
            assert_eq!(at_once, one_by_one, "{n} images");
            let held_out = at_once[1] + at_once[2];
            assert_eq!(held_out, (n + 2) / 5);
            assert!(at_once[2] >= at_once[1] && at_once[2] - at_once[1] <= 1 && (n == 0 || at_once[0] > 0));
        }
        assert_eq!(counts(&draw([0; 3], &ids(0, 5), Declared::default())), [4, 0, 1]);
    }

    #[test]
    fn what_is_declared_stays_and_decides_what_is_drawn() {
        let mut images = ids(0, 30);
        images[..3].iter_mut().for_each(|image| image.1 = Some(Split::Val));
        let declared = Declared::of(images.iter().map(|image| image.1));
        assert_eq!(declared, Declared { val: true, test: false });
        assert_eq!(counts(&draw([0; 3], &images, declared)), [27, 3, 0]);

        images[..3].iter_mut().for_each(|image| image.1 = Some(Split::Test));
        let declared = Declared::of(images.iter().map(|image| image.1));
        let splits = draw([0; 3], &images, declared);
        assert!(splits[..3].iter().all(|split| *split == Split::Test));
        assert_eq!(counts(&splits), [27, 0, 3]);

        // All declared for training: as if nothing was declared.
        let train: Vec<_> = ids(0, 10).into_iter().map(|(id, _)| (id, Some(Split::Train))).collect();
        assert_eq!(counts(&draw([0; 3], &train, Declared::default())), [8, 1, 1]);
        // The share of what is there already counts.
        assert_eq!(counts(&draw([80, 10, 10], &ids(0, 5), Declared::default())), [4, 0, 1]);
        assert_eq!(counts(&draw([50, 30, 30], &ids(0, 10), Declared::default())), [10, 0, 0]);
    }
}
