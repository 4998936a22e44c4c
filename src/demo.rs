//! `ocelli demo`: everything once, with nothing but this program.

use std::path::PathBuf;

use ocelli_pipeline::{Compute, Data, Origins, Quality, Recipe, TrainOptions};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::view::View;
use crate::{serve, train};

/// Train on the built-in images, show the result, then serve it
///
/// Trains keras-cnn on Fashion-MNIST (70,000 images of clothes, inside this program) with the default recipe; with
/// --photos, goes on from the ImageNet weights on 600 photos of hands that show digits, which takes well under a minute.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Train on photos of hands, from weights that have seen a million other photos
    #[arg(long)]
    photos: bool,
    /// Stop after training
    #[arg(long)]
    no_serve: bool,
    /// Passes over the training images
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Threads, 0 for all cores
    #[arg(short, long, value_name = "N")]
    threads: Option<u32>,
    /// Only direct convolutions: no Winograd transforms, whose rounding errors are about twice as large
    #[arg(long)]
    exact: bool,
    /// Folder that receives the run folder
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let mut recipe = Recipe { quality: Quality::Quick, ..Recipe::default() };
    let mut origins = Origins::from([("quality".to_owned(), "of the demo".to_owned())]);
    let data = if args.photos { Data::BundledPhotos } else { Data::Bundled };
    train::Settings::with_compute(args.threads, args.exact).apply(args.epochs, &mut recipe, &mut origins);
    recipe.validate()?;
    let name = Some("demo".to_owned());
    let options = TrainOptions { recipe, origins, name, ..TrainOptions::new(data, args.out) };
    let interrupt = Interrupt::listen()?;
    let outcome = train::train(&options, &interrupt, View::default(), out)?;
    train::finish(&outcome, false, out)?;
    out.flush()?;
    if args.no_serve {
        return Ok(());
    }
    let compute = Compute { exact: args.exact, ..Compute::default() };
    serve::demo(&outcome.best, compute, &interrupt, out)
}
