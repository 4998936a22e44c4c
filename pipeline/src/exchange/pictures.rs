//! Images to compare two forms of a model on, where nobody gives any.

use ocelli_datasets::Preprocessing;
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::rng::Rng;

/// `count` images of 8 bits, resized and not normalised: the model's stored probe images, then mirror images and darker and
/// lighter copies of them; drawn ones where it has none.
pub(super) fn pictures(file: &ModelFile, count: usize) -> Vec<Vec<u8>> {
    let pre = &file.meta.preprocessing;
    let stored = file.probes.iter().flat_map(|probes| &probes.images).map(|probe| probe.pixels.clone());
    let mut all: Vec<Vec<u8>> = stored.filter(|pixels| pixels.len() == pre.len()).collect();
    let real = all.len();
    for index in 0..count.saturating_sub(real) {
        all.push(match real {
            0 => drawn(pre, index as u64),
            _ => varied(&all[index % real], pre, index / real),
        });
    }
    all.truncate(count);
    all
}

/// A mirror image, in one direction, the other, or both, at another brightness.
fn varied(pixels: &[u8], pre: &Preprocessing, round: usize) -> Vec<u8> {
    let (w, h, c) = (pre.width as usize, pre.height as usize, usize::from(pre.channels));
    let factor = [0.7, 1.0, 0.85, 1.15][round % 4];
    let (flip_x, flip_y) = (round.is_multiple_of(2), round % 4 >= 1);
    let mut out = Vec::with_capacity(pixels.len());
    for y in 0..h {
        let y = if flip_y { h - 1 - y } else { y };
        for x in 0..w {
            let x = if flip_x { w - 1 - x } else { x };
            let pixel = &pixels[(y * w + x) * c..][..c];
            out.extend(pixel.iter().map(|&value| (f32::from(value) * factor).min(255.0) as u8));
        }
    }
    out
}

/// Discs and bars on a gradient, by a number: images with edges, areas and all values.
pub(super) fn drawn(pre: &Preprocessing, number: u64) -> Vec<u8> {
    let (w, h, c) = (pre.width as usize, pre.height as usize, usize::from(pre.channels));
    let mut rng = Rng::new(17, number);
    let mut uniform = || rng.uniform();
    let mut colour = || (0..c).map(|_| 255.0 * uniform()).collect::<Vec<f32>>();
    let (from, to) = (colour(), colour());
    let discs: Vec<_> = (0..4).map(|_| colour()).collect();
    let places: Vec<[f32; 3]> = (0..4).map(|_| [uniform(), uniform(), 0.1 + 0.3 * uniform()]).collect();
    let bars = 2.0 + 10.0 * uniform();
    let mut out = Vec::with_capacity(pre.len());
    for y in 0..h {
        for x in 0..w {
            let (u, v) = (x as f32 / w as f32, y as f32 / h as f32);
            let inside = |[cx, cy, r]: &[f32; 3]| (u - cx) * (u - cx) + (v - cy) * (v - cy) < r * r;
            let disc = places.iter().position(inside);
            let bar = ((u + 0.3 * v) * bars).fract() < 0.5;
            for channel in 0..c {
                let value = match disc {
                    Some(disc) => discs[disc][channel],
                    None => from[channel] * (1.0 - v) + to[channel] * v * if bar { 1.0 } else { 0.6 },
                };
                out.push(value as u8);
            }
        }
    }
    out
}
