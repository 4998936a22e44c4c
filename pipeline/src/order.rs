//! Which training images an epoch takes, in which order, and how each is varied: functions of recipe, data and the
//! number of the epoch, so that a resumed run goes on where it was.

use ocelli_datasets::rng::{shuffle, split_mix64};
use ocelli_datasets::{Augment, DatasetError, ImageSet};
use ocelli_engine::{EngineError, Mixed, StepStats, Trainer};

use crate::data::Loaded;
use crate::mixing::Mixing;
use crate::recipe::{Balance, Recipe};

/// What random numbers are drawn for: one seed serves several purposes that must not share numbers.
const ORDER: u64 = 1;
const AUGMENT: u64 = 2;
const BALANCE: u64 = 3;
const MIX: u64 = 4;

/// Balanced sampling takes no image more often than this in an epoch: of a class with few images the network would learn
/// these by heart.
pub(crate) const MAX_REPEATS: usize = 10;

/// An image in its place in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pick {
    image: usize,
    /// How often the epoch took the image before: each time it is varied otherwise.
    repeat: u32,
}

/// The images of an epoch, by their places in it.
pub(crate) struct Epoch<'a> {
    set: &'a ImageSet,
    picks: Vec<Pick>,
    augment: Augment,
    mixing: Mixing,
    /// Width and height of the images.
    size: (u32, u32),
    seed: u64,
    number: u32,
}

impl<'a> Epoch<'a> {
    /// Epoch `number`, from 1, of a resolved recipe, with images of the full size.
    pub(crate) fn new(loaded: &'a Loaded, recipe: &Recipe, number: u32) -> Self {
        let pre = loaded.set.preprocessing();
        Epoch::sized(loaded, recipe, number, (pre.width, pre.height))
    }

    /// Epoch `number`, from 1, of a resolved recipe, with images of `size`, `width x height`.
    pub(crate) fn sized(loaded: &'a Loaded, recipe: &Recipe, number: u32, size: (u32, u32)) -> Self {
        let Loaded { set, train, .. } = loaded;
        let picks = match recipe.balance {
            Balance::Sampling => {
                let mut classes = vec![Vec::new(); set.classes().len()];
                train.iter().for_each(|&image| classes[set.class(image) as usize].push(image));
                balanced(&classes, recipe.seed, number)
            }
            Balance::Auto | Balance::None | Balance::Weights => {
                train.iter().map(|&image| Pick { image, repeat: 0 }).collect()
            }
        };
        let level = Augment::new(recipe.augment);
        let hflip = recipe.hflip.expect("the recipe is resolved") && level.hflip;
        Epoch {
            set,
            picks: in_order(picks, recipe.seed, number, batch(recipe, loaded)),
            augment: Augment { hflip, ..level },
            mixing: Mixing { mixup: recipe.mixup, cutmix: recipe.cutmix, size },
            size,
            seed: recipe.seed,
            number,
        }
    }

    /// The places, in order.
    pub(crate) fn places(&self) -> Vec<usize> {
        (0..self.picks.len()).collect()
    }

