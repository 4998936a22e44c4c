//! Groups of images that belong together.

/// Images, each in one group with those that it was joined with, directly or through others.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    /// An earlier image of the same group, or the image itself.
    earlier: Vec<usize>,
}

impl Joined {
    /// So many images, each by itself.
    pub(super) fn new(images: usize) -> Joined {
        Joined { earlier: (0..images).collect() }
    }

    /// Makes one group of those of two images.
    pub(super) fn join(&mut self, a: usize, b: usize) {
        let first = self.first(a).min(self.first(b));
        // All on the way to both firsts point to the new one: short ways for those who ask next.
        for mut image in [a, b] {
            while image != first {
                image = std::mem::replace(&mut self.earlier[image], first);
            }
        }
    }

    /// Whether two images are in one group.
    pub(super) fn are(&self, a: usize, b: usize) -> bool {
        self.first(a) == self.first(b)
    }

    /// The first image of the group of an image.
    pub(super) fn first(&self, mut image: usize) -> usize {
        while self.earlier[image] != image {
            image = self.earlier[image];
        }
        image
    }

    /// The groups of two or more images, by their first images; those of a group ascend.
    pub(super) fn groups(&self) -> Vec<Vec<usize>> {
        let mut of_first: Vec<Vec<usize>> = vec![Vec::new(); self.earlier.len()];
        (0..self.earlier.len()).for_each(|image| of_first[self.first(image)].push(image));
        of_first.retain(|group| group.len() > 1);
        of_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_datasets::rng::Rng;

    #[test]
    fn joined_images_are_one_group_in_any_order() {
        let mut joined = Joined::new(8);
        for (a, b) in [(5, 2), (7, 6), (2, 6), (0, 4)] {
            joined.join(a, b);
        }
        assert_eq!(joined.groups(), [vec![0, 4], vec![2, 5, 6, 7]]);
        assert!(joined.are(5, 7) && !joined.are(0, 5) && joined.are(1, 1) && !joined.are(1, 3));
    }

    #[test]
    fn groups_are_those_of_a_slow_definition() {
        let mut rng = Rng::new(3);
        for _ in 0..50 {
            let n = 1 + rng.below(30) as usize;
            let mut any = || rng.below(n as u64) as usize;
            let (mut joined, mut of): (Joined, Vec<usize>) = (Joined::new(n), (0..n).collect());
            for _ in 0..n {
                let (a, b) = (any(), any());
                joined.join(a, b);
                let (from, to) = (of[a].max(of[b]), of[a].min(of[b]));
                of.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
            assert!((0..n).all(|image| joined.first(image) == of[image]));
        }
    }
}
