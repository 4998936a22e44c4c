//! The images of a data set, or those of a folder without labels.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ocelli_common::text::chain;
use ocelli_datasets::{DatasetError, DecodeLimits, Prepared, Source, file_format, images_in};

use crate::error::PipelineError;
use crate::predict::Decoder;

/// Bytes of a file that show its format.
const HEAD: u64 = 4096;

/// What is at a path.
pub(super) enum Images {
    /// A data set.
    Labelled(Source),
    /// Image files.
    Files { paths: Vec<PathBuf>, notes: Vec<String> },
}

impl Images {
    /// Opens a data set; where there is none, the image file at the path, or those in the folder and below.
    pub(super) fn open(path: &Path) -> Result<Self, PipelineError> {
        let error = match Source::open_any(path) {
            Ok(source) => return Ok(Images::Labelled(source)),
            Err(error @ DatasetError::Io { .. }) => return Err(error.into()),
            Err(error) => error,
        };
        if path.is_dir() {
            let found = images_in(path, true)?;
            if !found.images.is_empty() {
                let mut notes = vec![format!("no labels: {error}")];
                notes.extend(found.warnings.into_iter().chain(found.notes));
                return Ok(Images::Files { paths: found.images, notes });
            }
        } else if is_image(path) {
            return Ok(Images::Files { paths: vec![path.to_owned()], notes: Vec::new() });
        }
        Err(error.into())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Images::Labelled(source) => source.items().len(),
            Images::Files { paths, .. } => paths.len(),
        }
    }

    pub(super) fn classes(&self) -> &[String] {
        match self {
            Images::Labelled(source) => source.classes(),
            Images::Files { .. } => &[],
        }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        match self {
            Images::Labelled(source) => source.notes().to_vec(),
            Images::Files { notes, .. } => notes.clone(),
        }
    }

    pub(super) fn name(&self, index: usize) -> String {
        match self {
            Images::Labelled(source) => source.items()[index].name.clone(),
            Images::Files { paths, .. } => paths[index].display().to_string(),
        }
    }

    pub(super) fn label(&self, index: usize) -> Option<u32> {
        match self {
            Images::Labelled(source) => Some(source.items()[index].class()),
            Images::Files { .. } => None,
        }
    }

    /// Decodes and resizes an image, as prediction does; or says why not, in one line.
    pub(super) fn prepare(&self, index: usize, decoder: &Decoder) -> Result<Prepared, String> {
        let limits = DecodeLimits::default();
        let prepared = match self {
            Images::Labelled(source) => {
                source.image(index, &limits).and_then(|(image, _)| decoder.resize(&image))
            }
            Images::Files { paths, .. } => {
                let bytes = read(&paths[index], limits.max_bytes).map_err(|error| error.to_string())?;
                decoder.prepare(&bytes)
            }
        };
        prepared.map_err(|error| chain(&error))
    }
}

/// The bytes of a file; one more than the decoder takes is enough to be refused.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_image(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok() && file_format(&head).is_some()
}
