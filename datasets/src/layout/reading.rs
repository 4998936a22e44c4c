//! The decision: which folders are splits, which are classes, and which are neither.

use super::tree::Folder;
use crate::names::{nfc, same_class};
use crate::split::Split;
use crate::split_words::{exact_split, has_no_labels, is_beside, is_generic, is_unlabelled, split_of};
use ocelli_common::text::some_of;
use std::collections::BTreeSet;

/// Deepest chain of wrapping folders that is stepped over.
const MAX_WRAPPERS: usize = 8;

/// How a tree is read.
pub(super) enum Reading<'t, 'a> {
    /// The folders of this one are classes.
    Classes(&'t Folder<'a>),
    /// Splits, each with the folder whose folders are its classes (if it has any).
    Splits(Vec<Part<'t, 'a>>),
    /// The folders of this one are classes, and the folders in each of them its splits.
    SplitsInClasses(&'t Folder<'a>),
    /// Two readings are possible; why, and what to do.
    Unclear(String),
}

/// A split folder.
pub(super) struct Part<'t, 'a> {
    pub(super) split: Split,
    /// Behind wrapping folders.
    pub(super) folder: &'t Folder<'a>,
}

/// Reads a tree; see the table of [`super`].
pub(super) fn read<'t, 'a>(root: &'t Folder<'a>) -> Reading<'t, 'a> {
    let mut folder = root;
    for _ in 0..=MAX_WRAPPERS {
        match splits_in(folder) {
            Found::Parts(parts) => return Reading::Splits(parts),
            Found::Unclear(why) => return Reading::Unclear(why),
            Found::Nothing => {}
        }
        if has_splits_in_classes(folder) {
            return Reading::SplitsInClasses(folder);
        }
        match wrapped(folder) {
            Some(inner) => folder = inner,
            None => break,
        }
    }
    Reading::Classes(folder)
}

/// The folders in a folder that are classes: none where all of them are called `images` and the like, and never one that
/// is called `unlabelled` or holds the same classes again, as archives do that have all of it twice.
pub(super) fn classes<'t, 'a>(folder: &'t Folder<'a>) -> Vec<&'t Folder<'a>> {
    let counted = |name: &str| name.bytes().any(|b| b.is_ascii_digit());
    let nothing = |f: &Folder| (is_generic(f.name) && !counted(f.name)) || is_beside(f.name);
    if folder.folders.values().all(nothing) {
        return Vec::new();
    }
    let is_copy = |f: &Folder| {
        f.folders.len() >= 2
            && f.folders.keys().all(|name| *name != f.name && folder.folders.contains_key(name))
    };
    folder.folders.values().filter(|f| !has_no_labels(f.name) && !is_copy(f)).collect()
}

enum Found<'t, 'a> {
    Parts(Vec<Part<'t, 'a>>),
    Unclear(String),
    Nothing,
}

/// Split folders directly in `folder`.
fn splits_in<'t, 'a>(folder: &'t Folder<'a>) -> Found<'t, 'a> {
    let named = named_parts(folder);
    if named.is_empty() {
        return Found::Nothing;
    }
    let others: Vec<&Folder> =
        folder.folders.values().filter(|f| !named.iter().any(|(name, _)| *name == f.name)).collect();
    // What wraps the training part wraps the others, too, however little they hold.
    let training =
        named.iter().filter(|(_, split)| *split == Split::Train).map(|(name, _)| &folder.folders[name]);
    let wrappers: Vec<&str> = training
        .flat_map(|outer| inside(outer, Split::Train, &[]).path[outer.path.len()..].split('/'))
        .collect();
    let parts: Vec<(&Folder, Part)> = named
        .iter()
        .map(|(name, split)| {
            let outer = &folder.folders[name];
            (outer, Part { split: *split, folder: inside(outer, *split, &wrappers) })
        })
        .collect();
    let divided = |parts: &[&(&Folder, Part)]| {
        let of = |split| parts.iter().any(|(_, part)| part.split == split);
        of(Split::Train) && (of(Split::Val) || of(Split::Test))
    };
    let with_classes: Vec<&(&Folder, Part)> =
        parts.iter().filter(|(_, part)| !classes(part.folder).is_empty()).collect();
    let all: Vec<&(&Folder, Part)> = parts.iter().collect();

    let is_split_layout = if with_classes.is_empty() {
        // Images in train/ and test/ alone are two parts without labels; beside other folders they are classes.
        others.is_empty() || divided(&all)
    } else if others.is_empty() || divided(&with_classes) {
        true
    } else {
        let Some((outer, train)) = with_classes.iter().find(|(_, part)| part.split == Split::Train) else {
            return Found::Nothing;
        };
        if !outer.images.is_empty() || classes(train.folder).len() < 2 {
            return Found::Nothing;
        }
        let aside =
            |f: &&&Folder| (f.is_flat() && (is_unlabelled(f.name) || is_beside(f.name))) || repeats(f);
        let unclear: Vec<&&Folder> = others.iter().filter(|f| !aside(f)).collect();
        let alike = unclear.iter().filter(|f| !f.is_flat() && share_classes(f, train.folder)).count();
        match unclear.as_slice() {
            [] => true,
            // Train and test, one without labels, leave no doubt.
            all_flat if divided(&all) && all_flat.iter().all(|f| f.is_flat()) => true,
            // Folders with other folders in them: classes, one of which is called train.
            several if alike == 0 && several.iter().any(|f| !f.is_flat()) => return Found::Nothing,
            several => return Found::Unclear(unclear_text(outer, several)),
        }
    };
    if is_split_layout {
        Found::Parts(parts.into_iter().map(|(_, part)| part).collect())
    } else {
        Found::Nothing
    }
}

