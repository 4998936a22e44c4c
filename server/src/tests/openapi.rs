//! The description of the service, and the table of routes behind it.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::Value;

use super::support::*;
use crate::http::problem::Problem;
use crate::route::{self, Effect, Route, Verb};
use crate::{Config, openapi, routes};

fn described(config: &Config) -> Value {
    openapi::document(routes::all(), config)
}

fn find(method: &Method, path: &'static str) -> Result<(&'static Route, usize), Problem> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    route::find(routes::all(), method, &segments).map(|(route, parameters)| (route, parameters.len()))
}

#[test]
fn every_route_is_described_and_every_reference_resolves() {
    let document = described(&Config::default());
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, verbs)| verbs.as_object().unwrap().keys().map(|verb| (path.clone(), verb.clone())))
        .collect();
    let known: BTreeSet<(String, String)> =
        routes::all().map(|route| (route.path.to_owned(), route.method.key().to_owned())).collect();
    assert_eq!(described, known);
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let pointer =
            reference.split('"').next().unwrap().strip_prefix('#').expect("a reference into the document");
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    assert!(text.contains("top_k") && text.contains("time_budget_s"));
}
/// Every number of a limit that clients can run into stands in the document, and follows the configuration.
#[test]
fn the_limits_in_force_are_described() {
    let config = Config {
        max_body: 7_000_001,
        max_upload: 7_000_002,
        zip_entries: 7_000_003,
        zip_bytes: 7_000_004,
        zip_ratio: 7_000_005,
        max_pixels: 7_000_006,
        max_side: 7_000_007,
        images_per_request: 1008,
        max_top_k: 1009,
        default_top_k: 1010,
        ..Config::default()
    };
    let text = described(&config).to_string();
    for number in (7_000_001..=7_000_007).chain(1008..=1010) {
        assert!(text.contains(&number.to_string()), "{number}");
    }
    let json = described(&config);
    let top_k = &json["paths"]["/predict"]["post"]["parameters"][0]["schema"];
    assert_eq!((&top_k["maximum"], &top_k["default"]), (&1009.into(), &1010.into()));
}

#[test]
fn events_and_statuses_are_described() {
    let document = described(&Config::default());
    let events = &document["paths"]["/v1/jobs/{id}/events"]["get"]["responses"];
    let kinds = &events["200"]["content"]["text/event-stream"]["schema"]["oneOf"];
    let names: Vec<&str> = kinds
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["properties"]["event"]["const"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["state", "epoch", "note", "progress"]);
    assert!(events["204"]["content"].is_null() && !events["204"].is_null());
    let retrain = &document["paths"]["/retrain"]["post"]["responses"];
    for (status, header) in [("429", "Retry-After"), ("503", "Retry-After"), ("401", "WWW-Authenticate")] {
        assert!(!retrain[status]["headers"][header].is_null(), "{status}");
    }
    assert!(retrain["403"]["description"].as_str().unwrap().contains("read-only"));
}

#[test]
fn every_route_is_found_by_its_path_and_has_a_name_of_its_own() {
    for route in routes::all() {
        let method = match route.method {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Delete => Method::DELETE,
        };
        let (found, parameters) = find(&method, route.path).expect("it is there");
        assert_eq!((found.id, parameters), (route.id, route.parameter_names().count()), "{}", route.path);
        // The method says it of most.
        match route.method {
            Verb::Get => assert_eq!(route.effect, Effect::Reads, "{}", route.id),
            Verb::Delete => assert_eq!(route.effect, Effect::Changes, "{}", route.id),
            Verb::Post => {}
        }
    }
    let ids: BTreeSet<_> = routes::all().map(|route| route.id).collect();
    assert_eq!(ids.len(), routes::all().count());
}

#[test]
fn other_methods_and_paths_are_told_apart() {
    let found = |method, path| find(&method, path).map(|(route, _)| route.id);
    let only = |allow: &str| Err(Problem::MethodNotAllowed { allow: allow.into() });
    assert_eq!(found(Method::HEAD, "/status"), Ok("status"));
    assert_eq!(found(Method::GET, "/predict"), only("POST"));
    assert_eq!(found(Method::PATCH, "/v1/datasets/a"), only("GET, HEAD, DELETE"));
    // A path that is there word for word is that one, and not a version of this name.
    assert_eq!(found(Method::POST, "/v1/models/rollback"), Ok("rollback"));
    assert_eq!(found(Method::PUT, "/v1/models/rollback"), only("POST"));
    assert_eq!(found(Method::GET, "/v2/models/stats"), Ok("v2AllStatistics"));
    for path in ["/predict/", "//predict", "/v1", "/Predict"] {
        assert_eq!(found(Method::GET, path), Err(Problem::NoRoute), "{path}");
    }
}

/// A handler that asks for a parameter that its path does not have gets an empty text, and refuses it or finds nothing.
#[test]
fn every_handler_gets_the_parameters_of_its_path() {
    let service = Service::start(patient());
    for route in routes::all().filter(|route| route.parameter_names().count() > 0) {
        let method = route.method.key().to_ascii_uppercase();
        let path = route.path.replace("{file}", "style.css");
        let path = path.replace(['{', '}'], "-");
        let request = format!("{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
        let answer = service.send(request.as_bytes());
        assert!(answer.status < 500, "{method} {path}: {answer:?}");
    }
}

/// Generated clients call their types by these names: `List2` would be another list after the next route.
#[test]
fn schemas_have_names_of_their_own() {
    let document = described(&Config::default());
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(
            !name.ends_with(|c: char| c.is_ascii_digit()),
            "{name}: two types have one name; #[schemars(rename)]"
        );
    }
}

/// What generators make a type of: arrays say of what, answers in JSON have a name unless they are any object.
#[test]
fn generators_find_what_they_need() {
    fn look(path: &str, value: &Value) {
        if value["type"] == "array" {
            assert!(!value["items"].is_null(), "{path}: an array of what?");
        }
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
            _ => return,
        };
        inner.into_iter().for_each(|(key, value)| look(&format!("{path}/{key}"), value));
    }
    look("#", &described(&Config::default()));
}
