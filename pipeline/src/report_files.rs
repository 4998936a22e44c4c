//! The files that show an evaluation: of a run, or in a folder of their own.

use std::fs;
use std::path::Path;

use crate::charts::{self, Picture};
use crate::error::PipelineError;
use crate::metrics::{Evaluation, Mistake};
use crate::run_folder::write_atomic;
use ocelli_common::svg::shorten;
use ocelli_common::text::printable;

/// Characters of the class that an image is taken for, below its picture.
const MAX_PREDICTED: usize = 15;

impl Evaluation {
    /// Writes `evaluation.json`, the tables (CSV) and the drawings (SVG) into a folder, which is made where it is missing.
    /// `name` is what the drawings call the model. Files of an earlier evaluation are replaced.
    ///
    /// # Errors
    /// [`PipelineError::Io`].
    pub fn write_into(&self, folder: &Path, name: &str) -> Result<(), PipelineError> {
        fs::create_dir_all(folder).map_err(PipelineError::io(folder))?;
        let files = [
            ("confusion_matrix.csv", self.confusion_csv()),
            ("confusion_matrix.svg", charts::confusion_matrix(name, self)),
            ("per_class.csv", self.per_class_csv()),
            ("predictions.csv", self.predictions_csv()),
            ("reliability.svg", charts::reliability(name, self)),
            ("worst_mistakes.svg", charts::worst_mistakes(name, &self.split, &self.pictures())),
            // Last: in a run folder its presence says that the run is finished.
            ("evaluation.json", self.to_json()),
        ];
        files.iter().try_for_each(|(file, text)| write_atomic(&folder.join(file), text.as_bytes()))
    }

    /// The worst mistakes as they are drawn.
    pub(crate) fn pictures(&self) -> Vec<Picture<'_>> {
        let mut pictures = Vec::with_capacity(self.worst.len());
        for Mistake { row, png } in &self.worst {
            let percent = 100.0 * row.probability;
            let said = format!("{} {percent:.0} %", shorten(&printable(&row.predicted), MAX_PREDICTED));
            pictures.push(Picture { name: &row.name, png, label: &row.label, said });
        }
        pictures
    }

    fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values with text keys") + "\n"
    }
}
