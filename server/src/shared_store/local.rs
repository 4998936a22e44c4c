//! What publishing and following need of the models of this service.

use std::path::PathBuf;

use ocelli_pipeline::ModelFile;
use ocelli_pipeline::store::{Actor, Name, VersionRecord};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::http::problem::Problem;

/// Which versions of a model answer. Versions are the first 12 hexadecimal digits of their content's SHA-256.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Labels {
    /// The one that serves.
    pub(crate) stable: Option<String>,
    /// One that serves a part of the requests.
    pub(crate) canary: Option<Canary>,
    /// One that is asked as well, and whose answers nobody gets.
    pub(crate) shadow: Option<String>,
}

/// See [`Labels`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Canary {
    pub(crate) version: String,
    /// Percent of the requests, 1 to 99.
    pub(crate) share: u8,
}

impl Labels {
    /// The versions with a label, each once, the one that serves first.
    pub(crate) fn versions(&self) -> Vec<&str> {
        let canary = self.canary.as_ref().map(|canary| canary.version.as_str());
        let mut all = Vec::new();
        for version in [self.stable.as_deref(), canary, self.shadow.as_deref()].into_iter().flatten() {
            if !all.contains(&version) {
                all.push(version);
            }
        }
        all
    }
}

/// The models of this service. All of it but [`LocalModels::changed`] may wait for a disk, and adding a version takes the
/// time of a load: not for threads that serve connections.
pub(crate) trait LocalModels: Send + Sync {
    fn names(&self) -> Vec<Name>;

    /// Whether requests that name no model are for this one.
    fn is_default(&self, name: &Name) -> bool;

    fn labels(&self, name: &Name) -> Result<Labels, Problem>;

    /// Adds a version that gives its stored answers, and warms it up. One that is there already is made whole.
    fn add(&self, name: &Name, file: ModelFile, by: &Actor) -> Result<VersionRecord, Problem>;

    /// Gives versions their labels; requests that began with the old ones end with them.
    fn set_labels(&self, name: &Name, labels: &Labels, by: &Actor) -> Result<(), Problem>;

    /// The file of a version.
    fn file(&self, name: &Name, version: &str) -> Result<PathBuf, Problem>;

    /// Counts the changes of versions and labels.
    fn changed(&self) -> watch::Receiver<u64>;
}
