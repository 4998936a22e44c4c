//! An evaluation as people read it.

use ocelli_common::text::{printable, thousands};
use ocelli_pipeline::Evaluation;

use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::progress::duration;

/// Class names are cut to this many characters in tables.
const MAX_NAME: usize = 32;
/// Pairs of classes that are listed as mixed up.
const MAX_PAIRS: usize = 5;

/// The table of classes, the pairs that are mixed up, and the numbers of the whole set.
pub(crate) fn print(evaluation: &Evaluation, out: &mut Output) -> Result<(), Failure> {
    let names: Vec<String> = evaluation.per_class.iter().map(|class| short(&class.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("macro mean".len());
    let head = format!("{:<width$}  precision  recall      F1  images", "class");
    out.line(out.paint.apply(Style::Bold, head))?;
    let (mut precision, mut recall, mut present) = (0.0, 0.0, 0.0);
    for (name, class) in names.iter().zip(&evaluation.per_class) {
        if class.support > 0 {
            precision += class.precision;
            recall += class.recall;
            present += 1.0;
        }
        out.line(row(name, width, [class.precision, class.recall, class.f1], class.support))?;
    }
    let means = [precision / f32::max(present, 1.0), recall / f32::max(present, 1.0), evaluation.macro_f1];
    let mean = row("macro mean", width, means, evaluation.images as u64);
    out.line(out.paint.apply(Style::Dim, mean))?;
    out.line("")?;
    for pair in evaluation.most_confused(MAX_PAIRS) {
        out.line(format_args!(
            "{} x {} taken for {}",
            thousands(pair.images),
            short(&pair.label),
            short(&pair.predicted)
        ))?;
    }
    let (low, high) = evaluation.interval;
    out.line(format_args!(
        "top-5 accuracy {:.4}, loss {:.4}, 95 % interval of the accuracy {low:.4} to {high:.4}",
        evaluation.top5, evaluation.loss
    ))?;
    out.line(format_args!(
        "{} images in {}, {} images/s",
        thousands(evaluation.images as u64),
        duration(evaluation.seconds),
        thousands(evaluation.images_per_second as u64)
    ))
}

fn row(name: &str, width: usize, [precision, recall, f1]: [f32; 3], images: u64) -> String {
    format!("{name:<width$}  {precision:>9.3}  {recall:>6.3}  {f1:>6.3}  {:>6}", thousands(images))
}

fn short(name: &str) -> String {
    let name = printable(name);
    if name.chars().count() <= MAX_NAME {
        return name;
    }
    name.chars().take(MAX_NAME - 1).chain(['\u{2026}']).collect()
}

/// The last line of a report, in a form that scripts look for: `test accuracy 0.9213`.
pub(crate) fn accuracy_line(split: &str, accuracy: f32) -> String {
    let split = match split {
        "val" => "validation",
        // All images of a set that the model was not trained on.
        "all" => "test",
        split => split,
    };
    format!("{split} accuracy {accuracy:.4}")
}
