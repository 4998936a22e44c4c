//! `/v1/feedback`: what clients say a picture really shows, waiting for somebody who looks at it.
//!
//! An answer that was wrong is the best training image there is, if its correction is right. So corrections wait in a
//! queue; approved, they become images of a data set.

use hyper::{Response, StatusCode};
use ocelli_pipeline::store::{AddedImage, FeedbackInput, Name};
use serde::Serialize;

use crate::body::RequestBody;
use crate::problem::Problem;
use crate::response::{self, ResponseBody};
use crate::router::Context;
use crate::routes::datasets::{page, picture};
use crate::routes::{blocking, predict};

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Added {
    id: String,
}

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Approved {
    dataset: String,
    #[serde(flatten)]
    image: AddedImage,
}

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Rejected {
    rejected: String,
}

/// `GET /v1/feedback?offset=&limit=`: oldest first.
pub(crate) async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let (offset, limit) = page(&mut query)?;
    query.finish()?;
    let store = context.state.data()?.store.clone();
    let page = blocking(move || Ok(store.feedback().page(offset, limit)?));
    Ok(response::json(&page.await?))
}

/// `POST /v1/feedback?label=&predicted=&version=&note=` with one image, sent as to `/predict`.
pub(crate) async fn add(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, Problem> {
    let store = context.state.data()?.store.clone();
    let mut query = context.query()?;
    let input = FeedbackInput {
        label: query.text("label")?,
        predicted: query.text("predicted")?,
        version: query.text("version")?,
        note: query.text("note")?,
    };
    query.finish()?;
    input.check()?;
    let (mut images, memory) = predict::images(context, body).await?;
    let image = match images.pop() {
        Some(image) if images.is_empty() => image,
        _ => return Err(Problem::TooManyImages { limit: 1 }),
    };
    let by = context.actor();
    let work = move || {
        let _memory = memory;
        Ok(store.feedback().add(&image, &input, store.datasets(), &by)?)
    };
    let id = context.state.classifier.on_pool(work).await?;
    let mut response = response::json(&Added { id });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// `GET /v1/feedback/{id}/image`.
pub(crate) async fn image(context: &Context<'_>, id: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let (store, id) = (context.state.data()?.store.clone(), id.to_owned());
    let image = blocking(move || Ok(store.feedback().image(&id)?)).await?;
    Ok(picture(image.media_type, image.bytes))
}

/// `POST /v1/feedback/{id}/approve?dataset=&label=`.
pub(crate) async fn approve(context: &Context<'_>, id: &str) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let dataset = Name::new("data set", query.text("dataset")?.as_deref().unwrap_or("default"))?;
    let label = query.text("label")?;
    query.finish()?;
    let (state, id) = (context.state.clone(), id.to_owned());
    state.data()?;
    let by = context.actor();
    let approved = blocking(move || {
        let store = &state.data()?.store;
        let image = store.feedback().approve(&id, &dataset, label.as_deref(), &by)?;
        Ok(Approved { dataset: dataset.to_string(), image })
    });
    Ok(response::json(&approved.await?))
}

/// `DELETE /v1/feedback/{id}`.
pub(crate) async fn reject(context: &Context<'_>, id: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let (store, id) = (context.state.data()?.store.clone(), id.to_owned());
    let by = context.actor();
    let rejected =
        blocking(move || store.feedback().reject(&id, &by).map(|()| id).map_err(Problem::from)).await?;
    Ok(response::json(&Rejected { rejected }))
}
