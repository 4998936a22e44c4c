//! `ocelli completions`: scripts that teach a shell our commands.

use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::Output;

/// Print a completion script for a shell
///
/// For bash: ocelli completions bash > ~/.local/share/bash-completion/completions/ocelli
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: Args, mut commands: clap::Command, out: &mut Output) -> Result<(), Failure> {
    // Into memory first: the generator panics where a write fails, and pipes get closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut commands, "ocelli", &mut script);
    out.bytes(&script)
}
