//! One block of memory for all tensors of a plan, laid out by liveness.

use crate::buffer::Buffer;
use std::ops::Range;

/// Tensors start at multiples of this many floats: one 64-byte line.
const ALIGN: usize = 16;

/// A tensor's place in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(usize);

/// A tensor to place: its size and the first and last step that touch it.
#[derive(Debug)]
struct Request {
    /// Floats for each image of the batch, and floats besides.
    per_image: usize,
    fixed: usize,
    first: usize,
    last: usize,
}

/// Collects tensors and their lives.
#[derive(Debug, Default)]
pub(crate) struct ArenaBuilder {
    requests: Vec<Request>,
}

impl ArenaBuilder {
    /// A tensor of `per_image` floats an image and `fixed` besides, first touched at `step`.
    pub(crate) fn add(&mut self, per_image: usize, fixed: usize, step: usize) -> Slot {
        self.requests.push(Request { per_image, fixed, first: step, last: step });
        Slot(self.requests.len() - 1)
    }

    /// The tensor is touched at `step` too.
    pub(crate) fn touch(&mut self, slot: Slot, step: usize) {
        let request = &mut self.requests[slot.0];
        request.first = request.first.min(step);
        request.last = request.last.max(step);
    }

    /// Floats of all tensors together: an upper bound of the arena.
    pub(crate) fn total(&self, batch: usize) -> usize {
        let len = |r: &Request| r.per_image.saturating_mul(batch).saturating_add(r.fixed);
        self.requests.iter().map(len).fold(0, usize::saturating_add)
    }

    /// Takes the memory for all tensors, laid out as [`ArenaBuilder::layout`] says.
    pub(crate) fn build(self, batch: usize) -> Arena {
        let (slots, total) = self.layout(batch);
        Arena { slots, memory: Buffer::zeros(total) }
    }

    /// Floats that [`ArenaBuilder::build`] takes, without taking them.
    pub(crate) fn len(&self, batch: usize) -> usize {
        self.layout(batch).1
    }

    /// Places every tensor so that no two overlap in memory that overlap in time: largest first, each at the
    /// lowest gap that fits (Pisarchyk and Lee, 2020, call it greedy by size).
    fn layout(&self, batch: usize) -> (Vec<Place>, usize) {
        let len = |r: &Request| (r.per_image * batch + r.fixed).next_multiple_of(ALIGN);
        let mut order: Vec<usize> = (0..self.requests.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(len(&self.requests[i])));
        let mut placed: Vec<(Range<usize>, usize)> = Vec::new();
        let mut offsets = vec![0; self.requests.len()];
        let mut total = 0;
        for index in order {
            let request = &self.requests[index];
            let mut busy: Vec<Range<usize>> = placed
                .iter()
                .filter(|(_, other)| {
                    let other = &self.requests[*other];
                    other.first <= request.last && request.first <= other.last
                })
                .map(|(range, _)| range.clone())
                .collect();
            busy.sort_by_key(|range| range.start);
            let mut offset = 0;
            for range in busy {
                if offset + len(request) <= range.start {
                    break;
                }
                offset = offset.max(range.end);
            }
            offsets[index] = offset;
            placed.push((offset..offset + len(request), index));
            total = total.max(offset + len(request));
        }
        let slots = self.requests.iter().zip(offsets);
        let slots =
            slots.map(|(r, offset)| Place { offset, per_image: r.per_image, fixed: r.fixed }).collect();
        (slots, total)
    }
}

#[derive(Debug)]
struct Place {
    offset: usize,
    per_image: usize,
    fixed: usize,
}

/// The memory of a plan.
#[derive(Debug)]
pub(crate) struct Arena {
    slots: Vec<Place>,
    memory: Buffer,
}

impl Arena {
    /// Floats in all.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    fn range(&self, slot: Slot, images: usize) -> Range<usize> {
        let place = &self.slots[slot.0];
        place.offset..place.offset + place.per_image * images + place.fixed
    }

    /// One tensor of `images` images.
    pub(crate) fn read(&self, slot: Slot, images: usize) -> &[f32] {
        &self.memory[self.range(slot, images)]
    }

    /// One tensor of `images` images, to change.
    pub(crate) fn write(&mut self, slot: Slot, images: usize) -> &mut [f32] {
        let range = self.range(slot, images);
        &mut self.memory[range]
    }

    /// Some tensors to change and some to read, at once.
    ///
    /// # Panics
    /// When a tensor to change overlaps another one: two live tensors never do.
    pub(crate) fn split<const W: usize, const R: usize>(
        &mut self,
        images: usize,
        writes: [Slot; W],
        reads: [Slot; R],
    ) -> ([&mut [f32]; W], [&[f32]; R]) {
        let (writes, reads) = (writes.map(|s| self.range(s, images)), reads.map(|s| self.range(s, images)));
        self.memory.split(writes, reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn tensors_alive_together_never_overlap() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed, 0);
            let mut builder = ArenaBuilder::default();
            let mut lives = Vec::new();
            for _ in 0..40 {
                let (first, life) = (rng.next_u64() as usize % 30, rng.next_u64() as usize % 8);
                let slot =
                    builder.add(rng.next_u64() as usize % 100, rng.next_u64() as usize % 50 + 1, first);
                builder.touch(slot, first + life);
                lives.push((slot, first, first + life));
            }
            let arena = builder.build(3);
            for (i, &(a, a_first, a_last)) in lives.iter().enumerate() {
                for &(b, b_first, b_last) in &lives[..i] {
                    let (x, y) = (arena.range(a, 3), arena.range(b, 3));
                    let together = a_first <= b_last && b_first <= a_last;
                    assert!(
                        !together || x.end <= y.start || y.end <= x.start,
                        "{x:?} and {y:?} are both alive"
                    );
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut builder = ArenaBuilder::default();
        for step in 0..10 {
            let slot = builder.add(1000, 0, step);
            builder.touch(slot, step + 1);
        }
        assert!(builder.build(1).len() <= 2 * 1008);
    }
}
