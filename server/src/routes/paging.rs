//! Lists that are told page by page.

use serde_json::Value;

use crate::description::{Description, number, number_or};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Entries of a page, where the request does not say, and at most.
const PAGE: usize = 100;
pub(super) const MAX_PAGE: usize = 1000;

/// Which part of a list is wanted: how many are passed over, and how many follow at most.
pub(super) fn page(query: &mut Query) -> Result<(usize, usize), Problem> {
    let offset = query.number("offset", 0..=u32::MAX as usize)?.unwrap_or(0);
    let limit = query.number("limit", 1..=MAX_PAGE)?.unwrap_or(PAGE);
    Ok((offset, limit))
}

/// A list whose parts [`page`] chooses; `what` is in it.
pub(super) fn describe_page(list: Description, [skipped, listed]: [&'static str; 2]) -> Description {
    let offset: Value = number(0, u64::from(u32::MAX));
    list.query("offset", offset, skipped).query("limit", number_or(PAGE, 1, MAX_PAGE as u64), listed)
}
