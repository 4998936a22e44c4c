//! Sums over rows, over partial results and over all elements, each in one fixed order.

use super::lanes::{Number, load, store};
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Rows that are added up in registers before the sum is added to memory: a sum of many rows then errs like
/// `256 + rows / 256` additions instead of `rows`, and the rows are still in the cache for the next columns.
const ROW_BLOCK: usize = 256;
/// Vectors of columns that are summed side by side: with two sums each, enough independent additions to keep
/// both ports busy.
const BLOCK: usize = 4;

/// `A` quantities whose sums over the rows of a matrix are wanted, column by column.
pub(super) trait ColumnTerms<const A: usize>: Copy {
    /// The terms of `n` neighbouring elements at `at = row * cols + col`. Implementations are
    /// `#[inline(always)]`.
    ///
    /// # Safety
    /// `n <= LANES`, and the `n` elements lie within one row of the matrix.
    unsafe fn terms<S: Simd>(self, s: S, at: usize, col: usize, n: usize) -> [S::V; A];
}

/// `sums[a][col] += terms(row, col)[a]` over all rows.
///
/// # Safety
/// Every `sums[a]` is writable for `cols` floats and overlaps nothing that `terms` reads.
pub(super) unsafe fn add_columns<const A: usize>(
    isa: Isa,
    sums: [*mut f32; A],
    rows: usize,
    cols: usize,
    terms: impl ColumnTerms<A>,
) {
    dispatch(isa, AddColumns { sums, rows, cols, terms });
}

struct AddColumns<const A: usize, T> {
    sums: [*mut f32; A],
    rows: usize,
    cols: usize,
    terms: T,
}

impl<const A: usize, T: ColumnTerms<A>> AddColumns<A, T> {
    /// Adds rows `begin..end` of `V` vectors of columns from `col` on; the last vector has `n` columns.
    ///
    /// # Safety
    /// The columns exist; `n <= LANES`, and `n == LANES` unless `V` is 1.
    #[inline(always)]
    unsafe fn block<S: Simd, const V: usize>(
        &self,
        s: S,
        rows: std::ops::Range<usize>,
        col: usize,
        n: usize,
    ) {
        let mut acc = [[s.splat(0.0); V]; A];
        for row in rows {
            for v in 0..V {
                let col = col + v * S::LANES;
                // SAFETY: the contract of this function.
                let terms = unsafe { self.terms.terms(s, row * self.cols + col, col, n) };
                for a in 0..A {
                    acc[a][v] = s.add(acc[a][v], terms[a]);
                }
            }
        }
        for a in 0..A {
            for v in 0..V {
                // SAFETY: the contract of this function and of `add_columns`.
                unsafe {
                    let p = self.sums[a].add(col + v * S::LANES);
                    store(s, p, s.add(load(s, p, n), acc[a][v]), n);
                }
            }
        }
    }
}

impl<const A: usize, T: ColumnTerms<A>> Kernel for AddColumns<A, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for begin in (0..self.rows).step_by(ROW_BLOCK) {
            let rows = begin..self.rows.min(begin + ROW_BLOCK);
            let mut col = 0;
            // SAFETY: each block ends at `cols` or before.
            unsafe {
                while col + BLOCK * S::LANES <= self.cols {
                    self.block::<S, BLOCK>(s, rows.clone(), col, S::LANES);
                    col += BLOCK * S::LANES;
                }
                while col + S::LANES <= self.cols {
                    self.block::<S, 1>(s, rows.clone(), col, S::LANES);
                    col += S::LANES;
                }
                if col < self.cols {
                    self.block::<S, 1>(s, rows, col, self.cols - col);
                }
            }
        }
    }
}

/// Whole blocks of [`ROW_BLOCK`] rows that follow row `from` and end at row `to` or before: where they end. Sums that are
/// taken part by part, up to such an end each time, have the bits of those over all rows.
pub(crate) fn block_end(from: usize, to: usize) -> usize {
    from + (to - from) / ROW_BLOCK * ROW_BLOCK
}

/// The elements themselves.
#[derive(Clone, Copy)]
pub(super) struct Element<E>(pub(super) *const E);

impl<E: Number> ColumnTerms<1> for Element<E> {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, at: usize, _: usize, n: usize) -> [S::V; 1] {
        // SAFETY: the contract of this function; the pointer is that of the whole matrix.
        [unsafe { E::load(s, self.0.add(at), n) }]
    }
}

/// `sums[c] += sum over rows of rows[row][c]`; the length of `sums` is that of a row.
///
/// # Panics
/// When `rows` does not hold whole rows.
pub fn column_sums<E: Number>(isa: Isa, sums: &mut [f32], rows: &[E]) {
    let cols = sums.len();
    let count = row_count(rows.len(), cols);
    // SAFETY: `rows` holds `count` rows of `cols` numbers.
    unsafe { add_columns(isa, [sums.as_mut_ptr()], count, cols, Element(rows.as_ptr())) }
}

/// Rows of `cols` floats in `len` floats.
///
/// # Panics
/// When it is not a whole number.
pub(super) fn row_count(len: usize, cols: usize) -> usize {
    let rows = len.checked_div(cols).unwrap_or(0);
    assert_eq!(rows * cols, len, "{len} floats are not whole rows of {cols}");
    rows
}

