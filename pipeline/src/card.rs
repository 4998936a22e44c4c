//! The model card: `README.md` of a run folder.

use std::fmt::Write as _;

use ocelli_engine::model_file::{ModelMeta, version_id};

use crate::added::AddedClasses;
use crate::labels::{LabelEvaluation, LabelReport};
use crate::metrics::{Calibration, Evaluation};
use crate::progress::Progress;
use crate::run_folder::{DatasetRecord, hex};

/// Classes whose numbers the card lists; `evaluation.json` has all.
const MAX_ROWS: usize = 100;
/// Pairs of mixed-up classes that the card lists.
const CONFUSIONS: usize = 5;

/// Everything a card tells of.
pub(crate) struct Card<'a> {
    pub(crate) meta: &'a ModelMeta,
    /// SHA-256 of `weights/best.ocelli`.
    pub(crate) hash: [u8; 32],
    pub(crate) parameters: usize,
    pub(crate) dataset: &'a DatasetRecord,
    pub(crate) progress: &'a Progress,
    pub(crate) results: Results<'a>,
    /// What was learnt, where it is a model that learnt further classes.
    pub(crate) added: Option<&'a AddedClasses>,
}

/// What was measured.
#[derive(Clone, Copy)]
pub(crate) enum Results<'a> {
    /// Of images with one class each.
    Classes(&'a Evaluation),
    /// Of images with any number of labels.
    Labels(&'a LabelEvaluation),
}

impl Card<'_> {
    /// The card as Markdown with YAML front matter.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Card { meta, dataset, results, progress, .. } = self;
        let trained = meta.trained().expect("a card is written by a training");
        let (split, images) = match results {
            Results::Classes(evaluation) => (&evaluation.split, evaluation.images),
            Results::Labels(evaluation) => (&evaluation.split, evaluation.images),
        };
        let held_out = split != "train";
        // A JSON string is a YAML string too, whatever is in it.
        let yaml = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
        writeln!(out, "---")?;
        writeln!(out, "pipeline_tag: image-classification")?;
        writeln!(out, "library_name: ocelli")?;
        writeln!(out, "model_name: {}", yaml(&meta.name))?;
        writeln!(out, "version: {}", version_id(&self.hash))?;
        writeln!(out, "datasets: [{}]", yaml(&dataset.name))?;
        writeln!(out, "metrics:\n  split: {split}\n  images: {images}")?;
        match results {
            Results::Classes(evaluation) => {
                writeln!(out, "  accuracy: {}\n  top5: {}", evaluation.accuracy, evaluation.top5)?;
                writeln!(out, "  macro_f1: {}\n  loss: {}", evaluation.macro_f1, evaluation.loss)?;
            }
            Results::Labels(evaluation) => {
                writeln!(out, "  mean_average_precision: {}", evaluation.mean_average_precision)?;
                writeln!(
                    out,
                    "  micro_f1: {}\n  macro_f1: {}",
                    evaluation.micro.f1, evaluation.macro_mean.f1
                )?;
                writeln!(out, "  subset_accuracy: {}", evaluation.subset_accuracy)?;
                writeln!(out, "  hamming_loss: {}\n  loss: {}", evaluation.hamming_loss, evaluation.loss)?;
            }
        }
        writeln!(out, "---\n\n# {}\n", inline(&meta.name))?;
        let pre = &meta.preprocessing;
        let colour = match pre.channels {
            1 => "gray images".to_owned(),
            3 => "RGB images".to_owned(),
            channels => format!("images of {channels} channels,"),
        };
        writeln!(
            out,
            "{} in {colour} of {}x{} pixels. {} parameters, trained with Ocelli {}.\n",
            match results {
                Results::Classes(_) => format!("Tells {} classes apart", meta.classes.len()),
                Results::Labels(_) => format!("Says which of {} labels apply", meta.classes.len()),
            },
            pre.width,
            pre.height,
            self.parameters,
            trained.version,
        )?;
        match results {
            Results::Classes(evaluation) => headline(out, evaluation)?,
            Results::Labels(evaluation) => label_headline(out, evaluation)?,
        }
        if !held_out {
            writeln!(out, "These images were trained on: expect less on new ones.\n")?;
        }

        writeln!(out, "## Use\n\n```sh\nocelli predict --model weights/best.ocelli photo.jpg")?;
        writeln!(out, "ocelli serve weights/best.ocelli\n```\n")?;

        match results {
            Results::Classes(evaluation) => class_results(out, evaluation)?,
            Results::Labels(evaluation) => label_results(out, evaluation)?,
        }

        let [train, val, test] = dataset.totals();
        writeln!(
            out,
            "## Data\n\n{} ({}): {train} images to train on, {val} for validation, {test} for the test, {} left out as unreadable. Content hash `{}`.\n",
            inline(&dataset.name),
            dataset.kind,
            dataset.skipped.len(),
            hex(&trained.data_hash)
        )?;
        for warning in &dataset.warnings {
            writeln!(out, "- **Warning:** {}", inline(warning))?;
        }
        for note in &dataset.notes {
            writeln!(out, "- {}", inline(note))?;
        }
        if !dataset.warnings.is_empty() || !dataset.notes.is_empty() {
            writeln!(out)?;
        }

        match self.added {
            None => writeln!(
                out,
                "## Training\n\n{} epochs in {:.0} s; these weights are from epoch {}. `recipe.toml`:\n\n```toml\n{}```\n",
                progress.epochs_done(),
                progress.seconds(),
                progress.best_epoch.unwrap_or(0),
                trained.recipe
            )?,
            Some(added) => self.write_added(added, out)?,
        }

        writeln!(out, "## Limits\n")?;
        if let Results::Classes(_) = results {
            writeln!(out, "- Every image gets one of these classes, also one that shows none of them.")?;
        }
        writeln!(
            out,
            "- The numbers hold for images like those of the data set; light, camera and crop matter."
        )?;
        match results {
            Results::Classes(Evaluation {
                calibration: Calibration { uncalibrated: Some(_), .. }, ..
            }) => {
                writeln!(out, "- Probabilities are calibrated for images like those of the data set alone.")
            }
            _ => writeln!(
                out,
                "- Probabilities are not calibrated: 0.9 does not mean right nine times in ten."
            ),
        }
    }

    /// How the model came by further classes.
    fn write_added(&self, added: &AddedClasses, out: &mut String) -> std::fmt::Result {
        let trained = self.meta.trained().expect("a card is written by a training");
        writeln!(out, "## Training\n")?;
        writeln!(
            out,
            "The layers below the last one are those of version {}; the last layer was fitted anew to the features of {} training images that it had kept, and to those of the new images above, in {} passes and {:.0} s in all.\n",
            added.parent.version,
            added.replayed,
            self.progress.epochs_done(),
            added.seconds
        )?;
        let classes = [("New class", &added.added), ("Further images of", &added.further)];
        for (what, class) in classes.iter().flat_map(|(what, of)| of.iter().map(move |class| (what, class))) {
            writeln!(out, "- {what} {}: {} training images", inline(&class.name), class.images)?;
        }
        writeln!(out, "\n{}.\n\n`recipe.toml`:\n\n```toml\n{}```\n", added.describe(), trained.recipe)
    }
}

