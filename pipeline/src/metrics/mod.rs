//! From logits to the numbers of a report.

mod calibration;
mod evaluation;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use calibration::fit_temperature;
pub use calibration::{Calibration, CalibrationBin, Uncalibrated};
pub use evaluation::{ClassReport, Confusion, Evaluation, Mistake, PredictionRow, Rejections, SkippedImage};
pub(crate) use tally::{Tally, check_classes, ranking};
