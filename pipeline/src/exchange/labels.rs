//! Lists of class names as other programs write them.

use std::fs;
use std::path::Path;

use ocelli_engine::model_file::MAX_CLASSES;
use serde_json::Value;

use crate::error::PipelineError;

/// Largest file of class names in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a file of class names, see [`label_list`].
///
/// # Errors
/// [`PipelineError::Io`]; [`PipelineError::LabelList`] for a file that is no list of names.
pub fn read_labels(path: &Path) -> Result<Vec<String>, PipelineError> {
    let wrong = |reason: String| PipelineError::LabelList { path: path.to_owned(), reason };
    let bytes = fs::metadata(path).map_err(PipelineError::io(path))?.len();
    if bytes > MAX_BYTES {
        return Err(wrong(format!("{bytes} bytes are more than {MAX_BYTES}")));
    }
    let text = fs::read(path).map_err(PipelineError::io(path))?;
    let text = String::from_utf8(text).map_err(|_| wrong("it is not text in UTF-8".to_owned()))?;
    label_list(&text).map_err(wrong)
}

/// Class names in the order of a network's outputs: a line each, which may begin with its number (`0 cat`, as Teachable Machine
/// writes them), a JSON list, or a JSON object from numbers to names (`id2label`) or from names to numbers
/// (`class_indices`), by itself or in one of those fields.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn label_list(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let names = match text.trim_start().starts_with(['[', '{']) {
        true => {
            let value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
            of_json(&value)?
        }
        false => of_lines(text),
    };
    if names.is_empty() || names.len() > MAX_CLASSES {
        return Err(format!("{} names are not 1 to {MAX_CLASSES}", names.len()));
    }
    Ok(names)
}

fn of_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // A number before a name is left out where every line has its own.
    let numbered = |(number, line): (usize, &&str)| {
        let (first, rest) = line.split_once([' ', '\t', ',', ':'])?;
        (first.parse() == Ok(number)).then(|| rest.trim().to_owned()).filter(|rest| !rest.is_empty())
    };
    let named: Option<Vec<String>> = lines.iter().enumerate().map(numbered).collect();
    named.unwrap_or_else(|| lines.into_iter().map(str::to_owned).collect())
}

fn of_json(value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(names) => {
            let names: Option<Vec<String>> = names.iter().map(text).collect();
            names.ok_or_else(|| "not all of its elements are names".to_owned())
        }
        Value::Object(fields) => {
            for field in ["id2label", "class_indices", "class_names", "classes", "labels", "names"] {
                if let Some(inner @ (Value::Array(_) | Value::Object(_))) = fields.get(field) {
                    return of_json(inner);
                }
            }
            let pair = |(key, value): (&String, &Value)| match value {
                Value::String(name) => Some((key.parse().ok()?, name.clone())),
                Value::Number(number) => Some((usize::try_from(number.as_u64()?).ok()?, key.clone())),
                _ => None,
            };
            let pairs: Option<Vec<(usize, String)>> = fields.iter().map(pair).collect();
            let mut pairs = pairs.ok_or("it maps neither numbers to names nor names to numbers")?;
            pairs.sort();
            match pairs.iter().enumerate().find(|(number, pair)| pair.0 != *number) {
                Some((number, _)) => Err(format!("class {number} has no name, or more than one")),
                None => Ok(pairs.into_iter().map(|pair| pair.1).collect()),
            }
        }
        _ => Err("it is neither a list nor an object".to_owned()),
    }
}
