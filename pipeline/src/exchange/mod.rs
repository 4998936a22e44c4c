//! Models of other programs: what a person has to say beside the file, and whether an export answers as the model does.

mod export;
mod import;
mod labels;
mod pictures;
#[cfg(test)]
mod tests;

pub use export::{ExportReport, export_model};
pub use import::{ImportReport, ImportSettings, MAX_IMPORT_BYTES, Normalization, Source, import_model};
pub use labels::{label_list, read_labels};
