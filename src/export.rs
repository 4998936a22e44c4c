//! `ocelli export`: a model as a file of another program, read back and compared.

use std::path::{Path, PathBuf};

use ocelli_common::atomic_file;
use ocelli_common::text::thousands;
use ocelli_engine::model_file::ModelFile;
use ocelli_exchange::{ExportOptions, Numbers, Target};
use ocelli_pipeline::{ExportReport, export_model, open_model};
use serde::Serialize;

use crate::compute;
use crate::failure::Failure;
use crate::output::Output;

/// Write a model as a file of another program
///
/// Class names and preprocessing travel in the file. Each export is read back and asked the same images as the model: the
/// largest difference of the logits and the part of images with the same answer are printed, and an export in f32 that answers
/// otherwise is not written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ocelli export runs/photos-001 --to onnx
  ocelli export imagenet --to onnx --fp16 -o lite0.onnx
  ocelli export runs/photos-001 --to keras --with-preprocess")]
pub(crate) struct Args {
    /// A .ocelli file, a run folder, or a model in this program: imagenet, fashion-mnist
    model: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    to: To,
    /// Where it goes; the model's name with the format's ending if left out
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Weights of 16 bits: half of the file
    #[arg(long, conflicts_with = "int8")]
    fp16: bool,
    /// Weights and values of 8 bits, with the scales of `ocelli quantize` (onnx)
    #[arg(long)]
    int8: bool,
    /// The network takes pixels of 0 to 255 and normalises them itself (onnx, keras)
    #[arg(long)]
    with_preprocess: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: compute::Settings,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// A graph for ONNX Runtime and many others
    Onnx,
    /// Named tensors for PyTorch and others
    Safetensors,
    /// A model for Keras 3
    Keras,
    /// Arrays for NumPy
    Npz,
    /// One HTML file that classifies images and the webcam, with no server and no network
    Web,
}

impl To {
    /// The format of a model; `None` for a page.
    fn target(self) -> Option<Target> {
        match self {
            To::Onnx => Some(Target::Onnx),
            To::Safetensors => Some(Target::Safetensors),
            To::Keras => Some(Target::Keras),
            To::Npz => Some(Target::Npz),
            To::Web => None,
        }
    }
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    model: String,
    file: String,
    #[serde(flatten)]
    report: &'a ExportReport,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let file = open_model(&args.model)?;
    let numbers = match (args.fp16, args.int8) {
        (true, _) => Numbers::F16,
        (_, true) => Numbers::Int8,
        _ => Numbers::F32,
    };
    let Some(target) = args.to.target() else { return page(&args, &file, out) };
    let path = args.out.clone().unwrap_or_else(|| named(&args.model, target.name()));
    let options = ExportOptions { target, numbers, with_preprocess: args.with_preprocess };
    let (bytes, report) = export_model(&file, &options, args.compute.into())?;
    atomic_file::write(&path, &bytes).map_err(|error| Failure::io(&path, &error))?;
    if args.json {
        return out.json(&Record {
            schema: 1,
            r#type: "export",
            model: args.model.display().to_string(),
            file: path.display().to_string(),
            report: &report,
        });
    }
    out.line(format_args!(
        "{}: {} bytes of {}",
        path.display(),
        thousands(report.bytes as u64),
        report.format
    ))?;
    if let Some(check) = report.check {
        out.line(format_args!(
            "read back: largest difference of logits {:.1e} ({:.1e} of their range), same answer for {:.2} % of {} images",
            check.largest_difference,
            check.relative_difference,
            100.0 * check.agreement,
            check.images
        ))?;
    }
    for note in &report.notes {
        out.line(format_args!("note: {note}"))?;
    }
    Ok(())
}

/// The model as a page for the browser, which computes in f32 and normalises by itself.
fn page(args: &Args, file: &ModelFile, out: &mut Output) -> Result<(), Failure> {
    if args.fp16 || args.int8 || args.with_preprocess {
        let hint = "leave --fp16, --int8 and --with-preprocess out: the page takes images of any size";
        return Err(Failure::usage("these options are for the formats of other programs", hint));
    }
    let path = args.out.clone().unwrap_or_else(|| named(&args.model, "html"));
    let page = ocelli_web::page(&file.to_bytes()?, &file.meta.name)
        .map_err(|error| Failure::failed(error.to_string(), "`ocelli export --help` lists the formats"))?;
    atomic_file::write(&path, &page).map_err(|error| Failure::io(&path, &error))?;
    if args.json {
        let report = &ExportReport { format: "web", bytes: page.len(), check: None, notes: Vec::new() };
        let (model, file) = (args.model.display().to_string(), path.display().to_string());
        return out.json(&Record { schema: 1, r#type: "export", model, file, report });
    }
    out.line(format_args!("{}: {} bytes", path.display(), thousands(page.len() as u64)))?;
    out.say("open it in a browser: it needs no server and no network");
    Ok(())
}

/// A file in the working folder, called as the model is.
fn named(model: &Path, ending: &str) -> PathBuf {
    let is_run = model.is_dir();
    let name = if is_run { model.file_name() } else { model.file_stem() };
    let name = name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    PathBuf::from(format!("{name}.{ending}"))
}
