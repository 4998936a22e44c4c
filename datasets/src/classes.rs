//! The names of classes: their order, their numbers, and what is odd about them.

use crate::item::Item;
use crate::names::nfc;
use crate::split::Split;
use ocelli_common::text::some_of;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Class names in natural order, and the id of each by its NFC form. Names that are one after NFC are one class, shown
/// as it was first seen.
pub(crate) fn number_classes<'a>(
    names: impl Iterator<Item = &'a str>,
) -> (Vec<String>, HashMap<String, u32>) {
    let mut first: HashMap<Cow<'a, str>, &'a str> = HashMap::new();
    let mut last = "";
    for name in names {
        // Images of a class mostly follow each other.
        if name != last {
            first.entry(nfc(name)).or_insert(name);
            last = name;
        }
    }
    let mut classes: Vec<String> = first.into_values().map(str::to_owned).collect();
    classes.sort_by(|a, b| natural_order(a, b));
    let ids = classes.iter().map(|name| nfc(name).into_owned()).zip(0..).collect();
    (classes, ids)
}

/// Names the classes that a declared split other than training has no image of: those without a training image are no
/// classes of a model and are told when it is trained.
pub(crate) fn note_missing_classes(items: &[Item], classes: &[String], notes: &mut Vec<String>) {
    for split in [Split::Val, Split::Test] {
        let present: BTreeSet<u32> = items
            .iter()
            .filter(|i| i.split == Some(split))
            .flat_map(|i| i.labels.as_slice())
            .copied()
            .collect();
        if present.is_empty() {
            continue;
        }
        let missing: Vec<&str> = classes
            .iter()
            .zip(0..)
            .filter(|(_, id)| !present.contains(id))
            .map(|(c, _)| c.as_str())
            .collect();
        if !missing.is_empty() {
            notes.push(format!("{split} has no images of {}", some_of(&missing)));
        }
    }
}

/// Compares runs of digits as numbers, so that `class2` comes before `class10`; the rest byte by byte.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    while let (Some(&p), Some(&q)) = (x.first(), y.first()) {
        if p.is_ascii_digit() && q.is_ascii_digit() {
            let (m, n) = (take_number(&mut x), take_number(&mut y));
            match m.len().cmp(&n.len()).then(m.cmp(n)) {
                Ordering::Equal => {}
                different => return different,
            }
        } else if p != q {
            return p.cmp(&q);
        } else {
            (x, y) = (&x[1..], &y[1..]);
        }
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

/// Cuts the leading digits off, without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    &number[number.iter().position(|&b| b != b'0').unwrap_or(end)..]
}

/// Names that differ only in case, spaces and separators are most likely one class with a spelling mistake.
pub(crate) fn note_similar_classes(classes: &[String], notes: &mut Vec<String>) {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for class in classes {
        let plain: String =
            nfc(class).chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if !plain.is_empty() {
            alike.entry(plain).or_default().push(class);
        }
    }
    for names in alike.values().filter(|names| names.len() > 1) {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        notes.push(format!(
            "{} are taken for different classes; rename the folders if they are one",
            names.join(" and ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_as_numbers_and_the_order_is_total() {
        let sorted = ["", "0", "00", "1", "01", "2", "10", "a", "a1b", "a01b2", "a1b3", "a2", "a10", "b"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(natural_order(a, b), natural_order(b, a).reverse(), "{a} {b}");
                // Equal numbers with leading zeros only have to be told apart somehow.
                let twins = [("0", "00"), ("1", "01")].iter().any(|t| (*a, *b) == *t || (*b, *a) == *t);
                assert!(twins || natural_order(a, b) == i.cmp(&j), "{a:?} {b:?}");
            }
        }
        let long = "9".repeat(400);
        assert_eq!(natural_order(&long, &format!("1{long}")), Ordering::Less);
    }
}
