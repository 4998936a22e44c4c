//! BMP files of any header ("Bitmap Header Types", Windows GDI; OS/2 2.0).

/// A file to write; rows are padded to 4 bytes by the writer.
pub struct Bmp<'a> {
    /// Pixels across.
    pub width: i32,
    /// Pixels down, negative for rows from the top.
    pub height: i32,
    /// Bytes of the header: 12, 16 to 64, 108 or 124.
    pub header: u32,
    /// Bits of a pixel.
    pub bits: u16,
    /// 0 for none, 1 and 2 for run lengths, 3 for bit fields, 6 for bit fields with alpha.
    pub compression: u32,
    /// Masks of red, green, blue and alpha; those that the header has no place for stand behind it.
    pub masks: &'a [u32],
    /// Palette entries of blue, green, red, which get the length that the header wants.
    pub palette: &'a [[u8; 3]],
}

impl Bmp<'_> {
    /// The file with packed pixels, as they are to lie in it.
    pub fn bytes(&self, pixels: &[u8]) -> Vec<u8> {
        let mut info = self.header.to_le_bytes().to_vec();
        if self.header == 12 {
            [self.width as u16, self.height as u16, 1, self.bits]
                .iter()
                .for_each(|v| info.extend(v.to_le_bytes()));
        } else {
            info.extend([self.width.to_le_bytes(), self.height.to_le_bytes()].concat());
            info.extend([1_u16.to_le_bytes(), self.bits.to_le_bytes()].concat());
            let colours = self.palette.len() as u32;
            let rest = [self.compression, pixels.len() as u32, 2835, 2835, colours, 0];
            rest.iter().for_each(|v| info.extend(v.to_le_bytes()));
            info.truncate(self.header as usize);
        }
        // From V2 on the header has room for the masks.
        self.masks.iter().for_each(|mask| info.extend(mask.to_le_bytes()));
        if info.len() < self.header as usize {
            info.resize(self.header as usize, 0);
        }
        for colour in self.palette {
            info.extend(colour);
            info.extend(&[0][..usize::from(self.header != 12)]);
        }
        let start = 14 + info.len() as u32;
        let length = start + pixels.len() as u32;
        [b"BM", &length.to_le_bytes()[..], &[0; 4], &start.to_le_bytes(), &info, pixels].concat()
    }
}
