//! The arguments of every command that computes with a model: threads and the form of convolutions.

use ocelli_engine::Precision;
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

/// The argument of every command that answers with a model.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct PrecisionSetting {
    /// Numbers to compute with: f32, or int8 with a model that `ocelli quantize` made scales for; auto is f32
    #[arg(long, env = "OCELLI_PRECISION", value_name = "auto|f32|int8", default_value = "auto", value_parser = parse_precision)]
    precision: Precision,
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    Precision::by_name(text).ok_or_else(|| format!("choose one of {}", Precision::NAMES.join(", ")))
}

impl From<PrecisionSetting> for Precision {
    fn from(setting: PrecisionSetting) -> Self {
        setting.precision
    }
}
