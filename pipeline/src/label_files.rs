//! The files that show an evaluation of images with any number of labels: of a run, or in a folder of their own.

use std::fs;
use std::path::Path;

use crate::charts::{self, Picture};
use crate::error::PipelineError;
use crate::labels::LabelEvaluation;
use crate::run_folder::write_atomic;

impl LabelEvaluation {
    /// Writes `evaluation.json`, the tables (CSV) and the drawings (SVG) into a folder, which is made where it is missing.
    /// `name` is what the drawings call the model. Files of an earlier evaluation are replaced.
    ///
    /// # Errors
    /// [`PipelineError::Io`].
    pub fn write_into(&self, folder: &Path, name: &str) -> Result<(), PipelineError> {
        fs::create_dir_all(folder).map_err(PipelineError::io(folder))?;
        let joined =
            |labels: &[String]| if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        let texts: Vec<[String; 2]> =
            self.worst.iter().map(|m| [joined(&m.row.labels), joined(&m.row.predicted)]).collect();
        let pictures: Vec<Picture> = (self.worst.iter().zip(&texts))
            .map(|(m, [label, said])| Picture { name: &m.row.name, png: &m.png, label, said: said.clone() })
            .collect();
        let json = serde_json::to_string_pretty(self).expect("plain values with text keys") + "\n";
        let files = [
            ("average_precision.svg", charts::average_precisions(name, self)),
            ("per_label.csv", self.per_label_csv()),
            ("predictions.csv", self.predictions_csv()),
            ("worst_mistakes.svg", charts::worst_mistakes(name, &self.split, &pictures)),
            // Last: in a run folder its presence says that the run is finished.
            ("evaluation.json", json),
        ];
        files.iter().try_for_each(|(file, text)| write_atomic(&folder.join(file), text.as_bytes()))
    }
}
