//! What a layer reads: a value that is stored, or one that a batch normalisation would make of the value before it and that is
//! made in scratch instead, row by row, where it is read. In training the widest tensors of a network are then stored once and
//! not twice.

use std::ops::Range;

use super::batchnorm::NormNumbers;
use crate::arena::Slot;
use crate::graph::Activation;
use crate::kernels::Number;
use crate::kernels::batchnorm::{self, BnGate};
use crate::simd::Isa;

/// What a layer reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<E = f32> {
    /// The value, or what it is made of.
    pub(crate) x: Slot<E>,
    pub(crate) norm: Option<NormOnLoad>,
}

/// A batch normalisation that is applied where its output is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormOnLoad {
    /// Its [`NormNumbers`].
    pub(crate) saved: Slot,
    pub(crate) act: Option<Activation>,
}

impl<E: Number> Input<E> {
    /// What [`Input::map`] reads.
    pub(super) fn reads(&self) -> Option<[Slot; 1]> {
        self.norm.map(|norm| [norm.saved])
    }

    /// What is applied to the stored value; `None` where that is read as it is.
    pub(super) fn map<'a>(&self, saved: Option<[&'a [f32]; 1]>) -> Option<BnGate<'a>> {
        self.norm.zip(saved).map(|(norm, [saved])| NormNumbers::of(saved).gate(norm.act))
    }
}

/// Images as a layer reads them.
pub(super) struct Rows<'a, E> {
    isa: Isa,
    x: &'a [E],
    made: Option<Made<'a, E>>,
}

/// Rows that are made in scratch, at the places that they have in `x`.
struct Made<'a, E> {
    map: BnGate<'a>,
    buffer: &'a mut [E],
    /// Numbers of a row.
    row: usize,
    /// Rows that are there.
    done: Range<usize>,
}

impl<'a, E: Number> Rows<'a, E> {
    /// Images `x` of rows of `row` numbers; with a `map` the beginning of `scratch` is theirs.
    pub(super) fn new(
        isa: Isa,
        (x, row): (&'a [E], usize),
        map: Option<BnGate<'a>>,
        scratch: &'a mut [E],
    ) -> Self {
        let made = match map {
            Some(map) => Some(Made { map, buffer: &mut scratch[..x.len()], row, done: 0..0 }),
            None => None,
        };
        Rows { isa, x, made }
    }

    /// The images, of which rows `read` are there. Rows are asked for from the first to the last.
    pub(super) fn with(&mut self, read: Range<usize>) -> &[E] {
        let Some(made) = &mut self.made else { return self.x };
        // Rows that this part of the images has in common with an earlier one are there.
        if !(made.done.start..=made.done.end).contains(&read.start) {
            made.done = read.start..read.start;
        }
        if made.done.end < read.end {
            let own = made.done.end * made.row..read.end * made.row;
            let map = &made.map;
            batchnorm::affine(self.isa, &mut made.buffer[own.clone()], &self.x[own], map.a, map.b, map.act);
            made.done.end = read.end;
        }
        made.buffer
    }
}
