//! Dense layer with fused bias and clamp.

use std::ops::Range;

use super::activation::apply_derivative;
use super::panels::Panels;
use super::run::{GradOut, Layer, Run, Weights};
use super::split::piece;
use crate::arena::Slot;
use crate::graph::Activation;
use crate::kernels::gemm::{self, ColumnRange, GemmEpilogue, GemmShape};
use crate::kernels::reduce;

/// Rows of a piece of work: a multiple of every register tile's height.
const ROWS: usize = 24;
/// Panels of a piece of a single row's work.
const PANELS: usize = 2;

/// `y [n, units] = act(x [n, depth] w [depth, units] + b)`
pub(crate) struct DenseLayer {
    pub(crate) weights: Panels,
    pub(crate) x: Slot,
    pub(crate) y: Slot,
    pub(crate) act: Option<Activation>,
    pub(crate) backward: Option<DenseBackward>,
}

/// What the backward pass of a [`DenseLayer`] needs.
pub(crate) struct DenseBackward {
    pub(crate) dy: Slot,
    /// Gradient of the input, and the panels of the transposed weights.
    pub(crate) dx: Option<(GradOut, Range<usize>)>,
}

impl DenseLayer {
    fn transposed(&self) -> GemmShape {
        GemmShape { depth: self.weights.shape.cols, cols: self.weights.shape.depth }
    }
}

/// `y = x w` over all rows, cut into rows, or into columns when there is one row.
fn product(run: &mut Run, (y, x): (Slot, Slot), shape: GemmShape, w: &[f32], epilogue: GemmEpilogue) {
    let Run { arena, threads, isa, images, .. } = run;
    let ([y], [x]) = arena.split(*images, [y], [x]);
    let work = shape.depth * shape.cols * *images;
    if *images == 1 {
        let len = PANELS * isa.nr();
        threads.pieces(work, y, len, |i, y| {
            let range = ColumnRange { shape, first: i * len, stride: shape.cols, cols: y.len() };
            gemm::gemm_columns(*isa, y, x, w, range, epilogue);
        });
        return;
    }
    let rows = images.div_ceil(2 * threads.count()).clamp(1, ROWS);
    threads.pieces(work, y, rows * shape.cols, |i, y| {
        gemm::gemm(*isa, y, piece(x, i, rows * shape.depth), w, shape, epilogue);
    });
}

impl Layer for DenseLayer {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        let (isa, threads) = (weights.isa, weights.threads);
        let w = self.weights.pack(weights, packed);
        if let Some((_, range)) = self.backward.as_ref().and_then(|b| b.dx.as_ref()) {
            let shape = self.transposed();
            let panels = &mut packed[range.clone()];
            let len = shape.depth * isa.nr();
            threads.pieces(panels.len() * 4, panels, len, |i, panel| {
                gemm::pack_transposed(isa, panel, w, shape, i)
            });
        }
    }

    fn forward(&self, run: &mut Run) {
        let (panels, bias) = self.weights.parts(run.packed, run.isa);
        let epilogue = GemmEpilogue {
            bias,
            clamp: self.act.and_then(Activation::clamp_range),
            ..GemmEpilogue::default()
        };
        product(run, (self.y, self.x), self.weights.shape, panels, epilogue);
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        let (shape, isa, threads, first) = (self.weights.shape, run.isa, run.threads, run.first);
        if let Some(act) = self.act {
            apply_derivative(run, backward.dy, self.y, act);
        }
        let (x, dy) = (run.arena.read(self.x, run.images), run.arena.read(backward.dy, run.images));
        let work = shape.depth * shape.cols * run.images;
        let dw = &mut run.grads[self.weights.filters.w.clone()];
        let rows = shape.depth.div_ceil(threads.count()).next_multiple_of(ROWS).min(gemm::WEIGHT_ROWS);
        threads.pieces(work, dw, rows * shape.cols, |i, dw| {
            if first == 0 {
                dw.fill(0.0);
            }
            gemm::weight_gradient(isa, dw, &mut threads.scratch(), (x, dy), shape, i * rows);
        });
        if let Some(sums) = self.weights.filters.sums() {
            let db = &mut run.grads[sums.clone()];
            if first == 0 {
                db.fill(0.0);
            }
            reduce::column_sums(isa, db, dy);
        }
        if let Some((dx, range)) = &backward.dx {
            let panels = &run.packed[range.clone()];
            product(run, (dx.target(), backward.dy), self.transposed(), panels, GemmEpilogue::default());
            dx.finish(run);
        }
    }

    fn finish_gradients(&self, weights: &mut Weights, grads: &mut [f32]) {
        if self.backward.is_some() {
            self.weights.filters.finish_gradients(weights, grads);
        }
    }
}
