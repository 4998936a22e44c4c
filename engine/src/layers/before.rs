//! What made the input of a layer, and what it needs of that input's gradient while the gradient is in a cache: an activation
//! needs its derivative applied, a batch normalisation its sums taken.

use super::batchnorm::{NORM_SUMS, NormNumbers};
use crate::arena::Slot;
use crate::graph::Activation;
use crate::kernels::batchnorm::{self, BnSaved, BnSums};
use crate::kernels::{Number, reduce};
use crate::simd::Isa;

/// What made the input of a layer that alone reads it.
#[derive(Clone, Copy)]
pub(crate) enum Before<E> {
    /// Something whose backward pass is its own.
    Nothing,
    /// An activation, whose derivative the gradient of its output is multiplied by.
    Activation(Activation),
    /// A batch normalisation, whose sums are taken.
    Norm(NormBefore<E>),
}

/// A batch normalisation and where its sums go.
#[derive(Clone, Copy)]
pub(crate) struct NormBefore<E> {
    /// Its input.
    pub(crate) x: Slot<E>,
    /// Its [`NormNumbers`].
    pub(crate) saved: Slot,
    pub(crate) act: Option<Activation>,
    /// [`BnSums`] of each image: [`NORM_SUMS`] numbers per channel.
    pub(crate) sums: Slot,
}

impl<E: Copy> Before<E> {
    pub(super) fn activation(&self) -> Option<Activation> {
        match *self {
            Before::Activation(act) => Some(act),
            Before::Nothing | Before::Norm(_) => None,
        }
    }
}

/// What the sums of a batch normalisation are taken with.
#[derive(Clone, Copy)]
pub(super) struct SumsWith<'a, E> {
    /// The normalisation's input.
    x: &'a [E],
    saved: BnSaved<'a>,
}

impl<E: Number> NormBefore<E> {
    /// What [`NormBefore::with`] reads.
    pub(super) fn reads(&self) -> ([Slot<E>; 1], [Slot; 1]) {
        ([self.x], [self.saved])
    }

    pub(super) fn with<'a>(&self, ([x], [saved]): ([&'a [E]; 1], [&'a [f32]; 1])) -> SumsWith<'a, E> {
        let numbers = NormNumbers::of(saved);
        SumsWith { x, saved: BnSaved { mean: numbers.mean, gate: numbers.gate(self.act) } }
    }
}

/// The sums of one image, taken part by part.
pub(super) struct ImageSums<'a, E> {
    isa: Isa,
    sums: &'a mut [f32],
    x: &'a [E],
    saved: BnSaved<'a>,
    /// Pixels that are summed.
    done: usize,
}

impl<'a, E: Number> SumsWith<'a, E> {
    /// Sums for image `image`, none yet.
    pub(super) fn image(
        &self,
        isa: Isa,
        sums: &'a mut [f32],
        (image, len): (usize, usize),
    ) -> ImageSums<'a, E> {
        sums.fill(0.0);
        ImageSums { isa, sums, x: &self.x[image * len..(image + 1) * len], saved: self.saved, done: 0 }
    }
}

impl<E: Number> ImageSums<'_, E> {
    /// Takes in the pixels of the image's gradient `dy` before `end`: whole blocks of them, and the rest at the end of the
    /// image, so that the bits are those of one sum over all.
    pub(super) fn add(&mut self, dy: &[E], end: usize) {
        let c = self.sums.len() / NORM_SUMS;
        let to = if end * c == dy.len() { end } else { reduce::block_end(self.done, end) };
        let part = self.done * c..to * c;
        let (sum, dy_x) = self.sums.split_at_mut(c);
        let sums = BnSums { dy: sum, dy_x };
        batchnorm::backward_sums(self.isa, sums, &self.x[part.clone()], &dy[part], self.saved);
        self.done = to;
    }
}
