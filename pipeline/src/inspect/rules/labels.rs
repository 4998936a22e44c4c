//! The rule about labels that look wrong.

use ocelli_common::text::count;

use super::super::facts::Facts;
use super::super::report::{FileFound, Finding, Kind, Severity};
use super::super::suspects::Suspect;
use super::make::finding;

/// Labels that may be wrong, most suspicious first.
pub(super) fn suspicious(facts: &Facts, suspects: &[Suspect]) -> Option<Finding> {
    let file = |suspect: &Suspect| FileFound {
        detail: Some(suspect.reason.clone()),
        suggested: Some(suspect.suggested.clone()),
        score: Some(suspect.score),
        ..facts.file(suspect.index)
    };
    let n = suspects.len();
    let text = format!("{} may be wrong, most suspicious first", count(n, "label"));
    let advice = "look at these images and move those that are wrong; images that are hard to tell are among them, too";
    let files = suspects.iter().map(file).collect();
    (n > 0).then(|| finding(Kind::SuspiciousLabels, Severity::Warning, text, advice).about_files(files))
}
