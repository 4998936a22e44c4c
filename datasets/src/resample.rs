//! Images at another size.
//!
//! Resampling is the triangle filter widened by the scale (antialiased bilinear, what PIL calls BILINEAR), in integers, so
//! the result is the same on every CPU. A region that already has the right size is copied.

use fast_image_resize::images::{Image as Buffer, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// The filter of training and serving alike; changing it changes every model's accuracy.
const FILTER: ResizeAlg = ResizeAlg::Convolution(FilterType::Bilinear);

/// A pixel value of 8 or 16 bits.
pub(crate) trait Sample: Copy + Into<u32> + Into<f32> {
    /// The value of white.
    const WHITE: f32;
    /// The number, which the caller knows to fit.
    fn from_u32(value: u32) -> Self;
    /// Scales a region to `size`.
    fn scale(view: &View<Self>, region: Region, size: (u32, u32)) -> Vec<Self>;
}

impl Sample for u8 {
    const WHITE: f32 = 255.0;

    fn from_u32(value: u32) -> Self {
        value as u8
    }

    fn scale(view: &View<u8>, region: Region, size: (u32, u32)) -> Vec<u8> {
        let kind = if view.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
        let from = ImageRef::new(view.size.0, view.size.1, view.values, kind)
            .expect("the view has as many values as its size says, and bytes are always aligned");
        let mut to = Buffer::new(size.0, size.1, kind);
        Resizer::new()
            .resize(&from, &mut to, &region.options())
            .expect("both images have the same pixel type and the region lies inside");
        to.into_vec()
    }
}

impl Sample for u16 {
    const WHITE: f32 = 65_535.0;

    fn from_u32(value: u32) -> Self {
        value as u16
    }

    fn scale(view: &View<u16>, region: Region, size: (u32, u32)) -> Vec<u16> {
        let kind = if view.channels == 1 { PixelType::U16 } else { PixelType::U16x3 };
        let mut from = Buffer::new(view.size.0, view.size.1, kind);
        for (bytes, value) in from.buffer_mut().chunks_exact_mut(2).zip(view.values) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        let mut to = Buffer::new(size.0, size.1, kind);
        Resizer::new()
            .resize(&from, &mut to, &region.options())
            .expect("both images have the same pixel type and the region lies inside");
        to.buffer().chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
    }
}

/// Borrowed interleaved pixels.
pub(crate) struct View<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) size: (u32, u32),
    pub(crate) channels: u8,
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Region {
    /// All of an image.
    pub(crate) fn whole((width, height): (u32, u32)) -> Self {
        Region { x: 0, y: 0, width, height }
    }

    fn options(&self) -> ResizeOptions {
        let [x, y, width, height] = [self.x, self.y, self.width, self.height].map(f64::from);
        ResizeOptions::new().resize_alg(FILTER).use_alpha(false).crop(x, y, width, height)
    }
}

/// A region at another size; copied where it has that size already.
pub(crate) fn resample<T: Sample>(view: &View<T>, region: Region, size: (u32, u32)) -> Vec<T> {
    if (region.width, region.height) != size {
        return if matches!(view.channels, 1 | 3) {
            T::scale(view, region, size)
        } else {
            by_plane(view, region, size)
        };
    }
    if view.size == size {
        return view.values.to_vec();
    }
    let n = usize::from(view.channels);
    let (left, row) = (region.x as usize * n, region.width as usize * n);
    view.values
        .chunks_exact(view.size.0 as usize * n)
        .skip(region.y as usize)
        .take(region.height as usize)
        .flat_map(|line| &line[left..left + row])
        .copied()
        .collect()
}

/// The resampler takes one or three channels; of other images, one after the other.
fn by_plane<T: Sample>(view: &View<T>, region: Region, size: (u32, u32)) -> Vec<T> {
    let n = usize::from(view.channels);
    let mut out = vec![T::from_u32(0); size.0 as usize * size.1 as usize * n];
    for c in 0..n {
        let plane: Vec<T> = view.values.iter().skip(c).step_by(n).copied().collect();
        let scaled = T::scale(&View { values: &plane, size: view.size, channels: 1 }, region, size);
        out.iter_mut().skip(c).step_by(n).zip(scaled).for_each(|(out, value)| *out = value);
    }
    out
}
