//! The model card: `README.md` of a run folder.

use std::fmt::Write as _;

use ocelli_engine::model_file::{ModelMeta, version_id};

use crate::metrics::Evaluation;
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
    pub(crate) evaluation: &'a Evaluation,
}

impl Card<'_> {
    /// The card as Markdown with YAML front matter.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Card { meta, dataset, evaluation, progress, .. } = self;
        let trained = meta.trained().expect("a card is written by a training");
        let split = &evaluation.split;
        let held_out = split != "train";
        // A JSON string is a YAML string too, whatever is in it.
        let yaml = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
        writeln!(out, "---")?;
        writeln!(out, "pipeline_tag: image-classification")?;
        writeln!(out, "library_name: ocelli")?;
        writeln!(out, "model_name: {}", yaml(&meta.name))?;
        writeln!(out, "version: {}", version_id(&self.hash))?;
        writeln!(out, "datasets: [{}]", yaml(&dataset.name))?;
        writeln!(out, "metrics:\n  split: {split}\n  images: {}", evaluation.images)?;
        writeln!(out, "  accuracy: {}\n  top5: {}", evaluation.accuracy, evaluation.top5)?;
        writeln!(out, "  macro_f1: {}\n  loss: {}", evaluation.macro_f1, evaluation.loss)?;
        writeln!(out, "---\n\n# {}\n", inline(&meta.name))?;
        let pre = &meta.preprocessing;
        let colour = match pre.channels {
            1 => "gray images".to_owned(),
            3 => "RGB images".to_owned(),
            channels => format!("images of {channels} channels,"),
        };
        writeln!(
            out,
            "Tells {} classes apart in {colour} of {}x{} pixels. {} parameters, trained with Ocelli {}.\n",
            meta.classes.len(),
            pre.width,
            pre.height,
            self.parameters,
            trained.version,
        )?;
        let (low, high) = evaluation.interval;
        writeln!(
            out,
            "**{split} accuracy {:.4}** on {} images (95 % interval {low:.4} to {high:.4}), top-5 {:.4}, macro F1 {:.4}, balanced accuracy {:.4}.\n",
            evaluation.accuracy,
            evaluation.images,
            evaluation.top5,
            evaluation.macro_f1,
            evaluation.balanced_accuracy
        )?;
        if !held_out {
            writeln!(out, "These images were trained on: expect less on new ones.\n")?;
        }

        writeln!(out, "## Use\n\n```sh\nocelli predict --model weights/best.ocelli photo.jpg")?;
        writeln!(out, "ocelli serve weights/best.ocelli\n```\n")?;

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
        self.write_calibration(out)?;

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

        writeln!(
            out,
            "## Training\n\n{} epochs in {:.0} s; these weights are from epoch {}. `recipe.toml`:\n\n```toml\n{}```\n",
            progress.epochs_done(),
            progress.seconds(),
            progress.best_epoch.unwrap_or(0),
            trained.recipe
        )?;

        writeln!(out, "## Limits\n")?;
        writeln!(out, "- Every image gets one of these classes, also one that shows none of them.")?;
        writeln!(
            out,
            "- The numbers hold for images like those of the data set; light, camera and crop matter."
        )?;
        match evaluation.calibration.uncalibrated {
            Some(_) => {
                writeln!(out, "- Probabilities are calibrated for images like those of the data set alone.")
            }
            None => {
                writeln!(
                    out,
                    "- Probabilities are not calibrated: 0.9 does not mean right nine times in ten."
                )
            }
        }
    }

    /// What the probabilities are worth.
    fn write_calibration(&self, out: &mut String) -> std::fmt::Result {
        let (split, calibration) = (&self.evaluation.split, &self.evaluation.calibration);
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
