//! Image files as people name them: read, decoded, listed from folders, and refused aloud.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ocelli_common::text::{chain, printable};
use ocelli_datasets::{DecodeError, DecodeLimits, FolderImages, Prepared, images_in};
use ocelli_pipeline::Decoder;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, Style, print_message};
use crate::paths;

/// An image file of a folder whose format is not decoded.
#[derive(Serialize)]
struct Left<'a> {
    schema: u32,
    r#type: &'static str,
    path: String,
    format: &'a str,
}

/// What else a folder held.
#[derive(Serialize)]
struct Note<'a> {
    schema: u32,
    r#type: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
struct Unreadable<'a> {
    schema: u32,
    r#type: &'static str,
    path: String,
    error: &'a str,
}

/// The images in a folder, at least one, or why there is none. What else it holds is named on standard error, and where
/// results are JSON among them, too.
pub(crate) fn images_of(
    folder: &Path,
    recursive: bool,
    json: bool,
    out: &mut Output,
) -> Result<Result<Vec<PathBuf>, String>, Failure> {
    let found = match images_in(folder, recursive) {
        Ok(found) => found,
        Err(error) => {
            // It names a folder, this one or one below.
            let (text, own) = (chain(&error), format!("{}: ", folder.display()));
            return Ok(Err(text.strip_prefix(&own).unwrap_or(&text).to_owned()));
        }
    };
    tell_left_out(&found, json, out)?;
    if found.images.is_empty() {
        return Ok(Err(nothing_in(&found, recursive).to_owned()));
    }
    Ok(Ok(found.images))
}

/// Names what is in a folder and is left out. Nobody asked for these files by name, so they are no failure.
fn tell_left_out(found: &FolderImages, json: bool, out: &mut Output) -> Result<(), Failure> {
    for warning in &found.warnings {
        out.warn(printable(warning));
    }
    if json {
        for (path, format) in &found.undecoded {
            let path = path.display().to_string();
            out.json(&Left { schema: 1, r#type: "skipped", path, format })?;
        }
    }
    for text in &found.notes {
        note(text, json, out)?;
    }
    if found.folders > 0 && !found.images.is_empty() {
        let folders =
            if found.folders == 1 { "1 folder".to_owned() } else { format!("{} folders", found.folders) };
        note(&format!("{folders} in it not searched: -r does"), json, out)?;
    }
    Ok(())
}

/// Says something about a folder on standard error, and where results are JSON among them, too.
pub(crate) fn note(text: &str, json: bool, out: &mut Output) -> Result<(), Failure> {
    out.say(format_args!("note: {}", printable(text)));
    if json { out.json(&Note { schema: 1, r#type: "note", text }) } else { Ok(()) }
}

/// Names a file that cannot be read on standard error, and where results are JSON among them, too.
pub(crate) fn print_refused(
    (path, reason): (&Path, &str),
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let name = path.display().to_string();
    let word = out.message_paint.apply(Style::Red, "error:");
    print_message(format_args!("{word} {}: {}", printable(&name), printable(reason)));
    if json {
        out.json(&Unreadable { schema: 1, r#type: "error", path: name, error: reason })
    } else {
        Ok(())
    }
}

/// Why a folder gives no images.
fn nothing_in(found: &FolderImages, recursive: bool) -> &'static str {
    if found.folders > 0 && !recursive {
        "no images directly in this folder; -r searches the folders in it too"
    } else if found.undecoded.is_empty() {
        "no images in this folder"
    } else {
        "no images in this folder that can be read"
    }
}

/// An image file as the network's pixels, or what is wrong with it.
pub(crate) fn decode(path: &Path, decoder: &Decoder) -> Result<Prepared, String> {
    let bytes = read(path).map_err(|error| error.to_string())?;
    let refused = |error: DecodeError| match paths::no_image(path, &bytes) {
        Some(what) => what.to_owned(),
        None => chain(&error),
    };
    decoder.prepare(&bytes).map_err(refused)
}

/// The bytes of a file, or of standard input for `-`; one more than the decoder takes is enough to be refused.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let limit = DecodeLimits::default().max_bytes + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
