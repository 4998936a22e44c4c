//! What hiding a part of an image takes from the probability of a class.

use ocelli_datasets::Preprocessing;

/// Most places along a side at which a part is hidden.
const PLACES: usize = 14;

/// Gray, as a fraction of white: that of the bars around images that do not fill the input.
const GRAY: f32 = 128.0 / 255.0;

/// The parts of an image that are hidden one after the other: the image is cut into at most 14 by 14 cells, and a part is a
/// cell with half a cell around it on every side, as far as that lies in the image. On 224x224 pixels these are gray squares
/// of 32 pixels that move by 16.
pub(super) struct Occlusion {
    width: usize,
    height: usize,
    /// Cells in a row, and rows of them.
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Gray, normalised, one value for each channel.
    gray: Vec<f32>,
}

impl Occlusion {
    pub(super) fn new(pre: &Preprocessing) -> Self {
        let (width, height) = (pre.width as usize, pre.height as usize);
        let gray = pre.mean.iter().zip(&pre.std).map(|(mean, std)| (GRAY - mean) / std).collect();
        Occlusion { width, height, columns: width.min(PLACES), rows: height.min(PLACES), gray }
    }

    /// How many parts there are.
    pub(super) fn parts(&self) -> usize {
        self.columns * self.rows
    }

    /// Grays the part number `part` of an image `[h][w][c]`, counted row by row.
    pub(super) fn hide(&self, part: usize, image: &mut [f32]) {
        let channels = self.gray.len();
        let across = side(part % self.columns, self.columns, self.width);
        for y in side(part / self.columns, self.rows, self.height) {
            let row = y * self.width + across.start..y * self.width + across.end;
            let row = &mut image[row.start * channels..row.end * channels];
            row.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&self.gray));
        }
    }
}

/// The pixels along a side of `len` that the part of cell `cell` of `cells` covers.
fn side(cell: usize, cells: usize, len: usize) -> std::ops::Range<usize> {
    // In halves of a cell; a pixel that is covered in part is hidden.
    let (start, end) = ((2 * cell).saturating_sub(1), (2 * cell + 3).min(2 * cells));
    start * len / (2 * cells)..(end * len).div_ceil(2 * cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_datasets::Fit;

    #[test]
    fn parts_cover_every_pixel_and_lie_around_their_cells() {
        assert_eq!((side(0, 14, 224), side(1, 14, 224), side(13, 14, 224)), (0..24, 8..40, 200..224));
        for (cells, len) in [(1, 1), (2, 2), (3, 3), (14, 28), (14, 29), (14, 32), (14, 224), (14, 4096)] {
            let mut covered = vec![0; len];
            for cell in 0..cells {
                let part = side(cell, cells, len);
                let middle = (2 * cell + 1) * len / (2 * cells);
                assert!(part.contains(&middle), "{cell} of {cells} in {len}: {part:?}");
                covered[part].iter_mut().for_each(|count| *count += 1);
            }
            assert!(covered.iter().all(|&count| (1..=3).contains(&count)), "{cells} in {len}: {covered:?}");
        }
    }

    #[test]
    fn a_part_is_gray_and_the_rest_stays() {
        let mut pre = Preprocessing::new(28, 20, 3, Fit::Stretch);
        (pre.mean, pre.std) = (vec![0.1, 0.2, 0.3], vec![0.5, 0.25, 1.0]);
        let occlusion = Occlusion::new(&pre);
        assert_eq!((occlusion.columns, occlusion.rows, occlusion.parts()), (14, 14, 196));
        let mut image = vec![9.0; pre.len()];
        occlusion.hide(15, &mut image);
        let (across, down) = (side(1, 14, 28), side(1, 14, 20));
        assert_eq!(across, 1..5);
        for (at, pixel) in image.chunks_exact(3).enumerate() {
            let hidden = across.contains(&(at % 28)) && down.contains(&(at / 28));
            let gray: Vec<f32> = (0..3).map(|c| (128.0 / 255.0 - pre.mean[c]) / pre.std[c]).collect();
            assert_eq!(pixel, if hidden { &gray[..] } else { &[9.0; 3] }, "{at}");
        }
    }
}
