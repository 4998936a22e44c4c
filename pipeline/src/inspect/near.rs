//! Which images are copies of each other by their look.
//!
//! Comparing all with all takes some seconds at 60,000 images and an hour at a million. Waves are therefore cut into bands of 16:
//! two images are compared where one band is the same in both and not empty. A copy has most of its 16 bands untouched,
//! the slow ones nearly always. Within a band images are sorted by all of their waves, and each is compared with those
//! that follow closely, so that thousands of frames of one film cost no more than others.

use ocelli_engine::Pool;

use super::fingerprint::{Fingerprint, WAVES};
use super::groups::Joined;
use crate::error::PipelineError;
use crate::pool;

/// Waves of a band.
const BAND: usize = 16;
/// Images with the same band that one is compared with.
const FOLLOWING: usize = 128;
/// Images that look for copies at a time; what they find is joined before the next ones look.
const BLOCK: usize = 4096;
/// What two copies are: the part of their waves that only one of them has, at most, and the correlation of their pixels, at
/// least. Small copies lose waves and keep their pixels. `docs/inspect.md` has what this was chosen by.
const COPIES: [(f32, f32); 2] = [(0.3, 0.92), (0.42, 0.98)];
/// Waves that an image needs: with fewer, all that two smooth images have in common is that they are smooth.
const LEAST_WAVES: u32 = 8;

/// Whether two images are copies of each other.
pub(super) fn is_copy(a: &Fingerprint, b: &Fingerprint) -> bool {
    let (apart, all) = a.waves_apart(b);
    let fits = |most: f32| apart as f32 <= most * all as f32;
    if all < 2 * LEAST_WAVES || !COPIES.iter().any(|&(most, _)| fits(most)) {
        return false;
    }
    let correlation = a.correlation(b);
    COPIES.iter().any(|&(most, least)| fits(most) && correlation >= least)
}

