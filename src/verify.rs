//! `ocelli verify`: a run again, and whether it comes to the same bits.

use std::path::PathBuf;

use ocelli_common::text::thousands;
use ocelli_pipeline::{PipelineError, Recorded, Verification, verify};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;

/// Train a finished run again and compare the bits of its weights
///
/// Takes the recipe and the data that the run recorded, trains in a temporary folder, and compares the best weights.
/// Results depend on recipe, data, program and instruction set, never on threads. Exit code 0: the same bits; 3: they
/// differ, and what is known of the reason is said.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run's folder
    run: PathBuf,
    /// The model that the run started from, where it started from one that is not in this program; the one that it added
    /// classes to, where that is not at its place any more
    #[arg(long, value_name = "MODEL")]
    start: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    run: String,
    #[serde(flatten)]
    verification: &'a Verification,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(out, false);
    let result = verify(&args.run, args.start.as_deref(), &interrupt.stop, &mut |event| {
        if !args.json {
            progress.show(event, out);
        }
    });
    progress.finish();
    let verification = match result {
        Err(PipelineError::Stopped) => {
            let message =
                Message { text: "verification stopped; nothing is left of it".to_owned(), hint: None };
            return Err(Failure::Interrupted { signal: interrupt.signal(), message });
        }
        result => result?,
    };
    if args.json {
        let run = args.run.display().to_string();
        out.json(&Record { schema: 1, r#type: "verification", run, verification: &verification })?;
    } else {
        describe(&verification, out)?;
    }
    if verification.same {
        return Ok(());
    }
    let text = match verification.data.differs() {
        true => "the data set is not the one that the run was trained on",
        false => "the repetition came to other weights",
    };
    Err(Failure::Gate(Message { text: text.to_owned(), hint: None }))
}

fn describe(found: &Verification, out: &mut Output) -> Result<(), Failure> {
    let pairs = [("data", &found.data), ("version", &found.version), ("instructions", &found.isa)];
    for (what, pair) in pairs {
        out.line(line(what, pair))?;
    }
    if let Some(first) = &found.first_difference {
        out.line(format_args!(
            "{:<13} differs from epoch {} on: {} {:?}, now {:?}",
            "course", first.epoch, first.column, first.recorded, first.found
        ))?;
    }
    if let Some(weights) = &found.weights {
        out.line(format_args!(
            "{:<13} {} of {} numbers differ, by {:e} at most (in {})",
            "weights",
            thousands(weights.differing as u64),
            thousands(weights.numbers as u64),
            weights.largest,
            weights.tensor
        ))?;
    }
    for note in &found.notes {
        out.line(format_args!("{:<13} {note}", "note"))?;
    }
    if found.same { out.line("the same bits") } else { Ok(()) }
}

fn line(what: &str, pair: &Recorded) -> String {
    match &pair.recorded {
        None => format!("{what:<13} {} (the run did not record it)", pair.found),
        Some(recorded) if pair.differs() => format!("{what:<13} {recorded}, now {}", pair.found),
        Some(recorded) => format!("{what:<13} {recorded}, as recorded"),
    }
}
