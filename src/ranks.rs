//! Training by the processes of a launcher such as `mpirun`: who prints, and how all come to one end.

use ocelli_pipeline::{Observe, Outcome, PipelineError, RankSettings, Ranks, launched};

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::{self, Output};
use crate::view::View;

/// Settings of training by several processes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct RankArgs {
    /// Under mpirun or srun: how long a process may be silent before all are ended, e.g. 300s or 10m
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = crate::seconds::parse_seconds)]
    rank_timeout: u32,
    /// Sum gradients behind the backward pass and not during it, to measure what that hides
    #[arg(long, hide = true)]
    no_overlap: bool,
    /// Tell the loss of every step, as events of the type step_loss
    #[arg(long)]
    pub(crate) log_steps: bool,
}

impl RankArgs {
    /// Joins the other processes, where a launcher started several.
    pub(crate) fn join(self) -> Result<Ranks, Failure> {
        let timeout = std::time::Duration::from_secs(self.rank_timeout.max(1).into());
        let failed = |text: &str| {
            output::print_message(format_args!("error: {text}"));
            output::print_message(AGAIN);
        };
        let settings = RankSettings { timeout, overlap: !self.no_overlap };
        let joined = Ranks::join(settings, Box::new(failed));
        joined
            .map_err(|text| Failure::failed(text, "docs/scaling.md says how several machines train together"))
    }
}

/// What to do where a job has ended early.
const AGAIN: &str =
    "hint:  all processes end; the last finished epoch is saved: start the job again with --resume RUN_DIR";

/// Refuses what one process does, where a launcher started several.
pub(crate) fn refuse(what: &str) -> Result<(), Failure> {
    match launched().filter(|launched| launched.size > 1) {
        Some(launched) => Err(Failure::usage(
            format!("{what} is done by one process, and {} started {}", launched.by, launched.size),
            "start it without the launcher",
        )),
        None => Ok(()),
    }
}

/// A failure before the processes have joined, with the number of the one that has it.
pub(crate) fn named(failure: Failure) -> Failure {
    let Some(launched) = launched().filter(|launched| launched.size > 1) else { return failure };
    let name =
        |message: Message| Message { text: format!("rank {}: {}", launched.rank, message.text), ..message };
    match failure {
        Failure::Usage(message) => Failure::Usage(name(message)),
        Failure::Failed(message) => Failure::Failed(name(message)),
        other => other,
    }
}

/// Does the work and shows what it tells, on the first rank. A rank that fails where the others do not know ends the job;
/// others take leave of each other.
pub(crate) fn watch(
    ranks: &Ranks,
    (interrupt, view): (&Interrupt, View),
    out: &mut Output,
    work: impl FnOnce(Observe<'_>) -> Result<Outcome, PipelineError>,
) -> Result<Result<Outcome, PipelineError>, Failure> {
    let result = if ranks.is_first() { view.watch(interrupt, out, work)? } else { work(&mut |_| ()) };
    if ranks.size() == 1 {
        return Ok(result);
    }
    match result {
        Err(error) if !error.is_common() => {
            let mut failure = Failure::from(error);
            if let Failure::Usage(message) | Failure::Failed(message) = &mut failure {
                message.text = format!("{}: {}", ranks.name(), message.text);
            }
            out.failure(&failure);
            output::print_message(AGAIN);
            ranks.abort();
            Err(Failure::Failed(Message::default()))
        }
        result => {
            ranks.close();
            // The first rank tells how it ended; a launcher that sees another one fail would end it before it does.
            if ranks.is_first() { Ok(result) } else { Err(Failure::Closed) }
        }
    }
}
