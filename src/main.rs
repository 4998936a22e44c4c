//! The command line of Ocelli: arguments, then a checked configuration, then the work, then one exit code.
#![forbid(unsafe_code)]

mod bench;
mod bytes;
mod clean;
mod cli;
mod comparison;
mod completions;
mod compute;
mod cross_validation;
mod demo;
mod doctor;
mod dry_run;
mod embed;
mod evaluate;
mod explain;
mod export;
mod failure;
mod flood;
mod image_files;
mod import;
mod inspect;
mod interrupt;
mod job;
mod label_report;
mod lr_find;
mod output;
mod paths;
mod predict;
mod progress;
mod quantize;
mod ranks;
mod report;
mod screen;
mod seconds;
mod serve;
mod similar;
mod store;
mod tensorboard;
mod train;
mod verify;
mod view;

use std::process::ExitCode;

use clap::CommandFactory;

use cli::{Cli, Command};
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let mut out = Output::new(cli.color, cli.quiet);
    let result = run(cli, &mut out).and_then(|()| out.flush());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli, out: &mut Output) -> Result<(), Failure> {
    match cli.command {
        Command::Train(args) => train::run(*args, out),
        Command::Verify(args) => verify::run(args, out),
        Command::LrFind(args) => lr_find::run(*args, out),
        Command::Evaluate(args) => evaluate::run(args, out),
        Command::Predict(args) => predict::run(args, out),
        Command::Explain(args) => explain::run(args, out),
        Command::Inspect(args) => inspect::run(args, out),
        Command::Quantize(args) => quantize::run(args, out),
        Command::Import(args) => import::run(*args, out),
        Command::Export(args) => export::run(args, out),
        Command::Embed(args) => embed::run(args, out),
        Command::Similar(args) => similar::run(args, out),
        Command::Serve(args) => serve::run(*args, out),
        Command::Store(args) => store::run(args, out),
        Command::Job(args) => job::run(args),
        Command::Bench(args) => bench::run(args, out),
        Command::Flood(args) => flood::run(*args, out),
        Command::Clean(args) => clean::run(&args, out),
        Command::Demo(args) => demo::run(args, out),
        Command::Doctor(args) => doctor::run(args, out),
        Command::Completions(args) => completions::run(args, Cli::command(), out),
    }
}
