//! The place of one layer's weights and bias in the packed buffer of a plan.

use std::marker::PhantomData;
use std::ops::Range;

use crate::buffer::{cast, cast_mut};
use crate::kernels::Number;

/// Panels of `E`, then a bias in f32.
pub(crate) struct Packed<E> {
    range: Range<usize>,
    /// Numbers of the panels.
    len: usize,
    number: PhantomData<E>,
}

impl<E: Number> Packed<E> {
    /// Floats that panels of `len` numbers and a bias take.
    pub(crate) fn floats(len: usize, bias: usize) -> usize {
        Self::panels(len) + bias
    }

    /// Floats of the panels.
    fn panels(len: usize) -> usize {
        (len * size_of::<E>()).div_ceil(size_of::<f32>())
    }

    /// The floats `range` of the buffer, as many as [`Packed::floats`] says.
    pub(crate) fn new(range: Range<usize>, len: usize) -> Self {
        Packed { range, len, number: PhantomData }
    }

    /// Panels and bias, which is empty where there is none.
    pub(super) fn parts<'a>(&self, packed: &'a [f32]) -> (&'a [E], &'a [f32]) {
        let (panels, bias) = packed[self.range.clone()].split_at(Self::panels(self.len));
        (&cast(panels)[..self.len], bias)
    }

    /// As [`Packed::parts`], to change.
    pub(super) fn parts_mut<'a>(&self, packed: &'a mut [f32]) -> (&'a mut [E], &'a mut [f32]) {
        let (panels, bias) = packed[self.range.clone()].split_at_mut(Self::panels(self.len));
        (&mut cast_mut(panels)[..self.len], bias)
    }
}
