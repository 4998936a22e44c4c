//! Names of folders that say which part of a data set they hold, and names that say nothing.

use crate::error::DatasetError;
use crate::names::nfc;
use crate::split::Split;
use std::str::FromStr;

/// Every word for a split, in lower case. [`split_of`] also takes upper case, plurals, numbers (`train2017`, `test1`),
/// separators (`hold-out`) and the words of [`NEUTRAL`] around them (`training_set`, `seg_train`, `testImages`).
const WORDS: [(&str, Split); 24] = [
    ("train", Split::Train),
    ("training", Split::Train),
    ("trn", Split::Train),
    ("trainval", Split::Train),
    ("traindev", Split::Train),
    ("val", Split::Val),
    ("vali", Split::Val),
    ("valid", Split::Val),
    ("validate", Split::Val),
    ("validation", Split::Val),
    ("dev", Split::Val),
    ("devel", Split::Val),
    ("development", Split::Val),
    ("eval", Split::Val),
    ("evaluate", Split::Val),
    ("evaluation", Split::Val),
    ("test", Split::Test),
    ("testing", Split::Test),
    ("tst", Split::Test),
    ("holdout", Split::Test),
    ("heldout", Split::Test),
    // Of FER-2013's column `Usage`, where both lie in the test part of a competition.
    ("publictest", Split::Val),
    ("privatetest", Split::Test),
    ("testdev", Split::Test),
];

/// Words beside the one for the split that change nothing.
const NEUTRAL: [&str; 22] = [
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "photo", "photos",
    "picture", "pictures", "pics", "folder", "dir", "split", "splits", "part", "seg", "my", "the",
];

/// Names of folders that hold images and are no class: the only folder inside of a class or split folder, or what a
/// part without labels is called.
const GENERIC: [&str; 22] = [
    "images",
    "image",
    "imgs",
    "img",
    "photos",
    "pictures",
    "pics",
    "jpegimages",
    "jpeg",
    "jpegs",
    "jpg",
    "jpgs",
    "png",
    "pngs",
    "data",
    "dataset",
    "files",
    "unlabeled",
    "unlabelled",
    "unknown",
    "all",
    "raw",
];

/// Names of folders beside images that hold pictures of another kind.
const BESIDE: [&str; 12] = [
    "masks",
    "mask",
    "labels",
    "annotations",
    "annotation",
    "segmentations",
    "segmentation",
    "trimaps",
    "groundtruth",
    "parts",
    "attributes",
    "depth",
];

/// Names of folders of images that wait for a label, or show what classes look like.
const UNLABELLED: [&str; 22] = [
    "pred",
    "preds",
    "predict",
    "prediction",
    "predictions",
    "inference",
    "unlabeled",
    "unlabelled",
    "unsup",
    "unsorted",
    "meta",
    "sample",
    "samples",
    "example",
    "examples",
    "demo",
    "submission",
    "extra",
    "query",
    "gallery",
    "misc",
    "holding",
];

/// What a folder's name says about the split it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SplitName {
    pub(crate) split: Split,
    /// `eval`: the test part where another folder is for validation.
    pub(crate) or_test: bool,
    /// The other words of the name, without neutral ones; empty when the name is that of a split and nothing else.
    pub(crate) rest: Vec<String>,
}