fn unclear_text(train: &Folder, others: &[&&Folder]) -> String {
    let names: Vec<&str> = others.iter().map(|f| f.path).collect();
    let names = some_of(&names);
    format!(
        "{0} may be the training part, or a class beside {names}; if it is the training part, give this folder itself, or \
         take {names} out or name them val and test; if it is a class, call it otherwise",
        train.path,
    )
}

/// The folders in a folder whose names are those of splits, with these.
///
/// A name with more words in it (`animals_train`) counts where another split has the same words, or where the folder
/// has the classes of one whose name says nothing else.
fn named_parts<'a>(folder: &Folder<'a>) -> Vec<(&'a str, Split)> {
    let named: Vec<_> =
        folder.folders.values().filter_map(|f| split_of(f.name).map(|name| (f, name))).collect();
    let exact = || named.iter().filter(|(_, name)| name.rest.is_empty());
    let accepted = named.iter().filter(|(f, name)| {
        name.rest.is_empty()
            || named.iter().any(|(_, other)| other.rest == name.rest && other.split != name.split)
            || (!exact().any(|(_, other)| other.split == name.split)
                && exact().any(|(other, _)| share_classes(f, inside(other, name.split, &[]))))
    });
    let mut parts: Vec<(&str, Split, bool)> =
        accepted.map(|(f, name)| (f.name, name.split, name.or_test)).collect();
    // dev and eval beside each other are for validation and for the test.
    let others = |split| parts.iter().any(|(_, s, or_test)| *s == split && !or_test);
    if others(Split::Val) && !others(Split::Test) {
        parts.iter_mut().filter(|(_, _, or_test)| *or_test).for_each(|part| part.1 = Split::Test);
    }
    parts.into_iter().map(|(name, split, _)| (name, split)).collect()
}

/// The folder that holds the classes of a split folder: the same one, or one in it that only repeats its name, says
/// nothing (`images`) or wraps all the others, as `wrappers` are known to do.
fn inside<'t, 'a>(outer: &'t Folder<'a>, split: Split, wrappers: &[&str]) -> &'t Folder<'a> {
    let mut folder = outer;
    for _ in 0..MAX_WRAPPERS {
        let mut inner = folder.folders.values().filter(|f| !is_beside(f.name));
        let (Some(only), None) = (inner.next(), inner.next()) else { break };
        let repeated = is_generic(only.name)
            || exact_split(only.name) == Some(split)
            || same_class(only.name, folder.name);
        let wraps = only.images.is_empty()
            && folder.folders.len() == 1
            && (only.folders.len() >= 2 || (!only.is_flat() && wrappers.contains(&only.name)));
        if !(repeated || wraps) {
            break;
        }
        folder = only;
    }
    folder
}

/// The folder that one without splits only wraps.
fn wrapped<'t, 'a>(folder: &'t Folder<'a>) -> Option<&'t Folder<'a>> {
    if let Some(only) = folder.only() {
        return (!only.is_flat() && (only.folders.len() >= 2 || only.images.is_empty())).then_some(only);
    }
    // One folder that is divided, and folders of images beside it; or images beside masks and the like.
    let mut divided =
        folder.folders.values().filter(|f| matches!(splits_in(f), Found::Parts(_)) && !f.is_flat());
    if let (Some(inner), None) = (divided.next(), divided.next())
        && has_training_classes(inner)
        && folder.folders.values().all(|f| f.is_flat() || f.name == inner.name)
    {
        return Some(inner);
    }
    let mut inner = folder.folders.values().filter(|f| !is_beside(f.name));
    match (inner.next(), inner.next()) {
        (Some(images), None) if is_generic(images.name) && classes(images).len() >= 2 => Some(images),
        _ => None,
    }
}

fn has_training_classes(folder: &Folder) -> bool {
    let Found::Parts(parts) = splits_in(folder) else { return false };
    parts.iter().any(|part| part.split == Split::Train && !classes(part.folder).is_empty())
}

/// `CLASS/train/`, `CLASS/test/`: in every folder nothing but folders of splits, training among them.
fn has_splits_in_classes(folder: &Folder) -> bool {
    let classes: Vec<&Folder> = folder.folders.values().collect();
    let splits: BTreeSet<Option<Split>> =
        classes.iter().flat_map(|class| class.folders.keys().map(|name| exact_split(name))).collect();
    classes.len() >= 2
        && classes.iter().all(|class| !class.is_flat() && class.images.is_empty())
        && splits.len() >= 2
        && splits.contains(&Some(Split::Train))
        && !splits.contains(&None)
}

/// A folder that holds split folders itself: archives often have the whole data set twice.
fn repeats(folder: &Folder) -> bool {
    !folder.is_flat() && folder.folders.keys().all(|name| exact_split(name).is_some())
}

/// Whether at least half of a folder's classes are classes of the other one.
fn share_classes(folder: &Folder, other: &Folder) -> bool {
    let known: BTreeSet<_> = other.folders.keys().map(|name| nfc(name)).collect();
    let shared = folder.folders.keys().filter(|name| known.contains(&nfc(name))).count();
    shared > 0 && 2 * shared >= folder.folders.len()
}
