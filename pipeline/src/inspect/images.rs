//! The images that are inspected: those of a data set of the user's own, or of an archive that somebody sent.

use std::path::{Path, PathBuf};

use ocelli_datasets::{ContentHash, DecodeError, DecodeLimits, Image, Item, Source, UploadLimits, UploadZip};
use sha2::{Digest, Sha256};

use crate::error::PipelineError;
use crate::store::StoreError;

/// An image as it is stored.
pub(super) enum Content {
    /// The bytes of a file.
    File(Vec<u8>),
    /// Pixels of a format that has no files.
    Pixels(Image, ContentHash),
}

impl Content {
    /// SHA-256 of what is stored.
    pub(super) fn hash(&self) -> ContentHash {
        match self {
            Content::File(bytes) => Sha256::digest(bytes).into(),
            Content::Pixels(_, hash) => *hash,
        }
    }
}

/// Images that can be read by any number of threads at once.
pub(super) trait Images: Sync {
    /// What ends the whole inspection, as opposed to what is wrong with one image.
    type Error: From<PipelineError> + Send;

    fn classes(&self) -> &[String];

    fn items(&self) -> &[Item];

    /// What is stored of an item, or why that cannot be read.
    fn content(
        &self,
        index: usize,
        limits: &DecodeLimits,
    ) -> Result<Result<Content, DecodeError>, Self::Error>;

    /// The same images for another pass over some of them.
    fn again(&self) -> Result<Self, Self::Error>
    where
        Self: Sized;
}

impl Images for &Source {
    type Error = PipelineError;

    fn classes(&self) -> &[String] {
        Source::classes(self)
    }

    fn items(&self) -> &[Item] {
        Source::items(self)
    }

    fn content(
        &self,
        index: usize,
        limits: &DecodeLimits,
    ) -> Result<Result<Content, DecodeError>, PipelineError> {
        let read = || match self.encoded(index, limits)? {
            Some(bytes) => Ok(Content::File(bytes)),
            None => self.image(index, limits).map(|(image, hash)| Content::Pixels(image, hash)),
        };
        Ok(read())
    }

    fn again(&self) -> Result<Self, PipelineError> {
        Ok(self)
    }
}

/// An archive that somebody sent.
pub(super) struct Archive<'a> {
    path: PathBuf,
    limits: &'a UploadLimits,
    zip: UploadZip,
}

impl<'a> Archive<'a> {
    pub(super) fn open(path: &Path, limits: &'a UploadLimits) -> Result<Archive<'a>, StoreError> {
        let zip = UploadZip::open(path, limits).map_err(|error| StoreError::of_upload(path, error))?;
        Ok(Archive { path: path.to_owned(), limits, zip })
    }

    pub(super) fn notes(&self) -> &[String] {
        self.zip.notes()
    }
}

impl Images for Archive<'_> {
    type Error = StoreError;

    fn classes(&self) -> &[String] {
        self.zip.classes()
    }

    fn items(&self) -> &[Item] {
        self.zip.items()
    }

    fn content(&self, index: usize, _: &DecodeLimits) -> Result<Result<Content, DecodeError>, StoreError> {
        let bytes = self.zip.bytes(index).map_err(|error| StoreError::of_upload(&self.path, error))?;
        Ok(Ok(Content::File(bytes)))
    }

    /// An archive counts all that is ever inflated of it against its limit.
    fn again(&self) -> Result<Self, StoreError> {
        Archive::open(&self.path, self.limits)
    }
}
