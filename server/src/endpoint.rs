//! Every address the service answers, in one table: method, path, who may use it, and what it does.
//!
//! The router matches on the [`Endpoint`] that a request names, access control and metrics ask the same table, and
//! `/openapi.json` is written from it: a route without a scope, an effect or a description does not compile.

use hyper::Method;

use crate::problem::Problem;
use crate::scope::Scope;

/// What the table says about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Stable name, for OpenAPI and metrics.
    pub(crate) id: &'static str,
    pub(crate) method: Verb,
    /// Path with `{parameters}`.
    pub(crate) path: &'static str,
    pub(crate) scope: Scope,
    pub(crate) effect: Effect,
    pub(crate) summary: &'static str,
}

/// Whether an endpoint changes what the service keeps or which version serves: a service that is read-only has none
/// that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Changes,
}

/// The methods in use. `HEAD` is answered wherever `GET` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    const ALL: [Verb; 3] = [Verb::Get, Verb::Post, Verb::Delete];

    fn of(method: &Method) -> Option<Verb> {
        match *method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::POST => Some(Verb::Post),
            Method::DELETE => Some(Verb::Delete),
            _ => None,
        }
    }

    /// For an `Allow` header.
    fn methods(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }
}

macro_rules! endpoints {
    ($($(#[$doc:meta])* $variant:ident $(($($param:ident),+))?: $verb:ident [$($segment:pat),*],
       $id:literal, $path:literal, $scope:ident $effect:ident, $summary:literal;)*) => {
        /// An address with its parameters, percent-decoded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Endpoint<'p> {
            $($(#[$doc])* $variant $({ $($param: &'p str),+ })?,)*
        }

        impl<'p> Endpoint<'p> {
            fn lookup(verb: Verb, segments: &[&'p str]) -> Option<Endpoint<'p>> {
                match (verb, segments) {
                    $((Verb::$verb, [$($segment),*]) => Some(Endpoint::$variant $({ $($param),+ })?),)*
                    _ => None,
                }
            }

            /// What the table says about it.
            pub(crate) fn operation(&self) -> &'static Operation {
                match self {
                    $(Endpoint::$variant $({ $($param: _),+ })? => {
                        const OPERATION: Operation = Operation {
                            id: $id, method: Verb::$verb, path: $path, scope: Scope::$scope,
                            effect: Effect::$effect, summary: $summary,
                        };
                        &OPERATION
                    })*
                }
            }

            /// The whole table.
            pub(crate) const ALL: &'static [Operation] = &[$(Operation {
                id: $id, method: Verb::$verb, path: $path, scope: Scope::$scope,
                effect: Effect::$effect, summary: $summary,
            },)*];
        }
    };
}

