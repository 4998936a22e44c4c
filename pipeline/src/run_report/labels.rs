//! The report of a run whose images have any number of labels.

use crate::charts;
use crate::html::{Column, Html, bar, page, picture, pictures, section, table};
use crate::labels::LabelEvaluation;

use super::Training;

/// Labels whose numbers are listed; `per_label.csv` has all.
const MAX_ROWS: usize = 500;

/// The page.
pub(crate) fn label_report(training: &Training<'_>, evaluation: &LabelEvaluation) -> String {
    let parts = [
        numbers(training, evaluation),
        training.curves(),
        section(
            "Average precision of the labels",
            Html::drawing(&charts::average_precisions(&training.meta.name, evaluation)),
        ),
        labels(evaluation),
        worst(evaluation),
        training.images(),
        training.settings(),
    ];
    page(&training.meta.name, &training.about("labels"), &parts.into_iter().collect())
}

fn percent(part: f32) -> String {
    format!("{:.2} %", 100.0 * part)
}

fn numbers(training: &Training<'_>, evaluation: &LabelEvaluation) -> Html {
    let precision = format!("{:.4}", evaluation.mean_average_precision);
    let rows = [
        (
            "mean average precision",
            match evaluation.interval {
                Some((low, high)) => format!("{precision} ({low:.4} to {high:.4} with 95 % confidence)"),
                None => precision,
            },
        ),
        ("micro F1", format!("{:.4}", evaluation.micro.f1)),
        ("macro F1", format!("{:.4}", evaluation.macro_mean.f1)),
        ("exactly the right labels", percent(evaluation.subset_accuracy)),
        ("wrong answers (Hamming loss)", percent(evaluation.hamming_loss)),
        ("images", format!("{} ({})", evaluation.images, evaluation.split)),
        ("training", training.course()),
    ];
    let rows = rows.iter().map(|(name, value)| vec![Html::text(name), Html::text(value)]);
    let notes = evaluation.notes.iter().map(|note| Html::of("p", "quiet", note)).collect();
    section("Result", table(&[("measure", Column::Text), ("value", Column::Text)], rows).and(notes))
}

fn labels(evaluation: &LabelEvaluation) -> Html {
    let columns = [
        ("label", Column::Text),
        ("images", Column::Number),
        ("average precision", Column::Number),
        ("threshold", Column::Number),
        ("precision", Column::Number),
        ("recall", Column::Number),
        ("F1", Column::Number),
        ("", Column::Text),
    ];
    let mut labels: Vec<_> = evaluation.per_label.iter().collect();
    labels.sort_by(|a, b| {
        let value = |precision: Option<f32>| precision.unwrap_or(f32::INFINITY);
        value(a.average_precision).total_cmp(&value(b.average_precision))
    });
    let number = |value: f32| Html::text(&format!("{value:.3}"));
    let rows = labels.iter().take(MAX_ROWS).map(|label| {
        vec![
            Html::text(&label.name),
            Html::text(&label.positives.to_string()),
            label.average_precision.map_or_else(Html::new, number),
            number(label.threshold),
            number(label.precision),
            number(label.recall),
            number(label.f1),
            bar(label.average_precision.unwrap_or(0.0).into()),
        ]
    });
    section("Labels, weakest first", table(&columns, rows))
}

fn worst(evaluation: &LabelEvaluation) -> Html {
    if evaluation.worst.is_empty() {
        return section("Worst mistakes", Html::of("p", "", "There are no mistakes."));
    }
    let joined = |labels: &[String]| if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
    let shown = evaluation.worst.iter().map(|mistake| {
        let row = &mistake.row;
        let said = format!("{} -> {}", joined(&row.labels), joined(&row.predicted));
        (picture(&mistake.png, &row.name), vec![Html::text(&said), Html::text(&row.name)])
    });
    section("Worst mistakes", pictures(shown))
}
