//! The one-dimensional transforms: polynomials evaluated at a few points, as matrices of constants.
//!
//! A filter of three taps applied at `M` places is a product of polynomials of degree `M + 1`, known by its values at
//! `N = M + 2` points, one of them at infinity. With `p` the points and `N(x)` the product of `x - p`:
//! `A^T` has columns `1, p, p^2, ..`, `G` has rows `(1, p, p^2) / N'(p)`, and `B^T` has rows of the coefficients of
//! `N(x) / (x - p)`. Points in pairs `+-p` let even and odd parts be computed once for both.

use crate::simd::Simd;

/// The transforms of `F(M, 3)` along one axis, `N = M + 2`. All are `#[inline(always)]`.
pub(super) trait Points<const M: usize, const N: usize> {
    /// `B^T d`: `N` pixels to `N` values.
    fn input<S: Simd>(s: S, d: [S::V; N]) -> [S::V; N];
    /// `A^T m`: `N` products to `M` outputs.
    fn output<S: Simd>(s: S, m: [S::V; N]) -> [S::V; M];
    /// `A y`: the transpose of [`Points::output`], for gradients.
    fn spread<S: Simd>(s: S, y: [S::V; M]) -> [S::V; N];
    /// `G g`: three taps to `N` values.
    fn filter<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; N];
    /// `G^T u`: the transpose of [`Points::filter`], for gradients.
    fn collect<S: Simd>(s: S, u: [S::V; N]) -> [S::V; 3];
}

/// `F(4, 3)` at the points 0, +-1/sqrt 2, +-sqrt 2 and infinity.
///
/// The usual 0, +-1, +-2 err twice as much: powers of 2 grow to 8 where those of sqrt 2 grow to 2.8, and the products
/// of the pairs' squares being 1 keeps the largest constant of `B` at 2.5.
pub(super) struct F4;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;

impl Points<4, 6> for F4 {
    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: [S::V; 6]) -> [S::V; 6] {
        let (two, half, both) = (s.splat(-2.0), s.splat(-0.5), s.splat(-2.5));
        let (a, a_minus, b, b_minus) = (s.splat(A), s.splat(-A), s.splat(B), s.splat(-B));
        let (even_a, odd_a) = (s.mul_add(d2, two, d4), s.mul_add(d1, two, d3));
        let (even_b, odd_b) = (s.mul_add(d2, half, d4), s.mul_add(d1, half, d3));
        [
            s.add(d0, s.mul_add(d2, both, d4)),
            s.mul_add(odd_a, a, even_a),
            s.mul_add(odd_a, a_minus, even_a),
            s.mul_add(odd_b, b, even_b),
            s.mul_add(odd_b, b_minus, even_b),
            s.add(d1, s.mul_add(d3, both, d5)),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3, m4, m5]: [S::V; 6]) -> [S::V; 4] {
        let (sum_a, difference_a) = (s.add(m1, m2), s.sub(m1, m2));
        let (sum_b, difference_b) = (s.add(m3, m4), s.sub(m3, m4));
        [
            s.add(m0, s.add(sum_a, sum_b)),
            s.mul_add(difference_a, s.splat(A), s.mul(difference_b, s.splat(B))),
            s.mul_add(sum_a, s.splat(0.5), s.add(sum_b, sum_b)),
            s.mul_add(difference_a, s.splat(A / 2.0), s.mul_add(difference_b, s.splat(2.0 * B), m5)),
        ]
    }

    #[inline(always)]
    fn spread<S: Simd>(s: S, [y0, y1, y2, y3]: [S::V; 4]) -> [S::V; 6] {
        let (two, half) = (s.splat(2.0), s.splat(0.5));
        let (even_a, odd_a) = (s.mul_add(y2, half, y0), s.mul_add(y3, half, y1));
        let (even_b, odd_b) = (s.mul_add(y2, two, y0), s.mul_add(y3, two, y1));
        [
            y0,
            s.mul_add(odd_a, s.splat(A), even_a),
            s.mul_add(odd_a, s.splat(-A), even_a),
            s.mul_add(odd_b, s.splat(B), even_b),
            s.mul_add(odd_b, s.splat(-B), even_b),
            y3,
        ]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, [g0, g1, g2]: [S::V; 3]) -> [S::V; 6] {
        // N'(+-1/sqrt 2) = -3/2 and N'(+-sqrt 2) = 6.
        let (scale_a, scale_b) = (s.splat(-2.0 / 3.0), s.splat(1.0 / 6.0));
        let even_a = s.mul(s.mul_add(g2, s.splat(0.5), g0), scale_a);
        let even_b = s.mul(s.mul_add(g2, s.splat(2.0), g0), scale_b);
        [
            g0,
            s.mul_add(g1, s.splat(A * -2.0 / 3.0), even_a),
            s.mul_add(g1, s.splat(A * 2.0 / 3.0), even_a),
            s.mul_add(g1, s.splat(B / 6.0), even_b),
            s.mul_add(g1, s.splat(-B / 6.0), even_b),
            g2,
        ]
    }

    #[inline(always)]
    fn collect<S: Simd>(s: S, [u0, u1, u2, u3, u4, u5]: [S::V; 6]) -> [S::V; 3] {
        let (sum_a, difference_a) = (s.add(u1, u2), s.sub(u1, u2));
        let (sum_b, difference_b) = (s.add(u3, u4), s.sub(u3, u4));
        [
            s.mul_add(sum_a, s.splat(-2.0 / 3.0), s.mul_add(sum_b, s.splat(1.0 / 6.0), u0)),
            s.mul_add(difference_a, s.splat(A * -2.0 / 3.0), s.mul(difference_b, s.splat(B / 6.0))),
            s.mul_add(s.sub(sum_b, sum_a), s.splat(1.0 / 3.0), u5),
        ]
    }
}

/// `F(2, 3)` at the points 0, +-1 and infinity: nothing but sums and halves.
pub(super) struct F2;

impl Points<2, 4> for F2 {
    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3]: [S::V; 4]) -> [S::V; 4] {
        [s.sub(d0, d2), s.add(d1, d2), s.sub(d2, d1), s.sub(d3, d1)]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3]: [S::V; 4]) -> [S::V; 2] {
        [s.add(m0, s.add(m1, m2)), s.add(m3, s.sub(m1, m2))]
    }

    #[inline(always)]
    fn spread<S: Simd>(s: S, [y0, y1]: [S::V; 2]) -> [S::V; 4] {
        [y0, s.add(y0, y1), s.sub(y0, y1), y1]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, [g0, g1, g2]: [S::V; 3]) -> [S::V; 4] {
        let half = s.splat(0.5);
        let (even, odd) = (s.mul(s.add(g0, g2), half), s.mul(g1, half));
        [g0, s.add(even, odd), s.sub(even, odd), g2]
    }

    #[inline(always)]
    fn collect<S: Simd>(s: S, [u0, u1, u2, u3]: [S::V; 4]) -> [S::V; 3] {
        let half = s.splat(0.5);
        let (even, odd) = (s.mul(s.add(u1, u2), half), s.mul(s.sub(u1, u2), half));
        [s.add(u0, even), odd, s.add(even, u3)]
    }
}
