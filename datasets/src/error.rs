//! What can go wrong: one enum for data sets, one for single images. Every text is one line and ours.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How a data folder of photos should look; the tail of several messages.
const LAYOUT_HINT: &str = "put each class in a folder of its own, e.g. photos/cats/ and photos/dogs/";

/// Why a data set could not be opened or loaded.
#[derive(Debug)]
pub enum DatasetError {
    /// The operating system refused to list or read something.
    Io {
        /// What was being read.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Nothing exists at the path.
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// There is a data set of a known kind, but no image in it.
    Empty {
        /// The data set.
        path: PathBuf,
        /// What was found instead, as a clause.
        found: String,
    },
    /// There are images, and nothing says which class they belong to.
    Unlabelled {
        /// The data set.
        path: PathBuf,
        /// How many images lie where, as a clause.
        found: String,
    },
    /// All images belong to one class, so there is nothing to tell apart.
    OneClass {
        /// The data set.
        path: PathBuf,
        /// The only class.
        class: String,
    },
    /// The path holds no layout we know.
    UnknownLayout {
        /// The path as given.
        path: PathBuf,
        /// What was found and what would be understood.
        found: String,
    },
    /// An IDX file is damaged, or its labels do not fit its images.
    BadIdx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A CIFAR binary file is damaged or of another version.
    BadCifar {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A ZIP archive cannot be read.
    BadZip {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A table of labels is malformed.
    BadCsv {
        /// The file.
        path: PathBuf,
        /// Line number from 1, when one line is to blame.
        line: Option<u64>,
        /// What is wrong with it.
        what: String,
    },
    /// A table of labels names files that are not there.
    MissingFiles {
        /// The table.
        path: PathBuf,
        /// The first few missing names, as written in the table.
        first: Vec<String>,
        /// How many are missing in all.
        total: usize,
    },
    /// More images are unreadable than the caller accepts.
    TooManyBad {
        /// Unreadable images in all.
        bad: usize,
        /// Images tried.
        total: usize,
        /// The accepted fraction.
        max_bad: f32,
        /// The first few, with reasons.
        first: Vec<Skipped>,
    },
    /// A stated limit of the reader was passed.
    Limit {
        /// The data set.
        path: PathBuf,
        /// Which limit, with numbers.
        what: String,
    },
    /// The resized images would not fit in memory.
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes that may be used.
        limit: u64,
    },
    /// A cache file cannot be written.
    CacheWrite {
        /// The file, or its folder.
        path: PathBuf,
        /// Bytes of all pixels.
        bytes: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// A cache file was whole when it was opened and is not any more.
    CacheDamaged {
        /// The file.
        path: PathBuf,
    },
    /// Preprocessing values that make no sense.
    BadPreprocessing {
        /// Which value, and what it may be.
        what: String,
    },
    /// Split fractions that leave nothing to train on or are not numbers.
    BadFractions {
        /// The fraction for validation.
        val: f32,
        /// The fraction for test.
        test: f32,
    },
    /// A word that names none of the choices.
    UnknownName {
        /// What kind of thing was asked for.
        what: &'static str,
        /// The word as given.
        given: String,
        /// The words that are understood.
        allowed: &'static str,
    },
    /// The caller raised the stop flag.
    Stopped,
}

impl fmt::Display for DatasetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, .. } => write!(f, "{}: cannot read", path.display()),
            Self::NotFound { path } => {
                write!(f, "{}: no such file or folder; check the spelling", path.display())
            }
            Self::Empty { path, found } => {
                write!(f, "{}: no images found ({found}); {LAYOUT_HINT}", path.display())
            }
            Self::Unlabelled { path, found } => write!(
                f,
                "{}: no image is in a class folder ({found}); {LAYOUT_HINT}, or list the images in a table labels.csv with the columns path and label",
                path.display()
            ),
            Self::OneClass { path, class } => write!(
                f,
                "{}: only one class found ({class:?}), but telling images apart needs two; {LAYOUT_HINT}",
                path.display()
            ),
            Self::UnknownLayout { path, found } => write!(f, "{}: {found}", path.display()),
            Self::BadIdx { path, what } => write!(f, "{}: bad IDX file: {what}", path.display()),
            Self::BadCifar { path, what } => write!(f, "{}: bad CIFAR file: {what}", path.display()),
            Self::BadZip { path, what } => write!(f, "{}: bad ZIP archive: {what}", path.display()),
            Self::BadCsv { path, line: Some(line), what } => {
                write!(f, "{}: line {line}: {what}", path.display())
            }
            Self::BadCsv { path, line: None, what } => write!(f, "{}: {what}", path.display()),
            Self::MissingFiles { path, first, total } => {
                write!(
                    f,
                    "{}: {total} of the listed files do not exist: {}",
                    path.display(),
                    first.join(", ")
                )?;
                if *total > first.len() {
                    write!(f, " and {} more", total - first.len())?;
                }
                write!(
                    f,
                    "; paths are relative to the folder of the table, names alone, with or without their extension, mean images below it"
                )
            }
            Self::TooManyBad { bad, total, max_bad, first } => {
                write!(
                    f,
                    "{bad} of {total} images are unreadable (at most {}% accepted): ",
                    max_bad * 100.0
                )?;
                for (i, skipped) in first.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}{}: {}", skipped.name, skipped.reason)?;
                }
                if *bad > first.len() {
                    write!(f, "; and {} more", bad - first.len())?;
                }
                Ok(())
            }
            Self::Limit { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Memory { needed, limit } => write!(
                f,
                "the resized images need {:.1} GiB of memory and {:.1} GiB may be used; choose a smaller image size",
                gib(*needed),
                gib(*limit)
            ),
            Self::CacheWrite { path, bytes, .. } => write!(
                f,
                "{}: cannot write {:.1} GiB of resized images, which do not fit in memory",
                path.display(),
                gib(*bytes)
            ),
            Self::CacheDamaged { path } => write!(
                f,
                "{}: the file was changed or its disk is failing; the next run makes it again",
                path.display()
            ),
            Self::BadPreprocessing { what } => write!(f, "bad preprocessing: {what}"),
            Self::BadFractions { val, test } => write!(
                f,
                "split fractions val {val} and test {test} must be 0 or more and leave something to train on (sum below 1)"
            ),
            Self::UnknownName { what, given, allowed } => {
                write!(f, "unknown {what} {given:?}; choose one of {allowed}")
            }
            Self::Stopped => write!(f, "stopped while loading images"),
        }
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

