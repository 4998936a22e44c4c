//! Rules about images that are there more than once.

use super::super::copies::Copies;
use super::super::facts::Facts;
use super::super::report::{FileFound, Finding, Kind, Severity};
use super::make::{are, finding};

/// Images of a group that one is compared with, to say which it is a copy of.
const COMPARED: usize = 64;

/// Leaks, labels that contradict each other, and plain duplicates.
pub(super) fn all(facts: &Facts, copies: &Copies) -> Vec<Finding> {
    let rules = Rules { facts, copies };
    let same = copies.same.groups();
    let alike = copies.alike.groups();
    let differ =
        |group: &[usize], key: &dyn Fn(usize, usize) -> bool| group.iter().any(|&i| key(group[0], i));
    let parts = |group: &[usize]| differ(group, &|a, b| facts.part(a) != facts.part(b));
    let labels = |group: &[usize]| differ(group, &|a, b| facts.labels(a) != facts.labels(b));
    let contents = |group: &[usize]| differ(group, &|a, b| !copies.same.are(a, b));

    let leaks: Vec<&[usize]> = groups(&alike, &|group| parts(group));
    let leaked_files = same.iter().filter(|group| parts(group)).count();
    let conflicts = groups(&same, &|group| labels(group));
    let near_conflicts = groups(&alike, &|group| {
        // Labels differ between contents, not only within one.
        let firsts: Vec<usize> = group.iter().copied().filter(|&i| copies.is_first(i)).collect();
        labels(&firsts)
    });
    let same_again = groups(&same, &|group| !parts(group) && !labels(group));
    let near_again = groups(&alike, &|group| contents(group) && !parts(group) && !labels(group));
    [
        rules.leak(&leaks, leaked_files),
        rules.conflicting(&conflicts),
        rules.near_conflicting(&near_conflicts),
        rules.duplicates(&same_again),
        rules.near_duplicates(&near_again),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn groups<'g>(all: &'g [Vec<usize>], which: &dyn Fn(&[usize]) -> bool) -> Vec<&'g [usize]> {
    all.iter().map(Vec::as_slice).filter(|group| which(group)).collect()
}

struct Rules<'a> {
    facts: &'a Facts<'a>,
    copies: &'a Copies,
}

impl Rules<'_> {
    fn leak(&self, groups: &[&[usize]], files: usize) -> Option<Finding> {
        let n = groups.len();
        let as_files = match files {
            0 => ", nearly the same in each".to_owned(),
            files if files == n => ", as the same file".to_owned(),
            files => format!(", {files} as the same file, the others nearly the same"),
        };
        let text = format!("{} in more than one split{as_files}: figures will be too good", are(n, "image"));
        let advice = "keep the copies of an image in one split: remove them from training, or from validation and test";
        let other = |a: usize, b: usize| self.facts.part(a) != self.facts.part(b);
        self.told(Kind::Leak, Severity::Problem, (text, advice), groups, &other)
    }

    fn conflicting(&self, groups: &[&[usize]]) -> Option<Finding> {
        let n = groups.len();
        let what = match self.facts.is_multi_label() {
            true => "there again with other labels",
            false => "in more than one class",
        };
        let text = format!("{} {what}", are(n, "image"));
        let advice =
            "decide which label is right and remove the other files: all of them are trained on until then";
        let other = |a: usize, b: usize| self.facts.labels(a) != self.facts.labels(b);
        self.told(Kind::ConflictingLabels, Severity::Problem, (text, advice), groups, &other)
    }

    fn near_conflicting(&self, groups: &[&[usize]]) -> Option<Finding> {
        let text = format!("{} there again, nearly the same, with another label", are(groups.len(), "image"));
        let advice = "look at them: one of the labels is likely to be wrong";
        let other = |a: usize, b: usize| self.facts.labels(a) != self.facts.labels(b);
        self.told(Kind::NearConflictingLabels, Severity::Warning, (text, advice), groups, &other)
    }

    fn duplicates(&self, groups: &[&[usize]]) -> Option<Finding> {
        let text = format!("{} there more than once, as the same file", are(groups.len(), "image"));
        let advice = "remove the copies: they make an image count twice; training keeps them in one split";
        self.told(Kind::ExactDuplicates, Severity::Note, (text, advice), groups, &|_, _| true)
    }

    fn near_duplicates(&self, groups: &[&[usize]]) -> Option<Finding> {
        let text = format!("{} there more than once, nearly the same", are(groups.len(), "image"));
        let advice = match self.facts.is_divided() {
            true => "remove the copies: they make an image count twice",
            false => "remove the copies: drawn into training and test, they make figures too good",
        };
        self.told(Kind::NearDuplicates, Severity::Note, (text, advice), groups, &|_, _| true)
    }

    /// A finding about groups; each file says of which one of `other` it is a copy.
    fn told(
        &self,
        kind: Kind,
        severity: Severity,
        (text, advice): (String, &str),
        groups: &[&[usize]],
        other: &dyn Fn(usize, usize) -> bool,
    ) -> Option<Finding> {
        if groups.is_empty() {
            return None;
        }
        let file = |group: &[usize], index: usize| {
            let detail = self.copy_of(group, index, other);
            FileFound { detail, ..self.facts.file(index) }
        };
        let files = groups.iter().map(|group| group.iter().map(|&index| file(group, index)).collect());
        Some(finding(kind, severity, text, advice).about_groups(files.collect()))
    }

    /// Of which image of its group an image is a copy: the one most like it.
    fn copy_of(&self, group: &[usize], index: usize, other: &dyn Fn(usize, usize) -> bool) -> Option<String> {
        let likeness = |copy: usize| match self.copies.same.are(index, copy) {
            true => f32::INFINITY,
            false => {
                let look = |index: usize| self.facts.picture(index).map(|picture| &picture.fingerprint);
                look(index).zip(look(copy)).map_or(0.0, |(a, b)| a.correlation(b))
            }
        };
        let others = group.iter().copied().filter(|&copy| copy != index && other(index, copy));
        let rated = others.take(COMPARED).map(|copy| (likeness(copy), copy));
        let (likeness, copy) = rated.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        let name = &self.facts.items[copy].name;
        Some(match likeness.is_infinite() {
            true => format!("the same file as {name}"),
            false => format!("nearly the same as {name} (correlation {likeness:.3})"),
        })
    }
}
