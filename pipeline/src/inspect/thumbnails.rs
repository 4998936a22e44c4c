//! Small pictures of the files that findings are about.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocelli_datasets::{DecodeLimits, decode_channels, thumbnail};
use ocelli_engine::Pool;

use super::images::{Content, Images};
use super::report::Finding;
use crate::error::PipelineError;
use crate::pool;

/// Largest side of a thumbnail in pixels.
const SIDE: u32 = 128;

/// How thumbnails are made.
#[derive(Clone, Copy)]
pub(super) struct Thumbnails<'a> {
    /// Those of a finding, at most.
    pub(super) most: usize,
    pub(super) limits: &'a DecodeLimits,
    pub(super) channels: u8,
    /// Images that are decoded at a time.
    pub(super) threads: usize,
    pub(super) pool: &'a Pool,
    pub(super) stop: &'a AtomicBool,
}

impl Thumbnails<'_> {
    /// Gives the first files of each finding their thumbnails, as far as they can be read.
    ///
    /// # Errors
    /// What ends the whole inspection; [`PipelineError::Stopped`].
    pub(super) fn add<I: Images>(&self, images: &I, findings: &mut [Finding]) -> Result<(), I::Error> {
        let shown = findings.iter().flat_map(|finding| finding.files.iter().take(self.most));
        let mut wanted: Vec<usize> = shown.map(|file| file.index).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let made = pool::numbered(
            self.pool,
            (self.threads, wanted.len()),
            |place| -> Result<Option<Vec<u8>>, I::Error> {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(PipelineError::Stopped.into());
                }
                let Ok(content) = images.content(wanted[place], self.limits)? else { return Ok(None) };
                let image = match content {
                    Content::Pixels(image, _) => Some(image),
                    Content::File(bytes) => decode_channels(&bytes, self.limits, self.channels).ok(),
                };
                Ok(image.and_then(|image| thumbnail(&image, SIDE).ok()))
            },
        )?;
        let made: BTreeMap<usize, String> = (wanted.into_iter().zip(made))
            .filter_map(|(index, png): (usize, Option<Vec<u8>>)| Some((index, STANDARD.encode(png?))))
            .collect();
        for finding in findings {
            for file in finding.files.iter_mut().take(self.most) {
                file.thumbnail = made.get(&file.index).cloned();
            }
        }
        Ok(())
    }
}
