//! What is behind a layer with filters, and turns the gradient that its backward pass is given into that of its sums: the
//! derivative of an activation or of a batch normalisation, applied where that gradient is read anyway.

use super::batchnorm::NormNumbers;
use super::run::Run;
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::graph::Activation;
use crate::kernels::batchnorm::{self, BnCoef, BnGate};
use crate::kernels::{Number, activation};
use crate::simd::Isa;

/// What is behind the sums of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind {
    /// Nothing, or what reads the output has done it.
    Nothing,
    /// An activation, whose output the layer writes.
    Activation(Activation),
    /// A batch normalisation and its activation, which read what the layer writes.
    Norm(NormBehind),
}

/// A batch normalisation whose backward pass finds its coefficients alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormBehind {
    /// Its [`NormNumbers`].
    pub(crate) saved: Slot,
    pub(crate) act: Option<Activation>,
}

/// A [`Behind`] with its numbers.
#[derive(Clone, Copy)]
pub(super) enum Derivative<'a> {
    Nothing,
    Activation(Activation),
    Norm(BnCoef<'a>, BnGate<'a>),
}

impl Behind {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Behind::Nothing)
    }

    /// What [`Behind::derivative`] reads.
    pub(super) fn reads(&self) -> Option<[Slot; 1]> {
        match self {
            Behind::Nothing | Behind::Activation(_) => None,
            Behind::Norm(norm) => Some([norm.saved]),
        }
    }

    pub(super) fn derivative<'a>(&self, saved: Option<[&'a [f32]; 1]>) -> Derivative<'a> {
        match (self, saved) {
            (Behind::Norm(norm), Some([saved])) => {
                let numbers = NormNumbers::of(saved);
                Derivative::Norm(numbers.coefficients(), numbers.gate(norm.act))
            }
            (Behind::Activation(act), _) => Derivative::Activation(*act),
            _ => Derivative::Nothing,
        }
    }

    /// Turns the gradient `dy` of a batch, whose outputs are `y`, into that of the sums.
    pub(super) fn apply<E: Number>(&self, run: &mut Run, (dy, y): (Slot<E>, Slot<E>), channels: usize) {
        if self.is_nothing() {
            return;
        }
        let Run { arena, threads, isa, images, .. } = run;
        let ([dy], ([y], saved)) = arena.split(*images, [dy], ([y], self.reads()));
        let derivative = self.derivative(saved);
        let len = (PIECE / channels).max(1) * channels;
        threads.pieces(dy.len() * 8, dy, len, |i, dy| derivative.apply(*isa, dy, piece(y, i, len)));
    }
}

impl Derivative<'_> {
    /// Turns the gradient `dy` of some pixels, whose outputs are `y`, into that of the sums.
    pub(super) fn apply<E: Number>(self, isa: Isa, dy: &mut [E], y: &[E]) {
        match self {
            Derivative::Nothing => {}
            Derivative::Activation(act) => activation::backward_in_place(isa, dy, y, act),
            Derivative::Norm(coef, gate) => batchnorm::backward_dx_in_place(isa, dy, y, (coef, gate)),
        }
    }
}
