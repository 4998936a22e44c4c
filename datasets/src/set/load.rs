//! Bringing all images of a source to the network's size, on several threads: from their files, or from a cache file
//! that an earlier run made of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ocelli_common::text::chain;

use super::pixels::{Block, PixelStore, Place, Slot};
use crate::cache::{CacheFile, CacheFolder, CacheWriter, Images, Record, Stored, crc};
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
    /// Where pixels go that do not fit into `memory`; without it, they are refused.
    pub cache: Option<&'a CacheFolder>,
    /// Called from the decoding threads, one at a time, with images done and images in all. Images that are looked up in a
    /// cache file and not found there are counted from 1 again while they are decoded.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
    /// When raised, loading ends soon with [`DatasetError::Stopped`].
    pub stop: &'a AtomicBool,
}

/// The cache file of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheUse {
    /// The file; `None` for one that is removed with the set.
    pub path: Option<PathBuf>,
    /// Bytes of all pixels.
    pub bytes: u64,
    /// Bytes of those that are in memory as well.
    pub in_memory: u64,
    /// Where the file came from.
    pub made: CacheMade,
}

/// Where a cache file came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheMade {
    /// There was none.
    New,
    /// An earlier run made it.
    Earlier,
    /// An earlier run made it and it was damaged: it was made again.
    Again {
        /// What was wrong with it, as a clause.
        damage: String,
    },
}

/// Pixels and what became of the items, in their order.
pub(super) struct Loaded {
    pub(super) pixels: PixelStore,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) cache: Option<CacheUse>,
}

/// What became of one item: where its pixels are, or why there are none.
pub(super) type Outcome = Result<(Place, ContentHash), String>;

/// Identity and hash of an item, or why it cannot be read.
type Hashes = Result<(ContentHash, ContentHash), String>;

/// How far a pass over blocks of items is.
struct Progress<T> {
    images: usize,
    /// The first item of each finished block, and what came of the block.
    results: Vec<(usize, T)>,
    error: Option<DatasetError>,
}

/// Decodes the items `indices` of a source.
pub(super) fn load(
    source: &Source,
    indices: &[usize],
    preprocessing: &Preprocessing,
    options: &LoadOptions,
) -> Result<Loaded, DatasetError> {
    let loader = Loader { source, indices, preprocessing, options };
    let needed = indices.len() as u64 * preprocessing.len() as u64;
    let too_large = |needed| DatasetError::Memory { needed, limit: options.memory };
    if needed <= options.memory {
        match loader.decode(None)? {
            Some(pass) => return Ok(pass.loaded(preprocessing.len(), None)),
            // 16-bit images take twice what was expected.
            None if options.cache.is_none() => return Err(too_large(2 * needed)),
            None => {}
        }
    }
    loader.cached(options.cache.ok_or_else(|| too_large(needed))?, needed)
}

/// The work of loading.
struct Loader<'a> {
    source: &'a Source,
    indices: &'a [usize],
    preprocessing: &'a Preprocessing,
    options: &'a LoadOptions<'a>,
}

/// An item with its pixels.
struct Prepared {
    /// What decides which image it is; `None` where nothing could be read.
    identity: Option<ContentHash>,
    outcome: Result<(Slot, ContentHash), String>,
    /// Where its pixels are in the cache file, where there is one.
    record: Option<Record>,
}

/// A pass over all items.
struct Pass {
    /// In the order of the items; a block that is not in memory is empty.
    blocks: Vec<(Block, Vec<Prepared>)>,
    /// Bytes of all pixels.
    bytes: u64,
}

