//! `/v1/datasets`: what was uploaded, image by image.

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use ocelli_pipeline::store::{DatasetSummary, Datasets, Name};
use serde::Serialize;

use crate::problem::Problem;
use crate::query::Query;
use crate::response::{self, ResponseBody};
use crate::router::Context;
use crate::routes::blocking;

/// Images of a page, where the request does not say, and at most.
pub(crate) const PAGE: usize = 100;
pub(crate) const MAX_PAGE: usize = 1000;

/// Side of a thumbnail in pixels, where the request does not say.
pub(crate) const THUMBNAIL: usize = 96;

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct List {
    datasets: Vec<DatasetSummary>,
}

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Deleted {
    deleted: String,
}

/// Does something with the data sets of the service, away from the threads that serve connections.
async fn with_datasets<T: Send + 'static>(
    context: &Context<'_>,
    work: impl FnOnce(&Datasets) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let store = context.state.data()?.store.clone();
    blocking(move || work(store.datasets())).await
}

fn dataset(name: &str) -> Result<Name, Problem> {
    Ok(Name::new("data set", name)?)
}

/// Which part of a list is wanted: how many are passed over, and how many follow at most.
pub(crate) fn page(query: &mut Query) -> Result<(usize, usize), Problem> {
    let offset = query.number("offset", 0..=u32::MAX as usize)?.unwrap_or(0);
    let limit = query.number("limit", 1..=MAX_PAGE)?.unwrap_or(PAGE);
    Ok((offset, limit))
}

/// `GET /v1/datasets`.
pub(crate) async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let datasets = with_datasets(context, |datasets| Ok(datasets.list()?)).await?;
    Ok(response::json(&List { datasets }))
}

/// `GET /v1/datasets/{name}`.
pub(crate) async fn inspect(context: &Context<'_>, name: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let name = dataset(name)?;
    Ok(response::json(&with_datasets(context, move |datasets| Ok(datasets.inspect(&name)?)).await?))
}

/// `DELETE /v1/datasets/{name}`.
pub(crate) async fn delete(context: &Context<'_>, name: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let (name, deleted) = (dataset(name)?, name.to_owned());
    let by = context.actor();
    with_datasets(context, move |datasets| Ok(datasets.delete(&name, &by)?)).await?;
    Ok(response::json(&Deleted { deleted }))
}

/// `GET /v1/datasets/{name}/images?class=&offset=&limit=`.
pub(crate) async fn images(context: &Context<'_>, name: &str) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let class = query.text("class")?;
    let (offset, limit) = page(&mut query)?;
    query.finish()?;
    let name = dataset(name)?;
    let page = with_datasets(context, move |datasets| {
        Ok(datasets.images(&name, class.as_deref(), offset, limit)?)
    });
    Ok(response::json(&page.await?))
}

/// `GET /v1/datasets/{name}/images/{id}`: the file as it was uploaded.
pub(crate) async fn image(
    context: &Context<'_>,
    name: &str,
    id: &str,
) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let (name, id) = (dataset(name)?, id.to_owned());
    let image = with_datasets(context, move |datasets| Ok(datasets.image(&name, &id)?)).await?;
    Ok(picture(image.media_type, image.bytes))
}

/// `DELETE /v1/datasets/{name}/images/{id}`.
pub(crate) async fn delete_image(
    context: &Context<'_>,
    name: &str,
    id: &str,
) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let (name, image, deleted) = (dataset(name)?, id.to_owned(), id.to_owned());
    let by = context.actor();
    with_datasets(context, move |datasets| Ok(datasets.delete_image(&name, &image, &by)?)).await?;
    Ok(response::json(&Deleted { deleted }))
}

/// `GET /v1/datasets/{name}/images/{id}/thumbnail?side=`.
pub(crate) async fn thumbnail(
    context: &Context<'_>,
    name: &str,
    id: &str,
) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let side = query.number("side", 1..=ocelli_pipeline::MAX_THUMBNAIL_SIDE as usize)?.unwrap_or(THUMBNAIL);
    query.finish()?;
    let (name, id) = (dataset(name)?, id.to_owned());
    let png =
        with_datasets(context, move |datasets| Ok(datasets.thumbnail(&name, &id, side as u32)?)).await?;
    Ok(picture("image/png", png))
}

/// An image of a client: never to be run as anything, and the same for ever, as its name is its content.
pub(crate) fn picture(media_type: &'static str, bytes: Vec<u8>) -> Response<ResponseBody> {
    let mut response = response::bytes(media_type, bytes);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    response
}
