//! Rules about single files.

use ocelli_common::text::count;

use super::super::facts::Facts;
use super::super::fingerprint::BLANK;
use super::super::look::Picture;
use super::super::report::{FileFound, Finding, Kind, Severity};
use super::make::{are, finding};
use crate::findings::MOSTLY;
use crate::recipe::Recipe;

/// Files that cannot be read. A problem where training would refuse the data for them.
pub(super) fn unreadable(facts: &Facts) -> Option<Finding> {
    let file =
        |(index, reason): (usize, &String)| FileFound { detail: Some(reason.clone()), ..facts.file(index) };
    let bad = facts.seen.iter().enumerate().filter_map(|(i, seen)| Some((i, seen.picture.as_ref().err()?)));
    let files: Vec<FileFound> = bad.map(file).collect();
    let n = files.len();
    let most = Recipe::default().max_bad;
    let too_many = n as f64 > f64::from(most) * facts.items.len() as f64;
    let (severity, more) = match too_many {
        true => (Severity::Problem, format!(": more than the {:.0} % that training accepts", 100.0 * most)),
        false => (Severity::Warning, String::new()),
    };
    let text = format!("{} cannot be read{more}", count(n, "file"));
    let advice = "copy them again from where they came, convert them to JPEG or PNG, or remove them; training leaves them out";
    (n > 0).then(|| finding(Kind::Unreadable, severity, text, advice).about_files(files))
}

/// Files whose name says another format than their content.
pub(super) fn wrong_extension(facts: &Facts) -> Option<Finding> {
    let wrong =
        facts.seen.iter().enumerate().filter_map(|(i, seen)| Some((i, seen.wrong_extension.as_ref()?)));
    let file =
        |(index, what): (usize, &String)| FileFound { detail: Some(what.clone()), ..facts.file(index) };
    let files: Vec<FileFound> = wrong.map(file).collect();
    let n = files.len();
    let has = if n == 1 { "has" } else { "have" };
    let text = format!("{} {has} the extension of another format", count(n, "file"));
    let advice = "rename them; Ocelli reads files by their content, but other programs go by the name";
    (n > 0).then(|| finding(Kind::WrongExtension, Severity::Note, text, advice).about_files(files))
}

/// Images that show nothing.
pub(super) fn blank(facts: &Facts) -> Option<Finding> {
    let is_blank = |(_, picture): &(usize, &Picture)| picture.fingerprint.contrast < BLANK;
    let files: Vec<FileFound> =
        facts.pictures().filter(is_blank).map(|(index, _)| facts.file(index)).collect();
    let n = files.len();
    let text = format!("{} of one colour: nothing can be seen", are(n, "image"));
    let advice = "remove them, unless a class is about empty images";
    (n > 0).then(|| finding(Kind::Blank, Severity::Note, text, advice).about_files(files))
}

/// Gray images whose files could have colours.
pub(super) fn gray(facts: &Facts) -> Option<Finding> {
    let coloured = || facts.pictures().filter(|(_, picture)| picture.channels == 3);
    let (all, gray) =
        (coloured().count(), coloured().filter(|(_, picture)| picture.fingerprint.gray).count());
    let images = facts.pictures().count();
    // Of a set with gray files, too, it is no news that images are gray.
    let told = images > 0 && all == images && gray as f64 >= MOSTLY * images as f64;
    let text = "the images are gray, in files that could have colours".to_owned();
    let advice = "one channel trains faster: the setting `channels` of training";
    told.then(|| Finding { count: gray, ..finding(Kind::GrayInColour, Severity::Note, text, advice) })
}
