//! One image of a data set with its labels.

use crate::split::Split;

/// What an image is labelled with: indices into the classes of its data set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Labels {
    /// One class.
    One(u32),
    /// Any number of labels, also none: ascending, each once.
    Any(Box<[u32]>),
}

impl Labels {
    /// Any number of labels, in any order.
    pub fn any(mut labels: Vec<u32>) -> Labels {
        labels.sort_unstable();
        labels.dedup();
        Labels::Any(labels.into_boxed_slice())
    }

    /// All of them.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Labels::One(class) => std::slice::from_ref(class),
            Labels::Any(labels) => labels,
        }
    }

    /// The class of an image that has one.
    ///
    /// # Panics
    /// For an image of a data set with several labels an image.
    pub(crate) fn class(&self) -> u32 {
        match self {
            Labels::One(class) => *class,
            Labels::Any(_) => panic!("an image with any number of labels has no class: ask for its labels"),
        }
    }

    /// With other numbers, `ids[label]` for each label; `None` for an image whose only class has none.
    pub(crate) fn renumbered(self, ids: &[Option<u32>]) -> Option<Labels> {
        match self {
            Labels::One(class) => ids[class as usize].map(Labels::One),
            Labels::Any(labels) => {
                Some(Labels::any(labels.iter().filter_map(|&label| ids[label as usize]).collect()))
            }
        }
    }
}

/// One labelled image of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Path relative to the root, ZIP entry name, path as the CSV has it, or `FILE#INDEX`.
    pub name: String,
    /// Indices into [`crate::Source::classes`].
    pub labels: Labels,
    /// The split that the layout declares.
    pub split: Option<Split>,
}

impl Item {
    /// Its class, an index into [`crate::Source::classes`].
    ///
    /// # Panics
    /// For an item of a source with several labels an image: see [`crate::Source::is_multi_label`].
    pub fn class(&self) -> u32 {
        self.labels.class()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_keep_their_order_under_new_numbers() {
        let labels = Labels::any(vec![3, 1, 3, 0]);
        assert_eq!(labels.as_slice(), [0, 1, 3]);
        let ids = [Some(2), None, Some(0), Some(1)];
        assert_eq!(labels.renumbered(&ids), Some(Labels::any(vec![1, 2])));
        assert_eq!(Labels::any(vec![1]).renumbered(&ids), Some(Labels::any(Vec::new())));
        assert_eq!(Labels::One(1).renumbered(&ids), None);
        assert_eq!(Labels::One(3).renumbered(&ids), Some(Labels::One(1)));
    }
}