endpoints! {
    Predict: Post ["predict"], "predict", "/predict", Predict Reads, "Label one or several images";
    UploadData: Post ["upload-data"], "uploadData", "/upload-data", Data Changes, "Add a ZIP of class folders to a data set";
    Retrain: Post ["retrain"], "retrain", "/retrain", Admin Changes, "Train a model on a data set, and serve it if it is no worse";
    Status: Get ["status"], "status", "/status", Predict Reads, "What is served, and how busy it is";
    Live: Get ["health", "live"], "healthLive", "/health/live", Public Reads, "Whether the process answers at all";
    Ready: Get ["health", "ready"], "healthReady", "/health/ready", Public Reads, "Whether new work is welcome";
    Metrics: Get ["metrics"], "metrics", "/metrics", Predict Reads, "Counters for Prometheus";
    OpenApi: Get ["openapi.json"], "openapi", "/openapi.json", Public Reads, "This description";
    Index: Get [""], "index", "/", Public Reads, "Leads to the description as a page";
    Docs: Get ["docs"], "docs", "/docs", Public Reads, "This description as a page";
    DocsFile(file): Get ["docs", file], "docsFile", "/docs/{file}", Public Reads, "Files of that page";

    Datasets: Get ["v1", "datasets"], "listDatasets", "/v1/datasets", Data Reads, "List the data sets";
    Dataset(name): Get ["v1", "datasets", name], "inspectDataset", "/v1/datasets/{name}", Data Reads, "Show the classes of a data set";
    DeleteDataset(name): Delete ["v1", "datasets", name], "deleteDataset", "/v1/datasets/{name}", Admin Changes, "Delete a data set";
    Images(name): Get ["v1", "datasets", name, "images"], "listImages", "/v1/datasets/{name}/images", Data Reads, "List the images of a data set";
    Image(name, id): Get ["v1", "datasets", name, "images", id], "getImage", "/v1/datasets/{name}/images/{id}", Data Reads, "Get an image";
    DeleteImage(name, id): Delete ["v1", "datasets", name, "images", id], "deleteImage", "/v1/datasets/{name}/images/{id}", Data Changes, "Delete an image";
    Thumbnail(name, id): Get ["v1", "datasets", name, "images", id, "thumbnail"], "getThumbnail", "/v1/datasets/{name}/images/{id}/thumbnail", Data Reads, "Get a small PNG of an image";

    Jobs: Get ["v1", "jobs"], "listJobs", "/v1/jobs", Predict Reads, "List the training jobs";
    Job(id): Get ["v1", "jobs", id], "showJob", "/v1/jobs/{id}", Predict Reads, "Show a job: state, progress, result";
    CancelJob(id): Delete ["v1", "jobs", id], "cancelJob", "/v1/jobs/{id}", Admin Changes, "Cancel a job";
    JobEvents(id): Get ["v1", "jobs", id, "events"], "jobEvents", "/v1/jobs/{id}/events", Predict Reads, "Follow a job as server-sent events";

    Models: Get ["v1", "models"], "listModels", "/v1/models", Predict Reads, "List the versions of the model";
    Rollback: Post ["v1", "models", "rollback"], "rollback", "/v1/models/rollback", Admin Changes, "Serve the version that served before";
    ModelVersion(version): Get ["v1", "models", version], "showModel", "/v1/models/{version}", Predict Reads, "Show a version of the model";
    DeleteModel(version): Delete ["v1", "models", version], "deleteModel", "/v1/models/{version}", Admin Changes, "Delete a version that does not serve";
    Evaluation(version): Get ["v1", "models", version, "evaluation"], "getEvaluation", "/v1/models/{version}/evaluation", Predict Reads, "Show how well a version does";
    ModelBytes(version): Get ["v1", "models", version, "file"], "downloadModel", "/v1/models/{version}/file", Data Reads, "Download a version as a model file";
    Promote(version): Post ["v1", "models", version, "promote"], "promote", "/v1/models/{version}/promote", Admin Changes, "Serve a version";

    Audit: Get ["v1", "audit"], "listAudit", "/v1/audit", Admin Reads, "Show who changed what, newest first";

    Feedback: Get ["v1", "feedback"], "listFeedback", "/v1/feedback", Data Reads, "List the corrected labels that wait for a review";
    AddFeedback: Post ["v1", "feedback"], "addFeedback", "/v1/feedback", Predict Changes, "Say what an image really shows";
    FeedbackImage(id): Get ["v1", "feedback", id, "image"], "getFeedbackImage", "/v1/feedback/{id}/image", Data Reads, "Get the image of a correction";
    ApproveFeedback(id): Post ["v1", "feedback", id, "approve"], "approveFeedback", "/v1/feedback/{id}/approve", Data Changes, "Take a correction into a data set";
    RejectFeedback(id): Delete ["v1", "feedback", id], "rejectFeedback", "/v1/feedback/{id}", Data Changes, "Drop a correction";
    V2Server: Get ["v2"], "v2Server", "/v2", Predict Reads, "Show the service and the extensions of the protocol it has";
    V2ServerSlash: Get ["v2", ""], "v2ServerSlash", "/v2/", Predict Reads, "The same, as the protocol's own description writes it";
    V2Live: Get ["v2", "health", "live"], "v2Live", "/v2/health/live", Public Reads, "Whether the process answers at all";
    V2Ready: Get ["v2", "health", "ready"], "v2Ready", "/v2/health/ready", Public Reads, "Whether new work is welcome";
    V2AllStatistics: Get ["v2", "models", "stats"], "v2AllStatistics", "/v2/models/stats", Predict Reads, "Count the work of the versions in memory";
    V2Model(model): Get ["v2", "models", model], "v2Model", "/v2/models/{model}", Predict Reads, "Show inputs and outputs of the model";
    V2Version(model, version): Get ["v2", "models", model, "versions", version], "v2Version", "/v2/models/{model}/versions/{version}", Predict Reads, "Show inputs and outputs of a version";
    V2ModelReady(model): Get ["v2", "models", model, "ready"], "v2ModelReady", "/v2/models/{model}/ready", Predict Reads, "Whether the model answers";
    V2VersionReady(model, version): Get ["v2", "models", model, "versions", version, "ready"], "v2VersionReady", "/v2/models/{model}/versions/{version}/ready", Predict Reads, "Whether a version answers";
    V2Config(model): Get ["v2", "models", model, "config"], "v2Config", "/v2/models/{model}/config", Predict Reads, "Show the configuration of the model";
    V2VersionConfig(model, version): Get ["v2", "models", model, "versions", version, "config"], "v2VersionConfig", "/v2/models/{model}/versions/{version}/config", Predict Reads, "Show the configuration of a version";
    V2Statistics(model): Get ["v2", "models", model, "stats"], "v2Statistics", "/v2/models/{model}/stats", Predict Reads, "Count the work of the versions in memory";
    V2VersionStatistics(model, version): Get ["v2", "models", model, "versions", version, "stats"], "v2VersionStatistics", "/v2/models/{model}/versions/{version}/stats", Predict Reads, "Count the work of a version";
    V2Infer(model): Post ["v2", "models", model, "infer"], "v2Infer", "/v2/models/{model}/infer", Predict Reads, "Classify a tensor of images";
    V2VersionInfer(model, version): Post ["v2", "models", model, "versions", version, "infer"], "v2VersionInfer", "/v2/models/{model}/versions/{version}/infer", Predict Reads, "Classify a tensor of images with a version";
    V2Index: Post ["v2", "repository", "index"], "v2Index", "/v2/repository/index", Predict Reads, "List the versions of the model";
    V2Load(model): Post ["v2", "repository", "models", model, "load"], "v2Load", "/v2/repository/models/{model}/load", Admin Changes, "Serve what the data folder says";
    V2Unload(model): Post ["v2", "repository", "models", model, "unload"], "v2Unload", "/v2/repository/models/{model}/unload", Admin Changes, "Refused: this service always serves its model";
}

