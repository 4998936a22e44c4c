//! One thing that the service can be asked for: method, path, who may use it, what it does, and its description.
//!
//! The router, access control, metrics and `/openapi.json` all read the same [`Route`]: one without a scope, an effect or
//! a description does not compile. [`routes`](crate::routes) has them all.

use std::future::Future;
use std::pin::Pin;

use hyper::{Method, Response};

use crate::context::{Context, Parameters};
use crate::description::{Description, Schemas};
use crate::http::body::RequestBody;
use crate::http::problem::Problem;
use crate::http::response::ResponseBody;
use crate::scope::Scope;

/// What a handler gives once it is done.
pub(crate) type Answering<'r> =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Problem>> + Send + 'r>>;

/// See the module.
pub(crate) struct Route {
    /// Stable name, for OpenAPI and metrics.
    pub(crate) id: &'static str,
    pub(crate) method: Verb,
    /// Path with `{parameters}`.
    pub(crate) path: &'static str,
    pub(crate) scope: Scope,
    pub(crate) effect: Effect,
    pub(crate) tag: Tag,
    pub(crate) summary: &'static str,
    pub(crate) handle: for<'r> fn(&'r Context<'r>, &'r mut RequestBody) -> Answering<'r>,
    pub(crate) describe: fn(&mut Schemas<'_>) -> Description,
}

/// Whether a route changes what the service keeps or which version serves: a service that is read-only has none that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Changes,
}

/// The headings of the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Service,
    DataSets,
    Jobs,
    Models,
    Feedback,
    OpenInference,
    Operations,
}

impl Tag {
    /// In the order of the page.
    pub(crate) const ALL: [Tag; 7] = [
        Tag::Service,
        Tag::DataSets,
        Tag::Jobs,
        Tag::Models,
        Tag::Feedback,
        Tag::OpenInference,
        Tag::Operations,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tag::Service => "service",
            Tag::DataSets => "data sets",
            Tag::Jobs => "jobs",
            Tag::Models => "models",
            Tag::Feedback => "feedback",
            Tag::OpenInference => "open inference",
            Tag::Operations => "operations",
        }
    }
}

/// The methods in use. `HEAD` is answered wherever `GET` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    pub(crate) const ALL: [Verb; 3] = [Verb::Get, Verb::Post, Verb::Delete];

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

    /// The key of an operation in OpenAPI.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Post => "post",
            Verb::Delete => "delete",
        }
    }
}

impl Route {
    /// The parameters of a path, given as its decoded parts, if it is this route's.
    fn parameters<'r>(&self, segments: &[&'r str]) -> Option<Parameters<'r>> {
        let mut parts = self.path.split('/').skip(1);
        let mut parameters = Vec::new();
        for &segment in segments {
            let part = parts.next()?;
            match parameter(part) {
                Some(name) => parameters.push((name, segment)),
                None if part == segment => {}
                None => return None,
            }
        }
        parts.next().is_none().then_some(parameters)
    }

    /// The names of its parameters.
    pub(crate) fn parameter_names(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(parameter)
    }
}

/// The name in a part of a path that is a parameter.
fn parameter(part: &'static str) -> Option<&'static str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

/// The route that a request names and its parameters; `segments` are the decoded parts of its path.
pub(crate) fn find<'t, 'r>(
    routes: impl Iterator<Item = &'t Route> + Clone,
    method: &Method,
    segments: &[&'r str],
) -> Result<(&'t Route, Parameters<'r>), Problem> {
    let matching = |verb: Verb| {
        let of_verb = routes.clone().filter(move |route| route.method == verb);
        of_verb.filter_map(|route| Some((route, route.parameters(segments)?)))
    };
    // A path that is in the table word for word is that one, and not a name that fits a parameter.
    let found =
        Verb::of(method).and_then(|verb| matching(verb).min_by_key(|(_, parameters)| parameters.len()));
    if let Some(found) = found {
        return Ok(found);
    }
    let all = || Verb::ALL.into_iter().flat_map(matching);
    let known = all().any(|(_, parameters)| parameters.is_empty());
    let here = |verb: &Verb| matching(*verb).any(|(_, parameters)| !known || parameters.is_empty());
    let allowed: Vec<&str> = Verb::ALL.into_iter().filter(here).map(Verb::methods).collect();
    if allowed.is_empty() {
        Err(Problem::NoRoute)
    } else {
        Err(Problem::MethodNotAllowed { allow: allowed.join(", ") })
    }
}
