//! `ocelli quantize`: a model learns to answer in 8 bits.

use std::path::PathBuf;

use ocelli_common::text::printable;
use ocelli_pipeline::{
    BuiltIn, PipelineError, QuantizeOptions, QuantizeReport, is_packed, open_model, quantize,
};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::{compute, evaluate, paths};

/// Give a model int8 scales: faster answers on processors with instructions for products of bytes
///
/// Scales are found on training images, then f32 and int8 answer the test images. The scales are written into the model
/// file beside the weights in f32, which stay as they are: int8 is used where `--precision int8` asks for it. Where int8
/// loses more accuracy than --max-drop, nothing is written and the exit code is 3.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .ocelli file or a run folder; a model in this program with --out
    model: PathBuf,
    /// Labelled images, as for `ocelli train`: best those that it was trained on; the built-in Fashion-MNIST if left out
    data: Option<PathBuf>,
    /// Table (CSV, TSV) with the labels of the images in DATA, a folder or ZIP
    #[arg(long, value_name = "FILE", requires = "data")]
    labels: Option<PathBuf>,
    /// Training images that make the scales
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = parse_images)]
    images: usize,
    /// Most accuracy that may be lost, in points of a hundred
    #[arg(long, value_name = "POINTS", default_value_t = 0.5, value_parser = parse_points)]
    max_drop: f32,
    /// Write the model with its scales here, and leave MODEL as it is
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Part of the images that may be unreadable
    #[arg(long, value_name = "PART", default_value_t = 0.05, value_parser = evaluate::parse_part)]
    max_bad: f32,
    #[command(flatten)]
    compute: compute::Settings,
}

fn parse_images(text: &str) -> Result<usize, String> {
    let images = text.parse().ok().filter(|images| (1..=4096).contains(images));
    images.ok_or_else(|| "write a number from 1 to 4096; 256 to 512 are usual".to_owned())
}

fn parse_points(text: &str) -> Result<f32, String> {
    let points = text.parse().ok().filter(|points| (0.0..=100.0).contains(points));
    points.ok_or_else(|| "write points of a hundred, e.g. 0.5: from 0.930 to 0.925".to_owned())
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    model: String,
    /// Where the model with scales is; absent where it lost too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    #[serde(flatten)]
    report: &'a QuantizeReport,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let target = target(&args)?;
    let file = open_model(&args.model)?;
    let options = QuantizeOptions {
        data: paths::data(args.data.clone(), args.labels.clone()),
        images: args.images,
        compute: args.compute.into(),
        max_bad: args.max_bad,
    };
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(out, false);
    let result = quantize(file, &options, &interrupt.stop, &mut |event| {
        if !args.json {
            progress.show(event, out);
        }
    });
    progress.finish();
    let (file, report) = match result {
        Err(PipelineError::Stopped) => {
            let message = Message { text: "stopped; nothing was written".to_owned(), hint: None };
            return Err(Failure::Interrupted { signal: interrupt.signal(), message });
        }
        result => result?,
    };
    let keeps = report.drop <= args.max_drop;
    if keeps {
        file.save(&target)?;
    }
    if args.json {
        let (model, written) = (args.model.display().to_string(), target.display().to_string());
        let written = keeps.then_some(written);
        out.json(&Record { schema: 1, r#type: "quantization", model, written, report: &report })?;
    } else {
        print(&report, out)?;
        if keeps {
            out.line(format_args!("int8 scales written to {}", target.display()))?;
            out.say(format_args!(
                "try it: ocelli predict --model {} --precision int8 IMAGE...",
                target.display()
            ));
        }
    }
    if keeps {
        return Ok(());
    }
    let text =
        format!("int8 loses {:.2} points, more than {}: nothing was written", report.drop, args.max_drop);
    let hint = "--max-drop sets how much may be lost; more --images may lose less".to_owned();
    Err(Failure::Gate(Message { text, hint: Some(hint) }))
}

/// The file that gets the scales.
fn target(args: &Args) -> Result<PathBuf, Failure> {
    if let Some(out) = &args.out {
        return Ok(out.clone());
    }
    if BuiltIn::named(&args.model).is_some() || is_packed(&args.model) {
        let text = format!("{} is a model in this program, which cannot change", args.model.display());
        return Err(Failure::usage(text, "--out FILE writes it with its scales to a file"));
    }
    let best = args.model.join("weights").join("best.ocelli");
    Ok(if args.model.is_dir() { best } else { args.model.clone() })
}

fn print(report: &QuantizeReport, out: &mut Output) -> Result<(), Failure> {
    let QuantizeReport { accuracy, weight_bytes, milliseconds, .. } = report;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    out.line(format_args!("{:<28}{:>10}{:>10}", "", "f32", "int8"))?;
    let what = format!("accuracy, {} {} images", report.images, report.split);
    out.line(format_args!("{what:<28}{:>10.4}{:>10.4}", accuracy.f32, accuracy.int8))?;
    let ms = "ms an image, one at a time";
    out.line(format_args!("{ms:<28}{:>10.3}{:>10.3}", milliseconds.f32, milliseconds.int8))?;
    let size = "MiB of filters";
    out.line(format_args!("{size:<28}{:>10.2}{:>10.2}", mib(weight_bytes.f32), mib(weight_bytes.int8)))?;
    out.line(format_args!(
        "same answer for {:.2} % of them; {:.2} points of accuracy {}",
        100.0 * report.agreement,
        report.drop.abs(),
        if report.drop > 0.0 { "lost" } else { "gained" }
    ))?;
    let left = &report.layers_in_f32;
    if !left.is_empty() {
        out.line(format_args!(
            "{} of {} convolutions stay in f32: {}",
            left.len(),
            left.len() + report.layers,
            printable(&left.join(", "))
        ))?;
    }
    compute::warn_without_unit(report.unit_is_native, out);
    Ok(())
}
