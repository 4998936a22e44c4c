//! Whether the classes of a data set have images in about equal numbers.

/// The largest class has more than this many times the images of the smallest where something is said: from there on a
/// model that never names the smallest class looks good.
const IMBALANCE: usize = 5;

/// What to say of classes that are out of balance, each with its number of images; classes without images do not count.
/// `noun` is what was counted.
pub(crate) fn imbalance<'a>(
    counts: impl Iterator<Item = (&'a str, usize)> + Clone,
    noun: &str,
) -> Option<String> {
    let there = counts.filter(|(_, n)| *n > 0);
    let (small, few) = there.clone().min_by_key(|(_, n)| *n)?;
    let (large, many) = there.max_by_key(|(_, n)| *n)?;
    (many > IMBALANCE * few)
        .then(|| format!("classes are out of balance: {large} has {many} {noun}, {small} has {few}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_five_to_one_is_told_with_both_classes() {
        let told = |counts: &[(&str, usize)]| imbalance(counts.iter().copied(), "images");
        for fine in [&[][..], &[("a", 0)], &[("a", 7)], &[("a", 5), ("b", 25), ("c", 0)]] {
            assert_eq!(told(fine), None, "{fine:?}");
        }
        let text = told(&[("few", 5), ("some", 9), ("many", 26), ("none", 0)]).unwrap();
        assert!(text.contains("many has 26 images, few has 5"), "{text}");
    }
}
