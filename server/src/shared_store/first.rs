//! A replica that has no model yet: it follows into its data folder until that has one.

use std::path::PathBuf;
use std::sync::Arc;

use ocelli_common::text::chain;
use ocelli_pipeline::Compute;
use ocelli_pipeline::store::{Name, Store, StoreError};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::access::Access;
use crate::blocking::blocking;
use crate::config::Config;
use crate::error::ServerError;
use crate::http::problem::Problem;
use crate::shared_status::{Role, Status};
use crate::shared_store::follow::Follower;
use crate::shared_store::local::{Cache, LocalModels};
use crate::shared_store::objects::{ObjectError, Objects};
use crate::waiting;

/// A replica before it serves.
pub struct Replica {
    /// Where the shared store is; see [`Sharing`](crate::Sharing).
    pub address: String,
    /// The folder for its copy, which is free while this works.
    pub data_dir: PathBuf,
    /// The model that is asked where a request names none; the writer's where none is said.
    pub default: Option<Name>,
    /// What models compute on.
    pub compute: Compute,
    /// Its limits.
    pub config: Config,
}

impl Replica {
    /// Waits until the data folder has a model to serve, and gives the name of the default one. Until then the socket says
    /// that the process lives and is not ready. With `mend` the store is looked at in any case, after a pause: what the
    /// folder has could not be served.
    ///
    /// # Errors
    /// [`ServerError::SharedStore`] for an address that cannot be opened, [`ServerError::Store`] for a folder that cannot.
    pub async fn first_model(
        &self,
        listener: &TcpListener,
        access: &Access,
        mend: bool,
    ) -> Result<Name, ServerError> {
        self.config.validate()?;
        waiting::serve_until(listener, access, &self.config, self.wait(mend)).await
    }

    async fn wait(&self, mend: bool) -> Result<Name, ServerError> {
        let refused = |error: ObjectError| ServerError::SharedStore { reason: error.to_string() };
        let objects = Objects::open(&self.address).map_err(refused)?;
        let address = objects.address().to_owned();
        let folder = self.data_dir.clone();
        let opened = blocking(move || Ok(Store::open(&folder))).await;
        let store = Arc::new(opened.unwrap_or(Err(StoreError::Stopped))?);
        let cache = Arc::new(Cache { store, compute: self.compute });
        let status = Arc::new(Status::new(Role::Replica, &address));
        let limit = self.config.max_model_bytes;
        let mut follower = Follower::new(objects, cache.clone(), status, limit, &self.data_dir);
        if mend {
            sleep(self.config.poll_interval).await;
            follower.look().await;
        }
        let mut looks = 0;
        loop {
            if let Some(name) = self.default_of(&cache, &follower).await {
                return Ok(name);
            }
            if looks == 1 {
                tracing::warn!(store = %address, "this replica waits for a first model in its shared store");
            }
            if looks > 0 {
                sleep(self.config.poll_interval).await;
            }
            follower.look().await;
            looks += 1;
        }
    }

    /// The model to serve by default, once it is there: the one that was named, the writer's, the one of the last time, or
    /// the only one.
    async fn default_of(&self, cache: &Arc<Cache>, follower: &Follower) -> Option<Name> {
        let (cache, named, of_writer) = (cache.clone(), self.default.clone(), follower.default());
        let choose = move || {
            let serves = |name: &Name| cache.labels(name).is_ok_and(|labels| labels.stable.is_some());
            if let Some(name) = named {
                return Ok(serves(&name).then_some(name));
            }
            let of_last_time = cache.store.default_model().unwrap_or_else(|error| {
                tracing::warn!("the data folder cannot be read: {}", chain(&error));
                None
            });
            let all = cache.names().into_iter();
            Ok::<_, Problem>(of_writer.into_iter().chain(of_last_time).chain(all).find(serves))
        };
        blocking(choose).await.ok().flatten()
    }
}
