//! `ocelli evaluate`: how well a model does on labelled images.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ocelli_datasets::Split;
use ocelli_pipeline::{
    Comparison, EvaluateOptions, Evaluation, LabelEvaluation, ModelFile, Observe, PipelineError, compare,
    evaluate, evaluate_labels, open_model, write_atomic,
};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::{comparison, compute, label_report, paths, report};

/// Measure a model on labelled images
///
/// On the data that the model was trained on, its test split is taken: images that it has never seen. Classes are
/// matched by name. With --compare, two models answer the same images, without those that either was trained on, and
/// McNemar's exact test says whether chance explains the difference.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .ocelli file, a run folder, or a model in this program: imagenet, fashion-mnist
    model: PathBuf,
    /// Labelled images, as for `ocelli train`; the built-in Fashion-MNIST if left out
    data: Option<PathBuf>,
    /// Table (CSV, TSV) with the labels of the images in DATA, a folder or ZIP
    #[arg(long, value_name = "FILE", requires = "data")]
    labels: Option<PathBuf>,
    /// Only the images of this split
    #[arg(long, value_name = "train|val|test")]
    split: Option<Split>,
    /// Compare with this model on the same images
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["csv", "out", "sort"])]
    compare: Option<PathBuf>,
    /// Test-time flip: the mean over each image and its mirror image, where the recipe allows mirroring
    #[arg(long)]
    tta: bool,
    /// Fail with exit code 3 where the accuracy is lower, e.g. 0.9
    #[arg(long, value_parser = parse_part, value_name = "PART")]
    min_accuracy: Option<f32>,
    /// Fail with exit code 3 where the mean average precision of a model of several labels is lower, e.g. 0.8
    #[arg(long, value_parser = parse_part, value_name = "PART", conflicts_with = "min_accuracy")]
    min_map: Option<f32>,
    /// Write what the model says about each image
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write report, tables and drawings into this folder
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Order of the table of classes
    #[arg(long, value_enum, default_value_t, value_name = "COLUMN")]
    sort: report::Sort,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Part of the images that may be unreadable
    #[arg(long, value_name = "PART", default_value_t = 0.05, value_parser = parse_part)]
    max_bad: f32,
    #[command(flatten)]
    compute: compute::Settings,
    #[command(flatten)]
    precision: compute::PrecisionSetting,
}

pub(crate) fn parse_part(text: &str) -> Result<f32, String> {
    let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "write a number from 0 to 1, e.g. 0.9 for 90 %".to_owned())
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    model: String,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

#[derive(Serialize)]
struct LabelRecord<'a> {
    schema: u32,
    r#type: &'static str,
    model: String,
    #[serde(flatten)]
    evaluation: &'a LabelEvaluation,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    if let Some(other) = &args.compare {
        let comparison = compared(&args, other, out)?;
        return comparison::tell(&args.model, other, &comparison, args.json, out)
            .and_then(|()| gate("accuracy", comparison.model.accuracy, args.min_accuracy));
    }
    let model = open_model(&args.model)?;
    args.precision.check(model.quantization.is_some(), Some(&args.model), out)?;
    if model.meta.multi_label.is_some() {
        return labels(&model, &args, out);
    }
    let evaluation = watched(&args, out, |options, stop, observe| evaluate(&model, options, stop, observe))?;
    if let Some(csv) = &args.csv {
        write_atomic(csv, evaluation.predictions_csv().as_bytes())?;
    }
    if let Some(folder) = &args.out {
        evaluation.write_into(folder, &model_name(&args.model))?;
    }
    if args.json {
        let model = args.model.display().to_string();
        out.json(&Record { schema: 1, r#type: "evaluation", model, evaluation: &evaluation })?;
    } else {
        if !out.quiet() {
            report::print(&evaluation, args.sort, out)?;
        }
        out.line(report::accuracy_line(&evaluation.split, evaluation.accuracy))?;
    }
    gate("accuracy", evaluation.accuracy, args.min_accuracy)
}

fn gate(what: &str, value: f32, least: Option<f32>) -> Result<(), Failure> {
    match least {
        Some(least) if value < least => {
            let text = format!("{what} {value:.4} is below {least:.4}");
            Err(Failure::Gate(Message { text, hint: None }))
        }
        _ => Ok(()),
    }
}

/// What drawings call a model: the name of its run or file.
fn model_name(path: &Path) -> String {
    let name = path.file_stem().filter(|_| !path.is_dir()).or_else(|| path.file_name());
    name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A model of images with any number of labels.
fn labels(model: &ModelFile, args: &Args, out: &mut Output) -> Result<(), Failure> {
    if args.min_accuracy.is_some() {
        return Err(Failure::usage(
            "--min-accuracy is for models of one class an image, and this one says any number of labels",
            "--min-map sets the least mean average precision",
        ));
    }
    let measured = |options: &EvaluateOptions, stop: &AtomicBool, observe: Observe<'_>| {
        evaluate_labels(model, options, stop, observe)
    };
    let evaluation = watched(args, out, measured)?;
    if let Some(csv) = &args.csv {
        write_atomic(csv, evaluation.predictions_csv().as_bytes())?;
    }
    if let Some(folder) = &args.out {
        evaluation.write_into(folder, &model_name(&args.model))?;
    }
    if args.json {
        let model = args.model.display().to_string();
        out.json(&LabelRecord { schema: 1, r#type: "evaluation", model, evaluation: &evaluation })?;
    } else {
        if !out.quiet() {
            label_report::print(&evaluation, args.sort, out)?;
        }
        out.line(label_report::precision_line(&evaluation))?;
    }
    gate("mean average precision", evaluation.mean_average_precision, args.min_map)
}

fn compared(args: &Args, other: &Path, out: &mut Output) -> Result<Comparison, Failure> {
    let (model, other_model) = (open_model(&args.model)?, open_model(other)?);
    for (file, path) in [(&model, args.model.as_path()), (&other_model, other)] {
        args.precision.check(file.quantization.is_some(), Some(path), out)?;
    }
    let other = other_model;
    watched(args, out, |options, stop, observe| compare((&model, &other), options, stop, observe))
}

/// Does the work with progress on the terminal, until it is done or a signal comes.
fn watched<T>(
    args: &Args,
    out: &mut Output,
    work: impl FnOnce(&EvaluateOptions, &AtomicBool, Observe<'_>) -> Result<T, PipelineError>,
) -> Result<T, Failure> {
    let data = paths::data(args.data.clone(), args.labels.clone());
    let (compute, max_bad) = (args.precision.compute(args.compute)?, args.max_bad);
    let options = EvaluateOptions { data, split: args.split, compute, max_bad, mirror: args.tta };
    let interrupt = Interrupt::listen()?;
    // Its events are those of training; the one object that `--json` prints says the same.
    let mut progress = Progress::new(out, false);
    let result = work(&options, &interrupt.stop, &mut |event| {
        if !args.json {
            progress.show(event, out);
        }
    });
    progress.finish();
    match result {
        Err(PipelineError::Stopped) => {
            let message = Message { text: "evaluation stopped".to_owned(), hint: None };
            Err(Failure::Interrupted { signal: interrupt.signal(), message })
        }
        result => result.map_err(Failure::from),
    }
}
