//! Pictures of images and their heat maps.

use ocelli_datasets::{Fit, Pixels, Prepared, Preprocessing, mosaic, png};

use super::colours::colour;
use super::map::HeatMap;

/// Pixels between two pictures.
const GAP: usize = 4;
/// Gray between them, in light and in dark surroundings.
const GAP_COLOUR: u8 = 128;
/// Share of the map's colour in a picture with a map over it.
const OPACITY: f32 = 0.5;

/// An RGB picture of 8 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height][width][3]`
    pub values: Vec<u8>,
}

impl Picture {
    /// An image as a network sees it. 16 bits become 8; of other channels than one or three, the first is shown.
    ///
    /// # Panics
    /// When the image was prepared for another shape.
    pub fn of(image: &Prepared, pre: &Preprocessing) -> Picture {
        assert_eq!(image.pixels.len(), pre.len(), "the image was prepared for another shape");
        let channels = usize::from(pre.channels);
        let byte = |at: usize| match &image.pixels {
            Pixels::U8(values) => values[at],
            Pixels::U16(values) => ((u32::from(values[at]) * 255 + 32_767) / 65_535) as u8,
        };
        let pixel =
            |first: usize| if channels == 3 { [0, 1, 2].map(|c| byte(first + c)) } else { [byte(first); 3] };
        let values = (0..pre.len()).step_by(channels).flat_map(pixel).collect();
        Picture { width: pre.width as usize, height: pre.height as usize, values }
    }

    /// The picture, each pixel made a square, as many times as it takes for its longer side to have `least` pixels.
    pub fn enlarged(&self, least: usize) -> Picture {
        let factor = least.div_ceil(self.width.max(self.height).max(1)).max(1);
        let (width, height) = (self.width * factor, self.height * factor);
        let mut values = Vec::with_capacity(width * height * 3);
        for row in self.values.chunks_exact(self.width * 3) {
            let wide: Vec<u8> = row
                .chunks_exact(3)
                .flat_map(|pixel| std::iter::repeat_n(pixel, factor))
                .flatten()
                .copied()
                .collect();
            (0..factor).for_each(|_| values.extend_from_slice(&wide));
        }
        Picture { width, height, values }
    }

    /// The colours of a map, at the size of this picture.
    pub fn map(&self, map: &HeatMap) -> Picture {
        let map = map.resized(self.width, self.height);
        Picture { values: map.values.into_iter().flat_map(colour).collect(), ..*self }
    }

    /// This picture, half of it and half of the colours of a map.
    pub fn overlaid(&self, map: &HeatMap) -> Picture {
        let colours = self.map(map).values;
        let mixed = |(&own, &over): (&u8, &u8)| {
            (f32::from(own) + (f32::from(over) - f32::from(own)) * OPACITY).round() as u8
        };
        Picture { values: self.values.iter().zip(&colours).map(mixed).collect(), ..*self }
    }

    /// The picture, the map, and the map over the picture, beside each other.
    pub fn panels(&self, map: &HeatMap) -> Picture {
        let parts = [self, &self.map(map), &self.overlaid(map)];
        let width = 3 * self.width + 2 * GAP;
        let mut values = Vec::with_capacity(width * self.height * 3);
        for y in 0..self.height {
            for (i, part) in parts.iter().enumerate() {
                if i > 0 {
                    values.extend([GAP_COLOUR; GAP * 3]);
                }
                values.extend_from_slice(&part.values[y * self.width * 3..][..self.width * 3]);
            }
        }
        Picture { width, values, ..*self }
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        png(&self.values, (self.width as u32, self.height as u32), true)
    }
}

/// A PNG of the first 64 of some pictures of one size, in rows. `None` without pictures.
///
/// # Panics
/// When a picture has another size than the first.
pub fn contact_sheet(pictures: &[Picture]) -> Option<Vec<u8>> {
    let Picture { width, height, .. } = *pictures.first()?;
    assert!(pictures.iter().all(|p| (p.width, p.height) == (width, height)), "pictures of one size");
    let size = (width as u32, height as u32);
    let values = pictures.iter().flat_map(|picture| &picture.values);
    let values: Vec<f32> = values.map(|&value| f32::from(value) / 255.0).collect();
    mosaic(&Preprocessing::new(size.0, size.1, 3, Fit::Stretch), size, &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_datasets::{DecodeLimits, decode};

    fn decoded(png: &[u8]) -> (usize, usize, Vec<u8>) {
        let image = decode(png, &DecodeLimits::default()).unwrap();
        let Pixels::U8(values) = image.pixels else { panic!("8 bits") };
        (image.width as usize, image.height as usize, values)
    }

    #[test]
    fn images_of_any_depth_and_number_of_channels_become_rgb() {
        for (channels, pixels, expected) in [
            (1, Pixels::U8(vec![7, 200]), [7, 7, 7, 200, 200, 200]),
            (3, Pixels::U8(vec![1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]),
            (1, Pixels::U16(vec![65_535, 257]), [255, 255, 255, 1, 1, 1]),
            (4, Pixels::U8(vec![9, 0, 0, 0, 8, 0, 0, 0]), [9, 9, 9, 8, 8, 8]),
        ] {
            let pre = Preprocessing::new(2, 1, channels, Fit::Stretch);
            assert_eq!(Picture::of(&Prepared { pixels }, &pre).values, expected, "{channels}");
        }
    }

    #[test]
    fn small_pictures_grow_by_whole_pixels_and_large_ones_stay() {
        let picture = Picture { width: 2, height: 1, values: vec![1, 2, 3, 4, 5, 6] };
        let large = picture.enlarged(3);
        assert_eq!((large.width, large.height), (4, 2));
        assert_eq!(large.values[..12], [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
        assert_eq!(large.values[..12], large.values[12..]);
        for least in [0, 1, 2] {
            assert_eq!(picture.enlarged(least), picture);
        }
    }

    #[test]
    fn panels_are_the_picture_the_map_and_both() {
        let picture = Picture { width: 2, height: 1, values: vec![10, 20, 30, 200, 100, 0] };
        let map = HeatMap { width: 2, height: 1, values: vec![0.0, 1.0] };
        let (width, height, values) = decoded(&picture.panels(&map).png());
        assert_eq!((width, height), (2 * 3 + 2 * GAP, 1));
        let at = |part: usize| &values[part * (2 + GAP) * 3..][..6];
        assert_eq!(at(0), picture.values);
        let [cold, hot] = [colour(0.0), colour(1.0)];
        assert_eq!(at(1), [cold, hot].concat());
        let half = |a: u8, b: u8| ((f32::from(a) + f32::from(b)) / 2.0).round() as u8;
        let both: Vec<u8> =
            picture.values.iter().zip([cold, hot].concat()).map(|(&a, b)| half(a, b)).collect();
        assert_eq!(at(2), both);
    }

    #[test]
    fn a_contact_sheet_holds_each_picture_as_it_is() {
        assert_eq!(contact_sheet(&[]), None);
        let picture = |i: u8| Picture { width: 3, height: 2, values: (0..18).map(|v| v * 10 + i).collect() };
        let pictures: Vec<Picture> = (0..5).map(picture).collect();
        let (width, height, values) = decoded(&contact_sheet(&pictures).unwrap());
        assert_eq!((width, height), (3 * 3 + 2 * 2, 2 * 2 + 2));
        for (i, picture) in pictures.iter().enumerate() {
            let (left, top) = (i % 3 * 5, i / 3 * 4);
            for (y, row) in picture.values.chunks_exact(9).enumerate() {
                assert_eq!(&values[((top + y) * width + left) * 3..][..9], row, "{i}");
            }
        }
    }
}
