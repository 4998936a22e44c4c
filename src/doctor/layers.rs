//! A model's layers by the engine beside 64-bit arithmetic.

use std::path::{Path, PathBuf};

use ocelli_common::text::printable;
use ocelli_pipeline::{Compute, LayerReport, PipelineError, check_probes, compare_layers, open_model};
use serde::Serialize;

use super::check::{Check, Verdict};
use crate::failure::Failure;
use crate::output::Output;

/// Both forms of convolution on one model.
#[derive(Serialize)]
pub(super) struct Comparison {
    path: PathBuf,
    isa: &'static str,
    images: usize,
    /// Whether the images are those that the file holds; made up otherwise.
    probes: bool,
    /// Why the file's own probe images are not answered as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_error: Option<String>,
    forms: [Form; 2],
}

/// One form of convolution.
#[derive(Serialize)]
struct Form {
    name: &'static str,
    /// The first layer that differs by more than rounding explains.
    first_wrong: Option<String>,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    shape: [usize; 3],
    /// The largest magnitude in 64-bit arithmetic.
    largest: f64,
    /// The largest distance from it; null where a value is no number.
    difference: f64,
    /// The distance as a part of the largest magnitude.
    relative: f64,
    /// The largest distance as a part of what rounding explains.
    part_of_bound: f64,
}

impl Form {
    fn new(name: &'static str, report: &LayerReport) -> Form {
        let layers = report.layers.iter().map(|layer| Layer {
            name: layer.layer.clone(),
            shape: layer.shape,
            largest: layer.largest,
            difference: layer.difference,
            relative: layer.relative(),
            part_of_bound: layer.part_of_bound,
        });
        Form {
            name,
            first_wrong: report.first_wrong().map(|layer| layer.layer.clone()),
            layers: layers.collect(),
        }
    }

    fn check(&self, isa: &str) -> Check {
        if let Some(wrong) = &self.first_wrong {
            let detail = format!(
                "layer {wrong} is the first that differs from 64-bit arithmetic by more than rounding explains ({isa})"
            );
            return Check::new(self.name, Verdict::Failed, detail);
        }
        let largest = self.layers.iter().map(|layer| layer.part_of_bound).fold(0.0, f64::max);
        let count = self.layers.len();
        let percent = 100.0 * largest;
        let detail = format!(
            "{count} layers agree with 64-bit arithmetic: at most {percent:.1} % of what rounding explains ({isa})"
        );
        Check::new(self.name, Verdict::Ok, detail)
    }
}

impl Comparison {
    /// Compares the model at `path`.
    pub(super) fn of(path: &Path) -> Result<Comparison, Failure> {
        let file = open_model(path)?;
        let probe_error = match check_probes(&file, Compute::default()) {
            Ok(()) => None,
            Err(error @ PipelineError::Probe { .. }) => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        let direct = compare_layers(&file, Compute { exact: true, ..Compute::default() })?;
        let default = compare_layers(&file, Compute::default())?;
        Ok(Comparison {
            path: path.to_owned(),
            isa: direct.isa,
            images: direct.images,
            probes: direct.probes,
            probe_error,
            forms: [Form::new("direct form", &direct), Form::new("default form", &default)],
        })
    }

    /// One check for each form, and one for the answers that the file holds.
    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks: Vec<Check> = self.forms.iter().map(|form| form.check(self.isa)).collect();
        checks.extend(
            self.probe_error.as_ref().map(|error| Check::new("probe images", Verdict::Failed, error)),
        );
        checks
    }

    /// A row for each layer.
    pub(super) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        let images = if self.probes { "probe images of the file" } else { "made-up images" };
        let path = self.path.display().to_string();
        out.line(format_args!(""))?;
        out.line(format_args!(
            "{}: {} {images}, largest difference from 64-bit arithmetic",
            printable(&path),
            self.images
        ))?;
        let [direct, default] = &self.forms;
        let width = direct.layers.iter().map(|layer| layer.name.chars().count()).max().unwrap_or(0).max(5);
        out.line(format_args!(
            "{:<width$}  {:>14}  {:>9}  {:>9} {:>9} {:>7}  {:>9} {:>9} {:>7}",
            "layer", "shape", "largest", "direct", "relative", "bound", "default", "relative", "bound"
        ))?;
        for (a, b) in direct.layers.iter().zip(&default.layers) {
            let shape = a.shape.map(|side| side.to_string()).join("x");
            out.line(format_args!(
                "{:<width$}  {shape:>14}  {:>9.2e}  {:>9.2e} {:>9.2e} {:>5.1} %  {:>9.2e} {:>9.2e} {:>5.1} %",
                printable(&a.name),
                a.largest,
                a.difference,
                a.relative,
                100.0 * a.part_of_bound,
                b.difference,
                b.relative,
                100.0 * b.part_of_bound
            ))?;
        }
        Ok(())
    }
}
