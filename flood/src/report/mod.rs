//! Results for people and programs: text for a terminal, a page with charts, and the summary that both repeat.

mod charts;
pub mod checks;
mod html;
pub mod paint;
pub mod text;

pub use crate::statistics::summary::Summary;
pub use html::page;
