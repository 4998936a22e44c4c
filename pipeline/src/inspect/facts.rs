//! What is known of a data set after every image was looked at, for the rules that judge it.

use ocelli_datasets::{Item, Split};

use super::look::{Picture, Seen};
use super::report::{ClassCount, FileFound, SplitCounts};
use crate::unknown::is_no_class;

/// A data set whose images were looked at.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) classes: &'a [String],
    /// What the layout says of each image.
    pub(super) items: &'a [Item],
    /// What was seen of each.
    pub(super) seen: &'a [Seen],
}

impl<'a> Facts<'a> {
    /// The image of an item, where it can be read.
    pub(super) fn picture(&self, index: usize) -> Option<&'a Picture> {
        self.seen[index].picture.as_ref().ok()
    }

    /// The items that can be read, with their images.
    pub(super) fn pictures(&self) -> impl Iterator<Item = (usize, &'a Picture)> + use<'a> {
        let seen = self.seen;
        (0..seen.len()).filter_map(move |index| Some((index, seen[index].picture.as_ref().ok()?)))
    }

    /// The labels of an item.
    pub(super) fn labels(&self, index: usize) -> &'a [u32] {
        self.items[index].labels.as_slice()
    }

    /// What an item is used for: undivided images are trained on, or divided by training.
    pub(super) fn part(&self, index: usize) -> Split {
        self.items[index].split.unwrap_or(Split::Train)
    }

    /// Whether the layout declares a split for any image.
    pub(super) fn is_divided(&self) -> bool {
        self.items.iter().any(|item| item.split.is_some())
    }

    /// Whether images have any number of labels.
    pub(super) fn is_multi_label(&self) -> bool {
        matches!(self.items.first(), Some(Item { labels: ocelli_datasets::Labels::Any(_), .. }))
    }

    /// Images that can be read, by class.
    pub(super) fn class_counts(&self) -> Vec<ClassCount> {
        let none =
            |name: &String| ClassCount { name: name.clone(), images: 0, splits: SplitCounts::default() };
        let mut counts: Vec<ClassCount> = self.classes.iter().map(none).collect();
        for (index, _) in self.pictures() {
            for &label in self.labels(index) {
                let count = &mut counts[label as usize];
                count.images += 1;
                count.splits.add(self.items[index].split);
            }
        }
        counts
    }

    /// Whether a class stands for images of no class.
    pub(super) fn is_no_class(&self, class: usize) -> bool {
        is_no_class(&self.classes[class])
    }

    /// An item as findings name it.
    pub(super) fn file(&self, index: usize) -> FileFound {
        let item = &self.items[index];
        let class = |&label: &u32| self.classes[label as usize].clone();
        FileFound {
            name: item.name.clone(),
            classes: item.labels.as_slice().iter().map(class).collect(),
            split: item.split.map(|split| split.to_string()),
            group: None,
            detail: None,
            suggested: None,
            score: None,
            thumbnail: None,
            index,
        }
    }
}

impl SplitCounts {
    /// Counts an image of a split.
    pub(super) fn add(&mut self, split: Option<Split>) {
        *match split {
            Some(Split::Train) => &mut self.train,
            Some(Split::Val) => &mut self.val,
            Some(Split::Test) => &mut self.test,
            None => &mut self.undivided,
        } += 1;
    }
}
