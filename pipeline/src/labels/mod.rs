//! Images with any number of labels: scores of answers, thresholds, reports.

mod average_precision;
mod evaluate;
mod evaluation;
mod measure;
mod scores;
mod thresholds;

pub use evaluate::evaluate_labels;
pub(crate) use evaluate::evaluated;
pub use evaluation::{LabelEvaluation, LabelMean, LabelMistake, LabelReport, LabelRow};
pub(crate) use measure::{ask, report};
pub(crate) use thresholds::{
    DEFAULT as DEFAULT_THRESHOLD, LEAST_POSITIVES, choose as choose_thresholds, without_own,
};
