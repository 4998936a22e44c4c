//! `/v1/feedback`: labels that clients correct, waiting for a review.
//!
//! An answer that was wrong is the best training image there is, if its correction is right. So corrections wait in a
//! queue; approved, they become images of a data set.

use hyper::{Response, StatusCode};
use ocelli_pipeline::store::{AddedImage, FeedbackInput, FeedbackPage, Name};
use serde::Serialize;
use serde_json::json;

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, IMAGES, QUEUE, Schemas, binary, image_body, label, name, text};
use crate::http::body::RequestBody;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::images;
use crate::route::{Effect, Route, Tag, Verb};
use crate::routes::paging::{describe_page, page};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "listFeedback",
        method: Verb::Get,
        path: "/v1/feedback",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::Feedback,
        summary: "List the corrected labels that wait for a review",
        handle: |context, _| Box::pin(list(context)),
        describe: describe_list,
    },
    Route {
        id: "addFeedback",
        method: Verb::Post,
        path: "/v1/feedback",
        scope: Scope::Predict,
        effect: Effect::Changes,
        tag: Tag::Feedback,
        summary: "Report the right label of an image",
        handle: |context, body| Box::pin(add(context, body)),
        describe: describe_add,
    },
    Route {
        id: "getFeedbackImage",
        method: Verb::Get,
        path: "/v1/feedback/{id}/image",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::Feedback,
        summary: "Get the image of a correction",
        handle: |context, _| Box::pin(image(context)),
        describe: |_| Description::of_type("image/*"),
    },
    Route {
        id: "approveFeedback",
        method: Verb::Post,
        path: "/v1/feedback/{id}/approve",
        scope: Scope::Data,
        effect: Effect::Changes,
        tag: Tag::Feedback,
        summary: "Add a correction to a data set",
        handle: |context, _| Box::pin(approve(context)),
        describe: describe_approve,
    },
    Route {
        id: "rejectFeedback",
        method: Verb::Delete,
        path: "/v1/feedback/{id}",
        scope: Scope::Data,
        effect: Effect::Changes,
        tag: Tag::Feedback,
        summary: "Reject a correction",
        handle: |context, _| Box::pin(reject(context)),
        describe: |schemas| schemas.answer::<Rejected>(),
    },
];

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "FeedbackAdded")]
struct Added {
    id: String,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "FeedbackApproved")]
struct Approved {
    dataset: String,
    #[serde(flatten)]
    image: AddedImage,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "FeedbackRejected")]
struct Rejected {
    rejected: String,
}

fn describe_list(schemas: &mut Schemas<'_>) -> Description {
    let list = schemas.answer::<FeedbackPage>();
    describe_page(list, ["Entries to leave out at the beginning", "Most entries to list"])
}

fn describe_add(schemas: &mut Schemas<'_>) -> Description {
    let limits = schemas.image_limits(1);
    let form = json!({ "type": "object", "required": ["file"], "properties": { "file": binary() },
        "additionalProperties": false });
    let encoded = image_body(schemas);
    schemas
        .answer::<Added>()
        .status(201)
        .query("label", label(), "What the image shows")
        .query("predicted", label(), "What was predicted")
        .query("version", text(), "The version that predicted it")
        .query("note", text(), "Anything else")
        .body("multipart/form-data", form)
        .body("application/json", encoded)
        .body("image/*", binary())
        .body("application/octet-stream", binary())
        .about_body(format!("{IMAGES} {limits}"))
        .busy(QUEUE)
}

fn describe_approve(schemas: &mut Schemas<'_>) -> Description {
    schemas.answer::<Approved>().query("dataset", name(), "The data set; `default` if left out").query(
        "label",
        label(),
        "Another class than the one that was sent",
    )
}

/// `GET /v1/feedback?offset=&limit=`: oldest first.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let (offset, limit) = page(&mut query)?;
    query.finish()?;
    let store = context.data()?.store.clone();
    let page = blocking(move || Ok(store.feedback().page(offset, limit)?));
    Ok(response::json(&page.await?))
}

/// `POST /v1/feedback?label=&predicted=&version=&note=` with one image, sent as to `/predict`.
async fn add(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    context.one_class_each(context.models().default())?;
    let store = context.data()?.store.clone();
    let mut query = context.query()?;
    let input = FeedbackInput {
        label: query.text("label")?,
        predicted: query.text("predicted")?,
        version: query.text("version")?,
        note: query.text("note")?,
    };
    query.finish()?;
    input.check()?;
    let (mut images, memory) = images::read(context, body).await?;
    let image = match images.pop() {
        Some(image) if images.is_empty() => image,
        _ => return Err(Problem::TooManyImages { limit: 1 }),
    };
    let by = context.actor();
    let work = move || {
        let _memory = memory;
        Ok(store.feedback().add(&image, &input, store.datasets(), &by)?)
    };
    let id = context.classifier().blocking(work).await?;
    let mut response = response::json(&Added { id });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// `GET /v1/feedback/{id}/image`.
async fn image(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let (store, id) = (context.data()?.store.clone(), context.parameter("id").to_owned());
    let image = blocking(move || Ok(store.feedback().image(&id)?)).await?;
    Ok(response::stored_image(image.media_type, image.bytes))
}

/// `POST /v1/feedback/{id}/approve?dataset=&label=`.
async fn approve(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let dataset = Name::new("data set", query.text("dataset")?.as_deref().unwrap_or("default"))?;
    let label = query.text("label")?;
    query.finish()?;
    let (store, id) = (context.data()?.store.clone(), context.parameter("id").to_owned());
    let by = context.actor();
    let approved = blocking(move || {
        let image = store.feedback().approve(&id, &dataset, label.as_deref(), &by)?;
        Ok(Approved { dataset: dataset.to_string(), image })
    });
    Ok(response::json(&approved.await?))
}

/// `DELETE /v1/feedback/{id}`.
async fn reject(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let (store, id) = (context.data()?.store.clone(), context.parameter("id").to_owned());
    let by = context.actor();
    let rejected =
        blocking(move || store.feedback().reject(&id, &by).map(|()| id).map_err(Problem::from)).await?;
    Ok(response::json(&Rejected { rejected }))
}
