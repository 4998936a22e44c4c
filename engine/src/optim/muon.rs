//! Muon (Jordan, 2024): momentum whose matrices are made orthogonal before they are a step.
//!
//! The update `u [rows][cols]` of a weight matrix, which has a column for each filter, is replaced by a matrix with the same
//! singular vectors and singular values near 1, by five steps of a Newton-Schulz iteration on the shorter side:
//! ```text
//! y = u / |u|, transposed where it is taller than wide
//! y = (a I + b g + c g g) y   with g = y y^T, five times
//! w = w - lr 0.2 sqrt(max(rows, cols)) y
//! ```
//! The factor gives a step the size that one of AdamW has, so that one learning rate serves both (Liu et al., 2025). All
//! products are those of dense layers, cut by rows: the same bits on any number of threads.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::graph::{Graph, Op, ParamKind};
use crate::kernels::gemm::{self, GemmEpilogue, GemmShape};
use crate::kernels::reduce;
use crate::parallel::Threads;
use crate::params::{ParamEntry, ParamLayout};
use crate::simd::Isa;

/// Coefficients of the iteration that lifts small singular values fastest (Jordan, 2024).
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// Root mean square of an AdamW step's elements, divided by the learning rate, that the factor of a step is for.
const STEP_SIZE: f64 = 0.2;
/// Keeps a gradient of zeros what it is.
const LEAST_NORM: f64 = 1e-7;

/// Rows of a product that one thread computes at a time: a multiple of every register tile's height.
const ROWS: usize = 24;
/// Elements of a piece of work on single elements.
const PIECE: usize = 8 * 1024;

/// A weight matrix in the flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) range: Range<usize>,
    rows: usize,
    cols: usize,
}

impl Matrix {
    fn short(&self) -> usize {
        self.rows.min(self.cols)
    }

    fn long(&self) -> usize {
        self.rows.max(self.cols)
    }
}

/// The matrices of a network that have an orthogonal step: the weights of convolutions without groups and of dense layers,
/// but not the first, which reads pixels, nor the last, which makes logits (Jordan, 2024).
pub(super) fn matrices(graph: &Graph, layout: &ParamLayout) -> Vec<Matrix> {
    let weights: Vec<&ParamEntry> =
        layout.entries().iter().filter(|entry| entry.kind == ParamKind::Weight).collect();
    let between = weights.len().saturating_sub(1);
    let matrix = |entry: &&ParamEntry| {
        let plain = match &graph.nodes[entry.node()].op {
            Op::Conv2d(conv) => conv.groups == 1,
            _ => true,
        };
        let cols = *entry.shape.last().expect("weights have dimensions");
        let rows = entry.len() / cols;
        (plain && rows.min(cols) > 1).then(|| Matrix { range: entry.range(), rows, cols })
    };
    weights.get(1..between).unwrap_or_default().iter().filter_map(matrix).collect()
}

/// Floats that [`Orthogonal::new`] takes.
pub(super) fn floats(isa: Isa, matrices: &[Matrix]) -> usize {
    sizes(isa, matrices).iter().sum()
}

/// Floats of two wide matrices, of packed weights and of two square ones.
fn sizes(isa: Isa, matrices: &[Matrix]) -> [usize; 5] {
    let most = |size: &dyn Fn(&Matrix) -> usize| matrices.iter().map(size).max().unwrap_or(0);
    let wide = most(&|m| m.rows * m.cols);
    let square = most(&|m| m.short() * m.short());
    let packed = most(&|m| {
        let shapes = [(m.long(), m.short()), (m.short(), m.long()), (m.short(), m.short())];
        let packed = |(depth, cols)| gemm::packed_len(isa, GemmShape { depth, cols });
        shapes.into_iter().map(packed).max().unwrap_or(0)
    });
    [wide, wide, packed, square, square]
}

/// Memory for making matrices orthogonal, one at a time.
pub(super) struct Orthogonal {
    wide: [Buffer; 2],
    packed: Buffer,
    square: [Buffer; 2],
}

/// One step of a matrix.
pub(super) struct MatrixStep<'a> {
    pub(super) matrix: &'a Matrix,
    /// Gradient and velocity, from the start of the flat buffer.
    pub(super) gradient: &'a [f32],
    pub(super) velocity: &'a [f32],
    /// The step is along `gradient * factors[0] + velocity * factors[1]`.
    pub(super) factors: [f32; 2],
    pub(super) lr: f64,
    pub(super) weight_decay: f64,
}

impl Orthogonal {
    /// Memory for each of some matrices.
    pub(super) fn new(isa: Isa, matrices: &[Matrix]) -> Self {
        let [a, b, packed, c, d] = sizes(isa, matrices).map(Buffer::zeros);
        Orthogonal { wide: [a, b], packed, square: [c, d] }
    }

