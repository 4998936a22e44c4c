//! What kernels are compared with before they are timed: the definitions in f64.
//!
//! The naive loops of `ocelli_engine::kernels::reference` give all outputs of a case up to a limit of multiply-adds.
//! Beyond it the outputs that [`sampled`] picks, the first and the last among them, are computed one by one from the
//! definition by the functions of this file, which the tests prove equal to those loops.
//!
//! Operands have mean 0 and variance 1, so the rounding errors of a sum of `k` products are a random walk: about
//! `u sqrt(k)` of the size of the sums, `u` being the unit roundoff (Higham and Mary, Sharper probabilistic backward
//! error analysis, 2020). A kernel that leaves out a single product is off by `1 / sqrt(k)` of that size, which is a
//! thousand times as much at k = 1000.

use std::fmt;

use ocelli_engine::geometry::Conv2dGeometry;
use ocelli_engine::rng::Rng;

use crate::cases::{Pass, Product};

/// Outputs that are compared where all would take too long.
const SAMPLES: usize = 1024;
/// Half of the distance from 1 to the next float.
const UNIT_ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;
/// How far the largest of a million errors may be from the typical one, with a factor of two to spare.
const SLACK: f64 = 16.0;

/// What one output tensor of a kernel should be.
pub(crate) enum Expected {
    /// Every element.
    All(Vec<f64>),
    /// Some elements, with their places.
    Some(Vec<(usize, f64)>),
}

impl Expected {
    /// Elements to compare with their places.
    fn pairs(&self) -> Vec<(usize, f64)> {
        match self {
            Expected::All(values) => values.iter().copied().enumerate().collect(),
            Expected::Some(pairs) => pairs.clone(),
        }
    }

    /// Some elements of `len`, each by its definition.
    pub(crate) fn sampled(len: usize, element: impl Fn(usize) -> f64) -> Self {
        Expected::Some(places(len).into_iter().map(|at| (at, element(at))).collect())
    }
}

/// The first, the last and a fixed random choice of the places below `len`; all if they are few.
fn places(len: usize) -> Vec<usize> {
    if len <= SAMPLES {
        return (0..len).collect();
    }
    let mut rng = Rng::new(7, len as u64);
    let random = (2..SAMPLES).map(|_| (rng.next_u64() % len as u64) as usize);
    [0, len - 1].into_iter().chain(random).collect()
}

/// A kernel whose result is not what the oracle says.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// The case, with where it ran.
    pub id: String,
    /// Which output tensor, and which element of it.
    pub place: (usize, usize),
    /// What the kernel wrote.
    pub found: f32,
    /// What the oracle says.
    pub expected: f64,
    /// Largest distance that rounding explains.
    pub bound: f64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { id, place: (output, at), found, expected, bound } = self;
        write!(f, "{id}: output {output}[{at}] is {found:e}, expected {expected:e} within {bound:.1e}")
    }
}

impl std::error::Error for Mismatch {}

/// The largest error of an output tensor in units of its root mean square, where sums have `terms` products and are then
/// rounded to numbers a fraction `stored` off at most.
///
/// # Errors
/// The first element that is further off than rounding explains.
pub(crate) fn compare(
    output: &[f32],
    expected: &Expected,
    (terms, stored): (usize, f64),
) -> Result<f64, Mismatch> {
    let pairs = expected.pairs();
    let size = (pairs.iter().map(|(_, e)| e * e).sum::<f64>() / pairs.len().max(1) as f64).sqrt();
    let bound = SLACK * UNIT_ROUNDOFF * ((terms + 16) as f64).sqrt() * size;
    let mut largest: f64 = 0.0;
    for (at, expected) in pairs {
        let found = output[at];
        let error = (f64::from(found) - expected).abs();
        // Written so that a NaN fails.
        let close = error <= bound + stored * expected.abs();
        if !close {
            return Err(Mismatch { id: String::new(), place: (0, at), found, expected, bound });
        }
        largest = largest.max(error);
    }
    Ok(if size > 0.0 { largest / size } else { 0.0 })
}

/// The operands of one pass of a linear layer: two of `x`, `w` and `dy`, in this order.
pub(crate) type Operands<'a> = [&'a [f32]; 2];

