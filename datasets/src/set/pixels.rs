//! The pixels of all images of a set: in memory, or in a cache file.

use std::borrow::Cow;

use crate::cache::{CacheFile, Record};
use crate::decode::Pixels;
use crate::error::DatasetError;

/// The pixels of all images, `len` values each.
pub(super) struct PixelStore {
    len: usize,
    /// Those in memory; empty where a block is in the file alone.
    blocks: Vec<Block>,
    file: Option<CacheFile>,
}

/// Where the pixels of an image are.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Memory { block: u32, slot: Slot },
    File(Record),
}

/// Where in its block an image begins.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    Narrow(u32),
    Wide(u32),
}

/// The pixels of one image.
pub(super) enum Values<'a> {
    Narrow(Cow<'a, [u8]>),
    Wide(Cow<'a, [u16]>),
}

impl PixelStore {
    pub(super) fn new(len: usize, blocks: Vec<Block>, file: Option<CacheFile>) -> Self {
        PixelStore { len, blocks, file }
    }

    /// The pixels of the image at a place.
    ///
    /// # Errors
    /// Those of reading a cache file.
    pub(super) fn values(&self, place: Place) -> Result<Values<'_>, DatasetError> {
        match place {
            Place::Memory { block, slot } => Ok(self.blocks[block as usize].values(slot, self.len)),
            Place::File(record) => {
                let file = self.file.as_ref().expect("places in a file come with it");
                Ok(match file.read(record, self.len)? {
                    Pixels::U8(values) => Values::Narrow(Cow::Owned(values)),
                    Pixels::U16(values) => Values::Wide(Cow::Owned(values)),
                })
            }
        }
    }

    /// Bytes of the pixels in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(Block::bytes).sum()
    }
}

/// Pixels of neighbouring images, 8-bit and 16-bit ones apart.
#[derive(Default)]
pub(super) struct Block {
    pub(super) narrow: Vec<u8>,
    pub(super) wide: Vec<u16>,
}

impl Block {
    /// Appends an image.
    pub(super) fn push(&mut self, pixels: Pixels) -> Slot {
        // An image has less than 2^26 values, a block at most 64 images.
        match pixels {
            Pixels::U8(values) => {
                let start = self.narrow.len() as u32;
                self.narrow.extend_from_slice(&values);
                Slot::Narrow(start)
            }
            Pixels::U16(values) => {
                let start = self.wide.len() as u32;
                self.wide.extend_from_slice(&values);
                Slot::Wide(start)
            }
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.narrow.shrink_to_fit();
        self.wide.shrink_to_fit();
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.narrow.len() + 2 * self.wide.len()) as u64
    }

    fn values(&self, slot: Slot, len: usize) -> Values<'_> {
        match slot {
            Slot::Narrow(at) => Values::Narrow(Cow::Borrowed(&self.narrow[at as usize..][..len])),
            Slot::Wide(at) => Values::Wide(Cow::Borrowed(&self.wide[at as usize..][..len])),
        }
    }
}
