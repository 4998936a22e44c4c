//! `ocelli bench`: how fast this machine is, by whole networks and by single kernels.

mod common;
mod kernels;
mod net;

use crate::failure::Failure;
use crate::output::Output;

/// Time one network on random images, or every kernel
///
/// A training step is forward pass, loss, backward pass and Adam's update on a resident batch; an inference step is
/// one forward pass. `ocelli bench kernels` measures single kernels instead.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    net: net::Args,
}

/// What is timed instead of a network.
#[derive(Debug, clap::Subcommand)]
enum Part {
    Kernels(kernels::Args),
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    match args.part {
        Some(Part::Kernels(args)) => kernels::run(args, out),
        None => net::run(args.net, out),
    }
}