fn headline(out: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    let split = &evaluation.split;
    let (low, high) = evaluation.interval;
    writeln!(
        out,
        "**{split} accuracy {:.4}** on {} images (95 % interval {low:.4} to {high:.4}), top-5 {:.4}, macro F1 {:.4}, balanced accuracy {:.4}.\n",
        evaluation.accuracy,
        evaluation.images,
        evaluation.top5,
        evaluation.macro_f1,
        evaluation.balanced_accuracy
    )
}

fn label_headline(out: &mut String, evaluation: &LabelEvaluation) -> std::fmt::Result {
    let LabelEvaluation { split, images, micro, macro_mean, .. } = evaluation;
    write!(
        out,
        "**{split} mean average precision {:.4}** on {images} images",
        evaluation.mean_average_precision
    )?;
    if let Some((low, high)) = evaluation.interval {
        write!(out, " (95 % interval {low:.4} to {high:.4})")?;
    }
    let (all, wrong) = (evaluation.subset_accuracy, evaluation.hamming_loss);
    writeln!(
        out,
        ", micro F1 {:.4}, macro F1 {:.4}, all labels right {all:.4}, wrong answers {wrong:.4}.\n",
        micro.f1, macro_mean.f1
    )
}

fn class_results(out: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    writeln!(out, "## Results\n\n| class | precision | recall | F1 | images |\n|---|---|---|---|---|")?;
    for class in evaluation.per_class.iter().take(MAX_ROWS) {
        let (p, r, f1) = (class.precision, class.recall, class.f1);
        writeln!(out, "| {} | {p:.3} | {r:.3} | {f1:.3} | {} |", inline(&class.name), class.support)?;
    }
    if evaluation.per_class.len() > MAX_ROWS {
        let rest = evaluation.per_class.len() - MAX_ROWS;
        writeln!(out, "\n{rest} more classes are in `evaluation.json`.")?;
    }
    let confused = evaluation.most_confused(CONFUSIONS);
    if !confused.is_empty() {
        writeln!(out, "\nMost often mixed up:\n")?;
    }
    for pair in confused {
        let (label, predicted) = (inline(&pair.label), inline(&pair.predicted));
        writeln!(out, "- {label} taken for {predicted}: {} images", pair.images)?;
    }
    writeln!(out, "\n![loss and accuracy over the epochs](curves.svg)\n")?;
    writeln!(out, "![confusion matrix](confusion_matrix.svg)\n")?;
    writeln!(out, "![worst mistakes](worst_mistakes.svg)\n")?;
    write_calibration(out, evaluation)
}

