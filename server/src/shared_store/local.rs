//! What publishing and following need of the models of this service, and the two that have it: the catalog of a service,
//! and the data folder of a replica that has no model to serve yet.

use std::path::PathBuf;
use std::sync::Arc;

use ocelli_common::text::chain;
use ocelli_pipeline::store::{Actor, Name, NewVersion, Store, VersionLabels, VersionRecord};
use ocelli_pipeline::{Compute, ModelFile, Predictor};
use tokio::sync::watch;

use crate::http::problem::Problem;
use crate::models::catalog::Catalog;

/// The versions with a label, each once, the one that serves first.
pub(crate) fn labelled(labels: &VersionLabels) -> Vec<&str> {
    let canary = labels.canary.as_ref().map(|canary| canary.version.as_str());
    let mut all = Vec::new();
    for version in [labels.stable.as_deref(), canary, labels.shadow.as_deref()].into_iter().flatten() {
        if !all.contains(&version) {
            all.push(version);
        }
    }
    all
}

/// The models of this service. All of it but [`LocalModels::changed`] may wait for a disk, and adding a version takes the
/// time of a load: not for threads that serve connections.
pub(crate) trait LocalModels: Send + Sync {
    fn names(&self) -> Vec<Name>;

    /// Whether requests that name no model are for this one.
    fn is_default(&self, name: &Name) -> bool;

    fn labels(&self, name: &Name) -> Result<VersionLabels, Problem>;

    /// Adds a version that gives its stored answers, and warms it up. One that is there already is made whole.
    fn add(&self, name: &Name, file: ModelFile, by: &Actor) -> Result<VersionRecord, Problem>;

    /// Gives versions their labels; requests that began with the old ones end with them.
    fn set_labels(&self, name: &Name, labels: &VersionLabels, by: &Actor) -> Result<(), Problem>;

    /// The file of a version.
    fn file(&self, name: &Name, version: &str) -> Result<PathBuf, Problem>;

    /// Counts the changes of versions and labels.
    fn changed(&self) -> watch::Receiver<u64>;
}

impl LocalModels for Catalog {
    fn names(&self) -> Vec<Name> {
        self.all().iter().filter_map(|model| model.name().parse().ok()).collect()
    }

    fn is_default(&self, name: &Name) -> bool {
        self.default().name() == name.as_str()
    }

    /// What should answer, which is not what does where that cannot be loaded.
    fn labels(&self, name: &Name) -> Result<VersionLabels, Problem> {
        let model = self.asked(Some(name.as_str()))?;
        let labels = model.versions()?.labels()?;
        Ok(if labels.stable.is_some() { labels } else { model.labels() })
    }

    fn add(&self, name: &Name, file: ModelFile, by: &Actor) -> Result<VersionRecord, Problem> {
        Catalog::add(self, name, file, by)
    }

    fn set_labels(&self, name: &Name, labels: &VersionLabels, by: &Actor) -> Result<(), Problem> {
        Catalog::set_labels(self, name, labels, by)?;
        // A replica has no jobs, which see to this elsewhere.
        if let Err(problem) = self.asked(Some(name.as_str()))?.prune(&[]) {
            tracing::warn!(model = %name, "old versions cannot be deleted: {problem}");
        }
        Ok(())
    }

    fn file(&self, name: &Name, version: &str) -> Result<PathBuf, Problem> {
        Catalog::file(self, name, version)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changes()
    }
}

/// The data folder of a replica that does not serve yet.
pub(crate) struct Cache {
    pub(crate) store: Arc<Store>,
    pub(crate) compute: Compute,
}

impl LocalModels for Cache {
    fn names(&self) -> Vec<Name> {
        self.store.models().unwrap_or_default()
    }

    fn is_default(&self, name: &Name) -> bool {
        self.store.default_model().is_ok_and(|default| default.as_ref() == Some(name))
    }

    fn labels(&self, name: &Name) -> Result<VersionLabels, Problem> {
        if !self.names().contains(name) {
            return Err(Problem::NotFound("there is no such model".to_owned()));
        }
        Ok(self.store.versions(name)?.labels()?)
    }

    fn add(&self, name: &Name, file: ModelFile, _: &Actor) -> Result<VersionRecord, Problem> {
        let file = ModelFile { training: None, ..file };
        // Its probes; it is loaded again by the service.
        Predictor::with_batch(file.clone(), self.compute, 1)
            .map_err(|error| Problem::Refused(chain(&error)))?;
        Ok(self.store.versions(name)?.add(&file, &NewVersion::default())?)
    }

    fn set_labels(&self, name: &Name, labels: &VersionLabels, by: &Actor) -> Result<(), Problem> {
        let versions = self.store.versions(name)?;
        if let Some(stable) = &labels.stable {
            versions.promote(stable, by)?;
        }
        versions.set_canary(labels.canary.as_ref(), by)?;
        Ok(versions.set_shadow(labels.shadow.as_deref(), by)?)
    }

    fn file(&self, name: &Name, version: &str) -> Result<PathBuf, Problem> {
        Ok(self.store.versions(name)?.file(version)?)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        // Nothing but the follower changes it.
        watch::channel(0).1
    }
}
