//! `report.html` of a run folder: one page that stands alone, with everything that people look at after a training.

mod advice;
mod labels;
mod mistakes;

use ocelli_common::text::thousands;
use ocelli_engine::model_file::ModelMeta;

use crate::added::AddedClasses;
use crate::charts;
use crate::environment::Environment;
use crate::html::{Column, Html, bar, page, picture, section, table};
use crate::metrics::{Evaluation, Mistake};
use crate::progress::Progress;
use crate::run_folder::DatasetRecord;

pub(crate) use labels::label_report;

/// Classes whose numbers are listed; `per_class.csv` has all.
const MAX_ROWS: usize = 500;

/// What a page tells of a training, whatever its images have: one class or any number of labels.
pub(crate) struct Training<'a> {
    pub(crate) meta: &'a ModelMeta,
    pub(crate) parameters: usize,
    pub(crate) dataset: &'a DatasetRecord,
    pub(crate) progress: &'a Progress,
    /// What was learnt, where it is a model that learnt further classes.
    pub(crate) added: Option<&'a AddedClasses>,
    /// Training images as the network sees them, a PNG; empty where there is none.
    pub(crate) batch: &'a [u8],
    pub(crate) environment: Environment,
}

/// Pictures of mistakes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Shown<'a> {
    /// Mistakes with their pictures, by class and most likely class.
    pub(crate) mistakes: &'a [Mistake],
    /// For each of the worst mistakes a PNG of what speaks for the wrong answer; empty where there are none.
    pub(crate) maps: &'a [Vec<u8>],
}

/// The page of a run whose images have one class each.
pub(crate) fn run_report(training: &Training<'_>, evaluation: &Evaluation, shown: Shown<'_>) -> String {
    let meta = training.meta;
    let reliability = Html::drawing(&charts::reliability(&meta.name, evaluation));
    let parts = [
        numbers(training, evaluation),
        advice(training, evaluation),
        training.curves(),
        mistakes::matrix(&meta.name, evaluation, shown.mistakes),
        classes(evaluation),
        mistakes::worst(evaluation, shown.maps),
        section("Are its probabilities right?", reliability),
        training.images(),
        mistakes::cells(evaluation, shown.mistakes),
        training.settings(),
    ];
    page(&meta.name, &training.about("classes"), &parts.into_iter().collect())
}

fn numbers(training: &Training<'_>, evaluation: &Evaluation) -> Html {
    let percent = |part: f32| format!("{:.2} %", 100.0 * part);
    let (low, high) = evaluation.interval;
    let accuracy = percent(evaluation.accuracy);
    let mut rows = vec![
        ("accuracy", format!("{accuracy} ({} to {} with 95 % confidence)", percent(low), percent(high))),
        ("balanced accuracy", percent(evaluation.balanced_accuracy)),
        ("top-5 accuracy", percent(evaluation.top5)),
        ("macro F1", format!("{:.4}", evaluation.macro_f1)),
        ("loss", format!("{:.4}", evaluation.loss)),
        ("calibration error", format!("{:.4}", evaluation.calibration.ece)),
        ("images", format!("{} ({})", evaluation.images, evaluation.split)),
        ("training", training.course()),
    ];
    if let Some(unknown) = &evaluation.unknown {
        rows.push(("unknown images", unknown.to_string()));
    }
    let rows = rows.iter().map(|(name, value)| vec![Html::text(name), Html::text(value)]);
    let numbers = table(&[("measure", Column::Text), ("value", Column::Text)], rows);
    let added = training.added.map(|added| added.describe());
    let notes = added.iter().chain(&evaluation.notes).map(|note| Html::of("p", "quiet", note)).collect();
    section("Result", numbers.and(notes))
}

fn advice(training: &Training<'_>, evaluation: &Evaluation) -> Html {
    let remarks = advice::remarks(training.progress, evaluation);
    let body = match remarks.is_empty() {
        true => Html::of("p", "", "Nothing about this training is unusual."),
        false => Html::element("ul", "", remarks.iter().map(|text| Html::of("li", "", text)).collect()),
    };
    section("What the numbers say", body)
}

fn classes(evaluation: &Evaluation) -> Html {
    let columns = [
        ("class", Column::Text),
        ("images", Column::Number),
        ("precision", Column::Number),
        ("recall", Column::Number),
        ("F1", Column::Number),
        ("", Column::Text),
    ];
    let mut classes: Vec<_> = evaluation.per_class.iter().collect();
    classes.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    let number = |value: f32| Html::text(&format!("{value:.3}"));
    let rows = classes.iter().take(MAX_ROWS).map(|class| {
        vec![
            Html::text(&class.name),
            Html::text(&class.support.to_string()),
            number(class.precision),
            number(class.recall),
            number(class.f1),
            bar(class.f1.into()),
        ]
    });
    let mut body = table(&columns, rows);
    if classes.len() > MAX_ROWS {
        let left = classes.len() - MAX_ROWS;
        body.push(Html::of("p", "quiet", &format!("{left} more classes in per_class.csv")));
    }
    section("Classes, weakest first", body)
}

impl Training<'_> {
    /// What the model is, in a line.
    fn about(&self, what: &str) -> String {
        let pre = &self.meta.preprocessing;
        let (classes, parameters) = (self.meta.classes.len(), thousands(self.parameters as u64));
        format!("{classes} {what}, images of {}x{} pixels, {parameters} parameters", pre.width, pre.height)
    }

    /// How long it was trained, in a line.
    fn course(&self) -> String {
        format!(
            "{} epochs in {:.0} s, the best one is {}",
            self.progress.epochs_done(),
            self.progress.seconds(),
            self.progress.best_epoch.unwrap_or(0)
        )
    }

    fn curves(&self) -> Html {
        let Progress { history, best_epoch, .. } = self.progress;
        if history.is_empty() {
            return Html::new();
        }
        section("Training", Html::drawing(&charts::curves(&self.meta.name, history, *best_epoch)))
    }

    fn images(&self) -> Html {
        let dataset = self.dataset;
        let [train, val, test] = dataset.totals();
        let about = format!(
            "{} ({}): {train} images to train on, {val} for validation, {test} for the test, {} left out as unreadable.",
            dataset.name,
            dataset.kind,
            dataset.skipped.len()
        );
        let mut body = Html::of("p", "", &about);
        let found = dataset.warnings.iter().chain(&dataset.notes);
        body.push(Html::element("ul", "", found.map(|text| Html::of("li", "", text)).collect()));
        if !dataset.skipped.is_empty() {
            let skipped = dataset.skipped.iter().take(MAX_ROWS);
            let rows = skipped.map(|image| vec![Html::text(&image.name), Html::text(&image.reason)]);
            body.push(table(&[("left out", Column::Text), ("why", Column::Text)], rows));
        }
        if !self.batch.is_empty() {
            body.push(Html::of("h3", "", "Training images as the network sees them"));
            let shown = picture(self.batch, "training images, varied as in training");
            body.push(Html::element("div", "sheet", shown));
        }
        section("Data", body)
    }

    fn settings(&self) -> Html {
        let trained = self.meta.trained().expect("a report is written by a training");
        let about = format!("Ocelli {}, instruction set {}", self.environment.version, self.environment.isa);
        let recipe = Html::element("pre", "", Html::text_lines(&trained.recipe));
        section("Recipe", Html::of("p", "quiet", &about).and(recipe))
    }
}
