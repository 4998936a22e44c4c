//! `ocelli inspect`: what is in a data set, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ocelli_common::text::{count, printable, thousands};
use ocelli_pipeline::inspect::{
    DEFAULT_SUSPECTS, FileFound, Finding, InspectOptions, Inspection, Lengths, Severity, SplitCounts,
    Suspects, inspect,
};
use ocelli_pipeline::write_atomic;
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::{Output, Style};
use crate::progress::Progress;
use crate::report::short;
use crate::{compute, paths};

/// Files of a finding that are printed; the JSON has all.
const SHOWN: usize = 6;
/// Classes that are printed; the JSON has all.
const MAX_CLASSES: usize = 50;
/// Characters of the longest bar.
const BAR: usize = 24;
/// Pictures that a finding has on the page.
const PICTURES: usize = 24;

const AFTER_HELP: &str = "\
  ocelli inspect photos/                        what is there and what is wrong with it
  ocelli inspect photos.zip --html report.html  the same as a page with pictures
  ocelli inspect photos/ --model runs/photos-001  wrong labels by a trained model

Nothing is written into DATA. Labels are searched by the features of the ImageNet model in this program, at
about 5 ms an image on two cores: where there are many images, in a sample of them, which is said.";

/// Look a data set over: copies, leaks, unreadable files, doubtful labels
///
/// Every image is read as training would read it. Exit code 0 whatever is found; with --strict 3 where there are problems.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Labelled images, as for `ocelli train`
    data: PathBuf,
    /// Table (CSV, TSV) with the labels of the images in DATA, a folder or ZIP
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Search wrong labels by this model: a .ocelli file, a run folder, or a name in this program
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Images that are searched for wrong labels by features: all, none, or at most a number
    #[arg(long, value_name = "all|N|none", default_value_t = DEFAULT_SUSPECTS.to_string(), value_parser = checked_suspects)]
    suspects: String,
    /// Channels of the images, where TIFF files have others than one or three
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    channels: u8,
    /// Fail with exit code 3 where there are problems
    #[arg(long)]
    strict: bool,
    /// Write a page with pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: compute::Settings,
}

fn checked_suspects(text: &str) -> Result<String, String> {
    parse_suspects(text).map(|_| text.to_owned())
}

