//! An evaluation of images with any number of labels, as people read it.

use ocelli_common::text::{printable, thousands};
use ocelli_pipeline::{LabelEvaluation, LabelMistake, LabelReport};

use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::progress::duration;
use crate::report::{Sort, short, split_word};

/// Mistakes that are listed; the JSON has more.
const MAX_MISTAKES: usize = 5;

/// The labels in an order; those that no image has come last.
fn sorted(labels: &[LabelReport], sort: Sort) -> Vec<&LabelReport> {
    let mut sorted: Vec<&LabelReport> = labels.iter().collect();
    let lowest = |value: fn(&LabelReport) -> f32| {
        move |a: &&LabelReport, b: &&LabelReport| {
            let unseen = |label: &LabelReport| label.positives == 0;
            unseen(a).cmp(&unseen(b)).then(value(a).total_cmp(&value(b)))
        }
    };
    match sort {
        Sort::Class => {}
        Sort::F1 => sorted.sort_by(lowest(|label| label.f1)),
        Sort::Recall => sorted.sort_by(lowest(|label| label.recall)),
        Sort::Precision => sorted.sort_by(lowest(|label| label.precision)),
        Sort::Images => sorted.sort_by_key(|label| std::cmp::Reverse(label.positives)),
    }
    sorted
}

/// The table of labels, the worst mistakes, and the numbers of the whole set.
pub(crate) fn print(evaluation: &LabelEvaluation, sort: Sort, out: &mut Output) -> Result<(), Failure> {
    let labels = sorted(&evaluation.per_label, sort);
    let names: Vec<String> = labels.iter().map(|label| short(&label.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("macro mean".len());
    let head = format!("{:<width$}      AP  threshold  precision  recall      F1  images", "label");
    out.line(out.paint.apply(Style::Bold, head))?;
    for (name, label) in names.iter().zip(labels) {
        let LabelReport { threshold, precision, recall, f1, positives, .. } = label;
        let ranked = label.average_precision.map_or("-".to_owned(), |value| format!("{value:.3}"));
        out.line(format!(
            "{name:<width$}  {ranked:>6}  {threshold:>9.3}  {precision:>9.3}  {recall:>6.3}  {f1:>6.3}  {:>6}",
            thousands(*positives)
        ))?;
    }
    for (name, mean) in [("macro mean", evaluation.macro_mean), ("micro mean", evaluation.micro)] {
        let gap = " ".repeat("      AP  threshold".len());
        let text = format!(
            "{name:<width$}{gap}  {:>9.3}  {:>6.3}  {:>6.3}  {:>6}",
            mean.precision,
            mean.recall,
            mean.f1,
            thousands(evaluation.images as u64)
        );
        out.line(out.paint.apply(Style::Dim, text))?;
    }
    out.line("")?;
    for LabelMistake { row, .. } in evaluation.worst.iter().take(MAX_MISTAKES) {
        let list = |labels: &[String]| match labels {
            [] => "none".to_owned(),
            labels => labels.iter().map(|label| short(label)).collect::<Vec<_>>().join(", "),
        };
        let text = format!(
            "{}: has {}; said of it: {}",
            printable(&row.name),
            list(&row.labels),
            list(&row.predicted)
        );
        out.line(out.paint.apply(Style::Dim, text))?;
    }
    let LabelEvaluation { subset_accuracy, hamming_loss, loss, .. } = evaluation;
    let mut line = format!(
        "all labels right {subset_accuracy:.4}, wrong answers (Hamming loss) {hamming_loss:.4}, loss {loss:.4}"
    );
    if let Some((low, high)) = evaluation.interval {
        line += &format!(", 95 % interval of the mAP {low:.4} to {high:.4}");
    }
    out.line(line)?;
    out.line(format_args!(
        "{} images in {}, {} images/s",
        thousands(evaluation.images as u64),
        duration(evaluation.seconds),
        thousands(evaluation.images_per_second as u64)
    ))
}

/// The last line of a report, in a form that scripts look for: `test mAP 0.8712`.
pub(crate) fn precision_line(evaluation: &LabelEvaluation) -> String {
    format!("{} mAP {:.4}", split_word(&evaluation.split), evaluation.mean_average_precision)
}
