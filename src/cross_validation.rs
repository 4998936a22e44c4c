//! `ocelli train --folds`: cross-validation as people read it.

use std::path::Path;

use ocelli_common::text::{printable, thousands};
use ocelli_pipeline::{
    CrossOutcome, CrossValidation, Observe, PipelineError, Spread, TrainOptions, cross_validate,
    resume_cross_validation,
};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::{Output, Style};
use crate::paths;
use crate::report::short;
use crate::view::View;

/// Suspects that are listed; `suspects.csv` has all.
const MAX_SUSPECTS: usize = 10;

/// Trains the folds of a data set; the last of the two says whether a model of all images follows.
pub(crate) fn run(
    options: &TrainOptions,
    folds: (u32, bool),
    view: View,
    out: &mut Output,
) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let outcome =
        watched(&interrupt, view, out, |observe| cross_validate(options, folds, &interrupt.stop, observe))?;
    finish(&interrupt, &outcome, view.json, out)
}

/// Goes on with the cross-validation in a folder.
pub(crate) fn resume(folder: &Path, view: View, out: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let outcome =
        watched(&interrupt, view, out, |observe| resume_cross_validation(folder, &interrupt.stop, observe))?;
    finish(&interrupt, &outcome, view.json, out)
}

fn watched(
    interrupt: &Interrupt,
    view: View,
    out: &mut Output,
    work: impl FnOnce(Observe<'_>) -> Result<CrossOutcome, PipelineError>,
) -> Result<CrossOutcome, Failure> {
    interrupt.announce("stopping after this batch; a second Ctrl-C stops at once");
    match view.watch(interrupt, out, work)? {
        Err(PipelineError::Stopped) => {
            let message = Message { text: PipelineError::Stopped.to_string(), hint: None };
            Err(Failure::Interrupted { signal: interrupt.signal(), message })
        }
        result => result.map_err(Failure::from),
    }
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    folder: String,
    #[serde(flatten)]
    report: &'a CrossValidation,
}

fn finish(
    interrupt: &Interrupt,
    outcome: &CrossOutcome,
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let Some(report) = &outcome.report else {
        let text = "the cross-validation is not finished; what is done is saved".to_owned();
        let hint = format!("go on with: ocelli train --resume {}", paths::shell_word(&outcome.folder));
        let message = Message { text, hint: Some(hint) };
        return Err(Failure::Interrupted { signal: interrupt.signal(), message });
    };
    let folder = printable(&outcome.folder.display().to_string());
    if json {
        let folder = outcome.folder.display().to_string();
        return out.json(&Record { schema: 1, r#type: "cross_validation", folder, report });
    }
    if !out.quiet() {
        out.line("")?;
        print(report, out)?;
    }
    out.line(format_args!("accuracy {}", spread(&report.accuracy)))?;
    out.line(format_args!("macro F1 {}", spread(&report.macro_f1)))?;
    out.line(format_args!("cross-validation folder {folder}"))?;
    if let Some(run) = &report.final_run {
        let run = outcome.folder.join(run);
        out.line(format_args!("model of all images {}", printable(&run.display().to_string())))?;
    }
    out.flush()
}

fn print(report: &CrossValidation, out: &mut Output) -> Result<(), Failure> {
    out.line(out.paint.apply(Style::Bold, "fold  images  accuracy  macro F1    loss"))?;
    for fold in &report.folds {
        out.line(format_args!(
            "{:>4}  {:>6}  {:>8.4}  {:>8.4}  {:>6.4}",
            fold.fold,
            thousands(fold.images as u64),
            fold.accuracy,
            fold.macro_f1,
            fold.loss
        ))?;
    }
    let suspects = &report.suspects;
    if !suspects.is_empty() {
        out.line("")?;
        let labels = if suspects.len() == 1 { "label is" } else { "labels are" };
        out.line(format_args!("{} {labels} probably wrong; suspects.csv lists all:", suspects.len()))?;
    }
    for suspect in suspects.iter().take(MAX_SUSPECTS) {
        out.line(format_args!(
            "  {}: {} ({:.1} %), looks like {} ({:.1} %)",
            printable(&suspect.name),
            short(&suspect.label),
            100.0 * suspect.probability,
            short(&suspect.suggested),
            100.0 * suspect.suggested_probability
        ))?;
    }
    out.line("")
}

fn spread(spread: &Spread) -> String {
    let Spread { mean, deviation, low, high } = spread;
    format!("{mean:.4} \u{b1} {deviation:.4} ({low:.4} to {high:.4})")
}