/// One output element of a pass of a matrix product.
pub(crate) fn product_at([a, b]: Operands, p: Product, pass: Pass, at: usize) -> f64 {
    let Product { rows, depth, cols } = p;
    let sum = |count: usize, term: &dyn Fn(usize) -> (usize, usize)| {
        (0..count).map(term).map(|(i, j)| f64::from(a[i]) * f64::from(b[j])).sum()
    };
    match pass {
        // w[depth][cols] and dy[rows][cols]
        Pass::BackwardData => {
            let (r, k) = (at / depth, at % depth);
            sum(cols, &|c| (k * cols + c, r * cols + c))
        }
        // x[rows][depth] and dy[rows][cols]
        Pass::BackwardWeights => {
            let (k, c) = (at / cols, at % cols);
            sum(rows, &|r| (r * depth + k, r * cols + c))
        }
        // x[rows][depth] and w[depth][cols]
        _ => {
            let (r, c) = (at / cols, at % cols);
            sum(depth, &|k| (r * depth + k, k * cols + c))
        }
    }
}

/// One output element of a pass of a convolution.
pub(crate) fn conv2d_at([a, b]: Operands, g: &Conv2dGeometry, pass: Pass, at: usize) -> f64 {
    let (cin, cout) = (g.cin / g.groups, g.cout / g.groups);
    let [kh, kw] = g.kernel;
    let x_at = |ih: usize, iw: usize, ci: usize| (ih * g.w + iw) * g.cin + ci;
    let y_at = |oh: usize, ow: usize, co: usize| (oh * g.ow + ow) * g.cout + co;
    let w_at = |r: usize, s: usize, ci: usize, co: usize| ((r * kw + s) * cin + ci % cin) * g.cout + co;
    let mut sum = 0.0;
    let mut add = |i: usize, j: usize| sum += f64::from(a[i]) * f64::from(b[j]);
    let taps = || (0..kh).flat_map(|r| (0..kw).map(move |s| (r, s)));
    match pass {
        Pass::BackwardData => {
            let (ih, iw, ci) = (at / g.cin / g.w, at / g.cin % g.w, at % g.cin);
            for (r, s) in taps() {
                let (Some(oh), Some(ow)) = (output(g, 0, ih, r), output(g, 1, iw, s)) else { continue };
                let first = ci / cin * cout;
                (first..first + cout).for_each(|co| add(w_at(r, s, ci, co), y_at(oh, ow, co)));
            }
        }
        Pass::BackwardWeights => {
            let (tap, ci, co) = (at / g.cout / cin, at / g.cout % cin, at % g.cout);
            let ci = co / cout * cin + ci;
            for (oh, ow) in (0..g.oh).flat_map(|oh| (0..g.ow).map(move |ow| (oh, ow))) {
                if let (Some(ih), Some(iw)) = (input(g, 0, oh, tap / kw), input(g, 1, ow, tap % kw)) {
                    add(x_at(ih, iw, ci), y_at(oh, ow, co));
                }
            }
        }
        _ => {
            let (oh, ow, co) = (at / g.cout / g.ow, at / g.cout % g.ow, at % g.cout);
            for (r, s) in taps() {
                let (Some(ih), Some(iw)) = (input(g, 0, oh, r), input(g, 1, ow, s)) else { continue };
                let first = co / cout * cin;
                (first..first + cin).for_each(|ci| add(x_at(ih, iw, ci), w_at(r, s, ci, co)));
            }
        }
    }
    sum
}

/// Row (axis 0) or column (axis 1) of the input under a tap of an output, if it is not padding.
fn input(g: &Conv2dGeometry, axis: usize, out: usize, tap: usize) -> Option<usize> {
    let at = (out * g.stride[axis] + tap * g.dilation[axis]).checked_sub(g.padding[2 * axis])?;
    (at < [g.h, g.w][axis]).then_some(at)
}

