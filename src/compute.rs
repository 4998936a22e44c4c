//! The arguments of every command that computes with a model: threads and the form of convolutions.

use ocelli_pipeline::Compute;

/// How to compute.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Settings {
    /// Threads, 0 for all cores
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Only direct convolutions: no Winograd transforms, whose rounding errors are about twice as large
    #[arg(long)]
    exact: bool,
}

impl From<Settings> for Compute {
    fn from(Settings { threads, exact }: Settings) -> Self {
        Compute { threads, exact }
    }
}