/// Joins the images of `all` that are copies; `None` stands for an image that cannot be read or is not to be looked at.
///
/// # Errors
/// [`PipelineError::Engine`] when the threads of the pool cannot start.
pub(super) fn join_copies(
    all: &[Option<&Fingerprint>],
    joined: &mut Joined,
    pool: &Pool,
) -> Result<(), PipelineError> {
    let seen: Vec<(usize, &Fingerprint)> = all
        .iter()
        .enumerate()
        .filter_map(|(image, print)| print.map(|print| (image, print)))
        .filter(|(_, print)| print.count() >= LEAST_WAVES)
        .collect();
    for band in 0..WAVES / BAND {
        let key = |print: &Fingerprint| {
            let at = band * BAND;
            (print.waves[at / 64] >> (at % 64)) as u16
        };
        let mut order: Vec<(u16, usize)> = (seen.iter().enumerate())
            .map(|(place, (_, print))| (key(print), place))
            .filter(|&(key, _)| key != 0)
            .collect();
        order.sort_unstable_by(|&(a, x), &(b, y)| {
            a.cmp(&b).then_with(|| seen[x].1.waves.cmp(&seen[y].1.waves)).then(x.cmp(&y))
        });
        let places: Vec<usize> = (0..order.len()).collect();
        for block in places.chunks(BLOCK) {
            let found = pool::map(pool, block, |&at| {
                let (key, place) = order[at];
                let (image, print) = seen[place];
                let following = order[at + 1..].iter().take(FOLLOWING).take_while(|(other, _)| *other == key);
                following
                    .map(|&(_, place)| seen[place])
                    .filter(|(other, other_print)| !joined.are(image, *other) && is_copy(print, other_print))
                    .map(|(other, _)| (image, other))
                    .collect::<Vec<_>>()
            })?;
            found.into_iter().flatten().for_each(|(a, b)| joined.join(a, b));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::Fingerprinter;
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::imageops::{FilterType, resize};
    use image::{Rgb, RgbImage};
    use ocelli_datasets::rng::Rng;
    use ocelli_datasets::{DecodeLimits, decode};

    /// A picture as cameras make them: coarse shapes are strong, fine ones weak, and colours go along with brightness.
    fn photo(seed: u64, side: u32) -> RgbImage {
        let mut rng = Rng::new(seed);
        let waves: Vec<[f32; 6]> = (0..120)
            .map(|_| {
                let [u, v] = [rng.range_f32(-8.0, 8.0), rng.range_f32(-8.0, 8.0)];
                let size = 60.0 / (1.0 + (u * u + v * v).sqrt());
                [
                    u,
                    v,
                    rng.range_f32(0.0, 6.3),
                    size,
                    size * rng.range_f32(0.5, 1.0),
                    size * rng.range_f32(0.3, 1.0),
                ]
            })
            .collect();
        RgbImage::from_fn(side, side, |x, y| {
            let at = |length: u32| length as f32 / side as f32 * std::f32::consts::TAU;
            let mut levels = [120.0, 115.0, 105.0];
            for [u, v, phase, sizes @ ..] in &waves {
                let wave = (u * at(x) + v * at(y) + phase).sin();
                levels.iter_mut().zip(sizes).for_each(|(level, size)| *level += size * wave);
            }
            Rgb(levels.map(|level: f32| level.clamp(0.0, 255.0) as u8))
        })
    }

    fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).unwrap();
        bytes
    }

    fn fingerprint(file: &[u8]) -> Fingerprint {
        Fingerprinter::new().fingerprint(&decode(file, &DecodeLimits::default()).unwrap()).unwrap()
    }

    fn groups(all: &[Fingerprint], threads: usize) -> Vec<Vec<usize>> {
        let mut joined = Joined::new(all.len());
        join_copies(&all.iter().map(Some).collect::<Vec<_>>(), &mut joined, &Pool::new(threads).unwrap())
            .unwrap();
        joined.groups()
    }

    /// Another size, another quality, and somewhat brighter or paler.
    fn copy(image: &RgbImage, rng: &mut Rng) -> Vec<u8> {
        let side = |length: u32, factor: f32| ((length as f32 * factor) as u32).max(8);
        let factor = rng.range_f32(0.6, 2.0);
        let filter =
            [FilterType::Triangle, FilterType::CatmullRom, FilterType::Lanczos3][rng.below(3) as usize];
        let mut copy = resize(image, side(image.width(), factor), side(image.height(), factor), filter);
        let (gain, offset) = (rng.range_f32(0.8, 1.05), rng.range_f32(-10.0, 20.0));
        copy.pixels_mut().flat_map(|pixel| &mut pixel.0).for_each(|value| {
            *value = (f32::from(*value) * gain + offset).clamp(0.0, 255.0) as u8;
        });
        jpeg(&copy, 60 + rng.below(31) as u8)
    }

    #[test]
    fn copies_are_found_and_others_left_alone_at_any_number_of_threads() {
        let mut rng = Rng::new(11);
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for seed in 0..150 {
            let image = photo(seed, if seed % 2 == 0 { 32 } else { 96 });
            all.push(fingerprint(&jpeg(&image, 90)));
            if seed % 3 == 0 {
                expected.push(vec![all.len() - 1, all.len()]);
                all.push(fingerprint(&copy(&image, &mut rng)));
            }
        }
        for threads in [1, 3] {
            assert_eq!(groups(&all, threads), expected);
        }
    }

    #[test]
    fn frames_of_one_film_are_one_group() {
        // More than one is compared with, and than look at a time.
        let frames = FOLLOWING + 300;
        let image = photo(5, 64);
        let frame = |number: usize| {
            let mut frame = image.clone();
            frame.put_pixel(number as u32 % 64, number as u32 / 64, Rgb([0; 3]));
            fingerprint(&jpeg(&frame, 95))
        };
        let all: Vec<Fingerprint> = (0..frames).map(frame).collect();
        assert_eq!(groups(&all, 2), [(0..frames).collect::<Vec<_>>()]);
    }

    #[test]
    fn smooth_images_have_too_little_in_common_to_be_copies() {
        // Skies: brighter to one side, and nothing else.
        let sky = |turn: u32| {
            let level = move |x: u32, y: u32| (100 + x * turn / 8 + y * (10 - turn) / 8) as u8;
            fingerprint(&jpeg(&RgbImage::from_fn(64, 64, |x, y| Rgb([level(x, y); 3])), 90))
        };
        let all: Vec<Fingerprint> = (0..10).map(sky).collect();
        assert!(all.iter().all(|print| print.count() < LEAST_WAVES));
        assert!(groups(&all, 2).is_empty());
    }

    #[test]
    fn brightness_and_contrast_change_nothing_but_colours_do() {
        let image = photo(1, 64);
        let changed = |change: fn([u8; 3]) -> [u8; 3]| {
            let mut copy = image.clone();
            copy.pixels_mut().for_each(|pixel| pixel.0 = change(pixel.0));
            fingerprint(&jpeg(&copy, 95))
        };
        let own = changed(|rgb| rgb);
        assert!(own.correlation(&own) > 0.999_99 && own.waves_apart(&own).0 == 0);
        assert!(is_copy(&own, &changed(|rgb| rgb.map(|value| value / 2 + 60))));
        // The same shapes with red and blue light exchanged for their opposites are another picture.
        assert!(!is_copy(&own, &changed(|[r, g, b]| [255 - r, g, 255 - b])));
        assert!(!is_copy(&own, &changed(|rgb| rgb.map(|value| 255 - value))));
    }
}
