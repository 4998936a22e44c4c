//! Rules about classes and how many images they have.

use ocelli_common::text::some_of;
use ocelli_datasets::Split;

use super::super::facts::Facts;
use super::super::report::{ClassCount, Finding, Kind, Severity};
use super::make::finding;
use crate::balance::imbalance;
use crate::findings::{EXPECT, FEW};

/// Nothing can be told apart.
pub(super) fn one_class(facts: &Facts) -> Option<Finding> {
    let there: Vec<String> = counted(facts).into_iter().map(|class| class.name).collect();
    if facts.is_multi_label() || there.len() > 1 {
        return None;
    }
    let text = match there.first() {
        Some(class) => format!("there is only one class with images: {class}"),
        None => "there is no class with images".to_owned(),
    };
    let advice = "telling images apart takes two classes: give the folder that holds the class folders, or add a class";
    Some(Finding { classes: there, ..finding(Kind::OneClass, Severity::Problem, text, advice) })
}

/// Classes all of whose files are unreadable.
pub(super) fn empty(facts: &Facts) -> Option<Finding> {
    let named =
        |class: usize| facts.items.iter().any(|item| item.labels.as_slice().contains(&(class as u32)));
    let counts = facts.class_counts();
    let empty = (0..counts.len()).filter(|&class| counts[class].images == 0 && named(class));
    let classes: Vec<String> = empty.map(|class| counts[class].name.clone()).collect();
    let text = format!("no image of {} can be read: {}", count_classes(classes.len()), names(&classes));
    let advice = "replace their files, or remove the classes";
    (!classes.is_empty())
        .then(|| finding(Kind::EmptyClass, Severity::Problem, text, advice).about_classes(classes))
}

/// Classes that lack a split which others have, one finding a split.
pub(super) fn missing(facts: &Facts) -> Vec<Finding> {
    let counts = counted(facts);
    let of = |class: &ClassCount, split: Split| match split {
        Split::Train => class.splits.train + class.splits.undivided,
        Split::Val => class.splits.val,
        Split::Test => class.splits.test,
    };
    let mut found = Vec::new();
    for split in [Split::Train, Split::Val, Split::Test] {
        let lacking = counts.iter().filter(|class| of(class, split) == 0).map(|class| class.name.clone());
        let classes: Vec<String> = lacking.collect();
        // A split that no class has is not there.
        if classes.is_empty() || classes.len() == counts.len() {
            continue;
        }
        let have = if classes.len() == 1 { "has" } else { "have" };
        let text =
            format!("{} {have} no image in {split}: {}", count_classes(classes.len()), names(&classes));
        let (severity, advice) = match split {
            Split::Train => (
                Severity::Problem,
                "add training images of them, or remove them: a class that is never trained can only be wrong",
            ),
            Split::Val | Split::Test => (
                Severity::Warning,
                "move some of their images there: how well they are told is not measured without",
            ),
        };
        found.push(finding(Kind::ClassMissingFromSplit, severity, text, advice).about_classes(classes));
    }
    found
}

/// Classes of one image.
pub(super) fn single(facts: &Facts) -> Option<Finding> {
    let single = counted(facts).into_iter().filter(|class| class.images == 1);
    let classes: Vec<String> = single.map(|class| class.name).collect();
    let have = if classes.len() == 1 { "has" } else { "have" };
    let text = format!("{} {have} a single image: {}", count_classes(classes.len()), names(&classes));
    let advice = "add images: what is learnt from one cannot be tested";
    (!classes.is_empty())
        .then(|| finding(Kind::SingleImageClass, Severity::Warning, text, advice).about_classes(classes))
}

/// Classes of so few training images that chance decides what is learnt.
pub(super) fn few(facts: &Facts) -> Option<Finding> {
    let train = |class: &ClassCount| class.splits.train + class.splits.undivided;
    let few = counted(facts).into_iter().filter(|class| class.images > 1 && (1..FEW).contains(&train(class)));
    let (mut classes, mut shown) = (Vec::new(), Vec::new());
    for class in few {
        shown.push(format!("{} ({})", class.name, train(&class)));
        classes.push(class.name);
    }
    let have = if classes.len() == 1 { "has" } else { "have" };
    let text = format!("{} {have} few training images: {}", count_classes(classes.len()), names(&shown));
    (!classes.is_empty())
        .then(|| finding(Kind::FewImages, Severity::Note, text, EXPECT).about_classes(classes))
}

/// Classes out of balance, among the images that are trained on.
pub(super) fn out_of_balance(facts: &Facts) -> Option<Finding> {
    if facts.is_multi_label() {
        return None;
    }
    let counts = counted(facts);
    let train: Vec<(&str, usize)> = (counts.iter())
        .map(|class| (class.name.as_str(), class.splits.train + class.splits.undivided))
        .collect();
    let noun = if facts.is_divided() { "training images" } else { "images" };
    let text = imbalance(train.iter().copied(), noun)?;
    let there = || train.iter().filter(|(_, n)| *n > 0);
    let ends = [there().max_by_key(|(_, n)| *n), there().min_by_key(|(_, n)| *n)];
    let classes = ends.into_iter().flatten().map(|(name, _)| (*name).to_owned()).collect();
    let advice = "add images of the small classes; otherwise training draws them more often by itself (the setting `balance`)";
    Some(finding(Kind::Imbalance, Severity::Warning, text, advice).about_classes(classes))
}

/// The classes that a model would know, with images.
fn counted(facts: &Facts) -> Vec<ClassCount> {
    let counts = facts.class_counts().into_iter().enumerate();
    counts.filter(|(class, count)| count.images > 0 && !facts.is_no_class(*class)).map(|(_, c)| c).collect()
}

fn count_classes(n: usize) -> String {
    if n == 1 { "1 class".to_owned() } else { format!("{n} classes") }
}

fn names(all: &[String]) -> String {
    some_of(&all.iter().map(String::as_str).collect::<Vec<_>>())
}
