//! What is taken of the tensor that a layer writes, its output or the gradient of its input, image by image while that is
//! in a cache: what a batch normalisation on the other side would read the tensor again for.

use super::before::{Before, NormBefore, SumsWith};
use super::split::piece;
use crate::arena::Slot;
use crate::kernels::{Number, batchnorm};
use crate::parallel::Threads;
use crate::simd::Isa;

/// What is taken of each image.
#[derive(Clone, Copy)]
pub(crate) enum Take<E> {
    Nothing,
    /// The moments of outputs, `[mean, m2]` per channel, for a batch normalisation that reads them.
    Moments(Slot),
    /// The sums of a gradient, for the batch normalisation that made the input.
    Sums(NormBefore<E>),
}

/// What a [`Take`] reads: see [`NormBefore`].
pub(super) type Reads<E> = Option<([Slot<E>; 1], [Slot; 1])>;
/// As slices.
pub(super) type Shared<'a, E> = Option<([&'a [E]; 1], [&'a [f32]; 1])>;

impl<E: Copy> Before<E> {
    /// What is taken of each image's gradient.
    pub(super) fn take(&self) -> Take<E> {
        match *self {
            Before::Nothing | Before::Activation(_) => Take::Nothing,
            Before::Norm(norm) => Take::Sums(norm),
        }
    }
}

impl<E: Number> Take<E> {
    pub(super) fn writes(&self) -> Option<[Slot; 1]> {
        match *self {
            Take::Nothing => None,
            Take::Moments(slot) => Some([slot]),
            Take::Sums(norm) => Some([norm.sums]),
        }
    }

    pub(super) fn reads(&self) -> Reads<E> {
        match self {
            Take::Nothing | Take::Moments(_) => None,
            Take::Sums(norm) => Some(norm.reads()),
        }
    }

    /// What sums are taken with, from the views of [`Take::reads`].
    pub(super) fn with<'a>(&self, reads: Shared<'a, E>) -> Option<SumsWith<'a, E>> {
        match (self, reads) {
            (Take::Sums(norm), Some(reads)) => Some(norm.with(reads)),
            _ => None,
        }
    }

    /// The views of [`Take::writes`] and [`Take::reads`] put to use.
    pub(super) fn outputs<'a>(
        &self,
        (isa, images): (Isa, usize),
        numbers: Option<[&'a mut [f32]; 1]>,
        reads: Shared<'a, E>,
    ) -> Outputs<'a, E> {
        Outputs { isa, images, numbers: numbers.map(|[numbers]| numbers), with: self.with(reads) }
    }
}

/// A [`Take`] at work on a batch.
pub(super) struct Outputs<'a, E> {
    isa: Isa,
    images: usize,
    /// What is taken, the same number of floats for each image.
    numbers: Option<&'a mut [f32]>,
    /// What sums are taken with; none where moments are taken.
    with: Option<SumsWith<'a, E>>,
}

impl<E: Number> Outputs<'_, E> {
    /// Whether nothing is taken.
    pub(super) fn is_nothing(&self) -> bool {
        self.numbers.is_none()
    }

    /// Calls `compute` with the outputs of every `group` images, and takes what is to be taken of them at once.
    pub(super) fn groups(
        self,
        threads: &Threads,
        (work, group): (usize, usize),
        y: &mut [E],
        compute: impl Fn(usize, &mut [E]) + Sync,
    ) {
        let Outputs { isa, images, numbers, with } = self;
        let y_len = y.len() / images;
        let Some(numbers) = numbers else {
            return threads.pieces(work, y, group * y_len, compute);
        };
        let len = numbers.len() / images;
        threads.pieces_of(
            work,
            (numbers, group * len),
            None,
            [(y, group * y_len)],
            |i, (numbers, _), [y]| {
                compute(i, y);
                for (k, (y, numbers)) in y.chunks_exact(y_len).zip(numbers.chunks_exact_mut(len)).enumerate()
                {
                    take(isa, numbers, y, (&with, i * group + k));
                }
            },
        );
    }

    /// Takes what is to be taken of outputs that were computed in parts of images.
    pub(super) fn finish(self, threads: &Threads, y: &[E]) {
        let Outputs { isa, images, numbers, with } = self;
        let Some(numbers) = numbers else { return };
        let (y_len, len) = (y.len() / images, numbers.len() / images);
        threads.pieces(y.len() * 8, numbers, len, |i, numbers| {
            take(isa, numbers, piece(y, i, y_len), (&with, i));
        });
    }
}

/// Takes the sums of an image, or its moments.
fn take<E: Number>(isa: Isa, numbers: &mut [f32], y: &[E], (with, image): (&Option<SumsWith<E>>, usize)) {
    let channels = numbers.len() / 2;
    match with {
        Some(with) => with.image(isa, numbers, (image, y.len())).add(y, y.len() / channels),
        None => {
            let (mean, m2) = numbers.split_at_mut(channels);
            batchnorm::moments(isa, mean, m2, y);
        }
    }
}