    /// One step of training on the images `x` at some places, which were mixed so that each kept a share of its own.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) fn step(
        &self,
        trainer: &mut Trainer,
        (places, share): (&[usize], Option<f32>),
        x: &[f32],
        lr: f32,
    ) -> Result<StepStats, EngineError> {
        let partners: Vec<usize> = places.iter().rev().copied().collect();
        self.step_with(trainer, ([places, &partners], share), x, lr)
    }

    /// As [`Epoch::step`] on images that were each mixed with that at the place `partners` has for it.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) fn step_with(
        &self,
        trainer: &mut Trainer,
        ([places, partners], share): ([&[usize]; 2], Option<f32>),
        x: &[f32],
        lr: f32,
    ) -> Result<StepStats, EngineError> {
        let labels_at = |place: usize| self.set.labels(self.picks[place].image);
        if self.set.is_multi_label() {
            let mut targets = vec![0.0; places.len() * self.set.classes().len()];
            let rows = targets.chunks_exact_mut(self.set.classes().len());
            for ((row, &place), &other) in rows.zip(places).zip(partners) {
                let own = share.unwrap_or(1.0);
                labels_at(place).iter().for_each(|&label| row[label as usize] += own);
                if own < 1.0 {
                    labels_at(other).iter().for_each(|&label| row[label as usize] += 1.0 - own);
                }
                // Two shares of one label may add up to a little more than one.
                row.iter_mut().for_each(|target| *target = target.min(1.0));
            }
            return trainer.step_targets(x, &targets, lr);
        }
        let labels: Vec<u32> = places.iter().map(|&place| labels_at(place)[0]).collect();
        match share {
            None => trainer.step(x, &labels, lr),
            Some(share) => {
                let others: Vec<u32> = partners.iter().map(|&place| labels_at(place)[0]).collect();
                let share = vec![share; labels.len()];
                trainer.step_mixed(x, Mixed { labels: &labels, others: &others, share: &share }, lr)
            }
        }
    }

    /// Writes the varied image at a place to `x`, as the network's input.
    ///
    /// # Errors
    /// Those of reading its pixels.
    pub(crate) fn fill(&self, place: usize, x: &mut [f32]) -> Result<(), DatasetError> {
        let Pick { image, repeat } = self.picks[place];
        let source = self.set.source_index(image) as u64;
        let key = match repeat {
            0 => key(&[self.seed, AUGMENT, self.number.into(), source]),
            _ => key(&[self.seed, AUGMENT, self.number.into(), source, repeat.into()]),
        };
        self.set.fill_augmented_to(image, self.size, (&self.augment, key), x)
    }

    /// Mixes the `n` images `x` of a step of this epoch, each with the one in its place from the end, by the recipe. Gives
    /// the share that each keeps of its own; `None` where nothing is mixed.
    pub(crate) fn mix(&self, step: usize, n: usize, x: &mut [f32]) -> Option<f32> {
        let key = || key(&[self.seed, MIX, self.number.into(), step as u64]);
        self.mixing.is_on().then(|| self.mixing.apply(key(), n, x))
    }

    /// As [`Epoch::mix`], where `x` are the images of a rank and behind them their partners, which other ranks may have: the
    /// rank's own are mixed, to the bits that they have where all images of the step are in one place.
    pub(crate) fn mix_own(&self, step: usize, n: usize, x: &mut [f32]) -> Option<f32> {
        let key = || key(&[self.seed, MIX, self.number.into(), step as u64]);
        self.mixing.is_on().then(|| self.mixing.apply_to_own(key(), n, x))
    }

    /// The places of a rank's images in a step, of which `places` are all, and those of their partners where images are mixed.
    pub(crate) fn own_places(&self, places: &[usize], own: std::ops::Range<usize>) -> Vec<usize> {
        let partners = own.clone().map(|i| places[places.len() - 1 - i]);
        let mixed = self.mixing.is_on();
        places[own].iter().copied().chain(partners.filter(|_| mixed)).collect()
    }

    /// The two halves of [`Epoch::own_places`]; without mixing the second is not used.
    pub(crate) fn own_and_partners<'p>(&self, places: &'p [usize]) -> [&'p [usize]; 2] {
        match self.mixing.is_on() {
            true => {
                let (own, partners) = places.split_at(places.len() / 2);
                [own, partners]
            }
            false => [places, &[]],
        }
    }
}

/// Images in a step.
pub(crate) fn batch(recipe: &Recipe, loaded: &Loaded) -> usize {
    (recipe.batch as usize).min(loaded.train.len())
}

/// Shuffled for an epoch. A single image left over for the last batch is dropped, another one in every epoch: batch
/// statistics of one image are those of no population.
fn in_order<T>(mut order: Vec<T>, seed: u64, epoch: u32, batch: usize) -> Vec<T> {
    shuffle(&mut order, key(&[seed, ORDER, u64::from(epoch)]));
    if batch > 1 && order.len() > batch && order.len() % batch == 1 {
        order.pop();
    }
    order
}

/// As many images as there are, of every class the same number where no image is taken too often for it.
///
/// Each class goes through its images again and again, every time in another order, and an epoch takes the next ones:
/// over the epochs every image of a class is taken as often as the others of it.
fn balanced(classes: &[Vec<usize>], seed: u64, epoch: u32) -> Vec<Pick> {
    let counts: Vec<usize> = classes.iter().map(Vec::len).collect();
    let mut picks = Vec::with_capacity(counts.iter().sum());
    for (class, (images, share)) in classes.iter().zip(shares(&counts)).enumerate() {
        if images.is_empty() {
            continue;
        }
        let first = u64::from(epoch - 1) * share as u64;
        let (mut at, end, round_len) = (first, first + share as u64, images.len() as u64);
        let mut taken = vec![0; images.len()];
        while at < end {
            let round = at / round_len;
            let mut order: Vec<usize> = (0..images.len()).collect();
            shuffle(&mut order, key(&[seed, BALANCE, class as u64, round]));
            let until = end.min((round + 1) * round_len);
            for place in at..until {
                let own = order[(place - round * round_len) as usize];
                picks.push(Pick { image: images[own], repeat: taken[own] });
                taken[own] += 1;
            }
            at = until;
        }
    }
    picks
}

