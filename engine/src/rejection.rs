//! Images of none of a model's classes: how little an image looks like any of them, by three scores that are larger for
//! stranger images.

use crate::model_file::{InnerValue, Rejection, RejectionScore};

/// Whether an image shows a class of the model, and by what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Larger for stranger images; not negative.
    pub score: f32,
    /// Whether the score is at most the model's threshold.
    pub known: bool,
}

/// Judges images by a model's threshold.
#[derive(Clone, Debug)]
pub struct Judge {
    rejection: Rejection,
}

impl Judge {
    /// A judge by what a model file says.
    pub fn new(rejection: Rejection) -> Self {
        Judge { rejection }
    }

    /// Whether [`Judge::judge`] looks at features.
    pub fn wants_features(&self) -> bool {
        self.rejection.score == RejectionScore::Distance
    }

    /// The inner values that [`Judge::judge`] looks at.
    pub fn inner_values(&self) -> Vec<usize> {
        self.rejection.inner.iter().map(|inner| inner.value as usize).collect()
    }

    /// Judges one image by what its score looks at; the rest may be empty.
    pub fn judge(&self, seen: Seen<'_>) -> Known {
        let Rejection { score, threshold, means, inner, .. } = &self.rejection;
        let score = match score {
            RejectionScore::Distance => distance(seen.features, means, None),
            RejectionScore::Probability => doubt(seen.logits, None),
            RejectionScore::Inner => inner_distance(seen.inner, inner, None),
        };
        Known { score, known: score <= *threshold }
    }
}

/// What a network gives of one image.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// One a class.
    pub logits: &'a [f32],
    /// What the last dense layer reads.
    pub features: &'a [f32],
    /// Means over pixels of inner values, one behind the other.
    pub inner: &'a [f32],
}

/// Sum of the distances of an image in inner values to the nearest class of each, in units of their scales, leaving the class
/// `without` out.
pub fn inner_distance(row: &[f32], values: &[InnerValue], without: Option<usize>) -> f32 {
    let mut rest = row;
    let mut sum = 0.0;
    for inner in values {
        let (own, behind) = rest.split_at(channels(inner));
        sum += spread_distance(own, inner, without) / f64::from(inner.scale);
        rest = behind;
    }
    // A number whatever the image: an infinite distance is as strange as can be.
    sum.clamp(0.0, f64::from(f32::MAX)) as f32
}

/// Channels of an inner value, by the length of its triangle.
pub fn channels(inner: &InnerValue) -> usize {
    // n (n + 1) / 2 floats.
    ((2 * inner.whitening.len()) as f64).sqrt() as usize
}

/// Distance to the nearest class mean behind the whitening. [`f64::MAX`] where there is no class.
pub fn spread_distance(row: &[f32], inner: &InnerValue, without: Option<usize>) -> f64 {
    let white = whitened(row, &inner.whitening);
    let square = |mean: &[f32]| white.iter().zip(mean).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum::<f64>();
    let classes = inner.means.chunks_exact(row.len().max(1)).enumerate();
    let nearest = classes.filter(|&(class, _)| Some(class) != without).map(|(_, mean)| square(mean));
    nearest.fold(f64::MAX, f64::min).sqrt()
}

/// A row times a lower triangle, which is stored row by row.
pub fn whitened(row: &[f32], triangle: &[f32]) -> Vec<f64> {
    let mut rest = triangle;
    (1..=row.len())
        .map(|n| {
            let (own, behind) = rest.split_at(n);
            rest = behind;
            dot(own, &row[..n])
        })
        .collect()
}

/// Cosine distance in `0..=2` of an image's features to the nearest mean of `means [classes][features]`, leaving the class
/// `without` out. 1 where there is nothing to compare.
pub fn distance(features: &[f32], means: &[f32], without: Option<usize>) -> f32 {
    let length = norm(features);
    let nearest = means
        .chunks_exact(features.len().max(1))
        .enumerate()
        .filter(|&(class, _)| Some(class) != without)
        .map(|(_, mean)| dot(features, mean) / (length * norm(mean)).max(f64::MIN_POSITIVE))
        .fold(f64::NEG_INFINITY, f64::max);
    if nearest.is_finite() { (1.0 - nearest).clamp(0.0, 2.0) as f32 } else { 1.0 }
}

/// One minus the largest probability of a row of logits, leaving the class `without` out.
pub fn doubt(logits: &[f32], without: Option<usize>) -> f32 {
    let logits = || logits.iter().enumerate().filter(|&(class, _)| Some(class) != without).map(|(_, &z)| z);
    let largest = logits().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits().map(|z| f64::from(z - largest).exp()).sum();
    if sum > 0.0 { (1.0 - 1.0 / sum) as f32 } else { 1.0 }
}

/// Mean direction of the features of each class, `[classes][features]`: every image counts the same, however long its
/// features are. Zeros for a class without images.
pub fn class_means<'a>(
    rows: impl Iterator<Item = (usize, &'a [f32])>,
    (classes, len): (usize, usize),
) -> Vec<f32> {
    let mut sums = vec![0.0f64; classes * len];
    let mut counts = vec![0u64; classes];
    for (class, features) in rows {
        let length = norm(features).max(f64::MIN_POSITIVE);
        counts[class] += 1;
        let sums = &mut sums[class * len..][..len];
        sums.iter_mut().zip(features).for_each(|(sum, &v)| *sum += f64::from(v) / length);
    }
    let mean = |(i, sum): (usize, f64)| (sum / counts[i / len].max(1) as f64) as f32;
    sums.into_iter().enumerate().map(mean).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_to_the_nearest_class_whatever_the_length() {
        let means = [1.0, 0.0, 0.0, 2.0];
        assert_eq!(distance(&[5.0, 0.0], &means, None), 0.0);
        assert_eq!(distance(&[0.0, 0.1], &means, None), 0.0);
        assert_eq!(distance(&[0.0, 0.1], &means, Some(1)), 1.0);
        assert_eq!(distance(&[-1.0, 0.0], &means, Some(1)), 2.0);
        assert!((distance(&[1.0, 1.0], &means, None) - (1.0 - 0.5f32.sqrt())).abs() < 1e-6);
        // Features of a black image, and a class without images.
        assert_eq!(distance(&[0.0, 0.0], &means, None), 1.0);
        assert_eq!(distance(&[1.0, 0.0], &[0.0, 0.0], None), 1.0);
        assert_eq!(distance(&[1.0, 0.0], &[], None), 1.0);
    }

    #[test]
    fn doubt_is_what_the_likeliest_class_lacks() {
        assert!((doubt(&[0.0, 0.0, 0.0, 0.0], None) - 0.75).abs() < 1e-6);
        assert!((doubt(&[0.0, 0.0, 9.0], Some(2)) - 0.5).abs() < 1e-6);
        assert!(doubt(&[100.0, -100.0], None) < 1e-6);
        assert_eq!(doubt(&[3.0], Some(0)), 1.0);
    }

    #[test]
    fn means_are_of_directions() {
        let rows = [(0, [2.0, 0.0]), (0, [0.0, 8.0]), (2, [3.0, 0.0])];
        let means = class_means(rows.iter().map(|(class, row)| (*class, &row[..])), (3, 2));
        assert_eq!(means, [0.5, 0.5, 0.0, 0.0, 1.0, 0.0]);
    }
}
