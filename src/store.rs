//! `ocelli store`: looks after the data folder of a service.

use std::path::{Path, PathBuf};

use ocelli_common::text::printable;
use ocelli_pipeline::store::{self, CheckReport};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::output::{Output, Style};

/// Check, repair or copy the data folder of a service
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compare every file of a data folder with its database
    ///
    /// Changes nothing without --repair, and may run beside the service. Ends with exit code 1 where something is wrong.
    Check(Check),
    /// Copy a data folder to a new place, while the service goes on
    Backup(Backup),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// The data folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Mend what can be mended: damaged files go to quarantine/, a damaged database is restored. Needs the service stopped
    #[arg(long)]
    repair: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Backup {
    /// The data folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A folder that is not there yet, or is empty
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Record<'a, T> {
    schema: u32,
    r#type: &'static str,
    #[serde(flatten)]
    content: &'a T,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    match args.command {
        Command::Check(args) => check(&args, out),
        Command::Backup(args) => backup(&args, out),
    }
}

fn check(args: &Check, out: &mut Output) -> Result<(), Failure> {
    be_there(&args.dir)?;
    let report = if args.repair { store::repair(&args.dir)? } else { store::check(&args.dir)? };
    if args.json {
        out.json(&Record { schema: 1, r#type: "store_check", content: &report })?;
    } else {
        print(&report, out)?;
    }
    let count = report.problems.len();
    if count == 0 || args.repair {
        return Ok(());
    }
    let problems = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    let dir = printable(&args.dir.display().to_string());
    Err(Failure::Failed(Message {
        text: format!("{dir}: {problems}"),
        hint: Some(format!(
            "`ocelli store check {dir} --repair` mends what can be mended; nothing is deleted"
        )),
    }))
}

fn print(report: &CheckReport, out: &mut Output) -> Result<(), Failure> {
    for problem in &report.problems {
        let path = out.paint.apply(Style::Bold, printable(&problem.path));
        out.line(format_args!("{path}: {}", printable(&problem.what)))?;
        out.line(format_args!("    {}", printable(&problem.next)))?;
    }
    let CheckReport { images, versions, files, .. } = report;
    out.line(format_args!(
        "{images} images, {versions} versions and {files} other files compared, {} problems",
        report.problems.len()
    ))
}

fn backup(args: &Backup, out: &mut Output) -> Result<(), Failure> {
    be_there(&args.dir)?;
    let made = store::backup(&args.dir, &args.to)?;
    if args.json {
        out.json(&Record { schema: 1, r#type: "store_backup", content: &made })?;
    } else {
        out.line(format_args!(
            "{} files, {} bytes in {}",
            made.files,
            made.bytes,
            printable(&args.to.display().to_string())
        ))?;
    }
    if made.missing.is_empty() {
        return Ok(());
    }
    let dir = printable(&args.dir.display().to_string());
    Err(Failure::failed(
        format!(
            "{} files of {dir} are damaged or missing, in the copy as there: {}",
            made.missing.len(),
            made.missing[0]
        ),
        format!("`ocelli store check {dir}` lists them"),
    ))
}

/// Refuses a folder that is no data folder: the path is most likely wrong, and opening it would make it one.
fn be_there(dir: &Path) -> Result<(), Failure> {
    if !dir.is_dir() {
        return Err(Failure::usage(
            format!("there is no folder {}", dir.display()),
            "name the --data-dir of a service",
        ));
    }
    let is_data =
        ["lock", "ocelli.db", "images", "models", "datasets"].iter().any(|name| dir.join(name).exists());
    if !is_data {
        return Err(Failure::usage(
            format!("{} is no data folder of a service", dir.display()),
            "name the --data-dir of a service",
        ));
    }
    Ok(())
}
