//! Reading `predictions.csv` of a run back: the images behind a number of its report.

use std::fs::File;
use std::path::Path;

use super::evaluation::PredictionRow;
use crate::error::PipelineError;

/// Largest file that is read: ten million images of short names.
const MAX_BYTES: u64 = 1 << 30;

/// Which rows of the predictions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PredictionFilter {
    /// Only images of this class.
    pub label: Option<String>,
    /// Only images that are taken for this class.
    pub predicted: Option<String>,
    /// Only images that are taken for another class than theirs.
    pub wrong: bool,
}

impl PredictionFilter {
    fn takes(&self, row: &PredictionRow) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.label, &row.label)
            && same(&self.predicted, &row.predicted)
            && !(self.wrong && row.label == row.predicted)
    }
}

/// The rows of `predictions.csv` in a run folder that a filter takes, in the file's order. The columns `name`, `label`,
/// `predicted`, `probability` and `loss` are read, wherever they stand.
///
/// # Errors
/// [`PipelineError::Io`] where there is no such file or it cannot be read, [`PipelineError::Run`] for one that is no table
/// of predictions of one class an image.
pub fn read_predictions(run: &Path, filter: &PredictionFilter) -> Result<Vec<PredictionRow>, PipelineError> {
    let path = run.join("predictions.csv");
    let bad = |reason: String| PipelineError::run(&path, reason);
    let file = File::open(&path).map_err(PipelineError::io(&path))?;
    let bytes = file.metadata().map_err(PipelineError::io(&path))?.len();
    if bytes > MAX_BYTES {
        return Err(bad(format!("{bytes} bytes; at most {MAX_BYTES} are read")));
    }
    let mut reader = ::csv::Reader::from_reader(file);
    let header = reader.headers().map_err(|error| bad(error.to_string()))?;
    let column = |name: &str| header.iter().position(|own| own == name);
    let columns = ["name", "label", "predicted", "probability", "loss"].map(column);
    let [Some(name), Some(label), Some(predicted), Some(probability), Some(loss)] = columns else {
        return Err(bad("no predictions of one class an image".to_owned()));
    };
    let mut rows = Vec::new();
    for (record, line) in reader.records().zip(2..) {
        let record = record.map_err(|error| bad(error.to_string()))?;
        let text = |at: usize| record.get(at).unwrap_or_default().to_owned();
        let number = |at: usize| {
            text(at).parse::<f32>().map_err(|_| bad(format!("row {line}: {:?} is not a number", text(at))))
        };
        let row = PredictionRow {
            name: text(name),
            label: text(label),
            predicted: text(predicted),
            probability: number(probability)?,
            loss: number(loss)?,
        };
        if filter.takes(&row) {
            rows.push(row);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TABLE: &str = "name,label,predicted,probability,correct,loss\n\
        \"a,1.png\",cat,cat,0.9,true,0.1\n2.png,cat,\"dog \"\"x\"\"\",0.6,false,2\n3.png,\"dog \"\"x\"\"\",cat,0.5,false,1.5\n";

    fn read(text: &str, filter: PredictionFilter) -> Result<Vec<String>, String> {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join("predictions.csv"), text).unwrap();
        let rows = read_predictions(run.path(), &filter).map_err(|error| error.to_string())?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    #[test]
    fn rows_are_filtered_by_label_prediction_and_mistake() {
        let class = |name: &str| Some(name.to_owned());
        let all = PredictionFilter::default();
        assert_eq!(read(TABLE, all.clone()).unwrap(), ["a,1.png", "2.png", "3.png"]);
        let wrong = PredictionFilter { wrong: true, ..all.clone() };
        assert_eq!(read(TABLE, wrong).unwrap(), ["2.png", "3.png"]);
        let cell = PredictionFilter { label: class("cat"), predicted: class("dog \"x\""), wrong: false };
        assert_eq!(read(TABLE, cell).unwrap(), ["2.png"]);
        let none = PredictionFilter { label: class("fox"), ..all };
        assert!(read(TABLE, none).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_table_of_predictions_is_refused() {
        let all = PredictionFilter::default;
        assert!(read("name,cat,dog\nx,0,1\n", all()).unwrap_err().contains("no predictions"));
        assert!(read(&TABLE.replace("0.6", "much"), all()).unwrap_err().contains("row 3: \"much\""));
        assert!(read(&format!("{TABLE}4.png,cat\n"), all()).is_err());
        let run = tempfile::tempdir().unwrap();
        assert!(matches!(read_predictions(run.path(), &all()), Err(PipelineError::Io { .. })));
    }
}
