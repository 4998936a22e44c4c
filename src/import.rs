//! `ocelli import`: a model of Keras, ONNX, PyTorch or safetensors becomes a `.ocelli` file.

use std::path::{Path, PathBuf};

use ocelli_common::text::{printable, thousands};
use ocelli_engine::model_file::version_id;
use ocelli_engine::{Isa, Precision};
use ocelli_pipeline::{
    BuiltIn, Fit, ImportReport, ImportSettings, Need, Normalization, PipelineError, Source, import_model,
    open_model, read_labels,
};
use serde::Serialize;

use crate::compute;
use crate::failure::{Failure, Message};
use crate::output::Output;
use crate::train::parse_size;

/// Make a model of a file of Keras (.h5, .keras), ONNX, PyTorch (state dicts: .pth) or safetensors
///
/// The network, its weights and, where the file has them, class names and normalisation are taken over; what the file does not
/// say is asked for by name and never guessed. Files are read and never run. The model can be served, evaluated, explained,
/// quantised and trained further like any other.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ocelli import model.keras --labels labels.txt --normalize 0..1 --fit stretch
  ocelli import resnet18.onnx --labels imagenet --normalize imagenet --fit crop
  ocelli import resnet18.pth --network resnet18 --size 224 --labels imagenet --normalize imagenet --fit crop")]
pub(crate) struct Args {
    /// The file of the other program
    file: PathBuf,
    /// Where the model goes; FILE with the ending .ocelli if left out
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Class names in the order of the outputs: a file with a name a line or in JSON (list, id2label, class_indices), a
    /// .ocelli model or run folder whose names are taken, or `imagenet`
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Which values the network takes for pixels: 0..1, -1..1 or 0..255, imagenet (torchvision, timm), or caffe (Keras' ResNet50
    /// and VGG: blue first, means subtracted)
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true, value_parser = parse_normalization, conflicts_with_all = ["mean", "std"])]
    normalize: Option<Normalization>,
    /// Subtracted from each channel of pixels in 0..1, e.g. 0.485,0.456,0.406
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "std", allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,
    /// What each channel is then divided by, e.g. 0.229,0.224,0.225
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "mean")]
    std: Option<Vec<f32>>,
    /// What happens to images of another aspect ratio: stretch, crop (the middle), or pad
    #[arg(long, value_name = "stretch|crop|pad")]
    fit: Option<Fit>,
    /// Side of the input, or width and height, where the file does not say it
    #[arg(long, value_parser = parse_size, value_name = "N|WxH")]
    size: Option<(u32, u32)>,
    /// The network of a file that holds weights alone: resnet18, mobilenet-v2, efficientnet-lite0, ...
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// What the model is called; the file's name if left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: compute::Settings,
}

fn parse_normalization(text: &str) -> Result<Normalization, String> {
    Normalization::named(text)
        .ok_or_else(|| format!("choose one of {}, or give --mean and --std", Normalization::WORDS.join(", ")))
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    file: String,
    model: String,
    version: String,
    #[serde(flatten)]
    report: &'a ImportReport,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let labels = args.labels.as_deref().map(labels).transpose()?;
    let own = args.mean.clone().zip(args.std.clone());
    let own = own.map(|(mean, std)| Normalization { mean, std, blue_first: false });
    let settings = ImportSettings {
        // The command line says width first, as images are described.
        size: args.size.map(|(width, height)| (height, width)),
        network: args.network.clone(),
        labels,
        normalization: args.normalize.clone().or(own),
        fit: args.fit,
        name: args.name.clone(),
    };
    let target = args.out.clone().unwrap_or_else(|| args.file.with_extension("ocelli"));
    let (file, report) = match import_model(&args.file, &settings, args.compute.into()) {
        Err(PipelineError::ImportNeeds { needs }) => return Err(needed(&args.file, &needs)),
        result => result?,
    };
    let hash = file.save(&target)?;
    if args.json {
        return out.json(&Record {
            schema: 1,
            r#type: "import",
            file: args.file.display().to_string(),
            model: target.display().to_string(),
            version: version_id(&hash),
            report: &report,
        });
    }
    print(&report, out)?;
    out.line(format_args!("written to {}", target.display()))?;
    if Precision::Auto.resolve(Isa::best()?) == Precision::Bf16 {
        // Whoever compares with the other program should not take the rounding for a mistake.
        out.say("to compare with the program that wrote it: --precision f32, as bf16 is the default on this processor");
    }
    out.say(format_args!("try it: ocelli predict -m {} IMAGE...", target.display()));
    out.say(format_args!("measure it: ocelli evaluate {} DATA", target.display()));
    Ok(())
}

/// Class names from a list, or those of a model.
fn labels(path: &Path) -> Result<Vec<String>, Failure> {
    let is_model = BuiltIn::named(path).is_some()
        || path.is_dir()
        || path.extension().is_some_and(|extension| extension == "ocelli");
    if is_model {
        return Ok(open_model(path)?.meta.classes);
    }
    Ok(read_labels(path)?)
}

/// What has to be said, with the options that say it.
fn needed(file: &Path, needs: &[Need]) -> Failure {
    let options = needs.iter().map(|need| match need {
        Need::Labels { .. } => "--labels FILE",
        Need::Normalization { .. } => "--normalize 0..1|-1..1|0..255|imagenet|caffe",
        Need::Fit => "--fit stretch|crop|pad",
    });
    let options = options.collect::<Vec<_>>().join(" ");
    let error = PipelineError::ImportNeeds { needs: needs.to_vec() };
    let hint = format!("say it: ocelli import {} {options}", file.display());
    Failure::Usage(Message { text: format!("{}: {error}", file.display()), hint: Some(hint) })
}

fn print(report: &ImportReport, out: &mut Output) -> Result<(), Failure> {
    let from = |source: Source| match source {
        Source::File => "from the file",
        Source::Given => "as given",
    };
    let producer = match report.producer.as_str() {
        "" => String::new(),
        producer => format!(", written by {}", printable(producer)),
    };
    out.line(format_args!("format         {}{producer}", report.format))?;
    let [height, width, channels] = report.input;
    out.line(format_args!(
        "network        {} layers, {} parameters, {:.1} million multiply-adds an image",
        report.layers,
        thousands(report.parameters as u64),
        report.macs as f64 / 1e6
    ))?;
    let s = if channels == 1 { "" } else { "s" };
    out.line(format_args!("input          {width}x{height} pixels, {channels} channel{s}"))?;
    let head = match report.head {
        "softmax" => "one class an image (softmax)",
        "sigmoid" => "any number of labels an image (sigmoid)",
        "binary" => "one of two classes (sigmoid)",
        _ => "one class an image (logits)",
    };
    out.line(format_args!("output         {} classes, {head}", report.classes))?;
    out.line(format_args!("class names    {}", from(report.labels_from)))?;
    out.line(format_args!("normalisation  {}", from(report.normalization_from)))?;
    out.line(format_args!("aspect ratio   {}", from(report.fit_from)))?;
    if report.int8 {
        out.line("int8           scales from the file: --precision int8 uses them")?;
    }
    for note in &report.notes {
        out.line(format_args!("note           {}", printable(note)))?;
    }
    Ok(())
}
