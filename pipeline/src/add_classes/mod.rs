//! A trained model learns further classes without losing those that it knows.
//!
//! The layers below the last one stay as they are, so an image's features stay what they were, and those that the model
//! kept of its old images (`crate::replay`) stand for these. The last layer is fitted to old and new features, every class
//! counting the same; old classes start from their weights. That takes a pass over the new images and some seconds.

mod balanced;
mod images;
mod measure;
mod parent;
mod settings;
mod work;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::error::PipelineError;
use crate::event::Observe;
use crate::preparation::Planned;
use crate::run::Outcome;
use crate::run_folder::{Reporter, RunFolder};
use crate::train::recorded_path;
use crate::train_options::TrainOptions;

pub use parent::Parent;
pub use settings::ADDING_SETTINGS;

/// Adds the classes of the data to a model, in a new run folder like that of a training. Images of classes that it knows
/// are further images of these; images that are in its data already are left out.
///
/// Of the recipe of `options`, the settings that decide the new images and the fit count; all others are those of the
/// model. Nothing is written before all is computed, so there is nothing to resume.
///
/// # Errors
/// [`PipelineError::Replay`] where nothing is new; [`PipelineError::Stopped`] when `stop` was raised, and no folder is left
/// then; those of the data and of the engine.
pub fn add_classes(
    options: &TrainOptions,
    parent: &Parent,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Outcome, PipelineError> {
    let begun = Instant::now();
    let options = settings::options(options, parent)?;
    let mut reporter = Reporter::new(observe);
    let mut planned = Planned::new(&options)?;
    let path = recorded_path(&options.data)?;
    let name = options.name.as_deref().unwrap_or(planned.source.name());
    let folder = RunFolder::create(&options.runs_dir, name)?;
    let grow = || {
        let images = work::Images::load(&mut planned, parent, (stop, &mut reporter))?;
        let pool = planned.exec.pool.clone();
        let told = (stop, &mut reporter);
        pool.install(|| work::compute(&mut planned, images, parent, (folder.path(), path), told))?
    };
    let grown = grow().inspect_err(|_| folder.clone().discard())?;
    grown.write(&folder, begun, &mut reporter)
}
