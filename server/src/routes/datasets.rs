//! `/v1/datasets`: what was uploaded, image by image.

use hyper::Response;
use ocelli_pipeline::MAX_THUMBNAIL_SIDE;
use ocelli_pipeline::store::{DatasetInfo, DatasetSummary, Datasets, ImagePage, Name};
use serde::Serialize;

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, number_or, text};
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::routes::paging::{describe_page, page};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "listDatasets",
        method: Verb::Get,
        path: "/v1/datasets",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::DataSets,
        summary: "List the data sets",
        handle: |context, _| Box::pin(list(context)),
        describe: |schemas| schemas.answer::<List>(),
    },
    Route {
        id: "inspectDataset",
        method: Verb::Get,
        path: "/v1/datasets/{name}",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::DataSets,
        summary: "Show the classes of a data set",
        handle: |context, _| Box::pin(inspect(context)),
        describe: |schemas| schemas.answer::<DatasetInfo>(),
    },
    Route {
        id: "deleteDataset",
        method: Verb::Delete,
        path: "/v1/datasets/{name}",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::DataSets,
        summary: "Delete a data set",
        handle: |context, _| Box::pin(delete(context)),
        describe: |schemas| schemas.answer::<Deleted>(),
    },
    Route {
        id: "listImages",
        method: Verb::Get,
        path: "/v1/datasets/{name}/images",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::DataSets,
        summary: "List the images of a data set",
        handle: |context, _| Box::pin(images(context)),
        describe: describe_images,
    },
    Route {
        id: "getImage",
        method: Verb::Get,
        path: "/v1/datasets/{name}/images/{id}",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::DataSets,
        summary: "Get an image",
        handle: |context, _| Box::pin(image(context)),
        describe: |_| Description::of_type("image/*"),
    },
    Route {
        id: "deleteImage",
        method: Verb::Delete,
        path: "/v1/datasets/{name}/images/{id}",
        scope: Scope::Data,
        effect: Effect::Changes,
        tag: Tag::DataSets,
        summary: "Delete an image",
        handle: |context, _| Box::pin(delete_image(context)),
        describe: |schemas| schemas.answer::<Deleted>(),
    },
    Route {
        id: "getThumbnail",
        method: Verb::Get,
        path: "/v1/datasets/{name}/images/{id}/thumbnail",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::DataSets,
        summary: "Get a small PNG of an image",
        handle: |context, _| Box::pin(thumbnail(context)),
        describe: describe_thumbnail,
    },
];

/// Side of a thumbnail in pixels, where the request does not say.
const THUMBNAIL: usize = 96;

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "DatasetList")]
struct List {
    datasets: Vec<DatasetSummary>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "DatasetDeleted")]
struct Deleted {
    deleted: String,
}

fn describe_images(schemas: &mut Schemas<'_>) -> Description {
    let list = schemas.answer::<ImagePage>().query("class", text(), "Only images of this class");
    describe_page(list, ["Images to leave out at the beginning", "Most images to list"])
}

fn describe_thumbnail(_: &mut Schemas<'_>) -> Description {
    let side = number_or(THUMBNAIL, 1, MAX_THUMBNAIL_SIDE.into());
    Description::of_type("image/png").query("side", side, "Longest side in pixels")
}

/// Does something with the data sets of the service, away from the threads that serve connections.
async fn with_datasets<T: Send + 'static>(
    context: &Context<'_>,
    work: impl FnOnce(&Datasets) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let store = context.data()?.store.clone();
    blocking(move || work(store.datasets())).await
}

/// The data set in the path.
fn dataset(context: &Context<'_>) -> Result<Name, Problem> {
    Ok(Name::new("data set", context.parameter("name"))?)
}

/// `GET /v1/datasets`.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let datasets = with_datasets(context, |datasets| Ok(datasets.list()?)).await?;
    Ok(response::json(&List { datasets }))
}

/// `GET /v1/datasets/{name}`.
async fn inspect(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let name = dataset(context)?;
    Ok(response::json(&with_datasets(context, move |datasets| Ok(datasets.inspect(&name)?)).await?))
}

/// `DELETE /v1/datasets/{name}`.
async fn delete(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let (name, deleted) = (dataset(context)?, context.parameter("name").to_owned());
    let by = context.actor();
    with_datasets(context, move |datasets| Ok(datasets.delete(&name, &by)?)).await?;
    Ok(response::json(&Deleted { deleted }))
}

/// `GET /v1/datasets/{name}/images?class=&offset=&limit=`.
async fn images(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let class = query.text("class")?;
    let (offset, limit) = page(&mut query)?;
    query.finish()?;
    let name = dataset(context)?;
    let page = with_datasets(context, move |datasets| {
        Ok(datasets.images(&name, class.as_deref(), offset, limit)?)
    });
    Ok(response::json(&page.await?))
}

/// `GET /v1/datasets/{name}/images/{id}`: the file as it was uploaded.
async fn image(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let (name, id) = (dataset(context)?, context.parameter("id").to_owned());
    let image = with_datasets(context, move |datasets| Ok(datasets.image(&name, &id)?)).await?;
    Ok(response::stored_image(image.media_type, image.bytes))
}

/// `DELETE /v1/datasets/{name}/images/{id}`.
async fn delete_image(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let (name, image) = (dataset(context)?, context.parameter("id").to_owned());
    let deleted = image.clone();
    let by = context.actor();
    with_datasets(context, move |datasets| Ok(datasets.delete_image(&name, &image, &by)?)).await?;
    Ok(response::json(&Deleted { deleted }))
}

/// `GET /v1/datasets/{name}/images/{id}/thumbnail?side=`.
async fn thumbnail(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let side = query.number("side", 1..=MAX_THUMBNAIL_SIDE as usize)?.unwrap_or(THUMBNAIL);
    query.finish()?;
    let (name, id) = (dataset(context)?, context.parameter("id").to_owned());
    let png =
        with_datasets(context, move |datasets| Ok(datasets.thumbnail(&name, &id, side as u32)?)).await?;
    Ok(response::stored_image("image/png", png))
}
