//! One image, one model version, one label.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::client::connection::Fault;

/// Model versions that are remembered; each further one makes room for itself by forgetting all.
const MAX_VERSIONS: usize = 64;

/// Labels that were seen, of all connections and levels.
#[derive(Default)]
pub(crate) struct LabelCheck(Mutex<HashMap<String, HashMap<usize, String>>>);

#[derive(Deserialize)]
struct Answer {
    predictions: Vec<Prediction>,
    model: Model,
}

#[derive(Deserialize)]
struct Prediction {
    label: String,
}

#[derive(Deserialize)]
struct Model {
    version: String,
}

impl LabelCheck {
    /// Compares the labels of an answer with those of all before it.
    pub(crate) fn compare(&self, images: &[usize], body: &[u8]) -> Result<(), Fault> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|error| Fault::new("bad answer", format!("not a prediction: {error}")))?;
        let Answer { predictions, model: Model { version } } = answer;
        if predictions.len() != images.len() {
            let text = format!("{} predictions for {} images", predictions.len(), images.len());
            return Err(Fault::new("bad answer", text));
        }
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.len() >= MAX_VERSIONS && !versions.contains_key(&version) {
            versions.clear();
        }
        let known = versions.entry(version).or_default();
        for (&image, Prediction { label }) in images.iter().zip(predictions) {
            let before = known.entry(image).or_insert_with(|| label.clone());
            if *before != label {
                let text = format!("image {} was {before:?} before and is {label:?} now", image + 1);
                return Err(Fault::new("label changed", text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(version: &str, labels: &[&str]) -> Vec<u8> {
        let predictions: Vec<_> = labels.iter().map(|label| serde_json::json!({ "label": label })).collect();
        serde_json::json!({ "predictions": predictions, "model": { "version": version } }).to_string().into()
    }

    #[test]
    fn a_label_may_change_with_the_model_alone() {
        let check = LabelCheck::default();
        let kind = |images: &[usize], body: &[u8]| match check.compare(images, body) {
            Ok(()) => "ok".to_owned(),
            Err(fault) => fault.kind.into_owned(),
        };
        assert_eq!(kind(&[0, 1], &body("a", &["cat", "dog"])), "ok");
        assert_eq!(kind(&[1, 0], &body("a", &["dog", "cat"])), "ok");
        assert_eq!(kind(&[0], &body("b", &["dog"])), "ok");
        assert_eq!(kind(&[0], &body("a", &["dog"])), "label changed");
        assert_eq!(kind(&[0, 0], &body("c", &["cat", "dog"])), "label changed");
        assert_eq!(kind(&[0, 1], &body("a", &["cat"])), "bad answer");
        assert_eq!(kind(&[0], b"{}"), "bad answer");
    }

    #[test]
    fn versions_without_end_do_not_fill_the_memory() {
        let check = LabelCheck::default();
        for i in 0..1000 {
            check.compare(&[0], &body(&i.to_string(), &["cat"])).unwrap();
        }
        assert!(check.0.lock().unwrap().len() <= MAX_VERSIONS);
    }
}
