//! `ocelli evaluate`: how well a model does on labelled images.

use std::path::PathBuf;

use ocelli_datasets::Split;
use ocelli_pipeline::{EvaluateOptions, Evaluation, PipelineError, evaluate, open_model, write_atomic};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::{compute, paths, report};

/// Measure a model on labelled images
///
/// On the data that the model was trained on, its test split is taken: images that it has never seen. Classes are
/// matched by name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .ocelli file or a run folder
    model: PathBuf,
    /// Labelled images, as for `ocelli train`; the built-in Fashion-MNIST if left out
    data: Option<PathBuf>,
    /// Only the images of this split
    #[arg(long, value_name = "train|val|test")]
    split: Option<Split>,
    /// Fail with exit code 3 where the accuracy is lower, e.g. 0.9
    #[arg(long, value_parser = parse_part, value_name = "PART")]
    min_accuracy: Option<f32>,
    /// Write what the model says about each image
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Part of the images that may be unreadable
    #[arg(long, value_name = "PART", default_value_t = 0.05, value_parser = parse_part)]
    max_bad: f32,
    #[command(flatten)]
    compute: compute::Settings,
}

fn parse_part(text: &str) -> Result<f32, String> {
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

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let evaluation = measure(&args, out)?;
    if let Some(csv) = &args.csv {
        write_atomic(csv, evaluation.predictions_csv().as_bytes())?;
    }
    if args.json {
        let model = args.model.display().to_string();
        out.json(&Record { schema: 1, r#type: "evaluation", model, evaluation: &evaluation })?;
    } else {
        if !out.quiet() {
            report::print(&evaluation, out)?;
        }
        out.line(report::accuracy_line(&evaluation.split, evaluation.accuracy))?;
    }
    match args.min_accuracy {
        Some(least) if evaluation.accuracy < least => Err(Failure::Gate(Message {
            text: format!("accuracy {:.4} is below {least:.4}", evaluation.accuracy),
            hint: None,
        })),
        _ => Ok(()),
    }
}

fn measure(args: &Args, out: &mut Output) -> Result<Evaluation, Failure> {
    let model = open_model(&args.model)?;
    let data = paths::data(args.data.clone());
    let (compute, max_bad) = (args.compute.into(), args.max_bad);
    let options = EvaluateOptions { data, split: args.split, compute, max_bad };
    let interrupt = Interrupt::listen()?;
    // Its events are those of training; the one object that `--json` prints says the same.
    let mut progress = Progress::new(out, false);
    let result = evaluate(&model, &options, &interrupt.stop, &mut |event| {
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
