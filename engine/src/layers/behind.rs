//! What is behind a layer with filters, an activation or a batch normalisation. The layer's backward pass applies its derivative
//! where it reads the gradient anyway, and so turns that gradient into the one of the layer's own sums.

use super::batchnorm::NormNumbers;
use super::norm_pool;
use super::run::Run;
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::geometry::PoolGeometry;
use crate::graph::Activation;
use crate::kernels::batchnorm::{self, BnCoef, BnGate};
use crate::kernels::{Number, activation};
use crate::simd::Isa;

/// What is behind the sums of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind<E> {
    /// Nothing, or what reads the output has done it.
    Nothing,
    /// An activation, whose output the layer writes.
    Activation(Activation),
    /// A batch normalisation and its activation, which read what the layer writes.
    Norm(NormBehind<E>),
}

/// A batch normalisation whose backward pass finds its coefficients alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormBehind<E> {
    /// Its [`NormNumbers`].
    pub(crate) saved: Slot,
    pub(crate) act: Option<Activation>,
    /// The pool that it is computed with: `dy` is written.
    pub(crate) pool: Option<PoolBehind<E>>,
}

/// A pool computed with a batch normalisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolBehind<E> {
    pub(crate) geometry: PoolGeometry,
    /// The gradient of the pool's output.
    pub(crate) dy: Slot<E>,
    pub(crate) argmax: Slot,
}

/// A [`Behind`] with its numbers.
#[derive(Clone, Copy)]
pub(super) enum Derivative<'a, E> {
    Nothing,
    Activation(Activation),
    Norm(BnCoef<'a>, BnGate<'a>),
    /// Gradients and argmax are those of the batch.
    Pool(BnCoef<'a>, PoolGeometry, (&'a [E], &'a [f32])),
}

/// What a [`Derivative`] reads, as slots and as slices: the numbers of a normalisation, the gradients of a pool and its
/// argmax.
type Reads<E> = Option<([Slot; 1], Option<([Slot<E>; 1], [Slot; 1])>)>;
type Shared<'a, E> = Option<([&'a [f32]; 1], Option<([&'a [E]; 1], [&'a [f32]; 1])>)>;

impl<E: Number> Behind<E> {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Behind::Nothing)
    }

    /// Whether `dy` is written image by image from the gradients of a pool's outputs.
    pub(super) fn has_pool(&self) -> bool {
        matches!(self, Behind::Norm(NormBehind { pool: Some(_), .. }))
    }

    /// What [`Behind::derivative`] reads.
    pub(super) fn reads(&self) -> Reads<E> {
        match self {
            Behind::Nothing | Behind::Activation(_) => None,
            Behind::Norm(norm) => Some(([norm.saved], norm.pool.map(|pool| ([pool.dy], [pool.argmax])))),
        }
    }

    pub(super) fn derivative<'a>(&self, reads: Shared<'a, E>) -> Derivative<'a, E> {
        match (self, reads) {
            (Behind::Norm(norm), Some(([saved], pooled))) => {
                let numbers = NormNumbers::of(saved);
                match norm.pool.zip(pooled) {
                    Some((pool, ([dy], [argmax]))) => {
                        Derivative::Pool(numbers.coefficients(), pool.geometry, (dy, argmax))
                    }
                    None => Derivative::Norm(numbers.coefficients(), numbers.gate(norm.act)),
                }
            }
            (Behind::Activation(act), _) => Derivative::Activation(*act),
            _ => Derivative::Nothing,
        }
    }

    /// Turns the gradient `dy` of a batch, whose outputs are `y`, into that of the sums.
    pub(super) fn apply(&self, run: &mut Run, (dy, y): (Slot<E>, Slot<E>), channels: usize) {
        if self.is_nothing() {
            return;
        }
        let Run { arena, threads, isa, images, .. } = run;
        let ([dy], ([y], reads)) = arena.split(*images, [dy], ([y], self.reads()));
        let derivative = self.derivative(reads);
        let len = if self.has_pool() { y.len() / *images } else { (PIECE / channels).max(1) * channels };
        threads.pieces(dy.len() * 8, dy, len, |i, dy| derivative.apply(*isa, dy, piece(y, i, len), i));
    }
}

impl<E: Number> Derivative<'_, E> {
    /// Turns the gradient `dy` of some pixels, whose outputs are `y`, into that of the sums; behind a pool, of whole images from
    /// number `first` on.
    pub(super) fn apply(self, isa: Isa, dy: &mut [E], y: &[E], first: usize) {
        match self {
            Derivative::Nothing => {}
            Derivative::Activation(act) => activation::backward_in_place(isa, dy, y, act),
            Derivative::Norm(coef, gate) => batchnorm::backward_dx_in_place(isa, dy, y, (coef, gate)),
            Derivative::Pool(coef, g, (pooled, argmax)) => {
                let images = dy.chunks_exact_mut(g.x_len()).zip(y.chunks_exact(g.x_len()));
                for (image, (dy, y)) in (first..).zip(images) {
                    let from = (piece(pooled, image, g.y_len()), piece(argmax, image, g.y_len()));
                    norm_pool::backward(isa, dy, y, from, (&g, coef));
                }
            }
        }
    }
}
