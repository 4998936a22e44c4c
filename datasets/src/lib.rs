//! Bytes to labelled images: data sets in folders, archives and tables, image files, and the network's input.
//!
//! ```
//! use ocelli_datasets::{DecodeLimits, Fit, Prepare, Preprocessing, Source};
//!
//! // `Source::open(path)` reads class folders, ZIP archives, tables, IDX and CIFAR files.
//! let source = Source::bundled();
//! assert_eq!(source.classes().len(), 10);
//!
//! // One image, decoded and upright, then as the input of a network of 32x32 gray pixels.
//! let (image, _hash) = source.image(0, &DecodeLimits::default())?;
//! let preprocessing = Preprocessing::new(32, 32, 1, Fit::Pad);
//! let mut input = vec![0.0; preprocessing.len()];
//! preprocessing.normalize(&preprocessing.resize(&image)?, &mut input);
//! # Ok::<(), ocelli_datasets::DecodeError>(())
//! ```
//!
//! From a path to a batch there are four steps, one type each:
//!
//! 1. [`Source::open`] looks at a folder, ZIP, IDX, CIFAR or CSV and lists what is there: class names, items with
//!    their class and, where the layout declares one, their split. Nothing is decoded.
//! 2. [`decode`] turns the bytes of one image file into upright pixels. It is the only decoder of the product:
//!    training, evaluation, prediction and the server call it, so they see the same pixels.
//! 3. [`Preprocessing`] (it travels inside the model file) resizes, converts channels and normalises.
//! 4. [`ImageSet::load`] does 2 and the resizing of 3 for a whole source on several threads, keeps the small 8- or
//!    16-bit pixels in memory or in a cache file, assigns splits by content hash and fills the network's input, augmented
//!    or not.
//!
//! Pixels are interleaved `h w c`; values stay integers until [`ImageSet::fill`] writes normalised `f32`.
//!
//! Nothing here writes a file (but for cache files, in the folder that the caller names), opens a connection, prints, or depends on the number of threads: the same bytes, seed
//! and settings give the same pixels, splits and digests.
#![forbid(unsafe_code)]

mod augment;
mod bundled;
mod cache;
mod cifar;
mod classes;
mod decode;
mod error;
mod files;
mod folder;
mod folds;
mod idx;
mod images;
mod item;
mod labelling;
mod layout;
mod mosaic;
pub mod names;
mod pixel_array;
mod pool;
mod preprocess;
mod resample;
pub mod rng;
mod set;
mod shared_file;
mod source;
mod split;
mod split_words;
mod table;
mod thumbnail;
mod zip;

pub use crate::zip::upload::{UploadError, UploadLimits, UploadZip};
pub use augment::{Augment, AugmentLevel, Rectangles};
pub use bundled::SIGN_DIGITS;
pub use cache::{CacheEntry, CacheFolder};
pub use decode::{
    DecodeLimits, FileFormat, Image, ImageHeader, Pixels, decode, decode_channels, file_format, probe,
};
pub use error::{DatasetError, DecodeError, Skipped};
pub use images::{FolderImages, images_in};
pub use item::{Item, Labels};
pub use labelling::{Labelling, LabelsPerImage};
pub use mosaic::mosaic;
pub use preprocess::{Fit, MAX_CHANNELS, MAX_INPUT_SIDE, Prepare, Prepared, Preprocessing};
pub use set::{CacheMade, CacheUse, ImageSet, LoadOptions};
pub use source::{NativeShape, PHOTOS_KIND, Source};
pub use split::{ContentHash, Split, SplitFractions};
pub use thumbnail::{MAX_THUMBNAIL_SIDE, png, thumbnail};