fn label_results(out: &mut String, evaluation: &LabelEvaluation) -> std::fmt::Result {
    writeln!(
        out,
        "## Results\n\n| label | average precision | threshold | precision | recall | F1 | images |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for label in evaluation.per_label.iter().take(MAX_ROWS) {
        let LabelReport { threshold, precision, recall, f1, positives, .. } = label;
        let name = inline(&label.name);
        let ranked = label.average_precision.map_or("-".to_owned(), |value| format!("{value:.3}"));
        writeln!(
            out,
            "| {name} | {ranked} | {threshold:.3} | {precision:.3} | {recall:.3} | {f1:.3} | {positives} |"
        )?;
    }
    if evaluation.per_label.len() > MAX_ROWS {
        let rest = evaluation.per_label.len() - MAX_ROWS;
        writeln!(out, "\n{rest} more labels are in `evaluation.json`.")?;
    }
    writeln!(out, "\n![loss and mean average precision over the epochs](curves.svg)\n")?;
    writeln!(out, "![average precision of each label](average_precision.svg)\n")?;
    writeln!(out, "![worst mistakes](worst_mistakes.svg)\n")
}

/// What the probabilities are worth.
fn write_calibration(out: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    let (split, calibration) = (&evaluation.split, &evaluation.calibration);
    let ece = calibration.ece;
    writeln!(out, "![accuracy against probability](reliability.svg)\n")?;
    write!(out, "Expected calibration error on the {split} images: {ece:.4}")?;
    if let Some(before) = calibration.uncalibrated {
        let (temperature, before) = (calibration.temperature, before.ece);
        write!(
            out,
            "; {before:.4} before logits are divided by the temperature {temperature:.3}, which was"
        )?;
        write!(out, " fitted to the validation images")?;
    }
    writeln!(out, ".\n")
}

/// A name within a line of Markdown: nothing in it starts a table cell, a tag or a link.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            '|' | '<' | '>' | '[' | ']' | '*' | '_' | '`' | '\\' | '#' | '!' | '&' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_cannot_break_out_of_a_line() {
        assert_eq!(super::inline("a|b\n<c>"), "a\\|b \\<c\\>");
    }
}
