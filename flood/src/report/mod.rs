//! Results for people and programs: text for a terminal, a page with charts, and the summary that both repeat.

mod charts;
pub mod checks;
mod html;
pub mod paint;
pub(crate) mod summary;
pub mod text;

pub use html::page;
pub use summary::Summary;
