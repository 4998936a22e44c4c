//! Images that are there more than once: as the same file, or nearly the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ocelli_datasets::ContentHash;
use ocelli_engine::Pool;

use super::facts::Facts;
use super::fingerprint::{BLANK, Fingerprint};
use super::groups::Joined;
use super::look::Picture;
use super::near::{is_copy, join_copies};
use crate::error::PipelineError;

/// Different images in a group from which most must be copies of the first one.
const LARGE: usize = 100;

/// Which images are copies of which.
pub(super) struct Copies {
    /// Images with the same content.
    pub(super) same: Joined,
    /// Images with the same or nearly the same look; wider than `same`.
    pub(super) alike: Joined,
}

impl Copies {
    /// # Errors
    /// [`PipelineError::Engine`] when the threads of the pool cannot start.
    pub(super) fn find(facts: &Facts, pool: &Pool) -> Result<Copies, PipelineError> {
        let mut same = Joined::new(facts.items.len());
        let mut first: HashMap<Content, usize> = HashMap::new();
        let mut looks = vec![None; facts.items.len()];
        for (index, picture) in facts.pictures() {
            let Some(content) = content(facts, index, picture) else { continue };
            match first.entry(content) {
                Entry::Occupied(earlier) => same.join(*earlier.get(), index),
                Entry::Vacant(place) => {
                    place.insert(index);
                    // Whatever two images of one colour have in common, it is no picture.
                    looks[index] = Some(&picture.fingerprint).filter(|look| look.contrast >= BLANK);
                }
            }
        }
        let mut joined = same.clone();
        join_copies(&looks, &mut joined, pool)?;
        let mut alike = same.clone();
        for group in joined.groups().iter().filter(|group| holds_together(group, &looks)) {
            group.windows(2).for_each(|pair| alike.join(pair[0], pair[1]));
        }
        Ok(Copies { same, alike })
    }

    /// The first image with the content of an image.
    pub(super) fn is_first(&self, index: usize) -> bool {
        self.same.first(index) == index
    }
}

/// Whether the images of a group are copies of one image. Of digits and other drawings on one ground, chains of images that are
/// like the next one join thousands that have nothing in common.
fn holds_together(group: &[usize], looks: &[Option<&Fingerprint>]) -> bool {
    let looks: Vec<&Fingerprint> = group.iter().filter_map(|&image| looks[image]).collect();
    let copies = || looks.iter().filter(|look| is_copy(looks[0], look)).count();
    looks.len() <= LARGE || 2 * copies() >= looks.len()
}

/// Formats without files have the same content in images of several shapes.
type Content = (ContentHash, u32, u32);

fn content(facts: &Facts, index: usize, picture: &Picture) -> Option<Content> {
    Some((facts.seen[index].hash?, picture.width, picture.height))
}
