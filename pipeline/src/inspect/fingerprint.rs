//! What is kept of an image's look: enough to find copies that were resized, encoded again, made brighter or paler.
//!
//! The crates that do this (`image_hasher` is alive and small enough) hash what the crate `image` decodes, resized by their
//! own filters. Here an image has one decoder and one resampler, whose pixels training sees, and what a hash is compared
//! with decides as much as the hash: on images of 32x32 pixels a hash of 64 bits alone calls thousands of different images
//! the same.
//!
//! Two things are kept. **Waves**: the image as 32x32 gray levels, as a sum of cosines (DCT-II), and of the 256 slowest
//! ones but the constant whether they are there with more than noise, on the bright side. A cosine is not moved by
//! brightness, and its sign not by contrast. Where most of these agree, the **pixels** decide: 16x16 in colour, compared by
//! correlation, which brightness and contrast do not change either.

use std::f64::consts::PI;

use ocelli_datasets::{DecodeError, Fit, Image, Pixels, Prepare, Preprocessing};

use crate::findings::GRAY_LEVELS;

/// Pixels a side that waves are computed of.
const SIDE: usize = 32;
/// Pixels a side that are compared.
const SMALL: usize = 16;
/// Values that are compared.
const VALUES: usize = SMALL * SMALL * 3;
/// Waves that are looked at, and words that hold a bit of each.
pub(super) const WAVES: usize = 256;
const WORDS: usize = WAVES / 64;
/// Half periods across the image that are computed: the slowest 256 waves have at most 18.
const HALF_PERIODS: usize = 20;
/// Size of a wave (orthonormal, in levels of 255) above which it is there: JPEG at quality 75 moves waves by about half of it.
const NOISE: f64 = 6.0;
/// Half periods that a pixel holds: at one, the fastest there is, resizing leaves nothing of a wave.
const HELD: f64 = 0.75;
/// Standard deviation of gray levels below which an image shows nothing: one colour, and noise.
pub(super) const BLANK: f32 = 2.0;
/// Cosines are kept as integers of this scale, so that every machine finds the same waves.
const SCALE: f64 = 1024.0;

/// What is kept of an image's look.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fingerprint {
    /// A bit for each wave, slowest first.
    pub(super) waves: [u64; WORDS],
    /// How many of the slowest waves the image is large enough to hold.
    held: u32,
    /// `[y][x][channel]`
    pixels: Box<[u8; VALUES]>,
    /// Standard deviation of the gray levels, of 255.
    pub(super) contrast: f32,
    /// Whether the colours are grays.
    pub(super) gray: bool,
}

/// Takes fingerprints.
pub(super) struct Fingerprinter {
    /// Half periods down and across of each wave.
    order: Vec<(usize, usize)>,
    /// `[half periods][pixel]`
    cosines: Vec<[i32; SIDE]>,
    /// What a wave has to be above, by how many of its two directions are constant.
    least: [i64; 2],
}

impl Fingerprinter {
    pub(super) fn new() -> Fingerprinter {
        let cosine = |u: usize, x: usize| (PI * (2 * x + 1) as f64 * u as f64 / (2 * SIDE) as f64).cos();
        let row = |u: usize| std::array::from_fn(|x| (SCALE * cosine(u, x)).round() as i32);
        let all = (0..HALF_PERIODS).flat_map(|v| (0..HALF_PERIODS).map(move |u| (v, u)));
        let mut order: Vec<(usize, usize)> = all.filter(|&wave| wave != (0, 0)).collect();
        order.sort_by_key(|&(v, u)| (v * v + u * u, v, u));
        order.truncate(WAVES);
        // An orthonormal wave is the sum times 2 / SIDE, and by the root of 2 less where it is constant in one direction.
        let sum = NOISE * SCALE * SCALE * SIDE as f64 / 2.0;
        Fingerprinter {
            order,
            cosines: (0..HALF_PERIODS).map(row).collect(),
            least: [sum as i64, (sum * 2f64.sqrt()) as i64],
        }
    }

    /// The fingerprint of a decoded image. Of images with other channels than one or three, the mean over the channels.
    ///
    /// # Errors
    /// [`DecodeError::BadShape`] for pixels that are not as many as the image says.
    pub(super) fn fingerprint(&self, image: &Image) -> Result<Fingerprint, DecodeError> {
        let side = SIDE as u32;
        let small = Preprocessing::new(side, side, image.channels, Fit::Stretch).resize(image)?.pixels;
        let levels: Vec<u8> = match small {
            Pixels::U8(values) => values,
            Pixels::U16(values) => values.iter().map(|value| (value >> 8) as u8).collect(),
        };
        let rgb: Vec<[u8; 3]> = match image.channels {
            3 => levels.as_chunks::<3>().0.to_vec(),
            n => levels.chunks_exact(n.into()).map(|pixel| [mean(pixel); 3]).collect(),
        };
        let gray: Vec<i32> = rgb.iter().map(luma).collect();
        let coloured = |[r, g, b]: &[u8; 3]| r.max(g).max(b) - r.min(g).min(b) > GRAY_LEVELS;
        Ok(Fingerprint {
            waves: self.waves(&gray),
            held: self.held(image.width.min(image.height)),
            pixels: halved(&rgb),
            contrast: deviation(&gray),
            gray: !rgb.iter().any(coloured),
        })
    }

