//! `/openapi.json`: what the service takes and answers, for programs that write clients.
//!
//! Written from the table of endpoints and from the types that are sent: a field that is added to an answer is in the
//! document without anybody writing it twice. Limits are those in force, from the configuration of the service.

use bytes::Bytes;
use ocelli_pipeline::store::{DatasetInfo, FeedbackPage, ImagePage};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::endpoint::{Effect, Endpoint, Operation, Verb};
use crate::jobs::{Brief, EpochMetrics, JobRecord, Progress, RetrainRequest};
use crate::problem::{MAX_RETRY_AFTER_S, Report};
use crate::routes::{audit, datasets, feedback, health, jobs, models, predict, status, upload};
use crate::scope::Scope;
use crate::v2::{metadata, outputs};

/// The document of a service with these limits, as it is sent.
pub(crate) fn text(config: &Config) -> Bytes {
    document(config).to_string().into()
}

/// What an operation takes and answers besides what the table says.
struct Details {
    /// Name, schema and meaning of each query parameter.
    query: Vec<(&'static str, Value, &'static str)>,
    /// Media types of the body and what is in it; empty where there is none.
    body: Vec<(&'static str, Value)>,
    body_about: Option<String>,
    body_required: bool,
    status: u16,
    /// Media type of the answer and what is in it.
    answer: (&'static str, Value),
    headers: Vec<(&'static str, Value, &'static str)>,
    /// What is full when it answers 429.
    busy: Option<&'static str>,
    /// 204, and what it means.
    nothing: Option<&'static str>,
}

impl Details {
    fn new(answer: Value) -> Details {
        Details {
            query: Vec::new(),
            body: Vec::new(),
            body_about: None,
            body_required: true,
            status: 200,
            answer: ("application/json", answer),
            headers: Vec::new(),
            busy: None,
            nothing: None,
        }
    }

    fn of_type(media_type: &'static str) -> Details {
        Details { answer: (media_type, binary()), ..Details::new(Value::Null) }
    }

    fn query(mut self, name: &'static str, schema: Value, meaning: &'static str) -> Details {
        self.query.push((name, schema, meaning));
        self
    }

    fn body(mut self, media_type: &'static str, schema: Value) -> Details {
        self.body.push((media_type, schema));
        self
    }
}

fn binary() -> Value {
    json!({ "type": "string", "format": "binary" })
}

/// What holds for every address that takes images, besides their media types.
const IMAGES: &str = "Any other media type, or none, is taken too where the body begins like an image. Fields of a form \
    may also be called `files`, `image`, `images`, or one of these with brackets. Base64 may have line breaks, the \
    alphabet of URLs and no padding, and may be a `data:` URL; addresses are not opened.";

/// A form with one image.
fn one_file() -> Value {
    json!({ "type": "object", "required": ["file"], "properties": { "file": binary() }, "additionalProperties": false })
}

/// A text in base64.
fn base64() -> Value {
    json!({ "type": "string", "contentEncoding": "base64", "minLength": 4 })
}

/// The name of a data set or a model.
fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$" })
}

/// The name of a class.
fn label() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn number(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// A number that may be left out.
fn number_or(default: usize, least: u64, most: u64) -> Value {
    let mut schema = number(least, most);
    schema["default"] = default.into();
    schema
}

/// What is full when a request for predictions is turned away.
const QUEUE: &str = "The queue of images or the memory for bodies is full";

/// Writes schemas into `#/components/schemas` and refers to them.
struct Types<'c> {
    schemas: SchemaGenerator,
    config: &'c Config,
}

impl Types<'_> {
    fn of<T: JsonSchema>(&mut self) -> Value {
        Schema::to_value(self.schemas.subschema_for::<T>())
    }

