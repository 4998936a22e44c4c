//! The query string of `/predict`.

use crate::config::Config;
use crate::problem::Problem;

/// `top_k` of a query such as `top_k=3`; the default when there is none.
///
/// Anything else in the query is refused, so that a misspelt `topk=3` does not go unnoticed.
pub(crate) fn top_k(query: Option<&str>, config: &Config) -> Result<usize, Problem> {
    let mut top_k = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let ("top_k", value) = pair.split_once('=').unwrap_or((pair, "")) else {
            return Err(Problem::BadQuery("the only query parameter of this path is top_k".into()));
        };
        let value = value.parse().ok().filter(|k| (1..=config.max_top_k).contains(k));
        let Some(value) = value else {
            return Err(Problem::BadQuery(format!("top_k must be a number from 1 to {}", config.max_top_k)));
        };
        if top_k.replace(value).is_some() {
            return Err(Problem::BadQuery("top_k is given twice".into()));
        }
    }
    Ok(top_k.unwrap_or(config.default_top_k))
}
