//! All routes, a file for each group. A new route stands in the `ROUTES` of its file; a new file has two lines here.

mod audit;
mod changes;
mod datasets;
mod docs;
mod embed;
mod explain;
mod feedback;
mod health;
mod history;
mod inspect;
mod jobs;
mod labels;
mod me;
mod models;
mod page;
mod paging;
mod predict;
mod push;
mod retrain;
mod sample;
mod status;
mod trained;
mod upload;
mod v2;

use crate::route::Route;

/// By group; those that are asked for most often first.
const GROUPS: &[&[Route]] = &[
    predict::ROUTES,
    embed::ROUTES,
    explain::ROUTES,
    v2::infer::ROUTES,
    v2::metadata::ROUTES,
    v2::repository::ROUTES,
    status::ROUTES,
    health::ROUTES,
    me::ROUTES,
    history::ROUTES,
    upload::ROUTES,
    inspect::ROUTES,
    retrain::ROUTES,
    jobs::ROUTES,
    models::ROUTES,
    push::ROUTES,
    labels::ROUTES,
    trained::ROUTES,
    datasets::ROUTES,
    changes::ROUTES,
    sample::ROUTES,
    feedback::ROUTES,
    audit::ROUTES,
    page::ROUTES,
    docs::ROUTES,
];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> + Clone {
    GROUPS.iter().copied().flatten()
}
