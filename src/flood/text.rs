//! The report as people read it in a terminal: one line a level, as soon as it is known.

use std::collections::BTreeMap;

use super::client::STEPS;
use super::images::Images;
use super::level::Level;
use super::settings::{Load, Plan};
use super::target::{Status, Target};
use crate::failure::Failure;
use crate::output::{Output, Style, printable};
use crate::progress::thousands;

/// Characters of an example of what went wrong.
const MAX_EXAMPLE: usize = 120;

/// What is measured, before it begins.
pub(super) fn head(
    target: &Target,
    status: Option<&Status>,
    plan: &Plan,
    images: &Images,
    out: &Output,
) -> Result<(), Failure> {
    out.say(format_args!("service   {}", printable(target.url())));
    match status {
        Some(status) => out.say(format_args!("          {status}")),
        None => out.say("          it has no GET /status that says what it is"),
    }
    let images = format!("{} images {}", thousands(images.distinct() as u64), images.about());
    let body = match (plan.body, plan.batch) {
        (body, 1) => format!("{body:?}").to_lowercase(),
        (body, batch) => format!("{} of {batch}", format!("{body:?}").to_lowercase()),
    };
    out.say(format_args!("requests  POST {body}, {images}"));
    Ok(())
}

/// One level; the first has the head of the table above it.
pub(super) fn level(level: &Level, first: bool, out: &mut Output) -> Result<(), Failure> {
    if first {
        let what = match level.load {
            Load::Closed { .. } => "connections",
            Load::Open { .. } => "requests/s",
        };
        let names = ["mean ms", "p50", "p90", "p95", "p99", "p99.9", "max"].map(|name| format!("{name:>7}"));
        let head =
            format!("{what:>11}  {:>9}  {:>9}  {}  {:>6}", "ok/s", "images/s", names.join("  "), "errors");
        out.line(out.paint.apply(Style::Bold, head))?;
    }
    let latency = match &level.latency_ms {
        Some(l) => [l.mean, l.p50, l.p90, l.p95, l.p99, l.p99_9, l.max].map(ms),
        None => std::array::from_fn(|_| "-".to_owned()),
    };
    let cells = latency.map(|cell| format!("{cell:>7}")).join("  ");
    let errors = format!("{:>6}", thousands(level.errors));
    let errors = if level.errors > 0 { out.paint.apply(Style::Red, errors) } else { errors };
    let [ok, images] = [level.ok_per_second, level.images_per_second].map(rate);
    out.line(format_args!("{:>11}  {ok:>9}  {images:>9}  {cells}  {errors}", level.number()))?;
    out.flush()
}

/// What all levels leave to say: time inside the service, answers by status, errors by kind.
pub(super) fn tail(levels: &[Level], out: &mut Output) -> Result<(), Failure> {
    if levels.iter().any(|level| !level.service_ms.is_empty()) {
        out.line("")?;
        let names = STEPS.map(|name| format!("{:>18}", format!("{name} p50/p99")));
        let head = format!("{:>11}{}", "inside, ms", names.concat());
        out.line(out.paint.apply(Style::Bold, head))?;
        for level in levels {
            let step = |name| match level.service_ms.get(name) {
                Some(step) => format!("{:>18}", format!("{} / {}", ms(step.p50), ms(step.p99))),
                None => format!("{:>18}", "-"),
            };
            out.line(format_args!("{:>11}{}", level.number(), STEPS.map(step).concat()))?;
        }
    }
    out.line("")?;
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    levels
        .iter()
        .flat_map(|level| &level.statuses)
        .for_each(|(&status, n)| *statuses.entry(status).or_default() += n);
    let answers: Vec<String> =
        statuses.iter().map(|(status, n)| format!("{} x {status}", thousands(*n))).collect();
    let answers = if answers.is_empty() { "none".to_owned() } else { answers.join(", ") };
    out.line(format_args!("answers   {answers}"))?;
    for level in levels {
        for (kind, fault) in &level.faults {
            let example: String = printable(&fault.example).chars().take(MAX_EXAMPLE).collect();
            let (count, kind) = (thousands(fault.count), out.paint.apply(Style::Red, kind));
            let comma = if example.is_empty() { "" } else { ": " };
            out.line(format_args!("errors    {}: {count} x {kind}{comma}{example}", level.load))?;
        }
    }
    Ok(())
}

/// Milliseconds with three digits that matter.
pub(super) fn ms(value: f64) -> String {
    match value {
        ..0.9995 => format!("{value:.3}"),
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => thousands(value.round() as u64),
    }
}

/// A number a second.
pub(super) fn rate(value: f64) -> String {
    if value < 99.95 { format!("{value:.1}") } else { thousands(value.round() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let written = [0.0, 0.0412, 0.9996, 1.0, 9.996, 42.13, 99.96, 1234.5].map(ms);
        assert_eq!(written, ["0.000", "0.041", "1.00", "1.00", "10.0", "42.1", "100", "1,235"]);
        assert_eq!([0.0, 12.34, 99.96, 5123.4].map(rate), ["0.0", "12.3", "100", "5,123"]);
    }
}
