//! Asking the shadow of a model what was asked of the version that answered.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::models::budget::Need;
use crate::models::classifier::Classifier;
use crate::models::model::Model;

/// A request for a shadow: its images and what was answered.
pub(crate) struct Answered {
    pub(crate) images: Vec<Bytes>,
    /// Holds the memory of the images.
    pub(crate) memory: OwnedSemaphorePermit,
    /// The likeliest class of each.
    pub(crate) labels: Vec<String>,
}

/// Asks the shadow of a model what was asked of another version, and counts whether it says the same. It is loaded where there
/// is room without anything else going.
pub(crate) async fn ask(
    classifier: Arc<Classifier>,
    model: Arc<Model>,
    version: String,
    (turn, answered): (OwnedSemaphorePermit, Answered),
) {
    let shadow = model.shadow();
    let Answered { images, memory, labels } = answered;
    let serving = match model.in_memory(&version) {
        Some(serving) => serving,
        None if !shadow.may_load() => return shadow.left_out(images.len()),
        None => {
            let (loader, name) = (model.clone(), version.clone());
            let load = tokio::task::spawn_blocking(move || loader.load(&name, Need::Free)).await;
            match load {
                Ok(Ok(serving)) => {
                    shadow.loaded(Ok(()));
                    serving
                }
                Ok(Err(problem)) => {
                    tracing::warn!(model = model.name(), %version, "the shadow cannot be loaded: {problem}");
                    return shadow.loaded(Err(problem.to_string()));
                }
                Err(_) => return shadow.loaded(Err("loading it failed inside the service".to_owned())),
            }
        }
    };
    let count = images.len();
    match classifier.classify_aside(turn.into(), &serving, (images, memory)).await {
        Ok(said) => shadow.count(&version, &labels, said.into_iter().map(|answer| answer.prediction.label)),
        Err(_) => shadow.failed(count),
    }
}