    /// Moves the matrix, which lies in the flat parameters `w`.
    pub(super) fn step(&mut self, place: (Isa, &Threads), w: &mut [f32], step: MatrixStep) {
        let MatrixStep { matrix, lr, weight_decay, .. } = step;
        self.load(place.1, &step);
        self.iterate(place, matrix);
        let scale = (lr * STEP_SIZE * (matrix.long() as f64).sqrt()) as f32;
        let kept = (1.0 - lr * weight_decay) as f32;
        let (cols, y) = (matrix.cols, &self.wide[0]);
        let (along, across) = steps(matrix);
        let w = &mut w[matrix.range.clone()];
        let work = w.len() * 4;
        place.1.pieces(work, w, (PIECE / cols).max(1) * cols, |i, w| {
            let first = i * (PIECE / cols).max(1);
            for (row, w) in (first..).zip(w.chunks_exact_mut(cols)) {
                for (col, w) in w.iter_mut().enumerate() {
                    *w = kept * *w - scale * y[row * along + col * across];
                }
            }
        });
    }

    /// Writes the direction of a step into the first wide matrix, lying, with norm 1.
    fn load(&mut self, threads: &Threads, step: &MatrixStep) {
        let MatrixStep { matrix, gradient, velocity, factors, .. } = *step;
        let [gradient, velocity] = [gradient, velocity].map(|all| &all[matrix.range.clone()]);
        let direction = |at: usize| factors[0] * gradient[at] + factors[1] * velocity[at];
        let (cols, long) = (matrix.cols, matrix.long());
        let upright = matrix.rows > matrix.cols;
        let y = &mut self.wide[0][..matrix.rows * cols];
        let work = y.len() * 8;
        threads.pieces(work, y, ROWS * long, |i, y| {
            let first = i * ROWS;
            if upright {
                let rows = y.len() / long;
                for at in 0..long {
                    (0..rows).for_each(|row| y[row * long + at] = direction(at * cols + first + row));
                }
            } else {
                y.iter_mut().enumerate().for_each(|(at, y)| *y = direction(first * long + at));
            }
        });
        let norm = reduce::sum_of_squares(y).sqrt();
        let factor = (1.0 / (norm + LEAST_NORM)) as f32;
        threads.pieces(y.len() * 2, y, PIECE, |_, y| y.iter_mut().for_each(|y| *y *= factor));
    }

    /// The iteration, on the first wide matrix and into it.
    fn iterate(&mut self, place: (Isa, &Threads), matrix: &Matrix) {
        let Orthogonal { wide: [from, to], packed, square: [gram, mixed] } = self;
        let (short, long) = (matrix.short(), matrix.long());
        let [gram, mixed] = [gram, mixed].map(|square| &mut square[..short * short]);
        let [a, b, c] = COEFFICIENTS;
        for _ in 0..ITERATIONS {
            let y = &from[..short * long];
            let product = Product { place, packed, shape: GemmShape { depth: long, cols: short } };
            product.multiply(gram, y, y, gemm::pack_transposed);
            let product = Product { place, packed, shape: GemmShape { depth: short, cols: short } };
            product.multiply(mixed, gram, gram, gemm::pack);
            for (i, (mixed, &g)) in mixed.iter_mut().zip(gram.iter()).enumerate() {
                let unit = if i % (short + 1) == 0 { a } else { 0.0 };
                *mixed = unit + b * g + c * *mixed;
            }
            let product = Product { place, packed, shape: GemmShape { depth: short, cols: long } };
            product.multiply(&mut to[..short * long], mixed, y, gemm::pack);
            std::mem::swap(from, to);
        }
    }
}

/// Distances between neighbours of a column and of a row of a matrix in its lying form.
fn steps(matrix: &Matrix) -> (usize, usize) {
    if matrix.rows > matrix.cols { (1, matrix.rows) } else { (matrix.cols, 1) }
}

/// [`gemm::pack`] or [`gemm::pack_transposed`].
type Pack = fn(Isa, &mut [f32], &[f32], GemmShape, usize);

/// A product of two matrices on all threads.
struct Product<'a> {
    place: (Isa, &'a Threads),
    packed: &'a mut [f32],
    shape: GemmShape,
}

