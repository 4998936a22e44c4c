//! What people read: one line a check as soon as it is known, and what held.

use super::super::target::{Status, Target};
use super::{Check, Outcome, Summary};
use crate::failure::Failure;
use crate::output::{Output, Style, printable};

/// Characters of what was sent, so that the column behind it stands straight.
const NAME: usize = 46;
/// Characters of what was seen.
const SEEN: usize = 200;

pub(super) fn head(target: &Target, status: Option<&Status>, out: &Output) {
    out.say(format_args!("service   {}", printable(target.url().trim_end_matches("/predict"))));
    match status {
        Some(status) => out.say(format_args!("          {status}")),
        None => out.say("          it does not say what it is: GET /status has no answer for us"),
    }
    out.say("checks    hostile requests, each followed by a normal one that must be answered");
}

/// One check.
pub(super) fn line(check: &Check, out: &mut Output) -> Result<(), Failure> {
    let Check { theme, name, expected, outcome, observed, .. } = check;
    let word = match outcome {
        Outcome::Held => out.paint.apply(Style::Green, "held     "),
        Outcome::Failed => out.paint.apply(Style::Red, "FAILED   "),
        Outcome::NotTried => out.paint.apply(Style::Dim, "not tried"),
    };
    let (name, seen) = (printable(name), printable(observed).chars().take(SEEN).collect::<String>());
    let wanted = if *outcome == Outcome::Failed { format!("; wanted: {expected}") } else { String::new() };
    out.line(format_args!("{word} {theme:<7} {name:<NAME$}  {seen}{wanted}"))?;
    out.flush()
}

/// The sum, and what did not hold once more: in a hundred lines it is easily missed.
pub(super) fn tail(summary: &Summary, out: &mut Output) -> Result<(), Failure> {
    let Summary { held, failed, not_tried, seconds, .. } = summary;
    out.line("")?;
    let of = |outcome| summary.checks.iter().filter(move |check| check.outcome == outcome);
    for check in of(Outcome::Failed) {
        line(check, out)?;
    }
    let total = held + failed + not_tried;
    out.line(format_args!(
        "{held} of {total} checks held, {failed} failed, {not_tried} not tried; {seconds:.0} s"
    ))?;
    if let Some(kept) = summary.kept {
        let text = if kept {
            "something of the archives that were sent was kept"
        } else {
            "nothing that was sent was kept"
        };
        out.line(text)?;
    }
    out.flush()
}
