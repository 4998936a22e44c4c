//! Fields of tables whose images may have several labels: what separates labels, and what means yes and no.

use std::collections::{BTreeSet, HashMap};

/// Names of columns of lists, in small letters and digits alone; the first in this order that a table has is taken. In such
/// columns labels may stand between commas and spaces, too.
pub(super) const NAMES: [&str; 12] = [
    "labels",
    "tags",
    "classes",
    "categories",
    "attributes",
    "findings",
    "findinglabels",
    "keywords",
    "objects",
    "concepts",
    "genres",
    "genre",
];

/// Files with several rows of different labels from which, and the part of all files (one in so many) from which, these are
/// no mistakes.
const OFTEN: usize = 5;
const ONE_IN: usize = 10;

/// What separates the labels of a column; `None` where each field is one label. A bar and a semicolon always do. A comma and
/// a space do in a column that is called a list (`is_list`), or where images have several labels whatever the table looks
/// like (`always`), as long as there are fewer different parts than fields: `haze primary` and `clear primary` are lists,
/// `granny smith` is a name.
pub(super) fn separator<'a, I: Iterator<Item = &'a str>>(
    values: impl Fn() -> I,
    is_list: bool,
    always: bool,
) -> Option<char> {
    let has = |mark: char| values().any(|value| value.contains(mark));
    let repeats = |mark: char| {
        let fields: BTreeSet<&str> = values().filter(|value| !value.is_empty()).collect();
        let parts: BTreeSet<&str> = fields.iter().flat_map(|field| split(field, Some(mark))).collect();
        parts.len() < fields.len()
    };
    let sure = ['|', ';'].into_iter().find(|&mark| has(mark));
    sure.or_else(|| {
        let marks = [',', ' '].into_iter().filter(|&mark| (is_list || always) && has(mark));
        marks.into_iter().find(|&mark| (is_list && always) || repeats(mark))
    })
}

/// The labels of a field.
pub(super) fn split(field: &str, separator: Option<char>) -> impl Iterator<Item = &str> {
    let parts = field.split(move |c| Some(c) == separator).map(str::trim);
    parts.filter(|part| !part.is_empty())
}

/// What a field of a column for one label says: yes for `1`, `true`, `yes` and `x`, no for `0`, `-1`, `false`, `no` and
/// nothing; `None` for anything else.
pub(super) fn flag(field: &str) -> Option<bool> {
    const YES: [&str; 5] = ["1", "1.0", "true", "yes", "x"];
    const NO: [&str; 7] = ["", "0", "0.0", "-1", "-1.0", "false", "no"];
    let is = |words: &[&str]| words.iter().any(|word| field.eq_ignore_ascii_case(word));
    if is(&YES) { Some(true) } else { is(&NO).then_some(false) }
}

/// Whether so many files are listed with several labels, a row each, that this is how labels are given.
pub(super) fn listed_often<'a>(rows: impl Iterator<Item = (usize, &'a str)>) -> bool {
    let mut first: HashMap<usize, (&str, bool)> = HashMap::new();
    for (file, label) in rows {
        let (before, differs) = first.entry(file).or_insert((label, false));
        *differs |= *before != label;
    }
    let several = first.values().filter(|(_, differs)| *differs).count();
    several >= OFTEN && several * ONE_IN >= first.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_told_from_names() {
        let of = |fields: &[&str], is_list, always| separator(|| fields.iter().copied(), is_list, always);
        assert_eq!(of(&["a|b", "a"], false, false), Some('|'));
        assert_eq!(of(&["a", "b; a"], false, false), Some(';'));
        let planet = ["haze primary", "clear primary", "haze", "clear", "primary"];
        assert_eq!(of(&planet, true, false), Some(' '));
        assert_eq!(of(&planet, false, false), None, "a column that is called label");
        assert_eq!(of(&planet, false, true), Some(' '));
        let apples = ["granny smith", "golden delicious", "braeburn"];
        assert_eq!(of(&apples, true, false), None);
        assert_eq!(of(&apples, false, true), None);
        assert_eq!(of(&["a,b", "b,c", "c,a", "a"], true, false), Some(','));
        assert_eq!(of(&["a", "b", ""], true, false), None);
        assert_eq!(split(" a | b||", Some('|')).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(split("a b", None).collect::<Vec<_>>(), ["a b"]);
    }

    #[test]
    fn flags_say_yes_or_no_in_the_usual_words() {
        for (field, said) in [
            ("1", Some(true)),
            ("1.0", Some(true)),
            ("TRUE", Some(true)),
            ("x", Some(true)),
            ("", Some(false)),
            ("0", Some(false)),
            ("-1", Some(false)),
            ("False", Some(false)),
            ("2", None),
            ("0.5", None),
            ("cat", None),
        ] {
            assert_eq!(flag(field), said, "{field:?}");
        }
    }

    #[test]
    fn some_files_with_two_labels_are_a_mistake_and_many_are_not() {
        let rows = |several: usize, files: usize| {
            let more = (0..several).map(|file| (file, "b"));
            listed_often((0..files).map(|file| (file, "a")).chain(more))
        };
        assert!(!rows(4, 4));
        assert!(rows(5, 50));
        assert!(!rows(5, 51));
        assert!(!listed_often((0..100).map(|row| (row % 10, "a"))), "the same label again");
    }
}
