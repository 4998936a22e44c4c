//! One block of memory for all tensors of a plan, laid out by liveness. Each tensor has the type of its own elements.

use std::marker::PhantomData;
use std::ops::Range;

use crate::buffer::{Element, ElementType, Memory, View, Views};

/// Tensors start at multiples of this many bytes: one cache line.
const ALIGN: usize = 64;

/// The place of a tensor of `T` in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot<T = f32> {
    index: usize,
    element: PhantomData<T>,
}

/// A tensor to place: what it holds, its size, and the first and last step that touch it.
#[derive(Debug)]
struct Request {
    element: ElementType,
    /// Elements for each image of the batch, and elements besides.
    per_image: usize,
    fixed: usize,
    first: usize,
    last: usize,
}

impl Request {
    /// Bytes for `images` images; `None` past the address space.
    fn bytes(&self, images: usize) -> Option<usize> {
        let elements = self.per_image.checked_mul(images)?.checked_add(self.fixed)?;
        elements.checked_mul(self.element.size())
    }

    /// Bytes that it takes in the arena.
    fn aligned(&self, images: usize) -> Option<usize> {
        self.bytes(images)?.checked_next_multiple_of(ALIGN)
    }
}

/// Collects tensors and their lives.
#[derive(Debug, Default)]
pub(crate) struct ArenaBuilder {
    requests: Vec<Request>,
}

impl ArenaBuilder {
    /// A tensor of `per_image` elements an image and `fixed` besides, first touched at `step`.
    pub(crate) fn add<T: Element>(&mut self, per_image: usize, fixed: usize, step: usize) -> Slot<T> {
        self.requests.push(Request { element: T::TYPE, per_image, fixed, first: step, last: step });
        Slot { index: self.requests.len() - 1, element: PhantomData }
    }

    /// The tensor is touched at `step` too.
    pub(crate) fn touch<T>(&mut self, slot: Slot<T>, step: usize) {
        let request = &mut self.requests[slot.index];
        request.first = request.first.min(step);
        request.last = request.last.max(step);
    }

    /// Bytes of all tensors together, as if all were alive at once; `None` past the address space.
    pub(crate) fn total(&self, batch: usize) -> Option<usize> {
        self.requests.iter().try_fold(0usize, |sum, request| sum.checked_add(request.bytes(batch)?))
    }

    /// Gives every tensor its place, for batches of up to `batch` images; `None` past the address space.
    ///
    /// No two overlap in memory that overlap in time: largest first, each at the lowest gap that fits (Pisarchyk and Lee,
    /// 2020, call it greedy by size).
    pub(crate) fn layout(self, batch: usize) -> Option<ArenaLayout> {
        let lens = self.requests.iter().map(|r| r.aligned(batch)).collect::<Option<Vec<usize>>>()?;
        let mut order: Vec<usize> = (0..lens.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(lens[i]));
        let mut placed: Vec<(Range<usize>, usize)> = Vec::new();
        let mut offsets = vec![0; lens.len()];
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
                if range.start.checked_sub(offset).is_some_and(|gap| lens[index] <= gap) {
                    break;
                }
                offset = offset.max(range.end);
            }
            let end = offset.checked_add(lens[index])?;
            offsets[index] = offset;
            placed.push((offset..end, index));
            total = total.max(end);
        }
        let places = self.requests.iter().zip(offsets).map(|(r, offset)| Place {
            offset,
            per_image: r.per_image * r.element.size(),
            fixed: r.fixed * r.element.size(),
        });
        Some(ArenaLayout { places: places.collect(), bytes: total })
    }
}

/// The places of all tensors, without the memory.
#[derive(Debug)]
pub(crate) struct ArenaLayout {
    places: Vec<Place>,
    bytes: usize,
}

impl ArenaLayout {
    /// Bytes in all.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the memory.
    pub(crate) fn build(self) -> Arena {
        Arena { places: self.places, memory: Memory::zeros(self.bytes) }
    }
}

/// Where a tensor lies, in bytes.
#[derive(Debug)]
struct Place {
    offset: usize,
    per_image: usize,
    fixed: usize,
}

/// The memory of a plan.
#[derive(Debug)]
pub(crate) struct Arena {
    places: Vec<Place>,
    memory: Memory,
}

impl Arena {
    fn range<T>(&self, slot: Slot<T>, images: usize) -> Range<usize> {
        let place = &self.places[slot.index];
        place.offset..place.offset + place.per_image * images + place.fixed
    }

    /// One tensor of `images` images.
    pub(crate) fn read<T: Element>(&self, slot: Slot<T>, images: usize) -> &[T] {
        self.memory.view(self.range(slot, images))
    }

    /// One tensor of `images` images, to change.
    pub(crate) fn write<T: Element>(&mut self, slot: Slot<T>, images: usize) -> &mut [T] {
        let range = self.range(slot, images);
        self.memory.view_mut(range)
    }

    /// Some tensors to change and some to read, at once.
    ///
    /// # Panics
    /// When a tensor to change overlaps another one: two live tensors never do.
    pub(crate) fn split<W: Slots, R: Slots>(
        &mut self,
        images: usize,
        writes: W,
        reads: R,
    ) -> (<W::Views as Views>::Changed<'_>, <R::Views as Views>::Shared<'_>) {
        let (writes, reads) = (writes.views(self, images), reads.views(self, images));
        self.memory.split(writes, reads)
    }
}