/// The output whose tap lies on a row or column of the input, if there is one.
fn output(g: &Conv2dGeometry, axis: usize, at: usize, tap: usize) -> Option<usize> {
    let distance = (at + g.padding[2 * axis]).checked_sub(tap * g.dilation[axis])?;
    let out = distance / g.stride[axis];
    (distance.is_multiple_of(g.stride[axis]) && out < [g.oh, g.ow][axis]).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_engine::Shape;
    use ocelli_engine::graph::{Conv2d, Padding};
    use ocelli_engine::kernels::reference;

    fn numbers(seed: u64, len: usize) -> Vec<f32> {
        let mut rng = Rng::new(seed, 0);
        (0..len).map(|_| rng.normal()).collect()
    }

    fn widen(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| x.into()).collect()
    }

    #[track_caller]
    fn assert_equal(what: &str, expected: &[f64], element: impl Fn(usize) -> f64) {
        for (at, e) in expected.iter().enumerate() {
            let found = element(at);
            assert!((found - e).abs() < 1e-12 * (1.0 + e.abs()), "{what}[{at}]: {found}, expected {e}");
        }
    }

    #[test]
    fn single_outputs_of_convolutions_are_those_of_the_loops() {
        let shapes = [
            ([5, 7, 4], 6, [3, 2], 1, 1, Padding::Explicit([1, 0, 2, 1])),
            ([9, 8, 4], 6, [3, 3], 2, 2, Padding::Same),
            ([6, 6, 6], 6, [5, 5], 2, 6, Padding::Explicit([2; 4])),
            ([4, 5, 3], 2, [1, 1], 2, 1, Padding::Valid),
        ];
        for ([h, w, c], filters, kernel, stride, groups, padding) in shapes {
            let conv = Conv2d { kernel, stride: [stride; 2], groups, padding, ..Conv2d::new(filters, 1) };
            let g = Conv2dGeometry::new("test", Shape::new(h, w, c), &conv).unwrap();
            let (x, w, dy) = (numbers(1, g.x_len()), numbers(2, g.w_len()), numbers(3, g.y_len()));
            let what = format!("{g:?}");
            let y = reference::conv2d(&widen(&x), &widen(&w), None, &g);
            assert_equal(&what, &y, |at| conv2d_at([&x, &w], &g, Pass::Forward, at));
            let dx = reference::conv2d_backward_data(&widen(&dy), &widen(&w), &g);
            assert_equal(&what, &dx, |at| conv2d_at([&w, &dy], &g, Pass::BackwardData, at));
            let dw = reference::conv2d_backward_weights(&widen(&x), &widen(&dy), &g);
            assert_equal(&what, &dw, |at| conv2d_at([&x, &dy], &g, Pass::BackwardWeights, at));
        }
    }

    #[test]
    fn single_outputs_of_products_are_those_of_the_loops() {
        let p = Product { rows: 3, depth: 5, cols: 4 };
        let (x, w, dy) = (numbers(1, 15), numbers(2, 20), numbers(3, 12));
        let y = reference::dense(&widen(&x), &widen(&w), &[0.0; 4], 5);
        let (dx, dw, _) = reference::dense_backward(&widen(&x), &widen(&w), &widen(&dy), 5);
        assert_equal("y", &y, |at| product_at([&x, &w], p, Pass::Forward, at));
        assert_equal("dx", &dx, |at| product_at([&w, &dy], p, Pass::BackwardData, at));
        assert_equal("dw", &dw, |at| product_at([&x, &dy], p, Pass::BackwardWeights, at));
    }

    #[test]
    fn wrong_results_are_noticed() {
        let exact = vec![1.0, -2.0, 3.0];
        let expected = Expected::All(exact.clone());
        assert_eq!(compare(&[1.0, -2.0, 3.0], &expected, (9, 0.0)), Ok(0.0));
        assert!(compare(&[1.0, -2.0, 3.000_001], &expected, (9, 0.0)).is_ok());
        assert!(compare(&[1.0, -2.0, 3.01], &expected, (9, 0.01)).is_ok());
        assert!(compare(&[1.0, -2.0, 3.04], &expected, (9, 0.01)).is_err());
        let wrong = compare(&[1.0, -2.1, 3.0], &expected, (9, 0.0)).unwrap_err();
        assert_eq!((wrong.place, wrong.found, wrong.expected), ((0, 1), -2.1, -2.0));
        assert!(compare(&[1.0, f32::NAN, 3.0], &expected, (9, 0.0)).is_err());
        let sampled = Expected::sampled(100_000, |at| at as f64);
        let mut output: Vec<f32> = (0..100_000).map(|at| at as f32).collect();
        assert!(compare(&output, &sampled, (1, 0.0)).is_ok());
        output[99_999] = 0.0;
        assert!(compare(&output, &sampled, (1, 0.0)).is_err());
    }
}
