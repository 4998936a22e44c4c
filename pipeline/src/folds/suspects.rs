//! Images whose label is probably wrong: confident learning (Northcutt, Jiang and Chuang, 2021).

/// An image whose out-of-fold probabilities speak for another class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Suspicion {
    /// Index of the image.
    pub(super) image: usize,
    /// The class that it is taken for.
    pub(super) suggested: usize,
}

/// Suspects, most suspicious first. `probabilities` has a row of `classes` for each label, of a model that was not
/// trained on the image.
///
/// The threshold of a class is the mean probability that its own images have for it, so that classes which are hard to
/// tell apart are not all suspected. An image belongs to the most probable of the classes whose threshold it reaches
/// (section 3.1 of the paper); it is a suspect where that is not its label. Suspects are ranked by the probability of
/// their label minus that of the suggestion.
pub(super) fn suspects(probabilities: &[f32], labels: &[usize], classes: usize) -> Vec<Suspicion> {
    let mut sums = vec![(0.0f64, 0u64); classes];
    let rows = || probabilities.chunks_exact(classes.max(1)).zip(labels.iter().copied());
    for (row, label) in rows() {
        sums[label].0 += f64::from(row[label]);
        sums[label].1 += 1;
    }
    // Nothing can be taken for a class without images.
    let threshold = |class: usize| match sums[class] {
        (_, 0) => f64::INFINITY,
        (sum, images) => sum / images as f64,
    };
    let mut found: Vec<(f32, Suspicion)> = Vec::new();
    for (image, (row, label)) in rows().enumerate() {
        let reached = (0..classes).filter(|&class| f64::from(row[class]) >= threshold(class));
        let likeliest = reached.reduce(|a, b| if row[b] > row[a] { b } else { a });
        if let Some(suggested) = likeliest.filter(|&class| class != label) {
            found.push((row[label] - row[suggested], Suspicion { image, suggested }));
        }
    }
    found.sort_by(|(a, x), (b, y)| a.total_cmp(b).then(x.image.cmp(&y.image)));
    found.into_iter().map(|(_, suspicion)| suspicion).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_datasets::rng::Rng;

    #[test]
    fn planted_errors_are_found_and_hard_classes_are_not_all_suspected() {
        let mut rng = Rng::new(5);
        let (images, classes) = (2000, 4);
        let mut uniform = || rng.below(1_000_000) as f32 / 1e6;
        let (mut probabilities, mut labels, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for image in 0..images {
            let class = image % classes;
            // Classes 0 and 1 look alike: a model gives them little more than a half.
            let (own, twin) = match class {
                0 | 1 => (0.5 + 0.2 * uniform(), Some(1 - class)),
                _ => (0.85 + 0.1 * uniform(), None),
            };
            let rest = (1.0 - own) / 3.0;
            let mut row = vec![rest; classes];
            row[class] = own;
            if let Some(twin) = twin {
                row[2] = 0.02;
                row[3] = 0.02;
                row[twin] = 1.0 - own - 0.04;
            }
            let planted = image % 20 == 7;
            labels.push(if planted { (class + 2) % classes } else { class });
            wrong.push(planted);
            probabilities.extend(row);
        }
        let found = suspects(&probabilities, &labels, classes);
        let hits = found.iter().filter(|suspicion| wrong[suspicion.image]).count();
        let planted = wrong.iter().filter(|wrong| **wrong).count();
        // Of a class about half of the images are above its mean, so of the errors the surer half is found at least.
        assert!(hits * 10 >= planted * 4, "{hits} of {planted}");
        assert!(hits * 10 >= found.len() * 9, "{hits} of {}", found.len());
        assert!(
            found.iter().filter(|s| wrong[s.image]).all(|s| (labels[s.image] + 2) % classes == s.suggested)
        );
        let margin = |s: &Suspicion| {
            let row = &probabilities[s.image * classes..][..classes];
            row[labels[s.image]] - row[s.suggested]
        };
        assert!(found.is_sorted_by(|a, b| margin(a) <= margin(b)));
    }

    #[test]
    fn right_labels_and_empty_sets_give_none() {
        assert!(suspects(&[0.9, 0.1, 0.2, 0.8], &[0, 1], 2).is_empty());
        assert!(suspects(&[], &[], 3).is_empty());
        // Class 2 has no images: nothing is taken for it.
        assert!(suspects(&[0.1, 0.0, 0.9], &[0], 3).is_empty());
    }
}
