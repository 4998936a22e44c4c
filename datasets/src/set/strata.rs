//! What an image counts for when images are divided evenly.

use super::ImageSet;

impl ImageSet {
    /// The class of every image; of an image with several labels the rarest of them, the first of equals, and of one
    /// without labels a number behind all classes.
    pub(super) fn strata(&self) -> Vec<u32> {
        if !self.is_multi_label() {
            return self.entries.iter().map(|entry| entry.labels.class()).collect();
        }
        let mut counts = vec![0usize; self.classes.len()];
        let labels = self.entries.iter().flat_map(|entry| entry.labels.as_slice());
        labels.for_each(|&label| counts[label as usize] += 1);
        let rarest =
            |labels: &[u32]| labels.iter().copied().min_by_key(|&label| (counts[label as usize], label));
        let none = self.classes.len() as u32;
        self.entries.iter().map(|entry| rarest(entry.labels.as_slice()).unwrap_or(none)).collect()
    }
}
