//! Dense layer with fused bias and clamp.

use super::activation::apply_derivative;
use super::packed::Packed;
use super::panels::Panels;
use super::real::Real;
use super::run::{GradOut, Layer, Run, Weights};
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::buffer::cast_mut;
use crate::geometry::saturating_product;
use crate::graph::Activation;
use crate::kernels::gemm::{self, ColumnRange, GemmEpilogue, GemmShape};
use crate::kernels::{OuterProducts, elementwise, reduce};

/// Rows of a piece of work: a multiple of every register tile's height.
const ROWS: usize = 24;
/// Panels of a piece of a single row's work.
const PANELS: usize = 2;

/// `y [n, units] = act(x [n, depth] w [depth, units] + b)`, `y` in f32 whatever `x` is.
pub(crate) struct DenseLayer<E: Real> {
    pub(crate) weights: Panels<E>,
    pub(crate) x: Slot<E>,
    /// `x` with zeros behind each row, where products need them.
    pub(crate) padded: Option<Slot<E>>,
    pub(crate) y: Slot,
    pub(crate) act: Option<Activation>,
    pub(crate) backward: Option<DenseBackward<E>>,
}

/// What the backward pass of a [`DenseLayer`] needs.
pub(crate) struct DenseBackward<E: Real> {
    pub(crate) dy: Slot,
    /// `dy` in bf16, where that is what `x` is.
    pub(crate) narrowed: Option<Slot<E>>,
    /// Gradient of the input.
    pub(crate) dx: Option<DenseDataGradient<E>>,
}

/// The gradient of the input.
pub(crate) struct DenseDataGradient<E: Real> {
    pub(crate) out: GradOut<E>,
    /// The panels of the transposed weights.
    pub(crate) packed: Packed<E>,
    /// `dy` with zeros behind each row, where products need them.
    pub(crate) padded: Option<Slot<E>>,
}

impl<E: Real> DenseLayer<E> {
    fn transposed(&self) -> GemmShape {
        GemmShape { depth: self.weights.shape.cols, cols: self.weights.shape.depth }
    }
}

/// `y = x w` over all rows, cut into rows, or into columns when there is one row.
fn product<N: OuterProducts>(
    run: &mut Run,
    (y, x): (Slot<N::Output>, Slot<N::Input>),
    (numbers, shape): (N, GemmShape),
    w: &[N::Input],
    epilogue: GemmEpilogue<N::Output>,
) {
    let Run { arena, threads, images, .. } = run;
    let ([y], [x]) = arena.split(*images, [y], [x]);
    let work = saturating_product([shape.depth, shape.cols, *images]);
    if *images == 1 {
        let len = PANELS * numbers.tile_width();
        threads.pieces(work, y, len, |i, y| {
            let range = ColumnRange { shape, first: i * len, stride: shape.cols, cols: y.len() };
            gemm::gemm_columns(numbers, y, x, w, range, epilogue);
        });
        return;
    }
    let rows = images.div_ceil(2 * threads.count()).clamp(1, ROWS);
    let depth = gemm::depth(numbers, shape);
    threads.pieces(work, y, rows * shape.cols, |i, y| {
        gemm::gemm(numbers, y, piece(x, i, rows * depth), w, shape, epilogue);
    });
}

/// Copies rows of `len` numbers to where zeros follow each, if there is such a place; gives where products read them.
fn with_zeros<E: Real>(run: &mut Run, x: Slot<E>, padded: Option<Slot<E>>, len: usize) -> Slot<E> {
    let Some(padded) = padded else { return x };
    let ([to], [from]) = run.arena.split(run.images, [padded], [x]);
    let depth = to.len() / run.images;
    for (to, from) in to.chunks_exact_mut(depth).zip(from.chunks_exact(len)) {
        to[..len].copy_from_slice(from);
        to[len..].fill(E::ZERO);
    }
    padded
}

impl<E: Real> Layer for DenseLayer<E> {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        let (numbers, threads) = (E::products(weights.isa), weights.threads);
        let w = self.weights.pack(weights, packed);
        if let Some(dx) = self.backward.as_ref().and_then(|b| b.dx.as_ref()) {
            let shape = self.transposed();
            let (panels, _) = dx.packed.parts_mut(packed);
            let len = gemm::panel_step(numbers, shape);
            threads.pieces(panels.len() * 4, panels, len, |i, panel| {
                gemm::pack_transposed(numbers, panel, w, shape, i)
            });
        }
    }

    fn forward(&self, run: &mut Run) {
        let (panels, bias) = self.weights.parts(run.packed);
        let clamp = self.act.and_then(Activation::clamp_range);
        let epilogue = GemmEpilogue { bias, residual: None, clamp };
        let shape = self.weights.shape;
        let x = with_zeros(run, self.x, self.padded, shape.depth);
        let numbers = E::sums(run.isa);
        product(run, (self.y, x), (numbers, shape), panels, epilogue);
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        let (shape, isa, threads, first) = (self.weights.shape, run.isa, run.threads, run.first);
        let numbers = E::products(isa);
        if let Some(act) = self.act {
            apply_derivative(run, backward.dy, self.y, act);
        }
        if let Some(narrowed) = backward.narrowed {
            let ([to], [from]) = run.arena.split(run.images, [narrowed], [backward.dy]);
            threads.pieces(to.len() * 4, to, PIECE, |i, to| {
                elementwise::convert(isa, to, piece(from, i, PIECE))
            });
        }
        let dy = E::gradient(backward.dy, backward.narrowed);
        let (x, own) = (run.arena.read(self.x, run.images), run.arena.read(dy, run.images));
        let work = saturating_product([shape.depth, shape.cols, run.images]);
        let dw = &mut run.grads[self.weights.filters.w.clone()];
        let rows = shape.depth.div_ceil(threads.count()).next_multiple_of(ROWS).min(gemm::WEIGHT_ROWS);
        threads.pieces(work, dw, rows * shape.cols, |i, dw| {
            if first == 0 {
                dw.fill(0.0);
            }
            let scratch = &mut threads.scratch();
            gemm::weight_gradient(numbers, dw, cast_mut(scratch), (x, own), shape, i * rows);
        });
        if let Some(sums) = self.weights.filters.sums() {
            let db = &mut run.grads[sums.clone()];
            if first == 0 {
                db.fill(0.0);
            }
            reduce::column_sums(isa, db, run.arena.read(backward.dy, run.images));
        }
        if let Some(dx) = &backward.dx {
            let (panels, _) = dx.packed.parts(run.packed);
            let dy = with_zeros(run, dy, dx.padded, shape.cols);
            let shape = (numbers, self.transposed());
            product(run, (dx.out.target(), dy), shape, panels, GemmEpilogue::default());
            dx.out.finish(run);
        }
    }

    fn finish_gradients(&self, weights: &mut Weights, grads: &mut [f32]) {
        if self.backward.is_some() {
            self.weights.filters.finish_gradients(weights, grads);
        }
    }
}
