//! The command line as clap sees it, and clap's errors in our form.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::output::{self, ColorChoice};
use crate::{
    bench, clean, completions, demo, doctor, embed, evaluate, explain, export, flood, import, inspect, job,
    lr_find, predict, quantize, serve, similar, store, train, verify,
};

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate was missed (evaluate --min-accuracy,
inspect --strict, quantize --max-drop, verify, flood --max-p99, flood --abuse), 130 interrupted.
Results go to standard output, everything else to standard error.

Start here:
  ocelli demo                       train on the built-in images, then open a server
  ocelli train photos/              photos/cats/*.jpg, photos/dogs/*.jpg, ...
  ocelli predict -m runs/photos-001 new.jpg";

/// Image classification on CPUs: train, evaluate, predict and serve from one binary.
#[derive(Debug, Parser)]
#[command(name = "ocelli", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Colours on the terminal
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Say less: results, warnings and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Train(Box<train::Args>),
    Verify(verify::Args),
    LrFind(Box<lr_find::Args>),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    Explain(explain::Args),
    Inspect(inspect::Args),
    Quantize(quantize::Args),
    Import(Box<import::Args>),
    Export(export::Args),
    Embed(embed::Args),
    Similar(similar::Args),
    Serve(Box<serve::Args>),
    Store(store::Args),
    #[command(hide = true)]
    Job(job::Args),
    Bench(bench::Args),
    Flood(Box<flood::Args>),
    Clean(clean::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

/// The parsed command line, or the exit code where there is nothing more to do.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that closed the pipe has seen enough.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let (message, mut hints) = one_line(&error.render().to_string());
            hints.push(help_hint(std::env::args_os().skip(1)));
            output::print_error(&message, &hints);
            ExitCode::from(2)
        }
    })
}

/// Clap's paragraph as our one line of what is wrong, and its tips of what to do.
fn one_line(rendered: &str) -> (String, Vec<String>) {
    let (mut message, mut hints) = (Vec::new(), Vec::new());
    // Usage comes last, on one line for each form of the command; our hint says where to find it.
    let lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage: "));
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")) {
        match line.strip_prefix("tip: ") {
            Some(tip) => hints.push(tip.to_owned()),
            None => message.push(line.strip_prefix("error: ").unwrap_or(line)),
        }
    }
    (message.join(" "), hints)
}

/// Where the help for these arguments is.
fn help_hint(args: impl Iterator<Item = OsString>) -> String {
    let program = Cli::command();
    let (mut command, mut name) = (&program, String::new());
    for arg in args {
        if let Some(part) = command.find_subcommand(arg) {
            name = format!("{name} {}", part.get_name());
            command = part;
        }
    }
    match name.as_str() {
        "" => "`ocelli --help` lists the commands".to_owned(),
        name => format!("`ocelli{name} --help` lists what it takes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(args: &[&str]) -> (String, Vec<String>) {
        one_line(&Cli::try_parse_from(args).unwrap_err().render().to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_are_one_line_with_hints() {
        let (message, hints) = error_of(&["ocelli", "train", "--epoch", "3"]);
        assert_eq!(message, "unexpected argument '--epoch' found");
        assert!(hints[0].contains("'--epochs'"), "{hints:?}");

        let (message, hints) = error_of(&["ocelli", "evalute"]);
        assert_eq!(message, "unrecognized subcommand 'evalute'");
        assert!(hints[0].contains("'evaluate'"), "{hints:?}");

        let (message, hints) = error_of(&["ocelli", "train", "--optimizer", "adamq"]);
        assert!(message.contains("[possible values: sgd, adam, adamw, muon]"), "{message}");
        assert!(hints[0].contains("'adamw'") || hints[0].contains("'adam'"), "{hints:?}");

        let (message, _) = error_of(&["ocelli", "evaluate"]);
        assert!(message.contains("<MODEL>") && !message.contains('\n'), "{message}");

        let (message, _) = error_of(&["ocelli", "bench", "--batch", "2", "kernels"]);
        assert_eq!(message, "the subcommand 'kernels' cannot be used with '--batch <N>'");
    }

    #[test]
    fn the_help_that_is_named_fits_the_command() {
        let hint = |args: &[&str]| help_hint(args.iter().map(OsString::from));
        assert_eq!(hint(&["-q", "train", "--x"]), "`ocelli train --help` lists what it takes");
        assert_eq!(hint(&["bench", "kernels", "--x"]), "`ocelli bench kernels --help` lists what it takes");
        assert_eq!(hint(&["trian"]), "`ocelli --help` lists the commands");
    }
}
