//! Folders beside the class folders whose images show none of the classes.

use ocelli_datasets::Source;

/// What such a folder is called between two underscores, in letters of any case.
const NAMES: [&str; 10] = [
    "unknown",
    "unknowns",
    "background",
    "backgrounds",
    "background_noise",
    "other",
    "others",
    "none",
    "negative",
    "negatives",
];

/// Whether a class name stands for images of no class: `_unknown_`, `_Background_`. A class that is called `background`, without
/// underscores, is one like any other.
pub(crate) fn is_no_class(name: &str) -> bool {
    let inner = name.strip_prefix('_').and_then(|name| name.strip_suffix('_'));
    inner.is_some_and(|inner| NAMES.contains(&inner.to_lowercase().as_str()))
}

/// Takes the folders of images of no class out of a data set, but for the first `known` classes, which a model has.
pub(crate) fn set_apart(source: &mut Source, known: usize) {
    let apart: Vec<usize> =
        (known..source.classes().len()).filter(|&class| is_no_class(&source.classes()[class])).collect();
    // Of images with any number of labels, one without any is of no class already.
    if apart.is_empty() || source.is_multi_label() {
        return;
    }
    let images = source.items().iter().filter(|item| apart.contains(&(item.class() as usize))).count();
    let names: Vec<&str> = apart.iter().map(|&class| source.classes()[class].as_str()).collect();
    let note =
        format!("{images} images in {} show no class: unknown images are learnt from them", names.join(", "));
    source.leave_out(&apart);
    source.note(note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_around_one_of_the_names_make_a_folder_of_no_class() {
        for name in ["_unknown_", "_Unknown_", "_BACKGROUND_", "_background_noise_", "_none_", "_others_"] {
            assert!(is_no_class(name), "{name}");
        }
        for name in ["unknown", "_unknown", "unknown_", "background", "_cats_", "__", "_", "", "_un known_"] {
            assert!(!is_no_class(name), "{name}");
        }
    }
}