/// Some tensors, those of one type in an array, arrays of several types in a tuple, those that may not be there in an
/// option.
pub(crate) trait Slots {
    /// Where they lie.
    type Views: Views;

    /// Where they lie for a pass of `images` images.
    fn views(self, arena: &Arena, images: usize) -> Self::Views;
}

impl<T: Element, const N: usize> Slots for [Slot<T>; N] {
    type Views = [View<T>; N];

    fn views(self, arena: &Arena, images: usize) -> [View<T>; N] {
        self.map(|slot| View::new(arena.range(slot, images)))
    }
}

impl<S: Slots> Slots for Option<S> {
    type Views = Option<S::Views>;

    fn views(self, arena: &Arena, images: usize) -> Self::Views {
        self.map(|slots| slots.views(arena, images))
    }
}

impl<A: Slots, B: Slots> Slots for (A, B) {
    type Views = (A::Views, B::Views);

    fn views(self, arena: &Arena, images: usize) -> Self::Views {
        (self.0.views(arena, images), self.1.views(arena, images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::Bf16;
    use crate::rng::Rng;

    #[test]
    fn tensors_alive_together_never_overlap() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed, 0);
            let mut builder = ArenaBuilder::default();
            let mut lives = Vec::new();
            for _ in 0..40 {
                let (first, life) = (rng.next_u64() as usize % 30, rng.next_u64() as usize % 8);
                let (per_image, fixed) = (rng.next_u64() as usize % 100, rng.next_u64() as usize % 50 + 1);
                let index = match rng.next_u64() % 5 {
                    0 => live::<u8>(&mut builder, (per_image, fixed), (first, first + life)),
                    1 => live::<i8>(&mut builder, (per_image, fixed), (first, first + life)),
                    2 => live::<Bf16>(&mut builder, (per_image, fixed), (first, first + life)),
                    3 => live::<i32>(&mut builder, (per_image, fixed), (first, first + life)),
                    _ => live::<f32>(&mut builder, (per_image, fixed), (first, first + life)),
                };
                lives.push((index, first, first + life));
            }
            let arena = builder.layout(3).unwrap().build();
            let place = |index: usize| arena.range(Slot::<f32> { index, element: PhantomData }, 3);
            for (i, &(a, a_first, a_last)) in lives.iter().enumerate() {
                assert!(place(a).start.is_multiple_of(ALIGN));
                for &(b, b_first, b_last) in &lives[..i] {
                    let (x, y) = (place(a), place(b));
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
            let slot = builder.add::<f32>(1000, 0, step);
            builder.touch(slot, step + 1);
        }
        assert!(builder.layout(1).unwrap().bytes() <= 2 * 4032);
    }

    #[test]
    fn tensors_of_other_types_share_memory_and_take_the_bytes_of_their_elements() {
        let mut builder = ArenaBuilder::default();
        let pixels = builder.add::<u8>(100, 0, 0);
        let sums = builder.add::<i32>(10, 6, 1);
        let halves = builder.add::<Bf16>(0, 3, 1);
        let scales = builder.add::<f32>(0, 5, 2);
        builder.touch(pixels, 1);
        builder.touch(sums, 2);
        builder.touch(halves, 2);
        let layout = builder.layout(2).unwrap();
        // 256 and 104 bytes are alive with 6; the last 20 lie where the pixels were.
        assert_eq!(layout.bytes(), 256 + 128 + 64);
        let mut arena = layout.build();
        arena.write(pixels, 2).iter_mut().enumerate().for_each(|(i, pixel)| *pixel = i as u8);
        let three = [1, 2, 3].map(Bf16::from_bits);
        arena.write(halves, 2).copy_from_slice(&three);
        let ([out], [from]) = arena.split(2, [sums], [pixels]);
        assert_eq!((out.len(), from.len()), (26, 200));
        out.iter_mut().zip(from).for_each(|(sum, &pixel)| *sum = -i32::from(pixel));
        assert_eq!((arena.read(sums, 2)[25], arena.read(halves, 2)), (-25, &three[..]));
        arena.write(scales, 2).fill(0.5);
        assert_eq!((arena.read(sums, 2)[25], arena.read(scales, 2)), (-25, &[0.5; 5][..]));
        // A pass of one image has its own part of each tensor.
        assert_eq!((arena.read(sums, 1).len(), arena.read(pixels, 1).len()), (16, 100));
    }

    #[test]
    fn sizes_past_the_address_space_are_noticed() {
        for (per_image, fixed) in [(usize::MAX / 2, 0), (0, usize::MAX / 4 + 1), (usize::MAX / 8, usize::MAX)]
        {
            let mut builder = ArenaBuilder::default();
            builder.add::<f32>(per_image, fixed, 0);
            assert!(builder.total(3).is_none() && builder.layout(3).is_none());
        }
        // Each fits, both together do not.
        let mut builder = ArenaBuilder::default();
        for _ in 0..2 {
            builder.add::<u8>(0, usize::MAX / 2 + 1, 0);
        }
        assert!(builder.total(1).is_none() && builder.layout(1).is_none());
    }

    /// Adds a tensor and returns its number.
    fn live<T: Element>(
        builder: &mut ArenaBuilder,
        (per_image, fixed): (usize, usize),
        (first, last): (usize, usize),
    ) -> usize {
        let slot = builder.add::<T>(per_image, fixed, first);
        builder.touch(slot, last);
        slot.index
    }
}
