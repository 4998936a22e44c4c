//! An evaluation as people read it.

use ocelli_common::text::{printable, thousands};
use ocelli_pipeline::{ClassReport, Evaluation, Mistake};

use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::progress::duration;

/// Class names are cut to this many characters in tables.
const MAX_NAME: usize = 32;
/// Pairs of classes that are listed as mixed up.
const MAX_PAIRS: usize = 5;
/// Mistakes that are listed; the JSON has more.
const MAX_MISTAKES: usize = 5;

/// How the classes of the table are ordered.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum Sort {
    /// As in the model
    Class,
    /// Lowest F1 first
    #[default]
    F1,
    /// Lowest recall first
    Recall,
    /// Lowest precision first
    Precision,
    /// Most images first
    Images,
}

impl Sort {
    /// The classes in this order; those without images come last.
    fn apply(self, classes: &[ClassReport]) -> Vec<&ClassReport> {
        let mut sorted: Vec<&ClassReport> = classes.iter().collect();
        let lowest = |value: fn(&ClassReport) -> f32| {
            move |a: &&ClassReport, b: &&ClassReport| {
                let unseen = |class: &ClassReport| class.support == 0;
                unseen(a).cmp(&unseen(b)).then(value(a).total_cmp(&value(b)))
            }
        };
        match self {
            Sort::Class => {}
            Sort::F1 => sorted.sort_by(lowest(|class| class.f1)),
            Sort::Recall => sorted.sort_by(lowest(|class| class.recall)),
            Sort::Precision => sorted.sort_by(lowest(|class| class.precision)),
            Sort::Images => sorted.sort_by_key(|class| std::cmp::Reverse(class.support)),
        }
        sorted
    }
}

/// The table of classes, the pairs that are mixed up, the worst mistakes, and the numbers of the whole set.
pub(crate) fn print(evaluation: &Evaluation, sort: Sort, out: &mut Output) -> Result<(), Failure> {
    let classes = sort.apply(&evaluation.per_class);
    let names: Vec<String> = classes.iter().map(|class| short(&class.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("macro mean".len());
    let head = format!("{:<width$}  precision  recall      F1  images", "class");
    out.line(out.paint.apply(Style::Bold, head))?;
    let (mut precision, mut present) = (0.0, 0.0);
    for (name, class) in names.iter().zip(classes) {
        if class.support > 0 {
            precision += class.precision;
            present += 1.0;
        }
        out.line(row(name, width, [class.precision, class.recall, class.f1], class.support))?;
    }
    let means = [precision / f32::max(present, 1.0), evaluation.balanced_accuracy, evaluation.macro_f1];
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
    for Mistake { row, .. } in evaluation.worst.iter().take(MAX_MISTAKES) {
        let text = format!(
            "{}: {} taken for {} with {:.1} %",
            printable(&row.name),
            short(&row.label),
            short(&row.predicted),
            100.0 * row.probability
        );
        out.line(out.paint.apply(Style::Dim, text))?;
    }
    let (low, high) = evaluation.interval;
    out.line(format_args!(
        "top-5 accuracy {:.4}, balanced accuracy {:.4}, loss {:.4}, 95 % interval of the accuracy {low:.4} to {high:.4}",
        evaluation.top5, evaluation.balanced_accuracy, evaluation.loss
    ))?;
    let calibration = &evaluation.calibration;
    let mut line = format!("expected calibration error {:.4}", calibration.ece);
    if let Some(before) = calibration.uncalibrated {
        line += &format!(", {:.4} before temperature {:.3}", before.ece, calibration.temperature);
    }
    out.line(line)?;
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

/// A class name that fits a table.
pub(crate) fn short(name: &str) -> String {
    let name = printable(name);
    if name.chars().count() <= MAX_NAME {
        return name;
    }
    name.chars().take(MAX_NAME - 1).chain(['\u{2026}']).collect()
}

/// The last line of a report, in a form that scripts look for: `test accuracy 0.9213`.
pub(crate) fn accuracy_line(split: &str, accuracy: f32) -> String {
    format!("{} accuracy {accuracy:.4}", split_word(split))
}

/// What people call a split.
pub(crate) fn split_word(split: &str) -> &str {
    match split {
        "val" => "validation",
        // All images of a set that the model was not trained on.
        "all" => "test",
        split => split,
    }
}
