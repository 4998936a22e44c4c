//! The model and the version that a path names.

use std::sync::Arc;

use crate::blocking::blocking;
use crate::context::Context;
use crate::http::problem::Problem;
use crate::images;
use crate::model::serving::Serving;

/// Refuses another model's name, where the path has one.
pub(super) fn check_name(context: &Context<'_>) -> Result<(), Problem> {
    let name = context.models().name();
    if ["", name].contains(&context.parameter("model")) {
        return Ok(());
    }
    Err(Problem::NotFound(format!("there is no such model; this service has one, \"{name}\"")))
}

/// The version in the path, loaded where it is not; the one that serves where the path has none.
pub(super) async fn find(context: &Context<'_>) -> Result<Arc<Serving>, Problem> {
    check_name(context)?;
    let models = context.models();
    let version = Some(context.parameter("version")).filter(|version| !version.is_empty());
    if let Some(version) = version
        && models.versions().is_err()
        && models.loaded(version).is_none()
    {
        let only = &models.serving().info.version;
        return Err(Problem::NotFound(format!("there is no such version; this service has one, {only}")));
    }
    images::version(context, version.map(str::to_owned)).await
}

/// All versions, oldest first; without a data folder, the one that serves.
pub(super) async fn versions(context: &Context<'_>) -> Result<Vec<String>, Problem> {
    let models = context.models().clone();
    blocking(move || match models.versions() {
        Ok(versions) => Ok(versions.list()?.into_iter().map(|record| record.version).collect()),
        Err(_) => Ok(vec![models.serving().info.version.clone()]),
    })
    .await
}
