//! `ocelli embed`: features of images, as a file or on standard output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ocelli_common::atomic_file;
use ocelli_common::text::{count, printable};
use ocelli_pipeline::{Embeddings, PipelineError, Predictor};
use serde::Serialize;

use crate::compute;
use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;

/// Write the features of images
///
/// Features are what the last dense layer of a network reads: numbers that are near each other for images that look alike.
/// They are there for searching, sorting and clustering. An image that cannot be read is named on standard error and the
/// others go on; the exit code is 1 then.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Labelled images as for `ocelli train`, a folder of images without labels, or one image
    data: PathBuf,
    /// A .ocelli file, a run folder, or a model in this program: imagenet, fashion-mnist
    #[arg(short, long, default_value = "imagenet")]
    model: PathBuf,
    /// Write to this file, .npy or .csv; a table goes to standard output if left out. Beside NAME.npy stands NAME.names.csv
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What to write where the name of the file does not say it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// One JSON object an image, or with --out one about the file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: compute::Settings,
}

/// How features are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A NumPy array of float32, one row an image
    Npy,
    /// A table: name, class, features
    Csv,
}

#[derive(Serialize)]
struct Row<'a> {
    schema: u32,
    r#type: &'static str,
    name: &'a str,
    class: Option<&'a str>,
    model_version: &'a str,
    features: &'a [f32],
}

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    r#type: &'static str,
    images: usize,
    features: usize,
    model_version: &'a str,
    skipped: usize,
    files: Vec<String>,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let format = format(&args)?;
    let (found, _) = embeddings(&args.data, &args.model, args.compute, out)?;
    match (&args.out, format) {
        (Some(path), format) => {
            let files = save(&found, path, format)?;
            tell(&found, &files, args.json, out)?;
        }
        (None, _) if args.json => {
            for index in 0..found.images() {
                out.json(&Row {
                    schema: 1,
                    r#type: "embedding",
                    name: &found.names[index],
                    class: found.class(index),
                    model_version: &found.model,
                    features: found.row(index),
                })?;
            }
        }
        (None, _) => {
            let mut table = Vec::new();
            found.write_csv(&mut table).expect("a write to memory cannot fail");
            out.bytes(&table)?;
        }
    }
    all_read(&found)
}

/// The format that was asked for, before any work is done.
fn format(args: &Args) -> Result<Format, Failure> {
    let Some(path) = &args.out else {
        return match args.format {
            Some(Format::Npy) => Err(Failure::usage(
                "an array cannot go to standard output",
                "-o features.npy writes it to a file, with the names beside it",
            )),
            _ => Ok(Format::Csv),
        };
    };
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    match (args.format, extension.as_deref()) {
        (Some(format), _) => Ok(format),
        (None, Some("npy")) => Ok(Format::Npy),
        (None, Some("csv")) => Ok(Format::Csv),
        (None, _) => Err(Failure::usage(
            format!("{}: this name does not say what to write", path.display()),
            "choose --format npy or csv, or a name that ends with one of them",
        )),
    }
}

/// Features of all images of a data set by a model, with progress and notes on the terminal.
pub(crate) fn embeddings(
    data: &Path,
    model: &Path,
    compute: compute::Settings,
    out: &mut Output,
) -> Result<(Embeddings, Predictor), Failure> {
    let mut predictor = Predictor::open(model, compute.into())?;
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(out, false);
    let observe = &mut |event: &_| progress.show(event, out);
    let result = Embeddings::of(data, &mut predictor, &interrupt.stop, observe);
    progress.finish();
    let found = match result {
        Err(PipelineError::Stopped) => {
            let message = Message { text: "stopped; nothing is written".to_owned(), hint: None };
            return Err(Failure::Interrupted { signal: interrupt.signal(), message });
        }
        result => result?,
    };
    for note in &found.notes {
        out.say(format_args!("note: {}", printable(note)));
    }
    for skipped in &found.skipped {
        out.warn(printable(&format!("{}: {}", skipped.name, skipped.reason)));
    }
    Ok((found, predictor))
}

/// An error where images could not be read.
pub(crate) fn all_read(found: &Embeddings) -> Result<(), Failure> {
    match found.skipped.len() {
        0 => Ok(()),
        n => {
            let text = format!("{} not read", count(n, "image"));
            Err(Failure::failed(text, "convert or leave out the files named above"))
        }
    }
}

/// Writes the file, and the names beside an array; returns what was written.
fn save(found: &Embeddings, path: &Path, format: Format) -> Result<Vec<PathBuf>, Failure> {
    let write = |path: &Path, content: &dyn Fn(&mut BufWriter<&mut File>) -> io::Result<()>| {
        let written = atomic_file::write_with(path, |file| {
            let mut buffered = BufWriter::new(file);
            content(&mut buffered)?;
            buffered.flush()
        });
        written.map_err(|error| Failure::io(path, &error))
    };
    match format {
        Format::Csv => {
            write(path, &|out| found.write_csv(out))?;
            Ok(vec![path.to_owned()])
        }
        Format::Npy => {
            let names = path.with_extension("names.csv");
            write(&names, &|out| found.write_names(out))?;
            write(path, &|out| found.write_npy(out))?;
            Ok(vec![path.to_owned(), names])
        }
    }
}

fn tell(found: &Embeddings, files: &[PathBuf], json: bool, out: &mut Output) -> Result<(), Failure> {
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    if json {
        return out.json(&Written {
            schema: 1,
            r#type: "embeddings",
            images: found.images(),
            features: found.len,
            model_version: &found.model,
            skipped: found.skipped.len(),
            files,
        });
    }
    let (images, names) = (count(found.images(), "image"), printable(&files.join(", ")));
    out.line(format_args!("{images} with {} features each: {names}", found.len))
}
