//! When the gradients of a network are complete in the backward pass, and which of them are summed over ranks together.

use std::ops::Range;

use super::context::Context;

/// A tensor of parameters that learn.
#[derive(Clone, Debug)]
pub(super) struct Complete {
    /// Its floats among the gradients.
    pub(super) range: Range<usize>,
    /// The layer of the plan whose backward pass completes it; `None` where `finish_gradients` does.
    pub(super) layer: Option<usize>,
}

/// Gradients that are summed over ranks together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) range: Range<usize>,
    /// The layer of the plan whose backward pass completes the last of them; `None` where `finish_gradients` does.
    pub(crate) layer: Option<usize>,
}

/// When each tensor of gradients is complete, for stages that are `counts` layers of a plan each, the stage's own the last of
/// them. In the order of the parameters, without those of frozen nodes, which have no gradients.
pub(super) fn complete(context: &Context, counts: &[usize]) -> Vec<Complete> {
    if !context.mode.learns() {
        return Vec::new();
    }
    let ends: Vec<usize> = counts
        .iter()
        .scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
        .collect();
    // The gradients of folded filters become those of filters and norm when all passes are over.
    let layer = |node: usize| {
        let time = context.stages.iter().position(|stage| stage.node == node && stage.norm.is_none())?;
        Some(ends[time] - 1)
    };
    let learning = context
        .layout
        .entries()
        .iter()
        .filter(|entry| entry.kind.is_trainable() && context.mode.of(entry.node()).learns());
    learning.map(|entry| Complete { range: entry.range(), layer: layer(entry.node()) }).collect()
}

/// Tensors of gradients in buckets of about `len` floats, in the order in which the backward pass completes them: neighbours
/// together, large ones in several.
pub(super) fn buckets(tensors: &[Complete], len: usize) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for tensor in tensors.iter().rev() {
        let mut end = tensor.range.end;
        while end > tensor.range.start {
            let joined = buckets.last_mut().filter(|last| {
                let late = last.layer.is_none() == tensor.layer.is_none();
                last.range.start == end && last.range.len() < len && late
            });
            let room = joined.as_ref().map_or(len, |last| len - last.range.len());
            let start = tensor.range.start.max(end.saturating_sub(room.max(1)));
            match joined {
                Some(last) => {
                    last.range.start = start;
                    last.layer = last.layer.min(tensor.layer);
                }
                None => buckets.push(Bucket { range: start..end, layer: tensor.layer }),
            }
            end = start;
        }
    }
    // Layers that come later in a plan come first in the backward pass; what is finished behind it is last. The sort is stable.
    buckets.sort_by_key(|bucket| std::cmp::Reverse(bucket.layer));
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_gradient_once_in_the_order_of_the_backward_pass() {
        let lengths = [3, 40, 1, 1, 7, 100, 2, 9];
        let layers = [Some(0), Some(0), None, None, Some(4), Some(5), Some(9), Some(9)];
        let mut at = 0;
        let tensors: Vec<Complete> = lengths
            .iter()
            .zip(layers)
            .map(|(len, layer)| {
                at += len;
                Complete { range: at - len..at, layer }
            })
            .collect();
        for len in [1, 2, 10, 33, 1000] {
            let buckets = buckets(&tensors, len);
            let mut covered: Vec<Range<usize>> = buckets.iter().map(|bucket| bucket.range.clone()).collect();
            covered.sort_by_key(|range| range.start);
            assert_eq!((covered[0].start, covered[covered.len() - 1].end), (0, at));
            assert!(covered.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(buckets.iter().all(|bucket| !bucket.range.is_empty() && bucket.range.len() <= len));
            assert!(buckets.windows(2).all(|pair| pair[0].layer >= pair[1].layer), "{buckets:?}");
            for bucket in &buckets {
                let own = tensors.iter().filter(|tensor| {
                    tensor.range.start < bucket.range.end && bucket.range.start < tensor.range.end
                });
                assert_eq!(own.map(|tensor| tensor.layer).min(), Some(bucket.layer));
            }
        }
    }
}