    /// One of the server-sent events of a job: before version 3.2, OpenAPI has the schema of a stream describe each of its
    /// events.
    fn events(&mut self) -> Value {
        let event = |name: &str, about: &str, data: Value| {
            let mut event = json!({ "type": "object", "required": ["event", "data"], "description": about, "properties": {
                "event": { "const": name },
                "data": { "type": "string", "contentMediaType": "application/json", "contentSchema": data } } });
            if name != "progress" {
                event["required"] = json!(["id", "event", "data"]);
                event["properties"]["id"] = json!({ "type": "string", "pattern": "^[1-9][0-9]*$", "description": "For `Last-Event-ID`" });
            }
            event
        };
        let note =
            json!({ "type": "object", "required": ["text"], "properties": { "text": { "type": "string" } } });
        json!({ "description": "Each event of the stream", "oneOf": [
            event("state", "The job is in another state", self.of::<Brief<'static>>()),
            event("epoch", "An epoch is done", self.of::<EpochMetrics>()),
            event("note", "Something that a person should know", note),
            event("progress", "How it is now; told once and never again", self.of::<Progress>()),
        ] })
    }

    /// The limits for what holds images.
    fn limits(&self, most: usize) -> String {
        let Config { max_body, max_pixels, max_side, .. } = self.config;
        format!(
            "At most {max_body} bytes and {most} images, each of at most {max_pixels} pixels and {max_side} a side."
        )
    }

    fn details(&mut self, id: &str) -> Details {
        match id {
            "predict" => {
                let most = self.config.images_per_request;
                let file = json!({ "type": "object", "required": ["file"], "properties": {
                    "file": { "type": "array", "items": binary(), "minItems": 1, "maxItems": most } }, "additionalProperties": false });
                let image = base64();
                let base64 = json!({ "oneOf": [
                    { "type": "object", "required": ["image"], "additionalProperties": false, "properties": { "image": image } },
                    { "type": "object", "required": ["images"], "additionalProperties": false,
                      "properties": { "images": { "type": "array", "items": image, "minItems": 1, "maxItems": most } } } ] });
                let mut details = Details::new(self.of::<predict::Predictions<'static>>())
                    .query(
                        "top_k",
                        number_or(self.config.default_top_k, 1, self.config.max_top_k as u64),
                        "How many of the most likely classes to name",
                    )
                    .query(
                        "version",
                        json!({ "type": "string" }),
                        "Version of the model; the serving one if left out",
                    )
                    .body("multipart/form-data", file)
                    .body("application/json", base64)
                    .body("image/*", binary())
                    .body("application/octet-stream", binary());
                details.headers.push((
                    "Server-Timing",
                    json!({ "type": "string" }),
                    "decode, queue, compute, total in ms",
                ));
                Details {
                    body_about: Some(format!("{IMAGES} {}", self.limits(most))),
                    busy: Some(QUEUE),
                    ..details
                }
            }
            "uploadData" => {
                let form = json!({ "type": "object", "required": ["file"], "properties": {
                    "file": binary(), "dataset": name() }, "additionalProperties": false });
                let details = Details::new(self.of::<upload::Answer>())
                    .query(
                        "dataset",
                        json!({ "type": "string" }),
                        "Name of the data set; `default` if left out",
                    )
                    .body("multipart/form-data", form)
                    .body("application/zip", binary());
                let Config { max_upload, zip_entries, zip_bytes, zip_ratio, .. } = self.config;
                let about = format!(
                    "Any other media type, or none, is taken too where the body begins like a ZIP. The field may also be \
                    called `files`, or one of these with brackets. At most {max_upload} bytes, {zip_entries} entries, \
                    {zip_bytes} inflated bytes, and {zip_ratio} inflated bytes for a packed one."
                );
                let busy = Some("As many uploads as may be are under way");
                Details { body_about: Some(about), busy, ..details }
            }
            "retrain" => {
                let request = self.of::<RetrainRequest>();
                let mut details = Details::new(self.of::<JobRecord>()).body("application/json", request);
                details.headers.push(("Location", json!({ "type": "string" }), "Where the job is shown"));
                let busy = Some("As many jobs as may be wait");
                Details { status: 202, body_required: false, busy, ..details }
            }
            "status" => Details::new(self.of::<status::Status<'static>>()),
            "healthLive" => Details::new(self.of::<health::Live>()),
            "healthReady" => Details::new(self.of::<health::Ready>()),
            "metrics" => Details::of_type("application/openmetrics-text"),
            "openapi" => Details::new(json!({ "type": "object" })),
            "index" => {
                let mut details = Details { status: 303, ..Details::of_type("text/html") };
                details.headers.push(("Location", json!({ "type": "string" }), "`/docs`"));
                details
            }
            "docs" => Details::of_type("text/html"),
            "docsFile" => Details::of_type("text/*"),
            "listDatasets" => Details::new(self.of::<datasets::List>()),
            "inspectDataset" => Details::new(self.of::<DatasetInfo>()),
            "deleteDataset" | "deleteImage" => Details::new(self.of::<datasets::Deleted>()),
            "listImages" => Details::new(self.of::<ImagePage>())
                .query("class", json!({ "type": "string" }), "Only images of this class")
                .query("offset", number(0, u64::from(u32::MAX)), "Images to leave out at the beginning")
                .query(
                    "limit",
                    number_or(datasets::PAGE, 1, datasets::MAX_PAGE as u64),
                    "Most images to list",
                ),
            "getImage" | "getFeedbackImage" => Details::of_type("image/*"),
            "getThumbnail" => Details::of_type("image/png").query(
                "side",
                number_or(datasets::THUMBNAIL, 1, u64::from(ocelli_pipeline::MAX_THUMBNAIL_SIDE)),
                "Longest side in pixels",
            ),
            "listAudit" => Details::new(self.of::<audit::List>())
                .query(
                    "before",
                    json!({ "type": "integer", "minimum": 1 }),
                    "Only entries before this number",
                )
                .query(
                    "limit",
                    number(1, datasets::MAX_PAGE as u64),
                    "Most entries to list; 100 if left out",
                ),
            "listFeedback" => Details::new(self.of::<FeedbackPage>())
                .query("offset", number(0, u64::from(u32::MAX)), "Entries to leave out at the beginning")
                .query(
                    "limit",
                    number(1, datasets::MAX_PAGE as u64),
                    "Most entries to list; 100 if left out",
                ),
            "addFeedback" => {
                let text = || json!({ "type": "string" });
                let details = Details::new(self.of::<feedback::Added>())
                    .query("label", label(), "What the image shows")
                    .query("predicted", label(), "What was predicted")
                    .query("version", text(), "The version that predicted it")
                    .query("note", text(), "Anything else")
                    .body("multipart/form-data", one_file())
                    .body(
                        "application/json",
                        json!({ "type": "object", "required": ["image"], "properties": { "image": base64() },
                            "additionalProperties": false }),
                    )
                    .body("image/*", binary())
                    .body("application/octet-stream", binary());
                let about = format!("{IMAGES} {}", self.limits(1));
                Details { status: 201, body_about: Some(about), busy: Some(QUEUE), ..details }
            }
            "approveFeedback" => Details::new(self.of::<feedback::Approved>())
                .query("dataset", name(), "The data set; `default` if left out")
                .query("label", label(), "Another class than the one that was sent"),
            "rejectFeedback" => Details::new(self.of::<feedback::Rejected>()),
            "listJobs" => Details::new(self.of::<jobs::List>()),
            "showJob" | "cancelJob" => Details::new(self.of::<JobRecord>()),
            "jobEvents" => Details {
                answer: ("text/event-stream", self.events()),
                nothing: Some("The job has ended, and there is no event after the last one that was seen"),
                ..Details::new(Value::Null)
            },
            "listModels" => Details::new(self.of::<models::List>()),
            "showModel" => Details::new(self.of::<models::Version>()),
            "deleteModel" => Details::new(self.of::<models::Deleted>()),
            "getEvaluation" => Details::new(json!({ "type": "object" })),
            "downloadModel" => Details::of_type("application/octet-stream"),
            "promote" => Details::new(self.of::<models::Changed>()),
            "rollback" => Details::new(self.of::<models::Changed>()).query(
                "from",
                json!({ "type": "string" }),
                "The version to go back from: asking again when that is done does nothing more",
            ),
            "v2Server" | "v2ServerSlash" => Details::new(self.of::<metadata::Server>()),
            "v2Live" => Details::new(self.of::<metadata::Live>()),
            "v2Ready" => Details::new(self.of::<metadata::Ready>()),
            "v2Model" | "v2Version" => Details::new(self.of::<metadata::Model<'static>>()),
            "v2ModelReady" | "v2VersionReady" => Details::new(self.of::<metadata::ModelReady<'static>>()),
            "v2Config" | "v2VersionConfig" => Details::new(self.of::<metadata::ModelConfig<'static>>()),
            "v2AllStatistics" | "v2Statistics" | "v2VersionStatistics" => {
                Details::new(self.of::<metadata::Statistics<'static>>())
            }
            "v2Infer" | "v2VersionInfer" => {
                let answer = self.of::<outputs::Inferred<'static>>();
                let body_about = Some(self.limits(self.config.images_per_request));
                Details { body_about, busy: Some(QUEUE), ..infer(answer) }
            }
            "v2Index" => {
                let request = json!({ "type": "object", "properties": { "ready": { "type": "boolean" } } });
                let answer = json!({ "type": "array", "items": self.of::<metadata::Indexed<'static>>() });
                let details = Details::new(answer).body("application/json", request);
                Details { body_required: false, ..details }
            }
            "v2Load" => {
                let none = json!({ "type": "object", "additionalProperties": false });
                let request = json!({ "type": "object", "properties": { "parameters": none } });
                let details =
                    Details::new(self.of::<metadata::Loaded<'static>>()).body("application/json", request);
                Details { body_required: false, ..details }
            }
            // Only ever refused, as its summary says.
            "v2Unload" => Details {
                status: 400,
                answer: ("application/problem+json", self.of::<Report<'static>>()),
                ..Details::new(json!({}))
            },
            other => panic!("operation {other} has no details in openapi.rs"),
        }
    }
}

/// An inference request, as JSON or with raw tensors behind the JSON; `answer` is its JSON.
fn infer(answer: Value) -> Details {
    let input = |name: &str, datatypes: Value, data: &str| {
        json!({ "type": "object", "required": ["name", "shape", "datatype", "data"], "properties": {
            "name": { "const": name },
            "shape": { "type": "array", "items": number(1, 4096), "minItems": 1, "maxItems": 4 },
            "datatype": { "enum": datatypes },
            "parameters": { "type": "object" },
            "data": { "type": "array", "description": data } } })
    };
    let input = json!({ "oneOf": [
        input("pixels", json!(["FP32", "UINT8"]), "Pixels of the network's size, 0 to 255; nested or flat"),
        input("image", json!(["BYTES"]), "Image files in base64, as /predict takes it") ] });
    let output = json!({ "type": "object", "required": ["name"], "properties": {
        "name": { "const": "probabilities" },
        "parameters": { "type": "object", "properties": {
            "binary_data": { "type": "boolean" },
            "classification": { "type": "integer", "minimum": 1,
                "description": "This many of the most likely classes as `probability:index:label`" } } } } });
    let request = json!({ "type": "object", "required": ["inputs"], "properties": {
        "id": { "type": "string" },
        "parameters": { "type": "object", "properties": { "binary_data_output": { "type": "boolean" } } },
        "inputs": { "type": "array", "items": input, "minItems": 1, "maxItems": 1 },
        "outputs": { "type": "array", "items": output, "maxItems": 1 } } });
    let mut details =
        Details::new(answer).body("application/json", request).body("application/octet-stream", binary());
    details.headers.push((
        "Inference-Header-Content-Length",
        json!({ "type": "integer" }),
        "Bytes of JSON in front of raw tensors, where there are some",
    ));
    details
}

fn document(config: &Config) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut types = Types { schemas: SchemaGenerator::new(settings), config };
    let problem = types.of::<Report<'static>>();
    let mut paths = Map::new();
    let offered = |operation: &&Operation| !config.read_only || operation.effect == Effect::Reads;
    for operation in Endpoint::ALL.iter().filter(offered) {
        let details = types.details(operation.id);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        let verb = match operation.method {
            Verb::Get => "get",
            Verb::Post => "post",
            Verb::Delete => "delete",
        };
        path[verb] = describe(operation, details, &problem);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ocelli",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Image classification: predict, take new data, retrain, swap the better model in.",
            "license": { "name": "MIT", "identifier": "MIT" }
        },
        "tags": TAGS.map(|name| json!({ "name": name })),
        "paths": paths,
        "components": {
            "schemas": types.schemas.take_definitions(true),
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer",
                "description": "A key of the scope that the operation names, or of one above it: admin, data, predict." } }
        }
    })
}

fn describe(operation: &Operation, details: Details, problem: &Value) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
        .collect();
    if operation.id == "jobEvents" {
        parameters
            .push(json!({ "name": "Last-Event-ID", "in": "header", "schema": number(0, u64::from(u32::MAX)),
            "description": "The last event that was seen; those after it are sent" }));
    }
    parameters.extend(details.query.into_iter().map(|(name, schema, meaning)| {
        json!({ "name": name, "in": "query", "schema": schema, "description": meaning })
    }));
    let headers: Map<String, Value> = details
        .headers
        .into_iter()
        .map(|(name, schema, meaning)| (name.to_owned(), json!({ "schema": schema, "description": meaning })))
        .collect();
    let (media_type, schema) = details.answer;
    let refusal = |about: &str, header: Option<(&str, Value)>| {
        let headers: Map<String, Value> =
            header.into_iter().map(|(name, schema)| (name.to_owned(), json!({ "schema": schema }))).collect();
        json!({ "description": about, "headers": headers, "content": { "application/problem+json": { "schema": problem } } })
    };
    let retry_after = || Some(("Retry-After", number(1, MAX_RETRY_AFTER_S)));
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag(operation.path)],
        "parameters": parameters,
        "responses": {
            details.status.to_string(): {
                "description": if details.status < 400 { "Done" } else { "Refused" }, "headers": headers, "content": { media_type: { "schema": schema } }
            },
            "503": refusal("The service is shutting down, or as many connections as may be are open", retry_after()),
            "default": refusal("Not done, and why (RFC 9457)", None)
        }
    });
    let responses = &mut described["responses"];
    if let Some(about) = details.nothing {
        responses["204"] = json!({ "description": about });
    }
    if let Some(about) = details.busy {
        responses["429"] = refusal(about, retry_after());
    }
    if operation.scope != Scope::Public {
        let challenge = Some(("WWW-Authenticate", json!({ "type": "string" })));
        responses["401"] = refusal("No key, or one that nobody knows", challenge);
    }
    let forbidden = match (operation.scope, operation.effect) {
        (_, Effect::Changes) => "A key of a lower scope, another site, or a service that is read-only",
        (Scope::Public, _) => "Another site, of a service without keys",
        _ => "A key of a lower scope, or another site",
    };
    responses["403"] = refusal(forbidden, None);
    if operation.scope != Scope::Public {
        described["description"] =
            format!("Needs a key of the scope `{}` where the service has keys.", operation.scope).into();
        described["security"] = json!([{ "key": [] }, {}]);
    }
    if !details.body.is_empty() {
        let content: Map<String, Value> = details
            .body
            .into_iter()
            .map(|(media_type, schema)| (media_type.to_owned(), json!({ "schema": schema })))
            .collect();
        described["requestBody"] = json!({ "required": details.body_required, "content": content });
        if let Some(about) = details.body_about {
            described["requestBody"]["description"] = about.into();
        }
    }
    described
}

/// The headings of the page, in their order.
const TAGS: [&str; 7] =
    ["service", "data sets", "jobs", "models", "feedback", "open inference", "operations"];

/// The heading under which an operation is shown.
fn tag(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap_or_default() {
        "v1" => match path.split('/').nth(2).unwrap_or_default() {
            "datasets" => "data sets",
            "jobs" => "jobs",
            "feedback" => "feedback",
            "audit" => "operations",
            _ => "models",
        },
        "v2" => "open inference",
        "predict" | "upload-data" | "retrain" | "status" => "service",
        _ => "operations",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_endpoint_is_described_and_every_reference_resolves() {
        let document = document(&Config::default());
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, verbs)| {
                verbs.as_object().unwrap().keys().map(|verb| (path.clone(), verb.clone()))
            })
            .collect();
        let known: BTreeSet<(String, String)> = Endpoint::ALL
            .iter()
            .map(|operation| (operation.path.to_owned(), format!("{:?}", operation.method).to_lowercase()))
            .collect();
        assert_eq!(described, known);
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let pointer = reference
                .split('"')
                .next()
                .unwrap()
                .strip_prefix('#')
                .expect("a reference into the document");
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
        let text = document(&config).to_string();
        for number in (7_000_001..=7_000_007).chain(1008..=1010) {
            assert!(text.contains(&number.to_string()), "{number}");
        }
        let json = document(&config);
        let top_k = &json["paths"]["/predict"]["post"]["parameters"][0]["schema"];
        assert_eq!((&top_k["maximum"], &top_k["default"]), (&1009.into(), &1010.into()));
    }

    #[test]
    fn events_have_their_kinds_and_answers_their_statuses() {
        let document = document(&Config::default());
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
        for (status, header) in [("429", "Retry-After"), ("503", "Retry-After"), ("401", "WWW-Authenticate")]
        {
            assert!(!retrain[status]["headers"][header].is_null(), "{status}");
        }
        assert!(retrain["403"]["description"].as_str().unwrap().contains("read-only"));
    }
}