impl Loader<'_> {
    /// Takes the pixels from a cache file of `folder`, or decodes the images and makes one.
    fn cached(&self, folder: &CacheFolder, expected: u64) -> Result<Loaded, DatasetError> {
        let (pre, limits) = (self.preprocessing, &self.options.limits);
        let images = Images { preprocessing: pre, limits, count: self.indices.len() };
        let mut made = CacheMade::New;
        if folder.may_hold(&images) {
            let contents = self.contents()?;
            let key = images.key(contents.iter().map(|content| Some(&content.as_ref().ok()?.0)));
            let found = folder.open(&images, &key).map(|found| {
                let (file, entries) = found?;
                match self.stored(&file, &contents, &entries) {
                    Err(DatasetError::CacheDamaged { .. }) => Err("its pixels are damaged".to_owned()),
                    // A disk that cannot be read is no better.
                    Err(DatasetError::Io { source, .. }) => Err(source.to_string()),
                    pass => Ok((pass, file)),
                }
            });
            match found {
                Some(Ok((pass, file))) => {
                    let made = CacheMade::Earlier;
                    return Ok(pass?.loaded(pre.len(), Some((file, made))));
                }
                Some(Err(damage)) => made = CacheMade::Again { damage },
                None => {}
            }
        }
        let writer = folder.create(expected)?;
        let pass = self.decode(Some(&writer))?.expect("what does not fit in memory is in the file");
        let file = if folder.keeps() {
            let key = images.key(pass.items().map(|item| item.identity.as_ref()));
            writer.finish(&images.name(&key), &key, &pass.stored())?
        } else {
            writer.keep_unnamed()?
        };
        Ok(pass.loaded(pre.len(), Some((file, made))))
    }

    /// Decodes all items; `None` where their pixels do not fit in memory and there is no file for them.
    fn decode(&self, writer: Option<&CacheWriter>) -> Result<Option<Pass>, DatasetError> {
        let over = AtomicBool::new(false);
        let prepare = |at: usize, block: &mut Block| {
            let mut prepared = Prepared { identity: None, outcome: Err(String::new()), record: None };
            prepared.outcome = self.decode_one(self.indices[at], &mut prepared.identity, block);
            prepared
        };
        let finish = |block: &Block, items: &mut [Prepared]| match writer {
            Some(writer) => write(writer, block, items, self.preprocessing.len()),
            None => Ok(()),
        };
        let pass = self.pass(&over, writer.is_some(), |range| {
            let mut block = Block::default();
            let mut items = Vec::with_capacity(range.len());
            for at in range {
                if self.stopped() || over.load(Ordering::Relaxed) {
                    return Err(DatasetError::Stopped);
                }
                items.push(prepare(at, &mut block));
            }
            finish(&block, &mut items)?;
            Ok((block, items))
        });
        match pass {
            Err(DatasetError::Stopped) if over.load(Ordering::Relaxed) && !self.stopped() => Ok(None),
            pass => pass.map(Some),
        }
    }

    fn decode_one(
        &self,
        index: usize,
        identity: &mut Option<ContentHash>,
        block: &mut Block,
    ) -> Result<(Slot, ContentHash), String> {
        let limits = &self.options.limits;
        let content = self.source.content(index, limits).map_err(|e| chain(&e))?;
        *identity = Some(content.identity());
        let hash = content.hash;
        let image = content.decode(limits, self.preprocessing.channels).map_err(|e| chain(&e))?;
        let prepared = self.preprocessing.resize(&image).map_err(|e| chain(&e))?;
        Ok((block.push(prepared.pixels), hash))
    }

    /// Identity and hash of each item, or why it cannot be read.
    fn contents(&self) -> Result<Vec<Hashes>, DatasetError> {
        self.blocks(|range| {
            range
                .map(|at| {
                    if self.stopped() {
                        return Err(DatasetError::Stopped);
                    }
                    let content = self.source.content(self.indices[at], &self.options.limits);
                    Ok(content.map(|content| (content.identity(), content.hash)).map_err(|e| chain(&e)))
                })
                .collect::<Result<Vec<_>, _>>()
        })
        .map(|blocks| blocks.into_iter().flatten().collect())
    }

    /// Reads all pixels of a cache file, which compares them with their checksums.
    fn stored(
        &self,
        file: &CacheFile,
        contents: &[Hashes],
        entries: &[Stored],
    ) -> Result<Pass, DatasetError> {
        let len = self.preprocessing.len();
        self.pass(&AtomicBool::new(false), true, |range| {
            let mut block = Block::default();
            let mut items = Vec::with_capacity(range.len());
            for at in range {
                if self.stopped() {
                    return Err(DatasetError::Stopped);
                }
                let (content, entry) = (&contents[at], &entries[at]);
                let record = entry.as_ref().ok().copied();
                let outcome = match (content, entry) {
                    (Err(reason), _) | (_, Err(reason)) => Err(reason.clone()),
                    (Ok((_, hash)), Ok(record)) => Ok((block.push(file.read(*record, len)?), *hash)),
                };
                let identity = content.as_ref().ok().map(|(identity, _)| *identity);
                items.push(Prepared { identity, outcome, record });
            }
            Ok((block, items))
        })
    }

    /// Calls `work` for each block of items, which makes their pixels; keeps what fits in memory. Where the rest is not in a
    /// file, `over` is raised for it, and [`DatasetError::Stopped`] comes of it.
    fn pass(
        &self,
        over: &AtomicBool,
        in_file: bool,
        work: impl Fn(std::ops::Range<usize>) -> Result<(Block, Vec<Prepared>), DatasetError> + Sync,
    ) -> Result<Pass, DatasetError> {
        let (kept, all) = (Mutex::new(0), Mutex::new(0));
        let add = |sum: &Mutex<u64>, bytes: u64, limit: u64| {
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = sum.saturating_add(bytes) <= limit;
            *sum += if fits { bytes } else { 0 };
            fits
        };
        let blocks = self.blocks(|range| {
            let (mut block, items) = work(range)?;
            add(&all, block.bytes(), u64::MAX);
            if !add(&kept, block.bytes(), self.options.memory) {
                if !in_file {
                    over.store(true, Ordering::Relaxed);
                }
                block = Block::default();
            }
            block.shrink_to_fit();
            Ok((block, items))
        })?;
        if over.load(Ordering::Relaxed) {
            return Err(DatasetError::Stopped);
        }
        Ok(Pass { blocks, bytes: all.into_inner().unwrap_or_else(PoisonError::into_inner) })
    }

    /// The results of `work` for each block of items, in order; its first error ends it. Tells how far it is.
    fn blocks<T: Send>(
        &self,
        work: impl Fn(std::ops::Range<usize>) -> Result<T, DatasetError> + Sync,
    ) -> Result<Vec<T>, DatasetError> {
        let n = self.indices.len();
        let size = (BLOCK_BYTES / self.preprocessing.len().max(1)).clamp(1, BLOCK);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let progress = Mutex::new(Progress { images: 0, results: Vec::new(), error: None });
        let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = self.options.threads.clamp(1, n.div_ceil(size).max(1));
        pool::on_threads(threads, || {
            while !failed.load(Ordering::Relaxed) {
                let start = next.fetch_add(size, Ordering::Relaxed);
                if start >= n {
                    return;
                }
                let range = start..n.min(start + size);
                let images = range.len();
                let result = work(range);
                let mut progress = lock();
                match result {
                    Ok(value) => {
                        progress.results.push((start, value));
                        progress.images += images;
                        (self.options.progress)(progress.images, n);
                    }
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        progress.error.get_or_insert(error);
                    }
                }
            }
        });
        let Progress { mut results, error, .. } =
            progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            return Err(error);
        }
        results.sort_unstable_by_key(|(start, _)| *start);
        Ok(results.into_iter().map(|(_, value)| value).collect())
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }
}

