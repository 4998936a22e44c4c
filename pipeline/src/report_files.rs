//! The files that show an evaluation: of a run, or in a folder of their own.

use std::fs;
use std::path::Path;

use crate::charts;
use crate::error::PipelineError;
use crate::metrics::Evaluation;
use crate::run_folder::write_atomic;

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
            ("worst_mistakes.svg", charts::worst_mistakes(name, self)),
            // Last: in a run folder its presence says that the run is finished.
            ("evaluation.json", self.to_json()),
        ];
        files.iter().try_for_each(|(file, text)| write_atomic(&folder.join(file), text.as_bytes()))
    }

    fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values with text keys") + "\n"
    }
}
