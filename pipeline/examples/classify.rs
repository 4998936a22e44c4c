//! Labels images: `cargo run --release -p ocelli-pipeline --example classify -- MODEL IMAGE...`, where MODEL is a model
//! file or a run folder.
#![allow(clippy::print_stdout, reason = "examples print what they found")]

use std::error::Error;
use std::path::Path;

use ocelli_pipeline::{Compute, Predictor};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: classify MODEL IMAGE...")?;
    let mut predictor = Predictor::open(Path::new(&model), Compute::default())?;
    for path in arguments {
        let prediction = predictor.predict_bytes(&std::fs::read(&path)?, 3)?;
        for class in &prediction.top {
            println!("{path}  {:<20} {:5.1}%", class.label, 100.0 * class.probability);
        }
    }
    Ok(())
}
