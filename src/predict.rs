//! `ocelli predict`: labels of image files.

use std::path::{Path, PathBuf};

use ocelli_common::text::printable;
use ocelli_engine::Precision;
use ocelli_pipeline::{Decoder, LabelAnswer, ModelMeta, Prediction, Predictor, pool};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::image_files::{decode, images_of, print_refused};
use crate::output::{Output, Style};
use crate::{compute, paths, serve};

/// Images decoded at a time, then computed as one batch.
const CHUNK: usize = 64;
/// On a terminal, classes that are less likely than this are left out; the first one never is.
const LEAST_SHOWN: f32 = 0.0005;

/// Label images
///
/// One line an image: its path and the likeliest classes, or all labels that the image has where the model says any number of
/// them. A file that cannot be read is named on standard error and
/// the others go on; the exit code is 1 then. What a folder holds besides images is named on standard error and is no
/// error.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image files, folders with images, or - for one image from standard input; a model may come first
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A .ocelli file, a run folder, or a model in this program: imagenet, fashion-mnist (if left out)
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// How many classes to name for each image
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5, value_parser = parse_top_k)]
    top_k: usize,
    /// Search folders within folders too
    #[arg(short, long)]
    recursive: bool,
    /// Test-time flip: the mean over each image and its mirror image, where the recipe allows mirroring
    #[arg(long)]
    tta: bool,
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values with a header
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    compute: compute::Settings,
    #[command(flatten)]
    precision: compute::PrecisionSetting,
}

fn parse_top_k(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&k| k > 0).ok_or_else(|| "write a number from 1 on".to_owned())
}

/// How to write the answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Csv,
}

#[derive(Serialize)]
struct Labelled<'a> {
    schema: u32,
    r#type: &'static str,
    path: String,
    #[serde(flatten)]
    prediction: &'a Prediction,
}

pub(crate) fn run(mut args: Args, out: &mut Output) -> Result<(), Failure> {
    let model = paths::model_before_images(args.model.take(), &mut args.paths, "predict")?;
    let format = match (args.json, args.csv) {
        (true, _) => Format::Json,
        (_, true) => Format::Csv,
        _ => Format::Text,
    };
    let mut predictor = serve::open(model.as_deref(), args.precision.compute(args.compute)?)?;
    args.precision.check(predictor.precision() == Precision::Int8, model.as_deref(), out)?;
    if args.tta {
        predictor.average_mirrored()?;
    }
    let top_k = args.top_k.min(predictor.meta().classes.len());
    let mut job = Job { format, built_in: model.is_none(), top_k, failed: 0, out };
    if format == Format::Csv {
        job.csv_header(predictor.meta())?;
    }
    let files = job.expand(&args.paths, args.recursive)?;
    let decoder = predictor.decoder();
    for chunk in files.chunks(CHUNK) {
        job.label(chunk, &decoder, &mut predictor)?;
    }
    match job.failed {
        0 => Ok(()),
        n => {
            let files = if n == 1 { "1 file was".to_owned() } else { format!("{n} files were") };
            let hint = "convert or leave out the files named above".to_owned();
            Err(Failure::Failed(Message { text: format!("{files} not labelled"), hint: Some(hint) }))
        }
    }
}

struct Job<'a> {
    format: Format,
    /// No model was named.
    built_in: bool,
    top_k: usize,
    failed: usize,
    out: &'a mut Output,
}

