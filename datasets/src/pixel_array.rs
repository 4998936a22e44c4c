//! Images of one shape, side by side in memory: what IDX files and tables of pixels hold.

use crate::decode::{Image, Pixels};

/// Images of one shape, 8 bits a value.
pub(crate) struct PixelArray {
    width: u32,
    height: u32,
    channels: u8,
    pixels: Vec<u8>,
}

impl PixelArray {
    /// Images of one shape, `n h w c`.
    pub(crate) fn new(width: u32, height: u32, channels: u8, pixels: Vec<u8>) -> PixelArray {
        PixelArray { width, height, channels, pixels }
    }

    pub(crate) fn len(&self) -> usize {
        self.pixels.len() / self.image_len()
    }

    fn image_len(&self) -> usize {
        self.width as usize * self.height as usize * usize::from(self.channels)
    }

    /// Width, height and channels of every image.
    pub(crate) fn shape(&self) -> (u32, u32, u8) {
        (self.width, self.height, self.channels)
    }

    pub(crate) fn image(&self, index: usize) -> Image {
        let n = self.image_len();
        let pixels = Pixels::U8(self.pixels[index * n..][..n].to_vec());
        Image { width: self.width, height: self.height, channels: self.channels, pixels }
    }
}
