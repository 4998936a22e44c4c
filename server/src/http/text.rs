//! Words of clients in texts of ours: short, and without control characters, which a terminal would obey.

use std::path::Path;

/// At most 64 characters of a client's text.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(64).collect()
}

/// The text of an error without its place, which stands in front already, and without what a terminal would obey. Of a
/// long one beginning and end are kept: in between stands a value of the client's, and behind it what was expected.
pub(crate) fn plain(text: &str) -> String {
    const KEPT: usize = 100;
    let text = text.rsplit_once(" at line ").map_or(text, |(reason, _)| reason);
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut rest = text.chars();
    let begin: String = rest.by_ref().take(KEPT).map(visible).collect();
    let mut end: Vec<char> = rest.by_ref().rev().take(KEPT).map(visible).collect();
    end.reverse();
    let cut = if rest.next().is_some() { " .. " } else { "" };
    begin + cut + &end.into_iter().collect::<String>()
}

/// The text of an error about a file of ours, without its path.
pub(crate) fn without_path(text: &str, path: &Path) -> String {
    let path = path.display().to_string();
    text.replace(&format!("{path}: "), "").replace(&path, "it")
}