fn parse_suspects(text: &str) -> Result<Suspects, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Suspects::All),
        ("none", _) | (_, Ok(0)) => Ok(Suspects::None),
        (_, Ok(most)) => Ok(Suspects::Most(most)),
        _ => Err("write all, none, or a number of images".to_owned()),
    }
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    #[serde(flatten)]
    inspection: &'a Inspection,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let suspects = parse_suspects(&args.suspects).expect("it was parsed with the arguments");
    let options = InspectOptions {
        compute: args.compute.into(),
        channels: args.channels,
        suspects,
        model: args.model,
        thumbnails: if args.html.is_some() { PICTURES } else { 0 },
    };
    let data = paths::data(Some(args.data), args.labels);
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(out, false);
    let found = inspect(&data, &options, &interrupt.stop, &mut |event| progress.show(event, out));
    progress.finish();
    let found = found.map_err(|error| interrupt.failure(error))?;
    if let Some(path) = &args.html {
        write_atomic(path, found.page().as_bytes())?;
        out.say(format_args!("{} is written", printable(&path.display().to_string())));
    }
    if args.json {
        out.json(&Record { schema: 1, r#type: "inspection", inspection: &without_pictures(found.clone()) })?;
    } else {
        tell(&found, out)?;
    }
    match (args.strict, found.problems) {
        (true, problems) if problems > 0 => {
            let text = format!("{} found", count(problems, "problem"));
            Err(Failure::Gate(Message { text, hint: None }))
        }
        _ => Ok(()),
    }
}

/// Pictures are for the page.
fn without_pictures(mut found: Inspection) -> Inspection {
    let files = found.findings.iter_mut().flat_map(|finding| &mut finding.files);
    files.for_each(|file| file.thumbnail = None);
    found
}

fn tell(found: &Inspection, out: &mut Output) -> Result<(), Failure> {
    let unread = match found.files - found.images {
        0 => String::new(),
        n => format!(", {} cannot be read", count(n, "file")),
    };
    let classes = match found.classes.len() {
        1 => "1 class".to_owned(),
        n => format!("{n} classes"),
    };
    let head = format!(
        "{} ({}): {} images in {classes}{unread}",
        printable(&found.name),
        found.kind,
        thousands(found.images as u64)
    );
    out.line(out.paint.apply(Style::Bold, head))?;
    for note in &found.notes {
        out.line(printable(note))?;
    }
    if !out.quiet() {
        out.line("")?;
        class_table(found, out)?;
        out.line("")?;
        images(found, out)?;
    }
    for finding in &found.findings {
        out.line("")?;
        tell_finding(finding, out)?;
    }
    out.line("")?;
    out.line(out.paint.apply(Style::Dim, printable(&found.label_search.note)))?;
    out.line(format_args!(
        "{}, {}, {}",
        count(found.problems, "problem"),
        count(found.warnings, "warning"),
        count(found.remarks, "note")
    ))
}

fn class_table(found: &Inspection, out: &mut Output) -> Result<(), Failure> {
    let columns = columns(&found.splits);
    let shown = &found.classes[..found.classes.len().min(MAX_CLASSES)];
    let width = shown.iter().map(|class| short(&class.name).chars().count()).max().unwrap_or(0).max(5);
    let names: String = columns.iter().map(|(name, _)| format!("  {name:>9}")).collect();
    out.line(out.paint.apply(Style::Bold, format!("{:<width$}  {:>9}{names}", "class", "images")))?;
    let most = found.classes.iter().map(|class| class.images).max().unwrap_or(0).max(1);
    for class in shown {
        let splits = class.splits.in_order();
        let cells: String =
            columns.iter().map(|&(_, at)| format!("  {:>9}", thousands(splits[at] as u64))).collect();
        let bar = "\u{2588}".repeat((class.images * BAR).div_ceil(most));
        let (name, images) = (short(&class.name), thousands(class.images as u64));
        out.line(format_args!("{name:<width$}  {images:>9}{cells}  {bar}"))?;
    }
    match found.classes.len() - shown.len() {
        0 => Ok(()),
        more => out.line(format_args!("and {more} more classes: --json has all")),
    }
}

/// The splits that there are, with their places in [`SplitCounts::in_order`]; none where nothing is divided.
fn columns(splits: &SplitCounts) -> Vec<(&'static str, usize)> {
    let counts = splits.in_order();
    if splits.undivided == counts.iter().sum::<usize>() {
        return Vec::new();
    }
    let names = ["train", "val", "test", "undivided"];
    names.into_iter().zip(0..).filter(|&(_, at)| at < 3 || counts[at] > 0).collect()
}

fn images(found: &Inspection, out: &mut Output) -> Result<(), Failure> {
    let range = |Lengths { min, median, max, .. }: &Lengths| format!("{min} to {max} (median {median})");
    out.line(format_args!("width   {}", range(&found.width)))?;
    out.line(format_args!("height  {}", range(&found.height)))?;
    let counts = |counts: &BTreeMap<String, usize>, noun: &str| {
        let all: Vec<String> =
            counts.iter().map(|(name, n)| format!("{}{noun} {name}", thousands(*n as u64))).collect();
        all.join(", ")
    };
    let formats = if found.formats.is_empty() { "none".to_owned() } else { counts(&found.formats, "") };
    out.line(format_args!("files   {formats}"))?;
    let (channels, bits) = (counts(&found.channels, ""), counts(&found.bits, " of"));
    out.line(format_args!("colour  {channels}; {bits} bits"))?;
    out.line(format_args!("turned  {} by EXIF or XMP", count(found.rotated, "image")))
}

fn tell_finding(finding: &Finding, out: &mut Output) -> Result<(), Failure> {
    let (word, style) = match finding.severity {
        Severity::Problem => ("problem:", Style::Red),
        Severity::Warning => ("warning:", Style::Yellow),
        Severity::Note => ("note:", Style::Cyan),
    };
    let word = out.paint.apply(style, word);
    out.line(format_args!("{word} {}", printable(&finding.text)))?;
    for file in finding.files.iter().take(SHOWN) {
        out.line(file_line(file))?;
    }
    if finding.files_total > SHOWN {
        out.line(format_args!(
            "  and {} more: --json has all",
            thousands((finding.files_total - SHOWN) as u64)
        ))?;
    }
    out.line(out.paint.apply(Style::Dim, format!("  what to do: {}", printable(&finding.advice))))
}

fn file_line(file: &FileFound) -> String {
    let detail = file.detail.as_ref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
    format!("  {}{detail}", printable(&file.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_searched_images_is_all_none_or_a_number() {
        assert_eq!(parse_suspects("all"), Ok(Suspects::All));
        assert_eq!(parse_suspects("none"), Ok(Suspects::None));
        assert_eq!(parse_suspects("0"), Ok(Suspects::None));
        assert_eq!(parse_suspects("1000"), Ok(Suspects::Most(1000)));
        for wrong in ["", "some", "-1", "1.5", "ALL"] {
            assert!(parse_suspects(wrong).is_err(), "{wrong}");
        }
    }
}