impl<'p> Endpoint<'p> {
    /// The endpoint that a request names; `segments` are the decoded parts of its path.
    pub(crate) fn find(method: &Method, segments: &[&'p str]) -> Result<Endpoint<'p>, Problem> {
        if let Some(endpoint) = Verb::of(method).and_then(|verb| Endpoint::lookup(verb, segments)) {
            return Ok(endpoint);
        }
        // A path that is in the table word for word is that one, and not a name that fits a parameter.
        let path = format!("/{}", segments.join("/"));
        let known = Endpoint::ALL.iter().any(|operation| operation.path == path);
        let here =
            |verb| Endpoint::lookup(verb, segments).is_some_and(|e| !known || e.operation().path == path);
        let allowed: Vec<&str> =
            Verb::ALL.into_iter().filter(|&verb| here(verb)).map(Verb::methods).collect();
        if allowed.is_empty() {
            Err(Problem::NoRoute)
        } else {
            Err(Problem::MethodNotAllowed { allow: allowed.join(", ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn paths_and_patterns_agree() {
        for operation in Endpoint::ALL {
            let path: Vec<&str> = operation.path.split('/').skip(1).collect();
            let found = Endpoint::lookup(operation.method, &path).expect("the path matches a pattern");
            assert_eq!(found.operation(), operation);
            let parameters = path.iter().filter(|part| part.starts_with('{')).count();
            // The parameters of an endpoint are the placeholders of its path, in order.
            assert_eq!(format!("{found:?}").matches("\"{").count(), parameters, "{found:?}");
        }
        // The method says it of most.
        for operation in Endpoint::ALL {
            match operation.method {
                Verb::Get => assert_eq!(operation.effect, Effect::Reads, "{}", operation.id),
                Verb::Delete => assert_eq!(operation.effect, Effect::Changes, "{}", operation.id),
                Verb::Post => {}
            }
        }
        let ids: BTreeSet<_> = Endpoint::ALL.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), Endpoint::ALL.len());
    }

    #[test]
    fn other_methods_and_paths_are_told_apart() {
        let find = |method, path: &'static str| {
            Endpoint::find(&method, &path.split('/').skip(1).collect::<Vec<_>>())
        };
        assert_eq!(find(Method::HEAD, "/status"), Ok(Endpoint::Status));
        assert_eq!(find(Method::GET, "/predict"), Err(Problem::MethodNotAllowed { allow: "POST".into() }));
        let allow = "GET, HEAD, DELETE".into();
        assert_eq!(find(Method::PATCH, "/v1/datasets/a"), Err(Problem::MethodNotAllowed { allow }));
        assert_eq!(
            find(Method::PUT, "/v1/models/rollback"),
            Err(Problem::MethodNotAllowed { allow: "POST".into() })
        );
        for path in ["/predict/", "//predict", "/v1", "/v1/datasets/", "/Predict"] {
            // An empty name is the router's to refuse; what matters is that it is no other route.
            let found = find(Method::GET, path);
            assert!(
                matches!(found, Err(Problem::NoRoute) | Ok(Endpoint::Dataset { name: "" })),
                "{path}: {found:?}"
            );
        }
    }
}