/// How many images of each class an epoch takes, for the numbers that there are: together as many as there are images,
/// each class the same where its images last. Of a class without images none.
fn shares(counts: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; counts.len()];
    let mut by_size: Vec<usize> = (0..counts.len()).filter(|&class| counts[class] > 0).collect();
    by_size.sort_by_key(|&class| counts[class]);
    let mut left: usize = counts.iter().sum();
    for (done, &class) in by_size.iter().enumerate() {
        // An epoch may begin and end within a round: one time more than the rounds that fit.
        let most = counts[class] * (MAX_REPEATS - 1);
        shares[class] = (left / (by_size.len() - done)).min(most);
        left -= shares[class];
    }
    shares
}

/// A number that depends on every part and on their order.
fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |state, part| split_mix64(&mut (state ^ part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_use_every_image_once_but_for_a_lone_last_one() {
        for n in [1usize, 2, 3, 15, 16, 17, 33, 100] {
            for batch in [1usize, 2, 16, 40] {
                let train: Vec<usize> = (100..100 + n).collect();
                let order = in_order(train, 1, 1, batch);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), order.len());
                let lone = batch > 1 && n > batch && n % batch == 1;
                assert_eq!(order.len(), n - usize::from(lone));
                let last = order.len() - (order.len() - 1) / batch * batch;
                assert!(last > 1 || batch == 1 || n == 1);
            }
        }
        let order = |seed, epoch| in_order((0..50).collect::<Vec<usize>>(), seed, epoch, 8);
        assert_eq!(order(1, 1), order(1, 1));
        assert_ne!(order(1, 1), order(1, 2));
        assert_ne!(order(1, 1), order(2, 1));
    }

    #[test]
    fn keys_differ_in_every_part() {
        let keys: std::collections::BTreeSet<u64> =
            (0..20).flat_map(|a| (0..20).flat_map(move |b| (0..20).map(move |c| key(&[a, b, c])))).collect();
        assert_eq!(keys.len(), 8000);
    }

    #[test]
    fn shares_are_equal_as_far_as_the_images_last() {
        let sets: [(&[usize], &[usize]); 6] = [
            (&[10, 10], &[10, 10]),
            (&[0, 30, 10], &[0, 20, 20]),
            (&[90, 10], &[50, 50]),
            // One image nine times, and what is left to the others.
            (&[1, 100, 100], &[9, 96, 96]),
            (&[5], &[5]),
            (&[2, 3, 1], &[2, 2, 2]),
        ];
        for (counts, expected) in sets {
            assert_eq!(shares(counts), expected, "{counts:?}");
        }
        for small in 1..30 {
            for large in 1..300 {
                let counts = [small, large, 7];
                let shares = shares(&counts);
                assert_eq!(shares.iter().sum::<usize>(), counts.iter().sum::<usize>());
                for (share, count) in shares.iter().zip(counts) {
                    assert!(*share < MAX_REPEATS * count, "{counts:?} {shares:?}");
                }
            }
        }
    }

    #[test]
    fn sampling_takes_images_of_a_class_equally_often_and_none_too_often() {
        // Image numbers say their class: thousands.
        let classes: Vec<Vec<usize>> =
            [3, 40, 0, 101].iter().enumerate().map(|(c, &n)| (1000 * c..1000 * c + n).collect()).collect();
        let total = 144;
        let mut uses = std::collections::BTreeMap::new();
        for epoch in 1..=20 {
            let picks = balanced(&classes, 7, epoch);
            assert_eq!(picks.len(), total);
            let mut seen = std::collections::BTreeMap::new();
            for pick in &picks {
                let before = seen.entry(pick.image).or_insert(0u32);
                assert_eq!(pick.repeat, *before, "each repetition has its own number");
                *before += 1;
                *uses.entry(pick.image).or_insert(0u32) += 1;
            }
            assert!(seen.values().all(|&times| times as usize <= MAX_REPEATS));
            assert_eq!(balanced(&classes, 7, epoch), picks, "the same without what came before");
        }
        for class in [0, 1, 3] {
            let own: Vec<u32> = uses.range(1000 * class..1000 * class + 1000).map(|(_, &n)| n).collect();
            assert_eq!(own.len(), classes[class].len(), "every image is taken");
            assert!(own.iter().max().unwrap() - own.iter().min().unwrap() <= 1, "{own:?}");
        }
        assert_ne!(balanced(&classes, 7, 1), balanced(&classes, 8, 1));
    }
}
