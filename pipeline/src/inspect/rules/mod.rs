//! What is worth saying of a data set: one function a rule, each of which finds one thing or nothing.

mod classes;
mod copies;
mod files;
mod labels;
mod make;

use super::copies::Copies;
use super::facts::Facts;
use super::report::Finding;
use super::suspects::Suspect;

/// All findings, most severe first, then in the order of [`Kind`].
pub(super) fn findings(facts: &Facts, copies: &Copies, suspects: &[Suspect]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    found.extend(classes::one_class(facts));
    found.extend(classes::empty(facts));
    found.extend(classes::missing(facts));
    found.extend(classes::single(facts));
    found.extend(classes::few(facts));
    found.extend(classes::out_of_balance(facts));
    found.extend(copies::all(facts, copies));
    found.extend(files::unreadable(facts));
    found.extend(files::wrong_extension(facts));
    found.extend(files::blank(facts));
    found.extend(files::gray(facts));
    found.extend(labels::suspicious(facts, suspects));
    found.sort_by_key(|finding| (finding.severity, finding.kind));
    found
}
