//! What an inspection says, as JSON has it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// What an inspection of a data set found.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Inspection {
    /// Short name of the data.
    pub name: String,
    /// Layout, e.g. `class folders`.
    pub kind: String,
    /// How the layout was read, then what was left out. One line each.
    pub notes: Vec<String>,
    /// Whether images have any number of labels.
    pub multi_label: bool,
    /// Images that the layout takes in.
    pub files: usize,
    /// Those of them that can be read.
    pub images: usize,
    /// The images that can be read, by split.
    pub splits: SplitCounts,
    /// The same by class.
    pub classes: Vec<ClassCount>,
    /// Width in pixels of the upright images.
    pub width: Lengths,
    /// Height in pixels of the upright images.
    pub height: Lengths,
    /// Images by file format; formats without files are none.
    pub formats: BTreeMap<String, usize>,
    /// Images by colour: `gray`, `rgb`, or a number of channels.
    pub channels: BTreeMap<String, usize>,
    /// Images by bits of a value.
    pub bits: BTreeMap<String, usize>,
    /// Images that EXIF or XMP turn or mirror.
    pub rotated: usize,
    /// How wrong labels were searched.
    pub label_search: LabelSearch,
    /// Findings of severity `problem`.
    pub problems: usize,
    /// Findings of severity `warning`.
    pub warnings: usize,
    /// Findings of severity `note`.
    pub remarks: usize,
    /// What is wrong or worth knowing, most severe first.
    pub findings: Vec<Finding>,
}

/// Images by the split that the layout declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SplitCounts {
    /// For training.
    pub train: usize,
    /// For validation.
    pub val: usize,
    /// For the test.
    pub test: usize,
    /// The layout does not say.
    pub undivided: usize,
}

impl SplitCounts {
    /// Training, validation, test, undivided.
    pub fn in_order(&self) -> [usize; 4] {
        [self.train, self.val, self.test, self.undivided]
    }
}

/// Images of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// All of them.
    pub images: usize,
    /// By split.
    pub splits: SplitCounts,
}

/// Widths or heights of images, in pixels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lengths {
    /// The smallest; 0 without images, as all of these.
    pub min: u32,
    /// As many are below it as above.
    pub median: u32,
    /// The largest.
    pub max: u32,
    /// At most [`BINS`] ranges of about equal width, from the smallest to the largest.
    pub histogram: Vec<Bin>,
}

/// Most ranges of a histogram.
pub const BINS: u32 = 16;

/// Images in a range of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "LengthRange")]
pub struct Bin {
    /// Smallest length, in pixels.
    pub from: u32,
    /// Largest length, in pixels.
    pub to: u32,
    /// How many have a length from the one to the other.
    pub images: usize,
}

impl Lengths {
    /// Of lengths in any order.
    pub(super) fn of(mut lengths: Vec<u32>) -> Lengths {
        lengths.sort_unstable();
        let (Some(&min), Some(&max)) = (lengths.first(), lengths.last()) else { return Lengths::default() };
        let width = (max - min) / BINS + 1;
        let mut histogram: Vec<Bin> = Vec::new();
        for from in (min..=max).step_by(width as usize) {
            let to = from.saturating_add(width - 1).min(max);
            let first = lengths.partition_point(|&length| length < from);
            let behind = lengths.partition_point(|&length| length <= to);
            histogram.push(Bin { from, to, images: behind - first });
        }
        Lengths { min, median: lengths[lengths.len() / 2], max, histogram }
    }
}

/// How labels that may be wrong were searched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LabelSearch {
    /// What decided.
    pub method: Method,
    /// The model: its name or path.
    pub model: Option<String>,
    /// Images that were looked at.
    pub images: usize,
    /// Images that can be read.
    pub of: usize,
    /// How, in a sentence; or why not.
    pub note: String,
}

/// What decides whether a label may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LabelSearchMethod")]
pub enum Method {
    /// A classifier on the features of a model, fitted to other images than it judges.
    Features,
    /// A model that knows these classes, on images that it was not trained on.
    Model,
    /// Labels were not searched.
    None,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FindingSeverity")]
pub enum Severity {
    /// A model or its figures will be wrong.
    Problem,
    /// They may be.
    Warning,
    /// Good to know.
    Note,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FindingKind")]
pub enum Kind {
    /// There are fewer than two classes.
    OneClass,
    /// Classes of which no image can be read.
    EmptyClass,
    /// Copies of an image are in several splits.
    Leak,
    /// The same file has several labels.
    ConflictingLabels,
    /// Nearly the same images have several labels.
    NearConflictingLabels,
    /// Files that cannot be read.
    Unreadable,
    /// Classes without images in a split.
    ClassMissingFromSplit,
    /// Labels that look wrong.
    SuspiciousLabels,
    /// Classes of one image.
    SingleImageClass,
    /// The largest class has more than five times the images of the smallest.
    Imbalance,
    /// The same file is there again, under the same label in the same split.
    ExactDuplicates,
    /// Nearly the same image is there again, under the same label in the same split.
    NearDuplicates,
    /// Classes of few training images.
    FewImages,
    /// Files of a format that their name does not say.
    WrongExtension,
    /// Images of one colour.
    Blank,
    /// Gray images in files that could have colours.
    GrayInColour,
}

/// Something that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    pub text: String,
    /// What to do.
    pub advice: String,
    /// How many files, groups of files or classes `text` speaks of.
    pub count: usize,
    /// The classes in question, where it is about classes.
    pub classes: Vec<String>,
    /// How many files there are; `files` may have been cut.
    pub files_total: usize,
    /// The files in question; those of a group one after the other.
    pub files: Vec<FileFound>,
}

/// A file that a finding is about.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FileFound {
    /// Its name within the data set.
    pub name: String,
    /// Its labels.
    pub classes: Vec<String>,
    /// The split that the layout declares.
    pub split: Option<String>,
    /// The number of its group of copies, from 1.
    pub group: Option<usize>,
    /// What there is to say of it.
    pub detail: Option<String>,
    /// The class that it looks like.
    pub suggested: Option<String>,
    /// How sure that is, in 0..=1.
    pub score: Option<f32>,
    /// The image as a PNG in base64, where it was asked for.
    pub thumbnail: Option<String>,
    /// Its place in the data set.
    #[serde(skip)]
    pub(super) index: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_hold_every_length_once() {
        let sets: [Vec<u32>; 6] = [
            vec![32; 7],
            vec![1, 2],
            (1..=16).collect(),
            (1..=17).collect(),
            (0..500).map(|i| 100 + i * i % 3001).collect(),
            vec![1, 32_768],
        ];
        for lengths in sets {
            let found = Lengths::of(lengths.clone());
            let bins = &found.histogram;
            assert!((1..=BINS as usize).contains(&bins.len()), "{bins:?}");
            assert_eq!((bins[0].from, bins[bins.len() - 1].to), (found.min, found.max));
            assert!(bins.windows(2).all(|pair| pair[0].to + 1 == pair[1].from), "{bins:?}");
            for bin in bins {
                let inside = lengths.iter().filter(|&&length| bin.from <= length && length <= bin.to).count();
                assert_eq!(bin.images, inside);
            }
            assert_eq!(bins.iter().map(|bin| bin.images).sum::<usize>(), lengths.len());
        }
        assert_eq!(Lengths::of(Vec::new()), Lengths::default());
    }
}
