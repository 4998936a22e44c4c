//! `ocelli pack`: one file with a model in it.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ocelli_common::atomic_file;
use ocelli_common::text::thousands;
use ocelli_engine::model_file::version_id;
use ocelli_pipeline::{Compute, ModelFile, PACKED, Predictor, Program, open_model, packed_model};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;

/// Make one program with a model inside
///
/// Writes a copy of this program that uses MODEL wherever no model is named: `./cats predict new.jpg`, `./cats serve`. Commands
/// that want a model by name have it as `packed`. The new program is run once and asked the model's own test images; a
/// program that does not give their answers is removed. A program with a model gets the new one in its place.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .ocelli file, a run folder, or a model in this program: imagenet, fashion-mnist
    #[arg(required_unless_present = "check")]
    model: Option<PathBuf>,
    /// Where the program goes
    #[arg(short, long, value_name = "FILE", required_unless_present = "check")]
    out: Option<PathBuf>,
    /// Read the model in this program and ask it its own test images, instead of writing
    #[arg(long, conflicts_with_all = ["model", "out"])]
    check: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    /// Version of the model in the program.
    version: &'a str,
    /// The program, and its bytes; absent for `--check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let (Some(model), Some(target)) = (args.model, args.out) else {
        return check(args.json, out);
    };
    let file = ModelFile { training: None, ..open_model(&model)? };
    let (model, version) = (file.to_bytes()?, version_id(&file.content_hash()?));
    let Some(mut program) = Program::running()? else {
        return Err(Failure::failed(
            "the system does not say which file this program is",
            "start it by its path, where /proc can be read",
        ));
    };
    let bytes = write(&mut program, &model, &target).map_err(|error| Failure::io(&target, &error))?;
    if let Err(failure) = ask(&target, &version) {
        // A program that was never right is no use to anybody.
        let _ = atomic_file::remove(&target);
        return Err(failure);
    }
    let written = target.display().to_string();
    if args.json {
        let record = Record {
            schema: 1,
            r#type: "pack",
            version: &version,
            written: Some(&written),
            bytes: Some(bytes),
        };
        return out.json(&record);
    }
    out.line(format_args!("model {version} packed into {written}, {} bytes", thousands(bytes)))?;
    let program =
        if target.is_absolute() || written.contains('/') { written } else { format!("./{written}") };
    out.say(format_args!("try it: {program} predict IMAGE..."));
    Ok(())
}

/// Answers the test images of the model in this program.
fn check(json: bool, out: &mut Output) -> Result<(), Failure> {
    let Some(file) = packed_model()? else {
        return Err(Failure::failed(
            "no model is packed into this program",
            "`ocelli pack MODEL --out FILE` writes one that has it",
        ));
    };
    let version = version_id(&file.content_hash()?);
    let asked = file.probes.as_ref().map_or(0, |probes| probes.images.len());
    Predictor::with_batch(file, Compute::default(), 1)?;
    if json {
        let record = Record { schema: 1, r#type: "pack", version: &version, written: None, bytes: None };
        return out.json(&record);
    }
    match asked {
        0 => out.line(format_args!("model {version}: whole")),
        _ => {
            out.line(format_args!("model {version}: whole, {asked} test images answered as when it was made"))
        }
    }
}

/// Writes the program with the model, so that anybody may run it.
fn write(program: &mut Program, model: &[u8], target: &Path) -> io::Result<u64> {
    atomic_file::write_with(target, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, &mut *file);
        let bytes = program.write_with(model, &mut out)?;
        out.flush()?;
        drop(out);
        make_executable(file)?;
        Ok(bytes)
    })
}

#[cfg(unix)]
fn make_executable(file: &File) -> io::Result<()> {
    file.set_permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &File) -> io::Result<()> {
    Ok(())
}

/// Runs the new program, which has to find this version of a model in itself.
fn ask(target: &Path, version: &str) -> Result<(), Failure> {
    let path = std::path::absolute(target).map_err(|error| Failure::io(target, &error))?;
    // Inherited, as the default is /dev/null, which a bare root folder lacks.
    let answer = Command::new(&path).args(["pack", "--check", "--json"]).stdin(Stdio::inherit()).output();
    let answer = answer.map_err(|error| {
        let text = format!("{} cannot be run: {error}", target.display());
        Failure::failed(text, "choose a folder from which programs may be run")
    })?;
    let said: Option<serde_json::Value> = serde_json::from_slice(&answer.stdout).ok();
    if answer.status.success() && said.is_some_and(|said| said["version"] == version) {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&answer.stderr);
    let reason = reason.lines().next().unwrap_or("it has another model");
    Err(Failure::failed(
        format!("the new program does not answer with its model, and was removed: {reason}"),
        format!(
            "`ocelli doctor` checks this machine; the model is asked for as `{PACKED}` in a packed program"
        ),
    ))
}
