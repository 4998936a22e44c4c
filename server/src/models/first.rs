//! The version of a model that answers after a start, or after it was unloaded.

use ocelli_common::text::chain;
use ocelli_pipeline::store::{Actor, NewVersion, StoreError, Versions};
use ocelli_pipeline::{ModelFile, PipelineError, version_id};
use serde::Serialize;

use crate::error::ServerError;
use crate::models::serving::Serving;

/// See the module.
pub(crate) struct First {
    pub(crate) serving: Serving,
    pub(crate) stand_in: Option<StandIn>,
}

impl First {
    /// The only version there is.
    pub(crate) fn only(serving: Serving) -> First {
        First { serving, stand_in: None }
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

/// Adds a model that somebody gave to its versions; gives the version.
pub(crate) fn add_seed(versions: &Versions, seed: ModelFile) -> Result<String, ServerError> {
    // What only a resumed run needs is no part of a version.
    let seed = ModelFile { training: None, ..seed };
    let version = version_id(&seed.content_hash().map_err(PipelineError::from)?);
    let known = versions.get(&version).is_ok_and(|known| known.damaged.is_none());
    if !known {
        versions.add(&seed, &NewVersion::default())?;
    }
    Ok(version)
}

/// The version that a data folder serves, and what it stands in for. `added` serves where nothing does yet, or else the
/// newest version.
///
/// A version that cannot serve is passed over for the one that served before: an old model is better than none. What is
/// to serve stays so, and serves again once it can.
pub(crate) fn choose(
    versions: &Versions,
    added: Option<String>,
    start: impl Fn(ModelFile) -> Result<Serving, ServerError>,
) -> Result<First, ServerError> {
    let mut candidates = versions.history()?;
    let wanted = candidates.first().cloned();
    candidates.extend(added);
    if candidates.is_empty() {
        candidates.extend(versions.list()?.pop().map(|newest| newest.version));
    }
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
                return Ok(First { serving, stand_in });
            }
            // The other versions are not smaller, and this one is not at fault.
            Err(error @ (ServerError::NoRoom { .. } | ServerError::Thread(_))) => return Err(error),
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
