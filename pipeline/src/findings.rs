//! What is wrong with a data set that can be trained on all the same: one line a kind, never more.

use std::collections::BTreeMap;

use ocelli_datasets::{ContentHash, DatasetError, ImageSet, Split};

use crate::balance::imbalance;
use crate::data::{Loaded, list};
use crate::order::MAX_REPEATS;
use crate::recipe::Balance;

/// Fewer training images than this in a class are told: with so few, chance decides what is learnt of it.
pub(crate) const FEW: usize = 6;
/// What that means, as `docs/results.md` has it: test accuracy on photos of hands, over three draws.
pub(crate) const EXPECT: &str = "5 a class gave an accuracy of 0.84 to 0.89 on ten hand signs, depending on which 5, and 20 a class 0.97 to 0.98: add images, and judge by cross-validation";
/// Pairs of files that a warning about labels shows.
const EXAMPLES: usize = 3;
/// Part of the held-out images that may be training images too before it is a warning: below it, figures hardly change.
const LEAK: f64 = 0.01;
/// Levels of 255 by which the channels of a gray pixel may differ: JPEG rounds, and scanners are a little off.
pub(crate) const GRAY_LEVELS: u8 = 8;
/// Part of the images that must be gray for a set of gray images.
pub(crate) const MOSTLY: f64 = 0.95;

/// What to tell about a data set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// What may make the model or its figures worth less.
    pub(crate) warnings: Vec<String>,
    /// What is good to know.
    pub(crate) notes: Vec<String>,
}

/// How the images are to be trained on.
#[derive(Clone, Copy)]
pub(crate) struct Use {
    pub(crate) balance: Balance,
    /// Whether somebody said how many channels the input has.
    pub(crate) channels_chosen: bool,
    /// Whether these are the images inside of the program, in which nobody can mend anything.
    pub(crate) built_in: bool,
}

/// Looks through images in memory: contents, classes and splits, and their pixels as far as it takes to find a coloured
/// one in each.
///
/// # Errors
/// Those of reading pixels.
pub(crate) fn look(loaded: &Loaded, how: Use) -> Result<Findings, DatasetError> {
    let Loaded { set, train, .. } = loaded;
    let mut found = Findings { warnings: loaded.warnings.clone(), notes: Vec::new() };
    let mut counts = vec![0; set.classes().len()];
    train.iter().flat_map(|&i| set.labels(i)).for_each(|&label| counts[label as usize] += 1);
    let counts = || set.classes().iter().map(String::as_str).zip(counts.iter().copied());
    if !set.is_multi_label()
        && let Some(text) = out_of_balance(set)
    {
        match how.balance {
            Balance::Auto | Balance::None => found.warnings.push(format!(
                "{text}; add images of the small classes, or train with the setting balance = \"sampling\""
            )),
            Balance::Weights => found.notes.push(format!("{text}; class weights make up for it")),
            Balance::Sampling => found.notes.push(format!(
                "{text}; an epoch takes as many images of each class, no image more than {MAX_REPEATS} times"
            )),
        }
    }
    let few: Vec<String> =
        counts().filter(|(_, n)| (1..FEW).contains(n)).map(|(name, n)| format!("{name} ({n})")).collect();
    if !few.is_empty() {
        let names = list(few.iter().map(String::as_str));
        found.notes.push(format!("few training images: {names}; {EXPECT}"));
    }
    if !how.built_in {
        copies(set, &mut found);
    }
    if !how.channels_chosen && mostly_gray(set)? {
        found.warnings.push(
            "the images are gray, in files that could have colours: one channel (the setting `channels`) trains faster"
                .to_owned(),
        );
    }
    Ok(found)
}

/// What to say of the balance of what training images are taken from: before it is split, so that it does not depend on
/// the seed.
fn out_of_balance(set: &ImageSet) -> Option<String> {
    let pool = |i: &usize| matches!(set.declared_split(*i), None | Some(Split::Train));
    let mut counts = vec![0; set.classes().len()];
    (0..set.len()).filter(pool).for_each(|i| counts[set.class(i) as usize] += 1);
    let declared = (0..set.len()).any(|i| set.declared_split(i).is_some());
    let noun = if declared { "training images" } else { "images" };
    imbalance(set.classes().iter().map(String::as_str).zip(counts), noun)
}