/// The split that a name speaks of, if it speaks of one: `train_dev` and `trainval` are to be divided and so for
/// training, `train_test_split` is none.
pub(crate) fn split_of(name: &str) -> Option<SplitName> {
    let (mut splits, mut rest, mut or_test) = (Vec::new(), Vec::new(), false);
    for word in words(name) {
        if let Some(split) = split_word(&word) {
            or_test |= word.starts_with("eval");
            splits.push((split, word));
        } else if !(NEUTRAL.contains(&word.as_str()) || word.bytes().all(|b| b.is_ascii_digit())) {
            rest.push(word);
        }
    }
    let has = |split| splits.iter().any(|(s, _)| *s == split);
    let split = match (has(Split::Train), has(Split::Val), has(Split::Test)) {
        (true, _, false) => Split::Train,
        (false, true, false) => Split::Val,
        (false, _, true) => Split::Test,
        _ => return None,
    };
    let test = split == Split::Test && splits.len() == 1;
    // Parts of a competition's test set: the public one is seen while a model is made.
    if test && rest == ["public"] {
        return Some(SplitName { split: Split::Val, or_test: false, rest: Vec::new() });
    }
    if test && rest == ["private"] {
        rest.clear();
    }
    Some(SplitName { split, or_test: or_test && split == Split::Val, rest })
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

/// The split that a name means when it says nothing else.
pub(crate) fn exact_split(name: &str) -> Option<Split> {
    split_of(name).filter(|name| name.rest.is_empty()).map(|name| name.split)
}

/// See [`GENERIC`].
pub(crate) fn is_generic(name: &str) -> bool {
    let all = words(name);
    let says_nothing = |word: &String| {
        GENERIC.contains(&word.as_str())
            || NEUTRAL.contains(&word.as_str())
            || word.bytes().all(|b| b.is_ascii_digit())
    };
    // A number alone may well be a class.
    all.iter().any(|word| !word.bytes().all(|b| b.is_ascii_digit())) && all.iter().all(says_nothing)
}

/// See [`BESIDE`].
pub(crate) fn is_beside(name: &str) -> bool {
    BESIDE.contains(&words(name).concat().as_str())
}

/// See [`UNLABELLED`].
pub(crate) fn is_unlabelled(name: &str) -> bool {
    words(name).iter().any(|word| UNLABELLED.contains(&word.as_str()))
}

/// A folder that says that its images have no label.
pub(crate) fn has_no_labels(name: &str) -> bool {
    ["unlabeled", "unlabelled", "unlabel", "nolabel", "nolabels", "unsorted"]
        .contains(&words(name).concat().as_str())
}

/// A part of a data set by its number, such as `part_1` or `batch 2`: such names are no classes where a table has others.
pub(crate) fn is_numbered_part(name: &str) -> bool {
    let all = words(name);
    let part = |word: &String| {
        ["part", "batch", "chunk", "folder", "images", "set", "vol", "volume"].contains(&word.as_str())
    };
    all.iter().any(part) && all.iter().any(|word| word.bytes().all(|b| b.is_ascii_digit()))
}

/// The words of a name in lower case: cut at everything that is no letter or digit, between letters and digits, and
/// where a capital follows a small letter.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last: Option<char> = None;
    for c in nfc(name).chars() {
        if c.is_alphanumeric() {
            let cut = match last {
                Some(before) => {
                    before.is_ascii_digit() != c.is_ascii_digit()
                        || (before.is_lowercase() && c.is_uppercase())
                }
                None => true,
            };
            if cut {
                words.push(String::new());
            }
            words.last_mut().expect("a first letter begins a word").extend(c.to_lowercase());
            last = Some(c);
        } else {
            last = None;
        }
    }
    // "hold-out" and "held out" are one word in two.
    while let Some(at) =
        words.windows(2).position(|pair| ["hold", "held"].contains(&pair[0].as_str()) && pair[1] == "out")
    {
        words.splice(at..at + 2, ["holdout".to_owned()]);
    }
    words
}

/// A word for a split, alone, in the plural or grown together with a neutral word (`trainset`, `testimages`).
fn split_word(word: &str) -> Option<Split> {
    let find = |word: &str| WORDS.iter().find(|(known, _)| *known == word).map(|(_, split)| *split);
    find(word).or_else(|| {
        let ends = NEUTRAL.iter().copied().chain(["s"]);
        ends.filter_map(|end| word.strip_suffix(end)).find_map(find)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_split_is_known() {
        let table = [
            (
                Split::Train,
                "train Train TRAINING trn training_set seg_train train-set trainset Train2017 train_1 01_train \
                            TrainingData trainImages train.images trains train_dev train+val trainval my_training_photos",
            ),
            (
                Split::Val,
                "val valid Validation validation_set VAL dev dev-set eval evaluation val2017 valid1 vali",
            ),
            (
                Split::Test,
                "test Test testing test1 test_set testset holdout hold-out Hold_Out held-out test-dev tst tests \
                           testData test_val",
            ),
        ];
        for (split, names) in table {
            for name in names.split_whitespace() {
                assert_eq!(exact_split(name), Some(split), "{name}");
            }
        }
        for name in ["hold out set", "test set"] {
            assert_eq!(exact_split(name), Some(Split::Test), "{name}");
        }
    }

    #[test]
    fn other_names_are_no_splits() {
        for name in
            "bus trained attest valley contest devil protest retrain trainer latest medieval evaluator invalid setting 7 \
             train_test_split validity station pred images"
                .split_whitespace()
        {
            assert_eq!(split_of(name), None, "{name}");
        }
        for (name, rest) in
            [("train_station", "station"), ("asl-alphabet test", "asl alphabet"), ("test_zip", "zip")]
        {
            assert_eq!(split_of(name).unwrap().rest.join(" "), rest);
            assert_eq!(exact_split(name), None);
        }
    }

    #[test]
    fn folders_of_images_are_no_classes() {
        assert!(
            ["images", "Images", "JPEGImages", "train_data", "image_files", "images_1"]
                .iter()
                .all(|n| is_generic(n) || *n == "train_data")
        );
        assert!(["0", "10", "cats", "image of cats", "database"].iter().all(|n| !is_generic(n)));
        assert!(
            is_numbered_part("HAM10000_images_part_1")
                && !is_numbered_part("part")
                && !is_numbered_part("class 1")
        );
    }
}
