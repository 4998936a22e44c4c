//! `/openapi.json`: what the service takes and answers, for programs that write clients.
//!
//! Put together from what each route says of itself and from the types that are sent: a field that is added to an answer
//! is in the document without anybody writing it twice. Limits are those in force, from the configuration of the service.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::description::{Description, Schemas, number};
use crate::http::problem::{MAX_RETRY_AFTER_S, Report};
use crate::route::{Effect, Route, Tag};
use crate::scope::Scope;

/// The document of a service with these routes and limits, as it is sent.
pub(crate) fn text(routes: impl Iterator<Item = &'static Route>, config: &Config) -> Bytes {
    document(routes, config).to_string().into()
}

/// The same as a value.
pub(crate) fn document(routes: impl Iterator<Item = &'static Route>, config: &Config) -> Value {
    let mut schemas = Schemas::new(config);
    let problem = schemas.of::<Report<'static>>();
    let mut paths = Map::new();
    for route in routes.filter(|route| !config.read_only || route.effect == Effect::Reads) {
        let description = (route.describe)(&mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.key()] = describe(route, description, &problem);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ocelli",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Image classification: predict, take new data, retrain, swap the better model in.",
            "license": { "name": "MIT", "identifier": "MIT" }
        },
        "tags": Tag::ALL.map(|tag| json!({ "name": tag.name() })),
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer",
                "description": "A key of the scope that the operation names, or of one above it: admin, data, predict." } }
        }
    })
}

fn describe(route: &Route, description: Description, problem: &Value) -> Value {
    let in_path = route.parameter_names().map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
    });
    let given = |place: &'static str, list: Vec<(&'static str, Value, &'static str)>| {
        list.into_iter().map(move |(name, schema, meaning)| {
            json!({ "name": name, "in": place, "schema": schema, "description": meaning })
        })
    };
    let in_headers = given("header", description.request_headers);
    let parameters: Vec<Value> = in_path.chain(in_headers).chain(given("query", description.query)).collect();
    let headers: Map<String, Value> = description
        .headers
        .into_iter()
        .map(|(name, schema, meaning)| (name.to_owned(), json!({ "schema": schema, "description": meaning })))
        .collect();
    let (media_type, schema) = description.answer;
    let refusal = |about: &str, header: Option<(&str, Value)>| {
        let headers: Map<String, Value> =
            header.into_iter().map(|(name, schema)| (name.to_owned(), json!({ "schema": schema }))).collect();
        json!({ "description": about, "headers": headers, "content": { "application/problem+json": { "schema": problem } } })
    };
    let retry_after = || Some(("Retry-After", number(1, MAX_RETRY_AFTER_S)));
    let mut described = json!({
        "operationId": route.id,
        "summary": route.summary,
        "tags": [route.tag.name()],
        "parameters": parameters,
        "responses": {
            description.status.to_string(): {
                "description": if description.status < 400 { "Done" } else { "Refused" }, "headers": headers, "content": { media_type: { "schema": schema } }
            },
            "503": refusal("The service is shutting down, or too many connections are open", retry_after()),
            "default": refusal("The request failed, and why (RFC 9457)", None)
        }
    });
    let responses = &mut described["responses"];
    if let Some(about) = description.nothing {
        responses["204"] = json!({ "description": about });
    }
    if let Some(about) = description.busy {
        responses["429"] = refusal(about, retry_after());
    }
    if route.scope != Scope::Public {
        let challenge = Some(("WWW-Authenticate", json!({ "type": "string" })));
        responses["401"] = refusal("No key, or an unknown one", challenge);
    }
    let forbidden = match (route.scope, route.effect) {
        (_, Effect::Changes) => "A key of a lower scope, another site, or a service that is read-only",
        (Scope::Public, _) => "Another site, of a service without keys",
        _ => "A key of a lower scope, or another site",
    };
    responses["403"] = refusal(forbidden, None);
    if route.scope != Scope::Public {
        described["description"] =
            format!("Needs a key of the scope `{}` where the service has keys.", route.scope).into();
        described["security"] = json!([{ "key": [] }, {}]);
    }
    if !description.body.is_empty() {
        let content: Map<String, Value> = description
            .body
            .into_iter()
            .map(|(media_type, schema)| (media_type.to_owned(), json!({ "schema": schema })))
            .collect();
        described["requestBody"] = json!({ "required": description.body_required, "content": content });
        if let Some(about) = description.body_about {
            described["requestBody"]["description"] = about.into();
        }
    }
    described
}