    /// How many of the slowest waves an image holds whose shorter side has so many pixels.
    fn held(&self, side: u32) -> u32 {
        let most = (HELD * f64::from(side)).powi(2);
        self.order.partition_point(|&(v, u)| ((v * v + u * u) as f64) < most) as u32
    }

    fn waves(&self, gray: &[i32]) -> [u64; WORDS] {
        // Across each row, then down each of its waves: [half periods across][row].
        let mut across = [[0i64; SIDE]; HALF_PERIODS];
        for (y, row) in gray.chunks_exact(SIDE).enumerate() {
            for (across, cosines) in across.iter_mut().zip(&self.cosines) {
                across[y] = row.iter().zip(cosines).map(|(level, cosine)| i64::from(level * cosine)).sum();
            }
        }
        let mut waves = [0; WORDS];
        for (bit, &(v, u)) in self.order.iter().enumerate() {
            let wave: i64 =
                across[u].iter().zip(&self.cosines[v]).map(|(sum, &cosine)| sum * i64::from(cosine)).sum();
            if wave > self.least[usize::from(v == 0 || u == 0)] {
                waves[bit / 64] |= 1 << (bit % 64);
            }
        }
        waves
    }
}

impl Fingerprint {
    /// How many waves are there.
    pub(super) fn count(&self) -> u32 {
        self.waves.iter().map(|word| word.count_ones()).sum()
    }

    /// Of the waves that both images are large enough to hold, how many only one of both has, and how many each has, added
    /// up.
    pub(super) fn waves_apart(&self, other: &Fingerprint) -> (u32, u32) {
        let held = self.held.min(other.held);
        let (mut apart, mut all) = (0, 0);
        for (word, (a, b)) in (0..).zip(self.waves.iter().zip(&other.waves)) {
            let bits = held.saturating_sub(64 * word).min(64);
            let mask = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
            apart += ((a ^ b) & mask).count_ones();
            all += (a & mask).count_ones() + (b & mask).count_ones();
        }
        (apart, all)
    }

    /// Correlation of the pixels, each channel about its own mean, in -1..=1; 0 where one of both is of one colour. Where one
    /// of both images is too small to hold all waves, of the means of two by two pixels.
    pub(super) fn correlation(&self, other: &Fingerprint) -> f32 {
        let coarse = self.held.min(other.held) < WAVES as u32;
        let (mut products, mut own, mut others) = (0i64, 0i64, 0i64);
        for channel in 0..3 {
            for (a, b) in self.about_mean(channel, coarse).iter().zip(other.about_mean(channel, coarse)) {
                products += a * b;
                own += a * a;
                others += b * b;
            }
        }
        let size = (own as f64 * others as f64).sqrt();
        if size > 0.0 { (products as f64 / size) as f32 } else { 0.0 }
    }

    /// The pixels of a channel less their mean, times their number: whole numbers. With `coarse`, sums of two by two.
    fn about_mean(&self, channel: usize, coarse: bool) -> Vec<i64> {
        let at = |pixel: usize| i64::from(self.pixels[3 * pixel + channel]);
        let all: Vec<i64> = match coarse {
            false => (0..SMALL * SMALL).map(at).collect(),
            true => (0..SMALL * SMALL / 4)
                .map(|block| {
                    let corner = block / (SMALL / 2) * 2 * SMALL + block % (SMALL / 2) * 2;
                    [corner, corner + 1, corner + SMALL, corner + SMALL + 1].into_iter().map(at).sum()
                })
                .collect(),
        };
        let (sum, n) = (all.iter().sum::<i64>(), all.len() as i64);
        all.iter().map(|value| value * n - sum).collect()
    }
}

fn mean(values: &[u8]) -> u8 {
    let sum: usize = values.iter().map(|&value| usize::from(value)).sum();
    ((sum + values.len() / 2) / values.len().max(1)) as u8
}

/// Rec. 601 luma, as the datasets' own.
fn luma(&[r, g, b]: &[u8; 3]) -> i32 {
    (i32::from(r) * 19_595 + i32::from(g) * 38_470 + i32::from(b) * 7_471 + 32_768) >> 16
}

/// Means of two by two pixels.
fn halved(rgb: &[[u8; 3]]) -> Box<[u8; VALUES]> {
    let value = |at: usize| {
        let (y, x, channel) = (at / 3 / SMALL, at / 3 % SMALL, at % 3);
        let corner = 2 * y * SIDE + 2 * x;
        mean(&[corner, corner + 1, corner + SIDE, corner + SIDE + 1].map(|pixel| rgb[pixel][channel]))
    };
    Box::new(std::array::from_fn(value))
}

fn deviation(levels: &[i32]) -> f32 {
    let n = levels.len().max(1) as f64;
    let sum: i64 = levels.iter().map(|&level| i64::from(level)).sum();
    let squares: i64 = levels.iter().map(|&level| i64::from(level) * i64::from(level)).sum();
    let mean = sum as f64 / n;
    (squares as f64 / n - mean * mean).max(0.0).sqrt() as f32
}
