//! Data sets inside the binary, so that the first training run needs nothing.
//!
//! Sign Language Digits: 60 photos of each class (Turkey Ankara Ayranci Anadolu High School, Apache-2.0 licence).
//!
//! Fashion-MNIST: 70,000 gray images of 28x28 pixels (Zalando Research, MIT licence). The split is ours: 1,000 images of each class
//! drawn at random are the test set, so accuracies are "on our split" and not those of published tables.

use crate::idx::{self, IdxSet, Part};
use crate::{DatasetError, Split};
use flate2::read::MultiGzDecoder;
use std::path::Path;

/// Photos of hands as a ZIP of class folders; `bundled/sign-digits/make.py` draws them.
pub const SIGN_DIGITS: &[u8] = include_bytes!("../bundled/sign-digits/photos.zip");

/// Class names in the order of the labels.
const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Split, file name of the images, images, labels.
type EmbeddedPart = (Split, &'static str, &'static [u8], &'static [u8]);

const PARTS: [EmbeddedPart; 2] = [
    (
        Split::Train,
        "train-images-idx3-ubyte.gz",
        include_bytes!("../bundled/fashion-mnist/train-images-idx3-ubyte.gz"),
        include_bytes!("../bundled/fashion-mnist/train-labels-idx1-ubyte.gz"),
    ),
    (
        Split::Test,
        "t10k-images-idx3-ubyte.gz",
        include_bytes!("../bundled/fashion-mnist/t10k-images-idx3-ubyte.gz"),
        include_bytes!("../bundled/fashion-mnist/t10k-labels-idx1-ubyte.gz"),
    ),
];

pub(crate) fn fashion_mnist() -> IdxSet {
    let bad = |what| DatasetError::BadIdx { path: "bundled".into(), what };
    let read = |part: &EmbeddedPart| -> Result<Part, DatasetError> {
        let (split, file, images, labels) = *part;
        Ok(Part {
            file: file.to_owned(),
            split: Some(split),
            images: idx::read_images(MultiGzDecoder::new(images), &bad)?,
            labels: idx::read_labels(MultiGzDecoder::new(labels), &bad)?,
        })
    };
    PARTS
        .iter()
        .map(read)
        .collect::<Result<_, _>>()
        .and_then(|parts| {
            idx::assemble(Path::new("bundled"), parts, Some(CLASSES.map(str::to_owned).to_vec()))
        })
        .expect("the embedded files are part of the build and a test reads them")
}