/// Sum of squares in f64: the squared norm of a gradient.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    // Sixteen sums, so that no addition waits for the one before it.
    let mut sums = [0.0f64; 16];
    let chunks = x.chunks_exact(sums.len());
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
}

struct AddPartials {
    out: *mut f32,
    partials: *const f32,
    len: usize,
    count: usize,
}

impl AddPartials {
    /// Adds up `V` vectors from `at` on; the last one has `n` floats.
    ///
    /// # Safety
    /// The floats exist; `n <= LANES`, and `n == LANES` unless `V` is 1.
    #[inline(always)]
    unsafe fn block<S: Simd, const V: usize>(&self, s: S, at: usize, n: usize) {
        let mut acc = [s.splat(0.0); V];
        // SAFETY: the contract of this function; `add_partials` checked the extents.
        unsafe {
            for k in 0..self.count {
                for v in 0..V {
                    let p = self.partials.add(k * self.len + at + v * S::LANES);
                    acc[v] = s.add(acc[v], load(s, p, n));
                }
            }
            for v in 0..V {
                store(s, self.out.add(at + v * S::LANES), acc[v], n);
            }
        }
    }
}

impl Kernel for AddPartials {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut at = 0;
        // SAFETY: each block ends at `len` or before.
        unsafe {
            while at + BLOCK * S::LANES <= self.len {
                self.block::<S, BLOCK>(s, at, S::LANES);
                at += BLOCK * S::LANES;
            }
            while at + S::LANES <= self.len {
                self.block::<S, 1>(s, at, S::LANES);
                at += S::LANES;
            }
            if at < self.len {
                self.block::<S, 1>(s, at, self.len - at);
            }
        }
    }
}

/// `out = partials[0] + partials[1] + ..` (overwritten), added in this order; `partials` holds `k` times as
/// many floats as `out`. No partials give zeros.
///
/// # Panics
/// When `partials` does not hold a whole number of them.
pub fn add_partials(isa: Isa, out: &mut [f32], partials: &[f32]) {
    let len = out.len();
    let count = row_count(partials.len(), len);
    dispatch(isa, AddPartials { out: out.as_mut_ptr(), partials: partials.as_ptr(), len, count });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{
        CHANNELS, Guarded, LENGTHS, Twins, assert_bits, assert_exact, assert_sums, for_each_isa, integers,
        magnitude, normal, widen,
    };

    fn oracle(rows: &[f64], cols: usize) -> Vec<f64> {
        (0..cols).map(|c| rows.iter().skip(c).step_by(cols).sum()).collect()
    }

    for_each_isa! {
        fn sums_of_columns(isa: Isa) {
            let rows = [0, 1, 2, 3, 255, 256, 257, 600];
            for (rows, cols) in rows.into_iter().flat_map(|r| CHANNELS.map(|c| (r, c))) {
                let x = Guarded::of(&normal(1, rows * cols));
                let mut sums = Guarded::of(&vec![0.0; cols]);
                column_sums(isa, &mut sums, &x);
                assert_sums("sums", &sums, &oracle(&widen(&x), cols), (rows, &oracle(&magnitude(&x), cols)));
                // Adds to what is there, exactly for whole numbers.
                let x = Guarded::of(&integers(2, rows * cols, 9));
                let mut sums = Guarded::of(&vec![5.0; cols]);
                column_sums(isa, &mut sums, &x);
                let expected: Vec<f64> = oracle(&widen(&x), cols).iter().map(|sum| sum + 5.0).collect();
                assert_exact("sums added", &sums, &expected);
            }
        }

        fn sums_of_bf16_are_those_of_floats(isa: Isa) {
            for (rows, cols) in [1, 3, 257].into_iter().flat_map(|r| CHANNELS.map(|c| (r, c))) {
                let x = Twins::of(&normal(1, rows * cols));
                let [mut found, mut expected] = [0, 1].map(|_| Guarded::of(&normal(2, cols)));
                column_sums(isa, &mut found, &x.halves);
                column_sums(isa, &mut expected, &x.floats);
                assert_bits("sums", &found, &expected);
            }
        }

        fn partials_in_order(isa: Isa) {
            for (count, len) in [0, 1, 2, 5].into_iter().flat_map(|k| LENGTHS.map(|len| (k, len))) {
                if count > 0 && len == 0 {
                    continue;
                }
                let partials = Guarded::of(&normal(1, count * len));
                let mut out = Guarded::nan(len);
                add_partials(isa, &mut out, &partials);
                let in_order = |i: usize| (0..count).fold(0.0, |sum, k| sum + partials[k * len + i]);
                assert!((0..len).all(|i| out[i] == in_order(i)), "{count} partials of {len}");
            }
        }
    }

    #[test]
    fn squares() {
        for len in LENGTHS {
            let x = normal(1, len);
            let expected: f64 = widen(&x).iter().map(|x| x * x).sum();
            let error = (sum_of_squares(&x) - expected).abs();
            assert!(error <= len as f64 * f64::EPSILON * expected, "{len}: off by {error:e}");
        }
        // Squares beyond the range of f32.
        assert_eq!(sum_of_squares(&[1e30, 1e-30]), f64::from(1e30f32).powi(2));
    }
}
