//! What a data set holds: `cargo run --release -p ocelli-datasets --example summarize -- PATH`, where PATH is a folder,
//! ZIP archive, table, IDX or CIFAR file; without one the bundled Fashion-MNIST.
#![allow(clippy::print_stdout, reason = "examples print what they found")]

use std::path::Path;

use ocelli_datasets::{DatasetError, DecodeLimits, Source, Split};

fn main() -> Result<(), DatasetError> {
    let source = match std::env::args().nth(1) {
        Some(path) => Source::open(Path::new(&path))?,
        None => Source::bundled(),
    };
    // How the layout was read, and what was left out.
    source.notes().iter().for_each(|note| println!("{note}"));
    for (class, name) in source.classes().iter().enumerate() {
        let items = source.items().iter().filter(|item| item.class() as usize == class);
        let (mut train, mut other) = (0, 0);
        items.for_each(|item| if matches!(item.split, Some(Split::Train)) { train += 1 } else { other += 1 });
        println!("{name}: {train} images declared for training, {other} others");
    }
    match source.image(0, &DecodeLimits::default()) {
        Ok((image, _)) => println!("the first image has {} x {} pixels", image.width, image.height),
        Err(error) => println!("the first image cannot be read: {error}"),
    }
    Ok(())
}