impl Product<'_> {
    /// `y = x w`
    fn multiply(self, y: &mut [f32], x: &[f32], w: &[f32], pack: Pack) {
        let Product { place: (isa, threads), packed, shape } = self;
        let GemmShape { depth, cols } = shape;
        let packed = &mut packed[..gemm::packed_len(isa, shape)];
        threads.pieces(w.len() * 4, packed, depth * isa.nr(), |panel, packed| {
            pack(isa, packed, w, shape, panel)
        });
        let work = y.len().saturating_mul(depth);
        threads.pieces(work, y, ROWS * cols, |i, y| {
            let x = &x[i * ROWS * depth..][..y.len() / cols * depth];
            gemm::gemm(isa, y, x, packed, shape, GemmEpilogue::default());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Exec;
    use crate::kernels::testing::{UNIT_ROUNDOFF, for_each_isa, normal};

    /// `a b` of row-major matrices with `n` rows and columns of `a` and rows of `b` as given.
    fn product(a: &[f64], b: &[f64], [n, k, m]: [usize; 3]) -> Vec<f64> {
        let at = |i: usize| (0..k).map(|j| a[i / m * k + j] * b[j * m + i % m]).sum();
        (0..n * m).map(at).collect()
    }

    fn transposed(a: &[f64], [n, m]: [usize; 2]) -> Vec<f64> {
        (0..n * m).map(|i| a[i % n * m + i / n]).collect()
    }

    /// The iteration from its definition, on the matrix as it stands: with `g = y^T y` on the right or `y y^T` on the left
    /// it has the same result.
    fn exact(u: &[f64], [rows, cols]: [usize; 2]) -> Vec<f64> {
        let norm = u.iter().map(|x| x * x).sum::<f64>().sqrt() + LEAST_NORM;
        let mut y: Vec<f64> = u.iter().map(|x| x / norm).collect();
        let [a, b, c] = [3.4445, -4.7750, 2.0315];
        for _ in 0..ITERATIONS {
            let g = product(&transposed(&y, [rows, cols]), &y, [cols, rows, cols]);
            let yg = product(&y, &g, [rows, cols, cols]);
            let ygg = product(&yg, &g, [rows, cols, cols]);
            y = (0..y.len()).map(|i| a * y[i] + b * yg[i] + c * ygg[i]).collect();
        }
        y
    }

    const SHAPES: [[usize; 2]; 7] = [[2, 2], [3, 7], [7, 3], [24, 24], [25, 49], [70, 33], [216, 64]];

    fn moved(exec: &Exec, [rows, cols]: [usize; 2], w: &[f32], u: &[f32]) -> Vec<f32> {
        let matrix = Matrix { range: 16..16 + rows * cols, rows, cols };
        let threads = Threads::new(&exec.pool, exec.wait, 0).unwrap();
        let (mut params, mut gradient) = (vec![7.0; 16], vec![7.0; 16]);
        params.extend(w);
        gradient.extend(u);
        let velocity = vec![1.0; gradient.len()];
        let step = MatrixStep {
            matrix: &matrix,
            gradient: &gradient,
            velocity: &velocity,
            factors: [1.0, 0.0],
            lr: 0.5,
            weight_decay: 0.25,
        };
        let mut orthogonal = Orthogonal::new(exec.isa, std::slice::from_ref(&matrix));
        threads.enter(usize::MAX, || orthogonal.step((exec.isa, &threads), &mut params, step));
        assert_eq!(params[..16], [7.0; 16], "nothing before the matrix moves");
        params[16..].to_vec()
    }

    for_each_isa! {
        fn a_step_follows_the_definition(isa: Isa) {
            for shape in SHAPES {
                let [rows, cols] = shape;
                let (w, u) = (normal(1, rows * cols), normal(2, rows * cols));
                let widened: Vec<f64> = u.iter().map(|&x| x.into()).collect();
                let y = exact(&widened, shape);
                let scale = 0.5 * 0.2 * (rows.max(cols) as f64).sqrt();
                let found = moved(&Exec::with_isa(isa, 2).unwrap(), shape, &w, &u);
                // Five iterations grow an error by 3.4445 each at most, and each adds that of three sums of products of
                // numbers of which the largest is near 1.
                let bound = 3.4445f64.powi(5) * (3 * rows.max(cols)) as f64 * UNIT_ROUNDOFF * scale;
                for (i, &found) in found.iter().enumerate() {
                    let expected = (1.0 - 0.5 * 0.25) * f64::from(w[i]) - scale * y[i];
                    assert!((f64::from(found) - expected).abs() < bound.max(1e-6), "{shape:?} [{i}]: {found}, not {expected}");
                }
            }
        }

        fn the_number_of_threads_does_not_matter(isa: Isa) {
            for shape in SHAPES {
                let (w, u) = (normal(1, shape[0] * shape[1]), normal(2, shape[0] * shape[1]));
                let one = moved(&Exec::with_isa(isa, 1).unwrap(), shape, &w, &u);
                for threads in [2, 3, 7] {
                    assert_eq!(moved(&Exec::with_isa(isa, threads).unwrap(), shape, &w, &u), one, "{shape:?}");
                }
            }
        }

        fn no_gradient_is_no_step(isa: Isa) {
            let w = normal(1, 12);
            let found = moved(&Exec::with_isa(isa, 1).unwrap(), [3, 4], &w, &[0.0; 12]);
            assert!(found.iter().zip(&w).all(|(found, w)| *found == 0.875 * w));
        }
    }

    /// The iteration leaves singular values between 0.68 and 1.21, the least and the largest value of its polynomial there:
    /// `y y^T` is near the identity.
    #[test]
    fn the_definition_is_nearly_orthogonal() {
        let u: Vec<f64> = normal(3, 5 * 40).iter().map(|&x| x.into()).collect();
        let y = exact(&u, [5, 40]);
        let g = product(&y, &transposed(&y, [5, 40]), [5, 40, 5]);
        for (i, g) in g.iter().enumerate() {
            let (low, high) = if i % 6 == 0 { (0.68 * 0.68, 1.21 * 1.21) } else { (-0.51, 0.51) };
            assert!((low..=high).contains(g), "[{i}] is {g}");
        }
    }
}
