//! `ocelli clean`: removes the files of decoded images that runs keep for the next run.

use std::path::PathBuf;

use ocelli_common::text::{count, printable};
use ocelli_datasets::{CacheEntry, CacheFolder};
use ocelli_pipeline::{PipelineError, cache_folder};
use serde::Serialize;

use crate::bytes::readable;
use crate::failure::{Failure, Message};
use crate::output::Output;

/// Remove decoded images that training keeps on the disk
///
/// Training writes images that do not fit in memory to files in .cache in the folder of the runs, and reads them again in the
/// next run on the same images. Runs, models and data are not touched; files that a running program uses stay.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    runs: PathBuf,
    /// List the files and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Record {
    schema: u32,
    r#type: &'static str,
    files: Vec<Found>,
    /// Bytes that were removed, or would be.
    bytes: u64,
    dry_run: bool,
}

#[derive(Serialize)]
struct Found {
    path: String,
    bytes: u64,
    /// A running program uses it.
    in_use: bool,
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Found {
    fn new(entry: CacheEntry, removed: bool, error: Option<String>) -> Self {
        let CacheEntry { path, bytes, in_use } = entry;
        Found { path: path.display().to_string(), bytes, in_use, removed, error }
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Failure> {
    if !args.runs.is_dir() {
        let text = format!("there is no folder {}", args.runs.display());
        return Err(Failure::usage(text, "--runs names the folder of the runs"));
    }
    let folder = CacheFolder::new(cache_folder(&args.runs));
    let files: Vec<Found> = if args.dry_run {
        let entries = folder.entries().map_err(PipelineError::from)?;
        entries.into_iter().map(|entry| Found::new(entry, false, None)).collect()
    } else {
        let removed = folder.clean().map_err(PipelineError::from)?;
        let found = |(entry, result): (CacheEntry, std::io::Result<()>)| {
            let removed = !entry.in_use && result.is_ok();
            Found::new(entry, removed, result.err().map(|error| error.to_string()))
        };
        removed.into_iter().map(found).collect()
    };
    let failed = files.iter().filter(|file| file.error.is_some()).count();
    let going = |file: &&Found| !file.in_use && file.error.is_none();
    let bytes = files.iter().filter(going).map(|file| file.bytes).sum();
    if args.json {
        out.json(&Record { schema: 1, r#type: "clean", files, bytes, dry_run: args.dry_run })?;
    } else {
        print(&files, bytes, args.dry_run, out)?;
    }
    if failed == 0 {
        return Ok(());
    }
    let text = format!("{} cannot be removed", count(failed, "file"));
    Err(Failure::Failed(Message { text, hint: Some("check the permissions of the folder".to_owned()) }))
}

fn print(files: &[Found], bytes: u64, dry_run: bool, out: &mut Output) -> Result<(), Failure> {
    for file in files {
        let what = match (&file.error, file.in_use) {
            (Some(error), _) => format!("  {error}"),
            (None, true) => "  in use, stays".to_owned(),
            (None, false) => String::new(),
        };
        out.line(format_args!("{:>10}  {}{what}", readable(file.bytes), printable(&file.path)))?;
    }
    let going = files.iter().filter(|file| !file.in_use && file.error.is_none()).count();
    let (files, bytes) = (count(going, "file"), readable(bytes));
    out.line(match (going, dry_run) {
        (0, _) => "nothing to remove".to_owned(),
        (_, true) => format!("{files} would be removed, {bytes}"),
        (_, false) => format!("{files} removed, {bytes}"),
    })
}
