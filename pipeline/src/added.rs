//! What a model learnt that was given further classes, and what that cost it.

use serde::{Deserialize, Serialize};

/// The file of a run folder that says it.
pub(crate) const ADDED: &str = "add_classes.json";

/// New images of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassImages {
    /// The class.
    pub name: String,
    /// Its new training images.
    pub images: usize,
}

/// How well a model knows its old classes before and after it has learnt further ones, on images that it was not trained
/// on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OldClasses {
    /// What the images were: `test` or `val`.
    pub split: String,
    /// How many.
    pub images: usize,
    /// Part of them that was right, among the old classes.
    pub before: f32,
    /// Part of them that is right, among all classes.
    pub after: f32,
    /// Part of them that is right when old classes alone are looked at.
    pub after_among_old: f32,
    /// How many are taken for a class that is new.
    pub taken_for_new: usize,
}

/// What a model learnt, and what that cost it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddedClasses {
    /// Version of the form.
    pub schema: u32,
    /// The model that it was.
    pub parent: ParentName,
    /// How many classes it knew.
    pub known: usize,
    /// The classes that it has learnt.
    pub added: Vec<ClassImages>,
    /// Classes that it knew, of which there were further images.
    pub further: Vec<ClassImages>,
    /// Kept training images that stood for the old ones.
    pub replayed: usize,
    /// What became of the old classes; `None` where no held-out image of them was kept.
    pub old_classes: Option<OldClasses>,
    /// Seconds of it all, reading images and reports included.
    pub seconds: f32,
}

/// A model by its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentName {
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Where it was.
    pub path: String,
}

impl AddedClasses {
    /// What became of the old classes, in one line.
    pub fn describe(&self) -> String {
        let new = self.added.len();
        let new = if new == 1 { "1 class".to_owned() } else { format!("{new} classes") };
        let added = format!("{new} added to {}", self.known);
        let Some(found) = &self.old_classes else {
            return format!("{added}; no held-out images of the old ones were kept to measure them");
        };
        let (before, after) = (100.0 * found.before, 100.0 * found.after);
        format!(
            "{added}: of {} {} images of the old ones, {before:.2} % were right before and {after:.2} % are now ({:+.2} points); {} are taken for a new class",
            found.images,
            found.split,
            after - before,
            found.taken_for_new
        )
    }
}
