//! Products of bf16 with sums in f32, stored as `Y`: bf16 again, or f32.

use std::marker::PhantomData;

use super::reals::{self, Epilogue, RealUnit, Reals};
use super::tiles::{padded_run, real_tiles};
use super::{Arithmetic, Product, Rows, Strided, Unit, by_rows, is_wide, tile};
use crate::bf16::Bf16;
use crate::kernels::lanes::Number;
use crate::simd::{Bf16Isa, PairKernel, PairProduct, Simd, dispatch_pairs};

/// Arithmetic on bf16 with outputs in `Y`.
#[derive(Clone, Copy, Debug)]
pub struct Halves<Y = Bf16> {
    pub(super) isa: Bf16Isa,
    y: PhantomData<Y>,
}

impl<Y> Halves<Y> {
    /// On an instruction set.
    pub fn new(isa: Bf16Isa) -> Self {
        Halves { isa, y: PhantomData }
    }

    /// The instruction set.
    pub fn isa(self) -> Bf16Isa {
        self.isa
    }
}

impl<Y: Number> Arithmetic for Halves<Y> {
    type X = Bf16;
    type W = Bf16;
    type Y = Y;
    type Epilogue = Epilogue<Y>;
    const GROUP: usize = 2;
    const ROW_PANELS: usize = 0;

    fn tile_height(self) -> usize {
        self.isa.mr()
    }

    fn tile_width(self) -> usize {
        self.isa.nr()
    }

    fn padded_run(self, run: usize) -> usize {
        padded_run(self.isa.tiles(), run, Self::GROUP)
    }

    fn multiplies_tiles(self) -> bool {
        self.isa.tiles().is_some()
    }

    fn slices(self) -> bool {
        // A sum that waits in an output of bf16 would be rounded, and tiles have sums of their own.
        size_of::<Y>() == size_of::<f32>() && !self.multiplies_tiles()
    }

    // A call of its own would cost as much as a few steps of a short reduction.
    #[inline(always)]
    unsafe fn product<A: Rows>(self, rows: usize, args: &Product<Self, A>, at: [usize; 2]) {
        if let Some(unit) = self.isa.tiles() {
            // SAFETY: the contract of this function.
            return unsafe { real_tiles((unit, self.isa), rows, args, at) };
        }
        let wide = is_wide(self, args.cols);
        by_rows!(rows, wide, (R, V) => dispatch_pairs(self.isa, HalfTile::<_, _, R, V>(args, at)));
    }

    unsafe fn row(self, _: &Product<Self, Strided>, _: usize, _: [usize; 2]) {
        unreachable!("a row of bf16 is a tile");
    }
}

impl<Y: Number> Reals for Halves<Y> {
    type Input = Bf16;
    type Output = Y;
}

struct HalfTile<'a, 'b, Y: Number, A, const R: usize, const V: usize>(
    &'a Product<'b, Halves<Y>, A>,
    [usize; 2],
);

impl<Y: Number, A: Rows, const R: usize, const V: usize> PairKernel for HalfTile<'_, '_, Y, A, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<P: PairProduct>(self, p: P) {
        // SAFETY: the contract of `Arithmetic::product`.
        unsafe { tile::<_, _, R, V>(Pairs::<P, Y>::new(p), self.0, self.1) }
    }
}

/// Vectors of sums of two products.
#[derive(Clone, Copy)]
pub(super) struct Pairs<P, Y> {
    pairs: P,
    y: PhantomData<Y>,
}

impl<P, Y> Pairs<P, Y> {
    #[inline(always)]
    pub(super) fn new(pairs: P) -> Self {
        Pairs { pairs, y: PhantomData }
    }
}

impl<P: PairProduct, Y: Number> Unit for Pairs<P, Y> {
    type Arithmetic = Halves<Y>;
    type Sums = <P::Floats as Simd>::V;
    type Spread = P::Pair;
    type Weights = P::Weights;
    const LANES: usize = P::LANES;
    const SUMS: usize = P::MR * P::NV;

    #[inline(always)]
    unsafe fn start<A: Rows, const R: usize, const V: usize>(
        self,
        p: &Product<Halves<Y>, A>,
        y: *const Y,
    ) -> [[Self::Sums; V]; R] {
        // SAFETY: the contract of this function.
        unsafe { reals::start(self.pairs.floats(), p, y) }
    }

    #[inline(always)]
    unsafe fn spread(self, x: *const Bf16) -> P::Pair {
        // SAFETY: the contract of this function.
        unsafe { self.pairs.spread(x) }
    }

    #[inline(always)]
    unsafe fn weights(self, w: *const Bf16) -> P::Weights {
        // SAFETY: the contract of this function.
        unsafe { self.pairs.load_weights(w) }
    }

    #[inline(always)]
    fn multiply_add(self, x: P::Pair, w: P::Weights, sums: Self::Sums) -> Self::Sums {
        self.pairs.dot(x, w, sums)
    }

    #[inline(always)]
    unsafe fn finish<A: Rows, const R: usize, const V: usize>(
        self,
        p: &Product<Halves<Y>, A>,
        sums: [[Self::Sums; V]; R],
        y_at: usize,
    ) {
        // SAFETY: the contract of this function.
        unsafe { reals::finish(self.pairs.floats(), p, sums, y_at) }
    }
}

impl<P: PairProduct, Y: Number> RealUnit for Pairs<P, Y> {
    type Floats = P::Floats;

    #[inline(always)]
    fn floats(self) -> P::Floats {
        self.pairs.floats()
    }
}
