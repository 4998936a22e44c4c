//! What a file says beside its graph: classes, size and preprocessing.

use ocelli_common::preprocessing::{Fit, Preprocessing};
use ocelli_engine::model_file::{MAX_CLASS_NAME_BYTES, MAX_CLASSES};

use super::schema::ModelView;

/// Key of the class names, a list in JSON.
pub(super) const CLASSES: &str = "ocelli.classes";
/// Key of the preprocessing in JSON.
pub(super) const PREPROCESSING: &str = "ocelli.preprocessing";
/// Key of what logits are divided by before they become probabilities.
pub(super) const TEMPERATURE: &str = "ocelli.temperature";
/// Key of how many classes an image has, and its text for any number of them; one where it is left out.
pub(super) const LABELS: &str = "ocelli.labels";
pub(super) const SEVERAL: &str = "several";
/// Key of the probabilities from which an image has each of several classes, a list in JSON.
pub(super) const THRESHOLDS: &str = "ocelli.thresholds";
/// Key of the class names as Ultralytics writes them: a dictionary of Python.
pub(super) const NAMES: &str = "names";
/// Key of height and width as Ultralytics writes them: a list.
pub(super) const SIZE: &str = "imgsz";

/// Means and deviations of channels.
pub(super) type MeanStd = (Vec<f32>, Vec<f32>);

/// What was found.
#[derive(Default)]
pub(super) struct Metadata {
    pub(super) labels: Option<Vec<String>>,
    pub(super) mean_std: Option<MeanStd>,
    pub(super) fit: Option<Fit>,
    /// Positive and finite.
    pub(super) temperature: Option<f32>,
    /// Whether an image may have several classes.
    pub(super) several: bool,
    /// One for each class, in `0..=1`; as many as the file says, which may be another number than there are classes.
    pub(super) thresholds: Option<Vec<f32>>,
    /// Height and width.
    pub(super) size: Option<[i64; 2]>,
}

impl Metadata {
    pub(super) fn read(model: &ModelView<'_>) -> Self {
        let labels = model.metadata(CLASSES).and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
        let labels = labels.or_else(|| model.metadata(NAMES).and_then(python_names));
        let is_name = |name: &String| !name.is_empty() && name.len() <= MAX_CLASS_NAME_BYTES;
        let labels = labels.filter(|labels| labels.len() <= MAX_CLASSES && labels.iter().all(is_name));
        let size = model.metadata(SIZE).and_then(|text| serde_json::from_str::<[i64; 2]>(text).ok());
        let several = model.metadata(LABELS) == Some(SEVERAL);
        let temperature = model.metadata(TEMPERATURE).and_then(|text| text.parse::<f32>().ok());
        let temperature = temperature.filter(|temperature| temperature.is_finite() && *temperature > 0.0);
        let thresholds =
            model.metadata(THRESHOLDS).and_then(|text| serde_json::from_str::<Vec<f32>>(text).ok());
        let thresholds = thresholds.filter(|all| all.iter().all(|one| (0.0..=1.0).contains(one)));
        let mut metadata = Metadata { labels, temperature, several, thresholds, size, ..Metadata::default() };
        let preprocessing = model.metadata(PREPROCESSING);
        let preprocessing = preprocessing.and_then(|text| serde_json::from_str::<Preprocessing>(text).ok());
        if let Some(own) = preprocessing.filter(|own| own.check().is_ok()) {
            metadata.size = Some([own.height, own.width].map(i64::from));
            metadata.fit = Some(own.fit);
            metadata.mean_std = Some((own.mean, own.std));
        }
        metadata
    }
}

/// Class names of a dictionary of Python, `{0: 'cat', 1: "cat's"}`, with the numbers from 0 in their order.
fn python_names(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (number, after) = rest.split_once(':')?;
        if number.trim().parse() != Ok(names.len()) || names.len() >= MAX_CLASSES {
            return None;
        }
        let after = after.trim_start();
        let quote = after.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut name = String::new();
        let mut chars = after[1..].char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => name.push(chars.next()?.1),
                (at, c) if c == quote => break at,
                (_, c) => name.push(c),
            }
        };
        names.push(name);
        rest = after[1 + end + 1..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    (!names.is_empty()).then_some(names)
}

/// A dictionary of Python with these names.
pub(super) fn python_dictionary(names: &[String]) -> String {
    let escaped = |name: &String| name.replace('\\', "\\\\").replace('\'', "\\'");
    let entries = names.iter().enumerate().map(|(index, name)| format!("{index}: '{}'", escaped(name)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

/// Means and deviations of pixels of 0..=1 for a scale and shift of the input at the start of a graph, with a note where it
/// follows from the numbers alone what pixels are. `None` where they are left as a layer: it normalises what is no pixel.
pub(super) fn pixel_rule(scale: &[f32], shift: &[f32], is_bytes: bool) -> Option<(MeanStd, Option<String>)> {
    if !scale.iter().all(|&s| s.is_normal() && s > 0.0) {
        return None;
    }
    // A deviation of pixels of 0..=255 is above 20, one of 0..=1 below 1. Between them lies what normalises images that
    // are normalised already.
    let is_wide = is_bytes || scale.iter().all(|&s| s < 0.05);
    if !is_wide && !scale.iter().all(|&s| s >= 1.0) {
        return None;
    }
    let unit = if is_wide { 255.0 } else { 1.0 };
    let mean = scale.iter().zip(shift).map(|(scale, shift)| -shift / scale / unit).collect();
    let std = scale.iter().map(|scale| 1.0 / scale / unit).collect();
    let note = (!is_bytes).then(|| {
        let range = if is_wide { "0 to 255" } else { "0 to 1" };
        format!("the graph normalises pixels of {range}: this is part of the preprocessing now, not of the network")
    });
    Some(((mean, std), note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_python_are_read() {
        let names = python_names(r#"{0: 'tench', 1: "cat's", 2: 'a\'b, c: d'}"#).unwrap();
        assert_eq!(names, ["tench", "cat's", "a'b, c: d"]);
        assert_eq!(python_names(&python_dictionary(&names)).unwrap(), names);
        assert!(
            python_names("{1: 'a'}").is_none()
                && python_names("[]").is_none()
                && python_names("{0: 'a").is_none()
        );
    }

    #[test]
    fn scales_of_pixels_become_preprocessing() {
        let ((mean, std), note) = pixel_rule(&[1.0 / 127.5], &[-1.0], false).unwrap();
        assert!((mean[0] - 0.5).abs() < 1e-6 && (std[0] - 0.5).abs() < 1e-6 && note.is_some());
        let ((mean, _), _) = pixel_rule(&[4.0], &[-2.0], false).unwrap();
        assert_eq!(mean, [0.5]);
        assert!(
            pixel_rule(&[0.458], &[-0.03], false).is_none() && pixel_rule(&[-1.0], &[0.0], false).is_none()
        );
    }
}
