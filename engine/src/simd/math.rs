//! Elementary functions on vectors, with stated error bounds.

use super::Simd;

/// `e^x`, relative error below 1.2e-7 on `-87..=88`; clamped there, so it is never zero or infinite.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, `ln 2` in two parts (Cody and Waite, 1980), `e^r = 1 + r + r^2
/// q(r)` with the `q` of degree 4 that minimises the largest relative error (Remez), 3.1e-9: the rest is
/// rounding.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LN2_HI: f32 = 0.693_359_4; // 355/512: n * LN2_HI is exact for |n| < 2^15
    const LN2_LO: f32 = -2.121_944_4e-4;
    let x = s.min(s.max(x, s.splat(-87.0)), s.splat(88.0));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HI), x);
    let r = s.mul_add(n, s.splat(-LN2_LO), r);
    let mut p = s.splat(0.001_381_454);
    for c in [0.008_368_745, 0.041_668_39, 0.166_665_2, 0.499_999_94, 1.0, 1.0] {
        p = s.mul_add(p, r, s.splat(c));
    }
    s.mul(p, s.exp2_int(n))
}

/// `1 / (1 + e^-x)`, absolute error below 1.2e-7.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// `tanh x`, relative error below 3e-7.
///
/// `x + x^3 p(x^2)` where `|x| < 0.625` (the polynomial of Cephes' `tanhf`, Moshier, 1989), `1 - 2 / (e^2x + 1)` beyond.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let square = s.mul(x, x);
    let mut p = s.splat(-5.704_988_7e-3);
    for c in [0.020_639_09, -0.053_739_715, 0.133_314_42, -0.333_332_8] {
        p = s.mul_add(p, square, s.splat(c));
    }
    let near = s.mul_add(s.mul(square, x), p, x);
    let size = s.max(x, s.sub(zero, x));
    let far = s.sub(one, s.div(s.splat(2.0), s.add(exp(s, s.add(size, size)), one)));
    let far = s.select_gt(zero, x, s.sub(zero, far), far);
    s.select_gt(s.splat(0.625), size, near, far)
}

/// `(Phi(x), e^(-x^2 / 2))`: the standard normal's distribution function, absolute error below 3e-7, and its
/// density without the constant `1 / sqrt(2 pi)`, absolute error below 1e-7.
///
/// `Phi(x) = erfc(-x / sqrt(2)) / 2`, where `erfc(a) = (polynomial of degree 5 in t) e^(-a^2)`, `t = 1 / (1 +
/// p a)`, for `a >= 0` (Abramowitz and Stegun 7.1.26). Left of zero there is no subtraction, so the tail
/// keeps its digits.
#[inline(always)]
pub(crate) fn normal<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let density = exp(s, s.mul(s.mul(x, x), s.splat(-0.5)));
    let a = s.mul(s.max(x, s.sub(zero, x)), s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(one, s.mul_add(a, s.splat(0.327_591_1), one));
    let mut p = s.splat(1.061_405_4);
    for c in [-1.453_152_1, 1.421_413_8, -0.284_496_73, 0.254_829_6] {
        p = s.mul_add(p, t, s.splat(c));
    }
    let tail = s.mul(s.mul(s.splat(0.5), s.mul(p, t)), density);
    (s.select_gt(x, zero, s.sub(one, tail), tail), density)
}
