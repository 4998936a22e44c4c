//! Images that are there more than once: as the same file, or nearly the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ocelli_datasets::ContentHash;
use ocelli_engine::Pool;

use super::facts::Facts;
use super::fingerprint::BLANK;
use super::groups::Joined;
use super::look::Picture;
use super::near::join_copies;
use crate::error::PipelineError;

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
        let mut alike = same.clone();
        join_copies(&looks, &mut alike, pool)?;
        Ok(Copies { same, alike })
    }

    /// The first image with the content of an image.
    pub(super) fn is_first(&self, index: usize) -> bool {
        self.same.first(index) == index
    }
}

/// Formats without files have the same content in images of several shapes.
type Content = (ContentHash, u32, u32);

fn content(facts: &Facts, index: usize, picture: &Picture) -> Option<Content> {
    Some((facts.seen[index].hash?, picture.width, picture.height))
}
