//! The report as people read it in a terminal: one line a level, as soon as it is known.

use std::collections::BTreeMap;

use ocelli_common::text::{printable, thousands};

use super::paint::{Paint, Tone};
use crate::client::connection::STEPS;
use crate::event::{Progress, Start};
use crate::settings::Load;
use crate::statistics::level::Level;

/// Characters of an example of what went wrong.
const MAX_EXAMPLE: usize = 120;

/// What is measured, before it begins.
pub fn start(start: &Start) -> Vec<String> {
    let mut lines = vec![format!("service   {}", printable(start.url))];
    lines.push(match start.service {
        Some(status) => format!("          {status}"),
        None => "          it has no GET /status that says what it is".to_owned(),
    });
    let images = format!("{} images {}", thousands(start.distinct_images as u64), start.images);
    let body = format!("{:?}", start.body).to_lowercase();
    let of = if start.batch == 1 { String::new() } else { format!(" of {}", start.batch) };
    lines.push(format!("requests  POST {body}{of}, {images}"));
    lines
}

/// How far a level is.
pub fn progress(progress: &Progress) -> String {
    let Some(counts) = &progress.counts else { return "warm-up".to_owned() };
    let (ok, rate) = (thousands(counts.ok), thousands(counts.ok_per_second as u64));
    let mut text = format!("{ok} answers, {rate}/s");
    if counts.errors > 0 {
        text += &format!(", {} failed", thousands(counts.errors));
    }
    text
}

/// The head of the table of levels, of which `level` is one.
pub fn head(level: &Level, paint: Paint) -> String {
    let what = match level.load {
        Load::Closed { .. } => "connections",
        Load::Open { .. } => "requests/s",
    };
    let names = ["mean ms", "p50", "p90", "p95", "p99", "p99.9", "max"].map(|name| format!("{name:>7}"));
    let head = format!("{what:>11}  {:>9}  {:>9}  {}  {:>6}", "ok/s", "images/s", names.join("  "), "errors");
    paint(Tone::Head, &head)
}

/// One level.
pub fn level(level: &Level, paint: Paint) -> String {
    let latency = match &level.latency_ms {
        Some(l) => [l.mean, l.p50, l.p90, l.p95, l.p99, l.p99_9, l.max].map(ms),
        None => std::array::from_fn(|_| "-".to_owned()),
    };
    let cells = latency.map(|cell| format!("{cell:>7}")).join("  ");
    let errors = format!("{:>6}", thousands(level.errors));
    let errors = if level.errors > 0 { paint(Tone::Bad, &errors) } else { errors };
    let [ok, images] = [level.ok_per_second, level.images_per_second].map(rate);
    format!("{:>11}  {ok:>9}  {images:>9}  {cells}  {errors}", level.number())
}

/// What all levels leave to say: time inside the service, answers by status, errors by kind.
pub fn tail(levels: &[Level], paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if levels.iter().any(|level| !level.service_ms.is_empty()) {
        lines.push(String::new());
        let names = STEPS.map(|name| format!("{:>18}", format!("{name} p50/p99")));
        lines.push(paint(Tone::Head, &format!("{:>11}{}", "inside, ms", names.concat())));
        for level in levels {
            let step = |name| match level.service_ms.get(name) {
                Some(step) => format!("{:>18}", format!("{} / {}", ms(step.p50), ms(step.p99))),
                None => format!("{:>18}", "-"),
            };
            lines.push(format!("{:>11}{}", level.number(), STEPS.map(step).concat()));
        }
    }
    lines.push(String::new());
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    levels
        .iter()
        .flat_map(|level| &level.statuses)
        .for_each(|(&status, n)| *statuses.entry(status).or_default() += n);
    let answers: Vec<String> =
        statuses.iter().map(|(status, n)| format!("{} x {status}", thousands(*n))).collect();
    let answers = if answers.is_empty() { "none".to_owned() } else { answers.join(", ") };
    lines.push(format!("answers   {answers}"));
    for level in levels {
        for (kind, fault) in &level.faults {
            let example: String = printable(&fault.example).chars().take(MAX_EXAMPLE).collect();
            let (count, kind) = (thousands(fault.count), paint(Tone::Bad, kind));
            let comma = if example.is_empty() { "" } else { ": " };
            lines.push(format!("errors    {}: {count} x {kind}{comma}{example}", level.load));
        }
    }
    lines
}

/// Milliseconds with three digits that matter.
pub(crate) fn ms(value: f64) -> String {
    match value {
        ..0.9995 => format!("{value:.3}"),
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => thousands(value.round() as u64),
    }
}

/// A number a second.
pub(crate) fn rate(value: f64) -> String {
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
