//! From logits to the numbers of a report.

mod calibration;
mod evaluation;
mod predictions;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use calibration::fit_temperature;
pub use calibration::{Calibration, CalibrationBin, Uncalibrated};
pub use evaluation::{ClassReport, Confusion, Evaluation, Mistake, PredictionRow, Rejections, SkippedImage};
pub use predictions::{PredictionFilter, read_predictions};
pub(crate) use tally::{Answer as TallyAnswer, Tally, check_classes};