/// Contents that are there more than once.
fn copies(set: &ImageSet, found: &mut Findings) {
    let mut by_content: BTreeMap<&ContentHash, Vec<usize>> = BTreeMap::new();
    (0..set.len()).for_each(|i| by_content.entry(set.hash(i)).or_default().push(i));
    let mut groups: Vec<Vec<usize>> = by_content.into_values().filter(|group| group.len() > 1).collect();
    // In the order of the files, which people know, and not of the hashes.
    groups.sort();
    let names = |i: usize| -> Vec<&str> {
        set.labels(i).iter().map(|&label| set.classes()[label as usize].as_str()).collect()
    };
    let named = |i: usize| format!("{} ({})", set.name(i), names(i).join(", "));
    // Of each group the first image and the first one that differs from it.
    let pairs = |differ: &dyn Fn(usize, usize) -> bool| -> Vec<(usize, usize)> {
        let pair = |group: &Vec<usize>| {
            group
                .iter()
                .enumerate()
                .find_map(|(at, &a)| group[at + 1..].iter().find(|&&b| differ(a, b)).map(|&b| (a, b)))
        };
        groups.iter().filter_map(pair).collect()
    };
    let examples = |pairs: &[(usize, usize)], n: usize| {
        let shown: Vec<String> =
            pairs.iter().take(n).map(|&(a, b)| format!("{} and {}", named(a), named(b))).collect();
        shown.join(", ")
    };
    let images = |n: usize, one: &str, more: &str| {
        if n == 1 { format!("1 image {one}") } else { format!("{n} images {more}") }
    };

    let labels = pairs(&|a, b| set.labels(a) != set.labels(b));
    if !labels.is_empty() {
        let what = match set.is_multi_label() {
            true => {
                images(labels.len(), "is there again with other labels", "are there again with other labels")
            }
            false => images(labels.len(), "is in more than one class", "are in more than one class"),
        };
        let examples = examples(&labels, EXAMPLES);
        found.warnings.push(format!(
            "{what}, e.g. {examples}: the same image under another label; one of them is wrong, and both are used until it \
             is removed"
        ));
    }
    let is_train = |i: usize| set.split(i) == Split::Train;
    let leaked = pairs(&|a, b| is_train(a) != is_train(b));
    if !leaked.is_empty() {
        let what = images(leaked.len(), "is", "are");
        let examples = examples(&leaked, 1);
        let text =
            format!("{what} declared both for training and for validation or the test, e.g. {examples}");
        let held_out = (0..set.len()).filter(|&i| !is_train(i)).count();
        if leaked.len() as f64 > LEAK * held_out as f64 {
            found.warnings.push(format!("{text}: the figures will be too good"));
        } else {
            found.notes.push(text);
        }
    }
    let same = pairs(&|a, b| set.labels(a) == set.labels(b) && set.split(a) == set.split(b));
    if !same.is_empty() {
        let what = images(same.len(), "is there", "are there");
        found.notes.push(format!("{what} more than once in a class, e.g. {}", examples(&same, 1)));
    }
}

/// Whether nearly all images are gray although the input has three channels. The input stays as it is: what is trained is
/// decided before pixels are read, and a model for photos may well begin with gray ones.
fn mostly_gray(set: &ImageSet) -> Result<bool, DatasetError> {
    if set.preprocessing().channels != 3 || set.is_empty() {
        return Ok(false);
    }
    let coloured_at_most = ((1.0 - MOSTLY) * set.len() as f64) as usize;
    let mut coloured = 0;
    for index in 0..set.len() {
        coloured += usize::from(!set.is_gray(index, GRAY_LEVELS)?);
        if coloured > coloured_at_most {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
