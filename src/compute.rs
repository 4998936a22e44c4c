//! The arguments of every command that computes with a model: threads and the form of convolutions.

use std::path::Path;

use ocelli_engine::{DotIsa, Exec, Isa, Precision};
use ocelli_pipeline::Compute;

use crate::failure::Failure;
use crate::output::Output;

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
        Compute { threads, exact, ..Compute::default() }
    }
}

/// The argument of every command that answers with a model.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct PrecisionSetting {
    /// Numbers to compute with: f32, bf16, or int8 with a model that `ocelli quantize` made scales for; auto is bf16 where the
    /// processor has AMX, else f32
    #[arg(long, env = "OCELLI_PRECISION", value_name = "auto|f32|bf16|int8", default_value = "auto", value_parser = parse_precision)]
    precision: Precision,
}

/// Says where int8 gains nothing.
pub(crate) fn warn_without_unit(is_native: bool, out: &Output) {
    if !is_native {
        out.warn(
            "this processor has no instructions for products of bytes: int8 is not faster than f32 here",
        );
    }
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    // What benchmarks of several programs call the choice of each.
    let name = if text == "native" { "auto" } else { text };
    Precision::by_name(name).ok_or_else(|| format!("choose one of {}", Precision::NAMES.join(", ")))
}

impl PrecisionSetting {
    /// The numbers that it means on an instruction set.
    pub(crate) fn on(self, isa: Isa) -> Precision {
        self.precision.resolve(isa)
    }

    /// How to compute with it.
    ///
    /// # Errors
    /// For a forced instruction set that is not there.
    pub(crate) fn compute(self, settings: Settings) -> Result<Compute, Failure> {
        Ok(Compute { precision: self.on(Isa::best()?), ..settings.into() })
    }

    /// Refuses int8 for a model that has no scales for it, and says so where this processor has no unit for bytes.
    pub(crate) fn check(self, has_scales: bool, model: Option<&Path>, out: &Output) -> Result<(), Failure> {
        if self.precision != Precision::Int8 {
            return Ok(());
        }
        if !has_scales {
            let model =
                model.map_or("the model in this program".to_owned(), |path| path.display().to_string());
            return Err(Failure::usage(
                format!("{model} has no int8 scales"),
                "`ocelli quantize MODEL DATA` makes them; --precision f32 needs none",
            ));
        }
        warn_without_unit(DotIsa::of(Exec::new(1)?.isa).is_native(), out);
        Ok(())
    }
}
