//! The version that a service begins with.

use ocelli_common::text::chain;
use ocelli_pipeline::store::{Actor, NewVersion, StoreError, Versions};
use ocelli_pipeline::{ModelFile, PipelineError, version_id};
use serde::Serialize;

use crate::error::ServerError;
use crate::model::serving::Serving;

/// See the module.
pub(crate) struct First {
    pub(crate) serving: Serving,
    pub(crate) stand_in: Option<StandIn>,
    /// Where versions are kept; none in a service without a data folder.
    pub(crate) versions: Option<Versions>,
}

impl First {
    /// One version without a data folder.
    pub(crate) fn only(serving: Serving) -> First {
        First { serving, stand_in: None, versions: None }
    }
}

/// Another version serves than the one that should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub(crate) struct StandIn {
    /// The version that should serve.
    pub(crate) wanted: String,
    /// Why it cannot.
    pub(crate) reason: String,
}

/// The version that a data folder serves, and what it stands in for. `seed` becomes a version, and serves where nothing does
/// yet.
///
/// A version that cannot serve is passed over for the one that served before: an old model is better than none. What is
/// to serve stays so, and serves again once it can.
pub(crate) fn choose(
    versions: Versions,
    seed: Option<ModelFile>,
    start: impl Fn(ModelFile) -> Result<Serving, ServerError>,
) -> Result<First, ServerError> {
    let mut added = None;
    if let Some(seed) = seed {
        // What only a resumed run needs is no part of a version.
        let seed = ModelFile { training: None, ..seed };
        let version = version_id(&seed.content_hash().map_err(PipelineError::from)?);
        let known = versions.get(&version).is_ok_and(|known| known.damaged.is_none());
        if !known {
            versions.add(&seed, &NewVersion::default())?;
        }
        added = Some(version);
    }
    let mut candidates = versions.history()?;
    let wanted = candidates.first().cloned();
    candidates.extend(added.clone());
    let mut stand_in = None;
    let mut failure = None;
    for version in candidates {
        let served = versions.load(&version).map_err(ServerError::from).and_then(|file| {
            start(file).inspect_err(|error| {
                if let ServerError::WarmUp(reason) = error {
                    // The failure is told in any case.
                    let _ = versions.set_damaged(&version, Some(&chain(reason)));
                }
            })
        });
        match served {
            Ok(serving) => {
                if wanted.is_none() {
                    versions.promote(&version, &Actor::service("start"))?;
                }
                return Ok(First { serving, stand_in, versions: Some(versions) });
            }
            Err(error) => {
                tracing::error!(%version, "cannot serve: {}", chain(&error));
                if stand_in.is_none() {
                    let reason = match &error {
                        ServerError::Store(StoreError::Damaged { reason, .. }) => reason.clone(),
                        error => chain(error),
                    };
                    stand_in = Some(StandIn { wanted: version, reason });
                }
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.unwrap_or(ServerError::NoModel))
}
