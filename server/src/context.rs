//! What a handler gets: the request without its body, who sent it, and the parts of the service that it may use.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::http::request::Parts;
use ocelli_pipeline::store::Actor;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::backend::{Backend, Data};
use crate::config::Config;
use crate::http::body::{Buffered, RequestBody};
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::keys::Caller;
use crate::metrics::Metrics;
use crate::models::catalog::Catalog;
use crate::models::classifier::Classifier;
use crate::models::explaining::Explaining;
use crate::models::model::Model;
use crate::snapshot::Snapshot;
use crate::ticket::Ticket;

/// The `{parameters}` of a path, percent-decoded.
pub(crate) type Parameters<'r> = Vec<(&'static str, &'r str)>;

/// One request on its way through its handler.
pub(crate) struct Context<'r> {
    backend: &'r Backend,
    ticket: &'r Ticket,
    parts: &'r Parts,
    parameters: Parameters<'r>,
    caller: &'r Caller,
    has_keys: bool,
}

impl<'r> Context<'r> {
    /// A request that may use its endpoint.
    pub(crate) fn new(
        backend: &'r Backend,
        ticket: &'r Ticket,
        parts: &'r Parts,
        parameters: Parameters<'r>,
        (caller, has_keys): (&'r Caller, bool),
    ) -> Context<'r> {
        Context { backend, ticket, parts, parameters, caller, has_keys }
    }

    /// Who asks.
    pub(crate) fn caller(&self) -> &'r Caller {
        self.caller
    }

    /// Whether the service has keys.
    pub(crate) fn has_keys(&self) -> bool {
        self.has_keys
    }

    /// What the request holds: its id, and when it came.
    pub(crate) fn ticket(&self) -> &'r Ticket {
        self.ticket
    }

    pub(crate) fn headers(&self) -> &'r HeaderMap {
        &self.parts.headers
    }

    /// A parameter of the path; empty for a name that the path does not have.
    pub(crate) fn parameter(&self, name: &str) -> &'r str {
        self.parameters.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }

    /// The query string.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.parts.uri.query())
    }

    /// Refuses a query string, for an endpoint that takes none.
    pub(crate) fn no_query(&self) -> Result<(), Problem> {
        self.query()?.finish()
    }

    /// Who asks, for the audit log.
    pub(crate) fn actor(&self) -> Actor {
        Actor { scope: self.caller.scope.to_string(), key: self.caller.name.to_string() }
    }

    /// Reads the body into memory, within the limits.
    pub(crate) async fn read(&self, body: &mut RequestBody) -> Result<Buffered, Problem> {
        body.read(self.config(), &self.backend.body_memory).await
    }

    /// So many bytes of the memory for bodies, if they are free.
    pub(crate) fn more_memory(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        self.backend.body_memory.clone().try_acquire_many_owned(bytes).ok()
    }

    /// The limits of the service.
    pub(crate) fn config(&self) -> &'r Arc<Config> {
        &self.backend.config
    }

    /// All models.
    pub(crate) fn models(&self) -> &'r Arc<Catalog> {
        &self.backend.models
    }

    /// The model that a query names with `model`, or the default one.
    pub(crate) fn model(&self, query: &mut Query) -> Result<Arc<Model>, Problem> {
        self.models().asked(query.text("model")?.as_deref())
    }

    /// As [`Context::model`], for an endpoint that takes no other parameter.
    pub(crate) fn only_model(&self) -> Result<Arc<Model>, Problem> {
        let mut query = self.query()?;
        let model = self.model(&mut query)?;
        query.finish()?;
        Ok(model)
    }

    pub(crate) fn classifier(&self) -> &'r Arc<Classifier> {
        &self.backend.classifier
    }

    pub(crate) fn explaining(&self) -> &'r Explaining {
        &self.backend.explaining
    }

    /// The data folder and what works in it.
    pub(crate) fn data(&self) -> Result<&'r Data, Problem> {
        self.backend.data.as_ref().ok_or_else(Problem::no_data_folder)
    }

    /// Refuses what files images under one class each for a model that says any number of labels, as far as it is loaded; of
    /// one that is not, a job finds out.
    pub(crate) fn one_class_each(&self, model: &Model) -> Result<(), Problem> {
        if model.serving().is_none_or(|serving| serving.info.thresholds.is_none()) {
            return Ok(());
        }
        let reason = "the model that serves says any number of labels, and a service keeps and trains images of one class each: \
                      train with the program on a table of labels, then serve the new model";
        Err(Problem::Conflict(reason.to_owned()))
    }

    pub(crate) fn metrics(&self) -> &'r Metrics {
        &self.backend.metrics
    }

    /// The service at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::take(self.backend)
    }

    /// Whether new requests are wanted, or why not.
    pub(crate) fn readiness(&self) -> Result<(), Problem> {
        self.backend.readiness()
    }

    /// Becomes true when the service stops.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.backend.lifecycle.stopping()
    }

    /// The description of the service.
    pub(crate) fn openapi(&self) -> Bytes {
        self.backend.openapi.clone()
    }
}
