//! Trains on a folder of photos and prints how well the model does on images that it has not seen:
//! `cargo run --release -p ocelli-pipeline --example train_folder -- photos/`.
#![allow(clippy::print_stdout, reason = "examples print what they found")]

use std::error::Error;
use std::sync::atomic::AtomicBool;

use ocelli_pipeline::{Data, Event, Recipe, TrainOptions, train};

fn main() -> Result<(), Box<dyn Error>> {
    let photos = std::env::args().nth(1).ok_or("usage: train_folder PHOTOS")?;
    let recipe = Recipe { epochs: 10, ..Recipe::default() };
    let options = TrainOptions { recipe, ..TrainOptions::new(Data::Path(photos.into()), "runs") };
    // Raised from another thread, it ends training after the batch.
    let stop = AtomicBool::new(false);
    let outcome = train(&options, &stop, &mut |event| {
        if let Event::Epoch { epoch, epochs, train_loss, .. } = event {
            println!("epoch {epoch} of {epochs}: loss {train_loss:.4}");
        }
    })?;
    if let Some(evaluation) = &outcome.evaluation {
        println!("{}: accuracy {:.4} on {}", outcome.best.display(), evaluation.accuracy, evaluation.split);
    }
    Ok(())
}