/// Writes the pixels of a block, and notes where they are.
fn write(
    writer: &CacheWriter,
    block: &Block,
    items: &mut [Prepared],
    len: usize,
) -> Result<(), DatasetError> {
    let wide: Vec<u8> = block.wide.iter().flat_map(|value| value.to_le_bytes()).collect();
    let [narrow_at, wide_at] = [writer.append(&block.narrow)?, writer.append(&wide)?];
    for item in items {
        let Ok((slot, _)) = item.outcome else { continue };
        item.record = Some(match slot {
            Slot::Narrow(start) => Record {
                at: narrow_at + u64::from(start),
                crc: crc(&block.narrow[start as usize..][..len]),
                wide: false,
            },
            Slot::Wide(start) => Record {
                at: wide_at + 2 * u64::from(start),
                crc: crc(&wide[2 * start as usize..][..2 * len]),
                wide: true,
            },
        });
    }
    Ok(())
}

impl Pass {
    fn items(&self) -> impl Iterator<Item = &Prepared> {
        self.blocks.iter().flat_map(|(_, items)| items)
    }

    /// What a cache file says of the items.
    fn stored(&self) -> Vec<Stored> {
        self.items()
            .map(|item| match &item.outcome {
                Ok(_) => Ok(item.record.expect("pixels were written to the file")),
                Err(reason) => Err(reason.clone()),
            })
            .collect()
    }

    fn loaded(self, len: usize, cache: Option<(CacheFile, CacheMade)>) -> Loaded {
        let mut outcomes = Vec::with_capacity(self.blocks.iter().map(|(_, items)| items.len()).sum());
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (number, (block, items)) in self.blocks.into_iter().enumerate() {
            let in_memory = block.bytes() > 0;
            outcomes.extend(items.into_iter().map(|item| {
                let (slot, hash) = item.outcome?;
                let place = match item.record {
                    Some(record) if !in_memory => Place::File(record),
                    _ => Place::Memory { block: number as u32, slot },
                };
                Ok((place, hash))
            }));
            blocks.push(block);
        }
        let (file, made) = cache.unzip();
        let in_memory = blocks.iter().map(Block::bytes).sum();
        let cache = file.as_ref().zip(made).map(|(file, made)| CacheUse {
            path: file.path().map(Path::to_owned),
            bytes: self.bytes,
            in_memory,
            made,
        });
        Loaded { pixels: PixelStore::new(len, blocks, file), outcomes, cache }
    }
}
