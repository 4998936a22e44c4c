//! A batch normalisation with given statistics, folded into the filters before it.
//!
//! Behind sums over filters `w [k, c]`, with a bias `b` or none, the normalisation is a factor on the filters and an addend:
//! ```text
//! w'[k, c] = w[k, c] f[c]                     f[c] = scale[c] inv_std[c],  inv_std[c] = 1 / sqrt(var[c] + eps)
//! b'[c]    = shift[c] + (b[c] - mean[c]) f[c]
//! ```
//! `scale` and `shift` are in nothing but `w'` and `b'`, so their gradients follow from those of `w'` and `b'` by the chain
//! rule, and neither the sums before the normalisation nor their gradient are needed:
//! ```text
//! dw[k, c]  = dw'[k, c] f[c]
//! db[c]     = db'[c] f[c]
//! dscale[c] = (sum over k of dw'[k, c] w[k, c] + db'[c] (b[c] - mean[c])) inv_std[c]
//! dshift[c] = db'[c]
//! ```
//! `dw'` and `db'` are what the layer's own backward pass finds, with `w'` as its filters. In `dscale` a mean that is many
//! standard deviations from zero cancels digits that the batch's own form, a sum of `dy (x - mean)`, keeps: with `f32` sums
//! it errs by up to `|mean| inv_std` roundings of `sum |dy|`.
//!
//! Here is what is done for every weight: [`forward`] and [`backward`]. What is done for every channel is arithmetic of a few
//! numbers, in `layers/filters.rs`.

use super::batchnorm::{PerChannel, RowSweep, sweep_rows};
use super::lanes::load;
use super::reduce::{ColumnTerms, add_columns};
use crate::simd::{Isa, Simd};

#[derive(Clone, Copy)]
struct Scale;

impl PerChannel<1, 1> for Scale {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [x]: [S::V; 1], [factor]: [S::V; 1]) -> S::V {
        s.mul(x, factor)
    }
}

/// `w'[k, c] = w[k, c] f[c]` for some rows of the filters.
///
/// # Panics
/// When lengths do not fit.
pub fn forward(isa: Isa, folded: &mut [f32], w: &[f32], factors: &[f32]) {
    let cols = factors.len();
    assert_eq!(w.len(), folded.len(), "as many folded weights as weights");
    let rows = row_count(w.len(), cols);
    let sweep =
        RowSweep { y: folded.as_mut_ptr(), x: [w.as_ptr()], p: [factors.as_ptr()], rows, cols, f: Scale };
    // SAFETY: both matrices are `rows x cols`, and there is a factor for every column.
    unsafe { sweep_rows(isa, sweep) }
}

#[derive(Clone, Copy)]
struct Products {
    a: *const f32,
    b: *const f32,
}

impl ColumnTerms<1> for Products {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, at: usize, _: usize, n: usize) -> [S::V; 1] {
        // SAFETY: the contract of this function; the pointers are those of whole matrices.
        unsafe { [s.mul(load(s, self.a.add(at), n), load(s, self.b.add(at), n))] }
    }
}

/// `dots[c] = sum over k of dw'[k, c] w[k, c]` (overwritten), then `dw[k, c] = dw'[k, c] f[c]` in place of `dw'`, for some rows
/// of the filters.
///
/// # Panics
/// When lengths do not fit.
pub fn backward(isa: Isa, dw: &mut [f32], dots: &mut [f32], w: &[f32], factors: &[f32]) {
    let cols = factors.len();
    assert!(
        dots.len() == cols && w.len() == dw.len(),
        "a sum for every channel, a gradient for every weight"
    );
    let rows = row_count(w.len(), cols);
    dots.fill(0.0);
    let y = dw.as_mut_ptr();
    let terms = Products { a: y, b: w.as_ptr() };
    let sweep = RowSweep { y, x: [y.cast_const()], p: [factors.as_ptr()], rows, cols, f: Scale };
    // SAFETY: both matrices are `rows x cols`, there is a sum and a factor for every column, and the sums are borrowed
    // mutably. An input of the second call is its output.
    unsafe {
        add_columns(isa, [dots.as_mut_ptr()], rows, cols, terms);
        sweep_rows(isa, sweep);
    }
}

fn row_count(len: usize, cols: usize) -> usize {
    let rows = len / cols.max(1);
    assert_eq!(rows * cols, len, "whole rows of weights");
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::kernels::testing::{
        CHANNELS, Guarded, UNIT_ROUNDOFF, assert_close, for_each_isa, normal, sum_bound, widen,
    };

    for_each_isa! {
        /// Rows around the blocks in which sums are added up.
        fn filters_and_gradients(isa: Isa) {
            for (rows, c) in [0, 1, 9, 256, 259].into_iter().flat_map(|rows| CHANNELS.map(|c| (rows, c))) {
                let (w, folded_dw) = (Guarded::of(&normal(1, rows * c)), Guarded::of(&normal(2, rows * c)));
                let scale: Vec<f32> = normal(3, c);
                let inv_std: Vec<f32> = normal(4, c).iter().map(|v| 0.5 + v.abs()).collect();
                let factors: Vec<f32> = scale.iter().zip(&inv_std).map(|(s, i)| s * i).collect();
                let mut folded = Guarded::nan(rows * c);
                forward(isa, &mut folded, &w, &factors);
                let exact = reference::fold(&widen(&w), &widen(&factors));
                assert_close("w'", &folded, &exact, |i| UNIT_ROUNDOFF * exact[i].abs());

                let (mut dw, mut dots) = (Guarded::of(&folded_dw), Guarded::nan(c));
                backward(isa, &mut dw, &mut dots, &w, &factors);
                let (exact_dw, exact_dots) =
                    reference::fold_backward(&widen(&folded_dw), &widen(&w), &widen(&factors));
                assert_close("dw", &dw, &exact_dw, |i| UNIT_ROUNDOFF * exact_dw[i].abs());
                let size = |c0: usize| {
                    (c0..rows * c).step_by(c).map(|i| f64::from(w[i] * folded_dw[i]).abs()).sum::<f64>()
                };
                assert_close("dots", &dots, &exact_dots, |i| sum_bound(rows, size(i)));
            }
        }
    }

    #[test]
    #[should_panic(expected = "whole rows of weights")]
    fn weights_without_a_channel_are_refused() {
        forward(Isa::best().unwrap(), &mut [0.0; 7], &[0.0; 7], &[1.0; 3]);
    }
}
