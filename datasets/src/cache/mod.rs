//! Cache files: decoded and resized pixels of data sets that do not fit in memory.
//!
//! A file holds the pixels of all images of a data set, in one size. Its name ends in a key: a hash of the content of all
//! images, in order, of what was done to them, and of the program's version, so that a file is found again by the data
//! that it was made of and by nothing else. It is written under a temporary name, brought to the disk and renamed; at
//! opening every byte of it is compared with its checksums, and at each later reading the bytes that are read.
//!
//! Pixels are read by position (`read_at`), not through a mapping. A mapping would need `unsafe`, would end the process
//! where another program cuts the file off, and its pages would count as memory of the process; a read gives an error
//! for that image, and costs about a microsecond where the system still holds the page.
//!
//! `folder` names, makes and removes files, `file` writes and reads one, `format` says what the bytes mean.

mod file;
mod folder;
mod format;

pub(crate) use file::{CacheFile, CacheWriter, crc};
pub(crate) use folder::Images;
pub use folder::{CacheEntry, CacheFolder};
pub(crate) use format::{Record, Stored};
