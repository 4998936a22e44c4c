//! How a route describes itself for `/openapi.json`: what it takes and answers, with the limits in force.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::config::Config;

/// What a route takes and answers besides what its [`Route`](crate::route::Route) says.
pub(crate) struct Description {
    /// Name, schema and meaning of each query parameter.
    pub(crate) query: Vec<(&'static str, Value, &'static str)>,
    /// The same for each header of the request.
    pub(crate) request_headers: Vec<(&'static str, Value, &'static str)>,
    /// Media types of the body and what is in it; empty where there is none.
    pub(crate) body: Vec<(&'static str, Value)>,
    pub(crate) body_about: Option<String>,
    pub(crate) body_required: bool,
    pub(crate) status: u16,
    /// Media type of the answer and what is in it.
    pub(crate) answer: (&'static str, Value),
    /// Name, schema and meaning of each header of the answer.
    pub(crate) headers: Vec<(&'static str, Value, &'static str)>,
    /// What is full when it answers 429.
    pub(crate) busy: Option<&'static str>,
    /// 204, and what it means.
    pub(crate) nothing: Option<&'static str>,
}

impl Description {
    /// An answer in JSON.
    pub(crate) fn new(answer: Value) -> Description {
        Description {
            query: Vec::new(),
            request_headers: Vec::new(),
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

    /// An answer of another media type.
    pub(crate) fn of_type(media_type: &'static str) -> Description {
        // Generated clients make text of the one and bytes of the other.
        let schema = if media_type.starts_with("text/") { text() } else { binary() };
        Description { answer: (media_type, schema), ..Description::new(Value::Null) }
    }

    pub(crate) fn query(mut self, name: &'static str, schema: Value, meaning: &'static str) -> Description {
        self.query.push((name, schema, meaning));
        self
    }

    /// The parameter that names a model.
    pub(crate) fn of_model(self) -> Description {
        self.query("model", name(), "Name of the model; the default one if left out")
    }

    pub(crate) fn request_header(
        mut self,
        name: &'static str,
        schema: Value,
        meaning: &'static str,
    ) -> Description {
        self.request_headers.push((name, schema, meaning));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, schema: Value, meaning: &'static str) -> Description {
        self.headers.push((name, schema, meaning));
        self
    }

    pub(crate) fn body(mut self, media_type: &'static str, schema: Value) -> Description {
        self.body.push((media_type, schema));
        self
    }

    /// What is true of the body whatever its media type.
    pub(crate) fn about_body(mut self, about: String) -> Description {
        self.body_about = Some(about);
        self
    }

    /// A body that may be left out.
    pub(crate) fn optional_body(mut self) -> Description {
        self.body_required = false;
        self
    }

    /// Another status than 200.
    pub(crate) fn status(mut self, status: u16) -> Description {
        self.status = status;
        self
    }

    /// It may answer 429, when this is full.
    pub(crate) fn busy(mut self, what: &'static str) -> Description {
        self.busy = Some(what);
        self
    }
}

/// Writes schemas into `#/components/schemas` and refers to them.
pub(crate) struct Schemas<'c> {
    generator: SchemaGenerator,
    /// The limits in force.
    pub(crate) config: &'c Config,
}

impl<'c> Schemas<'c> {
    pub(crate) fn new(config: &'c Config) -> Schemas<'c> {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Schemas { generator: SchemaGenerator::new(settings), config }
    }

    /// The schema of a type.
    pub(crate) fn of<T: JsonSchema>(&mut self) -> Value {
        Schema::to_value(self.generator.subschema_for::<T>())
    }

    /// A schema that no type has, under a name that generated clients call it by; gives a reference to it.
    pub(crate) fn define(&mut self, name: &'static str, schema: Value) -> Value {
        self.generator.definitions_mut().insert(name.to_owned(), schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// What `#/components/schemas` holds.
    pub(crate) fn definitions(mut self) -> Map<String, Value> {
        self.generator.take_definitions(true)
    }

    /// An answer in JSON of this type.
    pub(crate) fn answer<T: JsonSchema>(&mut self) -> Description {
        Description::new(self.of::<T>())
    }

    /// The limits for what holds images.
    pub(crate) fn image_limits(&self, most: usize) -> String {
        let Config { max_body, max_pixels, max_side, .. } = self.config;
        format!(
            "At most {max_body} bytes and {most} images, each of at most {max_pixels} pixels and {max_side} a side."
        )
    }
}

/// What holds for every path that takes images, besides their media types.
pub(crate) const IMAGES: &str = "Any other media type, or none, is taken too where the body begins like an image. Fields of a form \
    may also be called `files`, `image`, `images`, or one of these with brackets. Base64 may have line breaks, the \
    alphabet of URLs and no padding, and may be a `data:` URL; addresses are not opened.";

/// What is full when a request for predictions is turned away.
pub(crate) const QUEUE: &str = "The queue of images or the memory for bodies is full";

pub(crate) fn binary() -> Value {
    json!({ "type": "string", "format": "binary" })
}

pub(crate) fn text() -> Value {
    json!({ "type": "string" })
}

/// A body in JSON with one image.
pub(crate) fn image_body(schemas: &mut Schemas<'_>) -> Value {
    let body = json!({ "type": "object", "required": ["image"], "additionalProperties": false,
        "properties": { "image": base64() } });
    schemas.define("ImageBody", body)
}

/// A text in base64.
pub(crate) fn base64() -> Value {
    json!({ "type": "string", "contentEncoding": "base64", "minLength": 4 })
}

/// The name of a data set or a model.
pub(crate) fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$" })
}

/// The name of a class.
pub(crate) fn label() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

pub(crate) fn number(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// A number that may be left out.
pub(crate) fn number_or(default: usize, least: u64, most: u64) -> Value {
    let mut schema = number(least, most);
    schema["default"] = default.into();
    schema
}