impl Job<'_> {
    /// All files to label: folders are replaced by the images in them.
    fn expand(&mut self, paths: &[PathBuf], recursive: bool) -> Result<Vec<PathBuf>, Failure> {
        let (mut files, json) = (Vec::new(), self.format == Format::Json);
        for path in paths {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            if self.built_in && paths::is_model(path) {
                self.refuse(path, "a run folder: a model comes first, or behind --model")?;
                continue;
            }
            match images_of(path, recursive, json, self.out)? {
                Ok(images) => files.extend(images),
                Err(reason) => self.refuse(path, &reason)?,
            }
        }
        Ok(files)
    }

    fn label(
        &mut self,
        files: &[PathBuf],
        decoder: &Decoder,
        predictor: &mut Predictor,
    ) -> Result<(), Failure> {
        let decoded = pool::map(&predictor.exec().pool, files, |path| decode(path, decoder))?;
        let mut images = Vec::with_capacity(files.len());
        let mut errors = Vec::with_capacity(files.len());
        for result in decoded {
            errors.push(result.map(|image| images.push(image)).err());
        }
        let mut predictions = predictor.predict_prepared(&images, self.top_k)?.into_iter();
        for (path, error) in files.iter().zip(errors) {
            match error {
                Some(reason) => self.refuse(path, &reason)?,
                None => {
                    let prediction = predictions.next().expect("every prepared image has its prediction");
                    self.tell(path, &prediction)?;
                }
            }
        }
        // Somebody may be reading along.
        self.out.flush()
    }

    fn refuse(&mut self, path: &Path, reason: &str) -> Result<(), Failure> {
        self.failed += 1;
        print_refused((path, reason), self.format == Format::Json, self.out)
    }

    fn tell(&mut self, path: &Path, prediction: &Prediction) -> Result<(), Failure> {
        let name = path.display().to_string();
        match self.format {
            Format::Json => {
                let record = Labelled { schema: 1, r#type: "prediction", path: name, prediction };
                let line = serde_json::to_string(&record).map_err(|error| Failure::stdout(error.into()))?;
                self.out.line(line)
            }
            Format::Csv => {
                let mut line = csv_field(&name);
                if let Some(labels) = &prediction.labels {
                    let said: Vec<&str> = labels
                        .iter()
                        .filter(|label| label.applies)
                        .map(|label| label.label.as_str())
                        .collect();
                    line += &format!(",{}", csv_field(&said.join("|")));
                    labels.iter().for_each(|label| line += &format!(",{}", label.probability));
                    return self.out.line(line);
                }
                for ranked in &prediction.top {
                    line += &format!(",{},{}", csv_field(&ranked.label), ranked.probability);
                }
                line += &format!(",{}", prediction.known);
                self.out.line(line)
            }
            Format::Text => {
                let mut line = printable(&name);
                if let Some(labels) = &prediction.labels {
                    let mut said: Vec<&LabelAnswer> = labels.iter().filter(|label| label.applies).collect();
                    said.sort_by(|a, b| b.probability.total_cmp(&a.probability));
                    for label in &said {
                        let text = format!("{} {:.1}%", printable(&label.label), 100.0 * label.probability);
                        line += &format!("  {}", self.out.paint.apply(Style::Bold, text));
                    }
                    if said.is_empty() {
                        line += &format!("  {}", self.out.paint.apply(Style::Dim, "none"));
                    }
                    return self.out.line(line);
                }
                if !prediction.known {
                    line += &format!("  {}", self.out.paint.apply(Style::Bold, "unknown"));
                }
                let shown = prediction.top.iter().enumerate();
                for (rank, ranked) in shown.filter(|(rank, r)| *rank == 0 || r.probability >= LEAST_SHOWN) {
                    let text = format!("{} {:.1}%", printable(&ranked.label), 100.0 * ranked.probability);
                    let style = if rank == 0 && prediction.known { Style::Bold } else { Style::Dim };
                    line += &format!("  {}", self.out.paint.apply(style, text));
                }
                self.out.line(line)
            }
        }
    }

    fn csv_header(&mut self, meta: &ModelMeta) -> Result<(), Failure> {
        if meta.multi_label.is_some() {
            let names: String = meta.classes.iter().map(|name| format!(",{}", csv_field(name))).collect();
            return self.out.line(format!("path,labels{names}"));
        }
        let mut header = "path,label,probability".to_owned();
        for rank in 2..=self.top_k {
            header += &format!(",label_{rank},probability_{rank}");
        }
        self.out.line(header + ",known")
    }
}

/// Quoted where it holds a comma, a quote or a line break (RFC 4180).
fn csv_field(value: &str) -> String {
    if value.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", value.replace('"', "\"\""));
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_survive_commas_and_quotes() {
        assert_eq!(csv_field("a b.jpg"), "a b.jpg");
        assert_eq!(csv_field("a,\"b\".jpg"), "\"a,\"\"b\"\".jpg\"");
    }
}