impl std::error::Error for DatasetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::CacheWrite { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why one image could not be turned into pixels.
#[derive(Debug)]
pub enum DecodeError {
    /// No bytes at all.
    Empty,
    /// The encoded file is larger than [`crate::DecodeLimits::max_bytes`].
    TooManyBytes {
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are of no image format.
    NotAnImage {
        /// What they seem to be.
        looks_like: &'static str,
    },
    /// An image format that is recognised but not decoded.
    Undecoded {
        /// Its name.
        format: &'static str,
    },
    /// A known format in a variant that is not decoded.
    Unsupported {
        /// The format.
        format: &'static str,
        /// What it is, as a phrase behind the format: `with arithmetic coding`.
        variant: Cow<'static, str>,
    },
    /// The header declares more pixels than the limits allow.
    TooLarge {
        /// Declared width.
        width: u32,
        /// Declared height.
        height: u32,
        /// The limit on width times height.
        max_pixels: u64,
        /// The limit on either side.
        max_side: u32,
    },
    /// The file ends before the image does.
    Truncated {
        /// The format.
        format: &'static str,
    },
    /// The file contradicts its format.
    Corrupt {
        /// The format.
        format: &'static str,
    },
    /// Decoding would need more memory than the limits allow.
    Memory {
        /// The format.
        format: &'static str,
    },
    /// Floating-point pixels outside 0..1, whose white point is unknown.
    FloatRange {
        /// The format.
        format: &'static str,
    },
    /// The pixel buffer of an [`crate::Image`] does not match its width, height and channels.
    BadShape {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Channels.
        channels: u8,
        /// Values in the buffer.
        values: usize,
    },
    /// An image has other channels than are wanted.
    Channels {
        /// Those of the image.
        found: usize,
        /// Those that are wanted.
        wanted: u8,
    },
    /// The preprocessing asked for is not valid.
    BadPreprocessing {
        /// Which value is wrong.
        what: String,
    },
    /// The file could not be read.
    Read {
        /// The system's reason.
        source: io::Error,
    },
    /// The entry cannot be taken out of its ZIP archive.
    Archive {
        /// Why.
        what: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "empty file"),
            Self::TooManyBytes { limit } => {
                write!(f, "file is larger than {} MiB", limit.div_ceil(1 << 20))
            }
            Self::NotAnImage { looks_like } => {
                write!(f, "not an image ({looks_like}); JPEG, PNG, WebP, BMP, GIF and TIFF are understood")
            }
            Self::Undecoded { format } => {
                write!(
                    f,
                    "{format} images are not decoded; convert it to JPEG or PNG first{}",
                    how_to(format)
                )
            }
            Self::Unsupported { format, variant } => {
                write!(f, "{format} {variant} is not decoded; convert it to PNG or baseline JPEG first")
            }
            Self::TooLarge { width, height, max_pixels, max_side } => write!(
                f,
                "image of {width}x{height} pixels is too large (at most {max_pixels} pixels, {max_side} a side); scale it down first"
            ),
            Self::Truncated { format } => write!(f, "{format} file is cut off before its end"),
            Self::Corrupt { format } => write!(f, "{format} file is damaged"),
            Self::Memory { format } => write!(f, "{format} file needs too much memory to decode"),
            Self::FloatRange { format } => {
                write!(f, "{format} file has floating-point pixels outside 0..1; convert it to 16 bits first")
            }
            Self::BadShape { width, height, channels, values } => write!(
                f,
                "{values} pixel values do not make an image of {width}x{height} pixels with {channels} channels"
            ),
            Self::Channels { found, wanted } => write!(
                f,
                "image of {found} channels where {wanted} are wanted; a TIFF file can have that many samples a pixel"
            ),
            Self::BadPreprocessing { what } => write!(f, "bad preprocessing: {what}"),
            Self::Read { .. } => write!(f, "cannot read"),
            Self::Archive { what } => write!(f, "{what}"),
        }
    }
}

/// How people get their pictures out of formats that devices make.
fn how_to(format: &str) -> &'static str {
    match format {
        "HEIC" => {
            " (Mac: Preview, File, Export; Windows: Photos, Save as; Linux: heif-convert; an iPhone takes JPEG with \
             Settings, Camera, Formats, Most Compatible)"
        }
        "AVIF" => " (Mac: Preview, File, Export; Windows: Paint, Save as; Linux: avifdec)",
        "raw camera" => " (with the camera maker's program, or darktable)",
        _ => "",
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source } => Some(source),
            _ => None,
        }
    }
}

/// Why a file or folder could not be read.
pub(crate) fn io_error(path: &Path, source: io::Error) -> DatasetError {
    if source.kind() == io::ErrorKind::NotFound {
        DatasetError::NotFound { path: path.to_owned() }
    } else {
        DatasetError::Io { path: path.to_owned(), source }
    }
}

/// An image that could not be read, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// The item's name.
    pub name: String,
    /// One line.
    pub reason: String,
}
