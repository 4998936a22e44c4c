//! The model and the version that a path names.

use std::sync::Arc;

use crate::blocking::blocking;
use crate::context::Context;
use crate::http::problem::Problem;
use crate::images;
use crate::models::classifier::Asked;
use crate::models::model::Model;

/// The model in the path; the default one where the path has none.
pub(super) fn model(context: &Context<'_>) -> Result<Arc<Model>, Problem> {
    let name = Some(context.parameter("model")).filter(|name| !name.is_empty());
    context.models().asked(name)
}

/// The version in the path, loaded where it is not; what answers where the path has none.
pub(super) async fn find(context: &Context<'_>) -> Result<Asked, Problem> {
    let model = model(context)?;
    let version = Some(context.parameter("version")).filter(|version| !version.is_empty());
    if let Some(version) = version
        && model.versions().is_err()
        && model.in_memory(version).is_none()
    {
        let only = model.version();
        return Err(Problem::NotFound(format!("there is no such version; this service has one, {only}")));
    }
    images::asked(model, version.map(str::to_owned)).await
}

/// All versions of a model, oldest first; without a data folder, the one that serves.
pub(super) async fn versions(model: &Arc<Model>) -> Result<Vec<String>, Problem> {
    let model = model.clone();
    blocking(move || match model.versions() {
        Ok(versions) => Ok(versions.list()?.into_iter().map(|record| record.version).collect()),
        Err(_) => Ok(vec![model.version()]),
    })
    .await
}
