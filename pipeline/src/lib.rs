//! From images to a model that predicts: training runs, evaluation, prediction, and the data folder of a service.
//!
//! ```
//! use ocelli_pipeline::{Compute, Predictor};
//!
//! // `Predictor::open(path, ..)` takes a model file or a run folder; this model comes with the crate.
//! let mut predictor = Predictor::shipped(Compute::on(1))?;
//! let image = include_bytes!("../tests/fixtures/sneaker.png");
//! let prediction = predictor.predict_bytes(image, 3)?;
//! assert_eq!(prediction.label, "Sneaker");
//! assert_eq!(prediction.top.len(), 3);
//! # Ok::<(), ocelli_pipeline::PipelineError>(())
//! ```
//!
//! `examples/train_folder.rs` trains on a folder of photos in some lines.
//!
//! This crate joins the two that know nothing of each other: `ocelli_datasets` turns files into pixels, `ocelli_engine`
//! turns pixels into logits. Command line and server stand on it and see the same code paths:
//!
//! * [`train()`] takes a [`Recipe`] and [`Data`], makes a run folder `NAME-NNN` and fills it epoch by epoch. Every file in
//!   it is replaced as a whole, so a run that is killed at any moment can go on by [`resume()`], to the same bits as if
//!   nothing had happened.
//! * [`job::run_job`] does both for a process that trains and does nothing else.
//! * [`evaluate()`] measures a model file on labelled images. Classes are matched by name.
//! * [`explain`] makes heat maps of what in an image speaks for a class.
//! * [`Predictor`] answers for single images and batches. Its [`Decoder`] half can be cloned to other threads.
//!
//! Preprocessing lives in the model file. Training, evaluation and prediction decode, resize, normalise and rank through
//! the same functions, and the engine gives an image the same logits in any batch: `evaluate` and `predict` agree image by
//! image.
//!
//! Results depend on recipe, seed, data, instruction set, [`Compute::exact`] and [`Recipe::chunk`], never on threads or time. Progress is told through
//! [`Event`]s, to a closure and to the run's `events.jsonl`; nothing here prints.
#![forbid(unsafe_code)]

mod add_classes;
mod added;
mod answering;
mod balance;
mod batch;
mod built_in;
mod card;
mod charts;
mod compute;
mod csv;
mod data;
mod dry_run;
mod embed;
mod environment;
mod error;
mod evaluate;
mod event;
mod exchange;
pub mod explain;
mod features;
mod feed;
mod findings;
mod folds;
mod gate;
mod html;
mod input;
pub mod inspect;
pub mod job;
mod label_files;
mod labels;
mod lr_find;
mod machine;
mod mcnemar;
mod memory;
mod metrics;
mod mirror;
mod mixing;
mod network_file;
mod order;
mod packed;
pub mod pool;
mod predict;
mod preparation;
mod probability;
mod probes;
mod progress;
mod progressive;
mod quantize;
mod ranks;
mod recipe;
mod replay;
mod report_files;
mod resume;
mod run;
mod run_folder;
mod run_labels;
mod run_ranks;
mod run_report;
mod schedule;
pub mod store;
#[cfg(test)]
mod tests;
mod time_budget;
mod train;
mod train_options;
mod transfer;
mod unknown;
mod verify;

pub use add_classes::{ADDING_SETTINGS, Parent, add_classes};
pub use added::{AddedClasses, ClassImages, OldClasses, ParentName};
pub use built_in::{BUILT_IN, BuiltIn, default_model, open_model, shipped_model};
pub use compute::Compute;
pub use data::Data;
pub use dry_run::{DryRun, LayerSummary, Timing, dry_run};
pub use embed::{Duplicates, Embeddings, LabelSuspect, MAX_PAIRS, Neighbour, Pair};
pub use error::{Need, PipelineError};
pub use evaluate::{ClassChange, Comparison, EvaluateOptions, Flip, Side, compare, evaluate};
pub use event::{Event, Observe};
pub use exchange::{
    ExportReport, ImportReport, ImportSettings, MAX_IMPORT_BYTES, Normalization, Source, export_model,
    import_model, label_list, read_labels,
};
pub use folds::{
    CrossOutcome, CrossValidation, FoldReport, Spread, Suspect, cross_validate, is_cross_validation,
    resume_cross_validation,
};
pub use gate::{Candidate, ClassVerdict, Compared, Gate, GateMode, Question, QuestionSet, Rules, Verdict};
pub use labels::{LabelEvaluation, LabelMean, LabelMistake, LabelReport, LabelRow, evaluate_labels};
pub use lr_find::{LrFind, LrPoint};
pub use machine::memory_share;
pub use memory::MemoryEstimate;
pub use metrics::{
    Calibration, CalibrationBin, ClassReport, Confusion, Evaluation, Mistake, PredictionFilter,
    PredictionRow, Rejections, SkippedImage, Uncalibrated, read_predictions,
};
pub use network_file::{MAX_NETWORK_TEXT, NetworkFile, is_network_file, network_text};
pub use packed::{PACKED, Program, is_packed, packed_model, running_program};
pub use predict::{Answered, Ask, Decoder, LabelAnswer, Prediction, Predictor, Ranked};
pub use probes::{LayerReport, check_probes, compare_layers};
pub use quantize::{Both, QuantizeOptions, QuantizeReport, quantize};
pub use ranks::{Failed, Launched, Ranks, Settings as RankSettings, launched};
pub use recipe::{
    Balance, Decay, Normalize, Norms, Numbers, OptimizerKind, Origins, Quality, Recipe, Schedule, Start, Task,
};
pub use resume::{resume, resume_within};
pub use run::Outcome;
pub use run_folder::write_atomic;
pub use train::{lr_find, train};
pub use train_options::{ResumeTo, StartClasses, StartModel, TrainOptions, Within, cache_folder};
pub use verify::{FirstDifference, Recorded, Verification, WeightDifference, verify};

/// Photos of hands in class folders, a ZIP (Turkey Ankara Ayranci Anadolu High School, Apache-2.0).
pub use ocelli_datasets::SIGN_DIGITS as SAMPLE_PHOTOS;
pub use ocelli_datasets::names::same_class;
pub use ocelli_datasets::{
    AugmentLevel, DatasetError, DecodeError, DecodeLimits, Fit, MAX_THUMBNAIL_SIDE, Pixels, Prepared, Split,
    UploadLimits, file_format,
};
pub use ocelli_engine::Pool;
pub use ocelli_engine::model_file::{
    Imported, LabelQuality, Metrics, ModelFile, ModelMeta, MultiLabel, Origin, Rejection, RejectionScore,
    Trained, version_id,
};
