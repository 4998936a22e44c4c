//! A comparison of two models as people read it.

use std::path::Path;

use ocelli_common::text::{printable, thousands};
use ocelli_pipeline::{Comparison, Flip};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::report::short;

/// Chance above which a difference is said to be explained by it.
const SIGNIFICANT: f64 = 0.05;
/// Images with different answers that are listed; the JSON has all.
const MAX_FLIPS: usize = 20;

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    model_path: String,
    other_path: String,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

/// Prints a comparison: both models, the classes that change, and the images with different answers.
pub(crate) fn tell(
    model: &Path,
    other: &Path,
    comparison: &Comparison,
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let (model_path, other_path) = (model.display().to_string(), other.display().to_string());
    if json {
        return out.json(&Record { schema: 1, r#type: "comparison", model_path, other_path, comparison });
    }
    let names = [printable(&model_path), printable(&other_path)];
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("model".len());
    let head = format!("{:<width$}  accuracy  95 % interval     macro F1    loss     ECE", "model");
    out.line(out.paint.apply(Style::Bold, head))?;
    for (name, side) in names.iter().zip([&comparison.model, &comparison.other]) {
        let (low, high) = side.interval;
        out.line(format_args!(
            "{name:<width$}  {:>8.4}  {low:.4} to {high:.4}  {:>8.4}  {:>6.4}  {:>6.4}",
            side.accuracy, side.macro_f1, side.loss, side.ece
        ))?;
    }
    if !out.quiet() {
        out.line("")?;
        classes(comparison, out)?;
        flips(&comparison.flips, out)?;
    }
    let Comparison { images, won, lost, p_value, .. } = *comparison;
    out.line(format_args!(
        "{} images: {won} right with the first model alone, {lost} with the other alone",
        thousands(images as u64)
    ))?;
    let verdict = match (p_value <= SIGNIFICANT, won > lost) {
        (false, _) => "chance alone may explain the difference",
        (true, true) => "the first model is better",
        (true, false) => "the other model is better",
    };
    out.line(format_args!("McNemar's exact test: p = {}: {verdict}", shown(p_value)))
}

fn classes(comparison: &Comparison, out: &mut Output) -> Result<(), Failure> {
    let changed = || comparison.classes.iter().filter(|class| class.won != class.lost);
    if changed().next().is_none() {
        return out.line("no class gains or loses");
    }
    let width =
        changed().map(|class| short(&class.name).chars().count()).max().unwrap_or(0).max("class".len());
    let head = format!("{:<width$}  recall   other  images  gained  lost  p (Holm)", "class");
    out.line(out.paint.apply(Style::Bold, head))?;
    for class in changed() {
        out.line(format_args!(
            "{:<width$}  {:>6.3}  {:>6.3}  {:>6}  {:>6}  {:>4}  {:>8}",
            short(&class.name),
            class.model_recall,
            class.other_recall,
            class.images,
            class.won,
            class.lost,
            shown(class.p_value)
        ))?;
    }
    out.line("")
}

fn flips(flips: &[Flip], out: &mut Output) -> Result<(), Failure> {
    for flip in flips.iter().take(MAX_FLIPS) {
        let text = format!(
            "{}: {}; {} against {}",
            printable(&flip.name),
            short(&flip.label),
            short(&flip.model),
            short(&flip.other)
        );
        out.line(out.paint.apply(Style::Dim, text))?;
    }
    if flips.len() > MAX_FLIPS {
        out.line(format_args!(
            "and {} more with different answers: --json lists all",
            flips.len() - MAX_FLIPS
        ))?;
    }
    Ok(())
}

fn shown(p: f64) -> String {
    if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") }
}
