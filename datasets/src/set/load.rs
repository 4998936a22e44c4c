//! Decoding all images of a source on several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ocelli_common::text::chain;

use super::pixels::{Block, PixelStore, Place};
use crate::decode::DecodeLimits;
use crate::error::DatasetError;
use crate::pool;
use crate::preprocess::{Prepare, Preprocessing};
use crate::source::Source;
use crate::split::ContentHash;

/// Most images that one thread takes at a time: enough to make taking them free.
const BLOCK: usize = 64;

/// Most bytes of pixels that one thread takes at a time, for an even share of large images and little memory beside
/// what is kept.
const BLOCK_BYTES: usize = 1 << 20;

/// How [`crate::ImageSet::load`] works.
pub struct LoadOptions<'a> {
    /// Threads that decode; 0 counts as 1. The result does not depend on it.
    pub threads: usize,
    /// Limits for every single image.
    pub limits: DecodeLimits,
    /// Fraction of unreadable images that is accepted, usually 0.05. With fewer than 20 images one is always accepted.
    pub max_bad: f32,
    /// Bytes of memory that pixels may take.
    pub memory: u64,
    /// Called from the decoding threads, one at a time, with images done and images in all.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
    /// When raised, loading ends soon with [`DatasetError::Stopped`].
    pub stop: &'a AtomicBool,
}

/// What became of one item: where its pixels are, or why there are none.
pub(super) type Outcome = Result<(Place, ContentHash), String>;

/// The work of loading, shared by its threads.
pub(super) struct Loader<'a> {
    source: &'a Source,
    indices: &'a [usize],
    preprocessing: &'a Preprocessing,
    options: &'a LoadOptions<'a>,
    /// Images of a block.
    block: usize,
    next: AtomicUsize,
    over: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    done: usize,
    bytes: u64,
    results: Vec<(usize, Block, Vec<Outcome>)>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        source: &'a Source,
        indices: &'a [usize],
        preprocessing: &'a Preprocessing,
        options: &'a LoadOptions<'a>,
    ) -> Self {
        Loader {
            source,
            indices,
            preprocessing,
            options,
            block: (BLOCK_BYTES / preprocessing.len().max(1)).clamp(1, BLOCK),
            next: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            progress: Mutex::new(Progress::default()),
        }
    }

    /// The pixels, and the outcomes of the items in their order.
    pub(super) fn run(self) -> Result<(PixelStore, Vec<Outcome>), DatasetError> {
        let len = self.preprocessing.len();
        let (needed, limit) = (self.indices.len() as u64 * len as u64, self.options.memory);
        if needed > limit {
            return Err(DatasetError::Memory { needed, limit });
        }
        let blocks = self.indices.len().div_ceil(self.block);
        let threads = self.options.threads.clamp(1, blocks.max(1));
        pool::on_threads(threads, || self.work());
        let progress = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.options.stop.load(Ordering::Relaxed) {
            return Err(DatasetError::Stopped);
        }
        if self.over.load(Ordering::Relaxed) {
            return Err(DatasetError::Memory { needed: progress.bytes, limit });
        }
        let mut results = progress.results;
        results.sort_unstable_by_key(|(number, ..)| *number);
        let mut outcomes = Vec::with_capacity(self.indices.len());
        let mut blocks = Vec::with_capacity(results.len());
        for (_, block, of_block) in results {
            blocks.push(block);
            outcomes.extend(of_block);
        }
        Ok((PixelStore::new(len, blocks), outcomes))
    }

    fn work(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(indices) = self.indices.chunks(self.block).nth(number) else { return };
            let mut block = Block::default();
            let mut outcomes = Vec::with_capacity(indices.len());
            for &index in indices {
                if self.options.stop.load(Ordering::Relaxed) || self.over.load(Ordering::Relaxed) {
                    return;
                }
                outcomes.push(self.load_one(index, number as u32, &mut block));
            }
            block.shrink_to_fit();
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.done += indices.len();
            progress.bytes += block.bytes();
            // 16-bit images take twice what was checked before loading.
            if progress.bytes > self.options.memory {
                self.over.store(true, Ordering::Relaxed);
            }
            progress.results.push((number, block, outcomes));
            (self.options.progress)(progress.done, self.indices.len());
        }
    }

    fn load_one(&self, index: usize, number: u32, block: &mut Block) -> Outcome {
        let (image, hash) = self.source.image(index, &self.options.limits).map_err(|e| chain(&e))?;
        let prepared = self.preprocessing.resize(&image).map_err(|e| chain(&e))?;
        Ok((Place { block: number, slot: block.push(prepared.pixels) }, hash))
    }
}
