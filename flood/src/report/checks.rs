//! What people read of hostile requests: one line a check as soon as it is known, and what held.

use ocelli_common::text::printable;

use super::paint::{Paint, Tone};
use crate::client::target::Status;
use crate::statistics::checks::{Check, Outcome, Summary};

/// Characters of what was sent, so that the column behind it stands straight.
const NAME: usize = 46;
/// Characters of what was seen.
const SEEN: usize = 200;

/// What is tried, before it begins.
pub fn start(url: &str, service: Option<&Status>) -> Vec<String> {
    let service = match service {
        Some(status) => format!("          {status}"),
        None => "          it does not say what it is: GET /status has no answer for us".to_owned(),
    };
    let checks = "checks    hostile requests, each followed by a normal one that must be answered";
    vec![format!("service   {}", printable(url)), service, checks.to_owned()]
}

/// One check.
pub fn line(check: &Check, paint: Paint) -> String {
    let Check { theme, name, expected, outcome, observed, .. } = check;
    let word = match outcome {
        Outcome::Held => paint(Tone::Good, "held     "),
        Outcome::Failed => paint(Tone::Bad, "FAILED   "),
        Outcome::NotTried => paint(Tone::Faint, "not tried"),
    };
    let (name, seen) = (printable(name), printable(observed).chars().take(SEEN).collect::<String>());
    let wanted = if *outcome == Outcome::Failed { format!("; wanted: {expected}") } else { String::new() };
    format!("{word} {theme:<7} {name:<NAME$}  {seen}{wanted}")
}

/// The sum, and what did not hold once more: in a hundred lines it is easily missed.
pub fn tail(summary: &Summary, paint: Paint) -> Vec<String> {
    let Summary { held, failed, not_tried, seconds, .. } = summary;
    let mut lines = vec![String::new()];
    let missed = summary.checks.iter().filter(|check| check.outcome == Outcome::Failed);
    lines.extend(missed.map(|check| line(check, paint)));
    let total = held + failed + not_tried;
    lines.push(format!(
        "{held} of {total} checks held, {failed} failed, {not_tried} not tried; {seconds:.0} s"
    ));
    if let Some(kept) = summary.kept {
        let text = if kept {
            "something of the archives that were sent was kept"
        } else {
            "nothing that was sent was kept"
        };
        lines.push(text.to_owned());
    }
    lines
}
