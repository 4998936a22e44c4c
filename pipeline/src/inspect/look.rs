//! One pass over all images: each is read, hashed, decoded and measured, and forgotten.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ocelli_common::text::chain;
use ocelli_datasets::{
    ContentHash, DecodeError, DecodeLimits, Image, Pixels, decode_channels, file_format, probe,
};
use ocelli_engine::Pool;

use super::extension;
use super::fingerprint::{Fingerprint, Fingerprinter};
use super::images::{Content, Images};
use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::pool;

/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What is known of an image after it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// SHA-256 of its content, where that could be read.
    pub(super) hash: Option<ContentHash>,
    /// What is wrong with the name of its file.
    pub(super) wrong_extension: Option<String>,
    /// What it is, or why it cannot be decoded.
    pub(super) picture: Result<Picture, String>,
}

/// A decoded image.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// Upright.
    pub(super) width: u32,
    /// Upright.
    pub(super) height: u32,
    pub(super) channels: u8,
    /// Bits of a value: 8 or 16.
    pub(super) bits: u8,
    /// Of the file; `None` where there is none.
    pub(super) format: Option<&'static str>,
    /// Whether the file says that its pixels are to be turned.
    pub(super) turned: bool,
    pub(super) fingerprint: Fingerprint,
}

/// How images are looked at.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) limits: &'a DecodeLimits,
    /// As in [`decode_channels`].
    pub(super) channels: u8,
    /// Images that are decoded at a time.
    pub(super) threads: usize,
    pub(super) pool: &'a Pool,
    pub(super) stop: &'a AtomicBool,
}

impl Look<'_> {
    /// Looks at all images, in their order.
    ///
    /// # Errors
    /// What ends the whole inspection; [`PipelineError::Stopped`].
    pub(super) fn at_all<I: Images>(&self, images: &I, observe: Observe<'_>) -> Result<Vec<Seen>, I::Error> {
        let total = images.items().len();
        let (fingerprinter, done) = (Fingerprinter::new(), AtomicUsize::new(0));
        let one = |index: usize| -> Result<Seen, I::Error> {
            if self.stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped.into());
            }
            let name = &images.items()[index].name;
            let content = images.content(index, self.limits)?;
            let seen = match content {
                Ok(content) => self.at(name, content, &fingerprinter),
                Err(error) => Seen { hash: None, wrong_extension: None, picture: Err(chain(&error)) },
            };
            done.fetch_add(1, Ordering::Relaxed);
            Ok(seen)
        };
        let seen = pool::watched(
            self.pool,
            || pool::numbered(self.pool, (self.threads, total), one),
            (REPORT_EVERY, || observe(&Event::Loading { done: done.load(Ordering::Relaxed), total })),
        )??;
        observe(&Event::Loading { done: total, total });
        Ok(seen)
    }

    fn at(&self, name: &str, content: Content, fingerprinter: &Fingerprinter) -> Seen {
        let hash = Some(content.hash());
        let (format, turned, image) = match content {
            Content::Pixels(image, _) => (None, false, Ok(image)),
            Content::File(bytes) => {
                let turned = probe(&bytes, self.limits).is_ok_and(|header| header.turned);
                let image = decode_channels(&bytes, self.limits, self.channels);
                (file_format(&bytes), turned, image)
            }
        };
        let wrong_extension = format.and_then(|format| extension::wrong(name, &format));
        let picture = image.and_then(|image| {
            let fingerprint = fingerprinter.fingerprint(&image)?;
            Ok(picture(&image, (format.map(|format| format.name), turned), fingerprint))
        });
        Seen { hash, wrong_extension, picture: picture.map_err(|error: DecodeError| chain(&error)) }
    }
}

fn picture(
    image: &Image,
    (format, turned): (Option<&'static str>, bool),
    fingerprint: Fingerprint,
) -> Picture {
    let bits = match image.pixels {
        Pixels::U8(_) => 8,
        Pixels::U16(_) => 16,
    };
    let &Image { width, height, channels, .. } = image;
    Picture { width, height, channels, bits, format, turned, fingerprint }
}
