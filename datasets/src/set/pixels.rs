//! The pixels of all images of a set.

use std::borrow::Cow;

use crate::decode::Pixels;
use crate::error::DatasetError;

/// The pixels of all images, `len` values each.
pub(super) struct PixelStore {
    len: usize,
    blocks: Vec<Block>,
}

/// Where the pixels of an image are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Number of the block.
    pub(super) block: u32,
    pub(super) slot: Slot,
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
    pub(super) fn new(len: usize, blocks: Vec<Block>) -> Self {
        PixelStore { len, blocks }
    }

    /// The pixels of the image at a place.
    pub(super) fn values(&self, place: Place) -> Result<Values<'_>, DatasetError> {
        Ok(self.blocks[place.block as usize].values(place.slot, self.len))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(Block::bytes).sum()
    }
}

/// Pixels of neighbouring images, 8-bit and 16-bit ones apart.
#[derive(Default)]
pub(super) struct Block {
    narrow: Vec<u8>,
    wide: Vec<u16>,
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
