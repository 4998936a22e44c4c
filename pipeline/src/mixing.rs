//! Mixing the images of a batch: mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018) and `CutMix`
//! (Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019).
//!
//! Image `i` of `n` is mixed with image `n - 1 - i`, both at once and in place: the order of a batch is random, so the
//! pairs are, too. The middle image of an odd batch stays. As in the papers, a batch has one share, which is drawn from
//! Beta(alpha, alpha). Where both ways are asked for, each batch takes one of them, either as likely.

use std::f64::consts::TAU;

use ocelli_datasets::rng::Rng;

/// How the batches of a run are mixed. 0 switches a way off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mixing {
    /// Alpha of mixup.
    pub(crate) mixup: f32,
    /// Alpha of `CutMix`.
    pub(crate) cutmix: f32,
    /// Width and height of an image.
    pub(crate) size: (u32, u32),
}

/// A rectangle of pixels: ranges along x and y.
type Rectangle = [std::ops::Range<usize>; 2];

/// What was drawn for a batch.
#[derive(Clone, Debug, PartialEq)]
enum Drawn {
    /// Every value is `share` of its own and the rest of its partner's.
    Blend { share: f32 },
    /// The partner's pixels inside.
    Cut(Rectangle),
}

impl Mixing {
    /// Whether any batch is mixed.
    pub(crate) fn is_on(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Mixes `n` images, all of `x`, by what `key` draws. Gives the share that an image keeps of its own.
    pub(crate) fn apply(&self, key: u64, n: usize, x: &mut [f32]) -> f32 {
        let drawn = self.draw(key);
        let width = self.size.0 as usize;
        let mut rest = x.chunks_exact_mut(x.len() / n.max(1));
        while let (Some(one), Some(other)) = (rest.next(), rest.next_back()) {
            match &drawn {
                Drawn::Blend { share } => {
                    for (a, b) in one.iter_mut().zip(other) {
                        (*a, *b) = (*b + (*a - *b) * share, *a + (*b - *a) * share);
                    }
                }
                Drawn::Cut([across, down]) => {
                    for row in self.rows((across, down), one.len(), width) {
                        one[row.clone()].swap_with_slice(&mut other[row]);
                    }
                }
            }
        }
        self.kept(&drawn)
    }

    /// As [`Mixing::apply`] for the first `n` of the images `x`, each with the one in its place in the second half, which stays.
    pub(crate) fn apply_to_own(&self, key: u64, n: usize, x: &mut [f32]) -> f32 {
        let drawn = self.draw(key);
        let (own, partners) = x.split_at_mut(x.len() / 2);
        let len = own.len() / n.max(1);
        match &drawn {
            Drawn::Blend { share } => {
                own.iter_mut().zip(partners.iter()).for_each(|(a, b)| *a = *b + (*a - *b) * share);
            }
            Drawn::Cut([across, down]) => {
                let width = self.size.0 as usize;
                for (one, other) in own.chunks_exact_mut(len.max(1)).zip(partners.chunks_exact(len.max(1))) {
                    for row in self.rows((across, down), len, width) {
                        one[row.clone()].copy_from_slice(&other[row]);
                    }
                }
            }
        }
        self.kept(&drawn)
    }

    /// The numbers of an image of `len` inside of a rectangle, row by row.
    fn rows(
        &self,
        (across, down): (&std::ops::Range<usize>, &std::ops::Range<usize>),
        len: usize,
        width: usize,
    ) -> impl Iterator<Item = std::ops::Range<usize>> {
        let channels = len / (width * self.size.1 as usize);
        let across = across.clone();
        down.clone().map(move |y| (y * width + across.start) * channels..(y * width + across.end) * channels)
    }

    /// The share that an image keeps of its own.
    fn kept(&self, drawn: &Drawn) -> f32 {
        match drawn {
            Drawn::Blend { share } => *share,
            Drawn::Cut([across, down]) => {
                let pixels = self.size.0 as usize * self.size.1 as usize;
                1.0 - (across.len() * down.len()) as f32 / pixels as f32
            }
        }
    }

    fn draw(&self, key: u64) -> Drawn {
        let mut rng = Rng::new(key);
        let cut = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (true, true) => rng.below(2) == 1,
            (_, cut) => cut,
        };
        let alpha = if cut { self.cutmix } else { self.mixup };
        let share = beta(&mut rng, alpha.into()) as f32;
        if !cut {
            return Drawn::Blend { share };
        }
        // The middle may lie anywhere, so the edge of the image cuts some rectangles; the share is of what is left.
        let mut range = |length: u32| {
            let middle = rng.below(length.into()) as f32 + 0.5;
            let half = length as f32 * (1.0 - share).sqrt() / 2.0;
            let place = |at: f32| (at.round().max(0.0) as usize).min(length as usize);
            place(middle - half)..place(middle + half)
        };
        Drawn::Cut([range(self.size.0), range(self.size.1)])
    }
}

