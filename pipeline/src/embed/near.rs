//! Which images are near each other.

use ocelli_engine::Pool;
use serde::Serialize;

use super::embeddings::Embeddings;
use crate::error::PipelineError;
use crate::pool;

/// Most pairs of near duplicates that are kept: the most similar ones.
pub const MAX_PAIRS: usize = 10_000;

/// Images whose pairs are looked at before the best are chosen, so that memory holds few pairs at a time.
const BLOCK: usize = 64;

/// Sums that run beside each other in a dot product: as many as let a processor add vectors.
const LANES: usize = 16;

/// An image with its similarity to another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// The image.
    pub index: usize,
    /// Cosine of the angle between the features, in -1..=1.
    pub similarity: f32,
}

/// Two images that are near duplicates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The first image, the smaller index.
    pub first: usize,
    /// The second image.
    pub second: usize,
    /// Cosine of the angle between their features.
    pub similarity: f32,
}

/// Near duplicates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Duplicates {
    /// The pairs, most similar first; at most [`MAX_PAIRS`].
    pub pairs: Vec<Pair>,
    /// How many pairs there are in all.
    pub found: usize,
}

/// An image whose label may be wrong: most of its nearest neighbours have another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelSuspect {
    /// The image.
    pub index: usize,
    /// Its class.
    pub class: u32,
    /// The class of most of its neighbours.
    pub neighbours: u32,
    /// Part of its neighbours that have that class, above 0.5.
    pub share: f32,
    /// Part of its neighbours that have its own class.
    pub own_share: f32,
    /// The nearest neighbour of the other class.
    pub nearest: Neighbour,
}

impl Embeddings {
    /// The `k` images that are nearest to an image with the features `query`, most similar first, equal ones in their order.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] when the threads of the pool cannot start.
    ///
    /// # Panics
    /// When `query` has another length than the features.
    pub fn similar(&self, query: &[f32], k: usize, pool: &Pool) -> Result<Vec<Neighbour>, PipelineError> {
        assert_eq!(query.len(), self.len, "features of another model");
        let norm = dot(query, query).sqrt();
        let indices: Vec<usize> = (0..self.images()).collect();
        let mut all = pool::map(pool, &indices, |&index| {
            let row = self.row(index);
            let similarity = cosine(dot(query, row), norm * dot(row, row).sqrt());
            Neighbour { index, similarity }
        })?;
        sort(&mut all);
        all.truncate(k);
        Ok(all)
    }

    /// Pairs of images whose similarity is at least `threshold`.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] when the threads of the pool cannot start.
    pub fn duplicates(&self, threshold: f32, pool: &Pool) -> Result<Duplicates, PipelineError> {
        let norms = self.norms();
        let (mut pairs, mut found) = (Vec::new(), 0);
        let indices: Vec<usize> = (0..self.images()).collect();
        for block in indices.chunks(BLOCK) {
            let rows = pool::map(pool, block, |&first| {
                let behind = first + 1..self.images();
                let pair =
                    |second| Pair { first, second, similarity: self.similarity(first, second, &norms) };
                behind.map(pair).filter(|pair| pair.similarity >= threshold).collect::<Vec<_>>()
            })?;
            for row in rows {
                found += row.len();
                pairs.extend(row);
            }
            pairs.sort_by(|a: &Pair, b: &Pair| {
                let order = b.similarity.total_cmp(&a.similarity);
                order.then(a.first.cmp(&b.first)).then(a.second.cmp(&b.second))
            });
            pairs.truncate(MAX_PAIRS);
        }
        Ok(Duplicates { pairs, found })
    }

    /// Images of which more than half of the `k` nearest neighbours have one and the same other class, those with the most
    /// such neighbours first. None where the images have no labels.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] when the threads of the pool cannot start.
    pub fn suspects(&self, k: usize, pool: &Pool) -> Result<Vec<LabelSuspect>, PipelineError> {
        let norms = self.norms();
        let indices: Vec<usize> = (0..self.labels.len()).collect();
        let suspects = pool::map(pool, &indices, |&index| {
            let other = |other: &usize| *other != index;
            let near = |other| Neighbour { index: other, similarity: self.similarity(index, other, &norms) };
            let mut all: Vec<Neighbour> = (0..self.images()).filter(other).map(near).collect();
            if k < all.len() {
                all.select_nth_unstable_by(k, order);
                all.truncate(k);
            }
            sort(&mut all);
            self.suspect(index, &all)
        })?;
        let mut suspects: Vec<LabelSuspect> = suspects.into_iter().flatten().collect();
        suspects.sort_by(|a, b| {
            let order = b.share.total_cmp(&a.share);
            order.then(b.nearest.similarity.total_cmp(&a.nearest.similarity)).then(a.index.cmp(&b.index))
        });
        Ok(suspects)
    }

    fn suspect(&self, index: usize, nearest: &[Neighbour]) -> Option<LabelSuspect> {
        let class = self.labels[index];
        let count = |class| nearest.iter().filter(|near| self.labels[near.index] == class).count();
        let other = nearest.iter().find(|near| {
            let other = self.labels[near.index];
            other != class && 2 * count(other) > nearest.len()
        })?;
        let (neighbours, all) = (self.labels[other.index], nearest.len() as f32);
        Some(LabelSuspect {
            index,
            class,
            neighbours,
            share: count(neighbours) as f32 / all,
            own_share: count(class) as f32 / all,
            nearest: other.clone(),
        })
    }

    fn norms(&self) -> Vec<f32> {
        (0..self.images()).map(|index| dot(self.row(index), self.row(index)).sqrt()).collect()
    }

    fn similarity(&self, a: usize, b: usize, norms: &[f32]) -> f32 {
        cosine(dot(self.row(a), self.row(b)), norms[a] * norms[b])
    }
}

/// Most similar first, equal ones in their order.
fn order(a: &Neighbour, b: &Neighbour) -> std::cmp::Ordering {
    b.similarity.total_cmp(&a.similarity).then(a.index.cmp(&b.index))
}

fn sort(neighbours: &mut [Neighbour]) {
    neighbours.sort_unstable_by(order);
}

/// 0 where one of both has no direction: it is zero, or no number.
fn cosine(product: f32, norms: f32) -> f32 {
    let cosine = product / norms;
    if cosine.is_finite() { cosine.clamp(-1.0, 1.0) } else { 0.0 }
}

/// The same bits on every machine and with any number of threads.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