/// A number of the distribution Beta(alpha, alpha): the share of one of two Gamma(alpha) numbers in their sum, by their
/// logarithms, as both vanish for a small alpha.
fn beta(rng: &mut Rng, alpha: f64) -> f64 {
    let (a, b) = (ln_gamma_variate(rng, alpha), ln_gamma_variate(rng, alpha));
    1.0 / (1.0 + (b - a).exp())
}

/// The logarithm of a Gamma(alpha, 1) number: Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", 2000,
/// for alpha + 1, and brought down to alpha by a power of a uniform number.
fn ln_gamma_variate(rng: &mut Rng, alpha: f64) -> f64 {
    let d = alpha + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        // Box and Muller; 1 - u is never 0.
        let [u, turn, accept, power] = [(); 4].map(|()| f64::from(rng.unit_f32()));
        let x = (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * turn).cos();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - accept).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + (1.0 - power).ln() / alpha;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u32, u32) = (9, 6);
    const LEN: usize = 9 * 6 * 3;

    fn mixing(mixup: f32, cutmix: f32) -> Mixing {
        Mixing { mixup, cutmix, size: SIZE }
    }

    /// Images that hold their own number.
    fn batch(n: usize) -> Vec<f32> {
        (0..n * LEN).map(|i| (i / LEN) as f32).collect()
    }

    #[test]
    fn shares_have_mean_and_variance_of_their_distribution() {
        for alpha in [0.05, 0.2, 0.4, 1.0, 5.0] {
            let mut rng = Rng::new(3);
            let n = 20_000;
            let shares: Vec<f64> = (0..n).map(|_| beta(&mut rng, alpha)).collect();
            assert!(shares.iter().all(|s| (0.0..=1.0).contains(s)));
            let mean = shares.iter().sum::<f64>() / f64::from(n);
            let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / f64::from(n);
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.015, "{alpha}: {mean}");
            assert!((variance - expected).abs() < 0.03 * expected + 0.001, "{alpha}: {variance} {expected}");
        }
    }

    #[test]
    fn mixup_blends_pairs_by_the_share_and_leaves_a_middle_image() {
        for n in [1, 2, 3, 8, 9] {
            for key in 0..50 {
                let mut x = batch(n);
                let share = mixing(0.4, 0.0).apply(key, n, &mut x);
                for (i, image) in x.chunks_exact(LEN).enumerate() {
                    let expected = share * i as f32 + (1.0 - share) * (n - 1 - i) as f32;
                    assert!(image.iter().all(|v| (v - expected).abs() < 1e-5), "{n} {i}");
                }
            }
        }
    }

    #[test]
    fn cutmix_takes_a_rectangle_from_the_partner_and_the_share_is_what_is_left() {
        let (mut smallest, mut largest) = (1.0f32, 0.0f32);
        for n in [1, 2, 3, 8, 9] {
            for key in 0..200 {
                let mut x = batch(n);
                let share = mixing(0.0, 1.0).apply(key, n, &mut x);
                (smallest, largest) = (smallest.min(share), largest.max(share));
                for (i, image) in x.chunks_exact(LEN).enumerate() {
                    let (own, other) = (i as f32, (n - 1 - i) as f32);
                    assert!(image.iter().all(|&v| v == own || v == other));
                    let kept = image.iter().filter(|&&v| v == own).count() as f32 / LEN as f32;
                    assert!(own == other || (kept - share).abs() < 1e-6, "{kept} {share}");
                    let pixels: Vec<bool> = image.chunks_exact(3).map(|p| p[0] == own).collect();
                    let rows: Vec<&[bool]> =
                        pixels.chunks_exact(9).filter(|row| row.contains(&false)).collect();
                    assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "not a rectangle");
                }
            }
        }
        assert!(smallest < 0.2 && largest > 0.9, "{smallest} {largest}");
    }

    #[test]
    fn the_key_decides_and_both_ways_take_turns() {
        let both = mixing(0.4, 1.0);
        let mut cuts = 0;
        // Two rectangles may be the same by chance.
        let repeated = (0..400).filter(|&key| both.draw(key) == both.draw(key + 1)).count();
        assert!(repeated < 20, "{repeated}");
        for key in 0..400 {
            assert_eq!(both.draw(key), both.draw(key));
            cuts += usize::from(matches!(both.draw(key), Drawn::Cut(_)));
        }
        assert!((150..250).contains(&cuts), "{cuts}");
        assert!(!mixing(0.0, 0.0).is_on() && mixing(0.1, 0.0).is_on() && mixing(0.0, 0.1).is_on());
    }
}
