//! Elementwise non-linearities and their derivatives.
//!
//! | | `y` | `dx` | saved for backward |
//! |---|---|---|---|
//! | ReLU | `max(x, 0)` | `dy` where `0 < y` | output |
//! | ReLU6 | `min(max(x, 0), 6)` | `dy` where `0 < y < 6` | output |
//! | GELU | `x Phi(x)` | `dy (Phi(x) + x phi(x))` | input |
//! | SiLU | `x s(x)` | `dy s(x) (1 + x (1 - s(x)))` | input |
//! | sigmoid | `s(x)` | `dy y (1 - y)` | output |
//! | hard sigmoid | `h(x) = min(max(x / 6 + 1/2, 0), 1)` | `dy / 6` where `0 < y < 1` | output |
//! | hard swish | `x h(x)` | `dy (h(x) + x / 6)` where `-3 < x < 3`, `dy h(x)` elsewhere | input |
//! | tanh | `tanh(x)` | `dy (1 - y^2)` | output |
//! | leaky ReLU | `x` where `0 < x`, else `slope x` | `dy` where `0 < x`, else `slope dy` | input |
//! | clip | `min(max(x, min), max)` | `dy` where `min < y < max` | output |
//!
//! `Phi` and `phi` are the distribution and density of the standard normal (the exact GELU, by the error
//! function), `s` is the logistic function. A NaN input gives a NaN output.

use super::lanes::{Lanewise, Number, clamp, map, sweep};
use crate::graph::Activation;
use crate::simd::{Isa, Simd, math};

/// The range of [`clamp`] that changes nothing.
pub(super) const NO_CLAMP: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// The range to which outputs are clamped where that is all the activation, or none, does.
pub(super) fn clamp_range(act: Option<Activation>) -> Option<(f32, f32)> {
    act.map_or(Some(NO_CLAMP), Activation::clamp_range)
}

#[derive(Clone, Copy)]
struct Forward(Activation);

impl Lanewise<1> for Forward {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [x]: [S::V; 1]) -> S::V {
        match self.0 {
            Activation::Relu => s.max(s.splat(0.0), x),
            Activation::Relu6 => clamp(s, x, (0.0, 6.0)),
            Activation::Gelu => s.mul(x, math::normal(s, x).0),
            Activation::Silu => s.mul(x, math::sigmoid(s, x)),
            // What is not positive leaves it as it is, and NaN, which it does not carry, comes back.
            Activation::Sigmoid => s.max(math::sigmoid(s, x), s.min(s.splat(0.0), x)),
            Activation::HardSigmoid => hard_sigmoid(s, x),
            Activation::HardSwish => s.mul(x, hard_sigmoid(s, x)),
            // As for the sigmoid: no tanh is below its argument where that is negative.
            Activation::Tanh => s.max(math::tanh(s, x), s.min(s.splat(0.0), x)),
            Activation::LeakyRelu { slope } => s.select_gt(x, s.splat(0.0), x, s.mul(x, s.splat(slope))),
            Activation::Clip { min, max } => clamp(s, x, (min, max)),
        }
    }
}

/// `min(max(x / 6 + 1/2, 0), 1)`
#[inline(always)]
fn hard_sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    clamp(s, s.mul_add(x, s.splat(SIXTH), s.splat(0.5)), (0.0, 1.0))
}

/// The slope of a hard sigmoid.
const SIXTH: f32 = 1.0 / 6.0;

/// `y = act(x)` over slices of one length.
///
/// # Panics
/// When lengths differ.
pub fn forward<E: Number>(isa: Isa, y: &mut [E], x: &[E], act: Activation) {
    map(isa, y, [x], Forward(act));
}

/// `y = act(y)`.
pub fn forward_in_place<E: Number>(isa: Isa, y: &mut [E], act: Activation) {
    let (p, len) = (y.as_mut_ptr(), y.len());
    // SAFETY: an input may be the output.
    unsafe { sweep(isa, p, [p.cast_const()], len, Forward(act)) }
}

/// `x` where `low < at < high`, else zero.
#[inline(always)]
fn inside<S: Simd>(s: S, at: S::V, (low, high): (f32, f32), x: S::V) -> S::V {
    let zero = s.splat(0.0);
    s.select_gt(at, s.splat(low), s.select_gt(s.splat(high), at, x, zero), zero)
}

#[derive(Clone, Copy)]
struct Backward(Activation);

impl Lanewise<2> for Backward {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [saved, dy]: [S::V; 2]) -> S::V {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        match self.0 {
            Activation::Relu => s.select_gt(saved, zero, dy, zero),
            Activation::Relu6 => inside(s, saved, (0.0, 6.0), dy),
            Activation::Gelu => {
                /// `1 / sqrt(2 pi)`
                const PHI_0: f32 = 0.398_942_3;
                let (cdf, density) = math::normal(s, saved);
                s.mul(dy, s.mul_add(s.mul(saved, s.splat(PHI_0)), density, cdf))
            }
            Activation::Silu => {
                let sigmoid = math::sigmoid(s, saved);
                s.mul(dy, s.mul(sigmoid, s.mul_add(saved, s.sub(one, sigmoid), one)))
            }
            Activation::Sigmoid => s.mul(dy, s.mul(saved, s.sub(one, saved))),
            Activation::HardSigmoid => inside(s, saved, (0.0, 1.0), s.mul(dy, s.splat(SIXTH))),
            Activation::HardSwish => {
                let sloped = inside(s, saved, (-3.0, 3.0), s.mul(saved, s.splat(SIXTH)));
                s.mul(dy, s.add(hard_sigmoid(s, saved), sloped))
            }
            Activation::Tanh => s.mul(dy, s.mul(s.sub(one, saved), s.add(one, saved))),
            Activation::LeakyRelu { slope } => s.select_gt(saved, zero, dy, s.mul(dy, s.splat(slope))),
            Activation::Clip { min, max } => inside(s, saved, (min, max), dy),
        }
    }
}

/// `dx = dy act'` (overwritten); `saved` is the output or the input, as [`Activation::keeps_output`] says.
///
/// # Panics
/// When lengths differ.
pub fn backward<E: Number>(isa: Isa, dx: &mut [E], saved: &[E], dy: &[E], act: Activation) {
    map(isa, dx, [saved, dy], Backward(act));
}

/// As [`backward`], with the result in place of `dy`.
///
/// # Panics
/// When lengths differ.
pub fn backward_in_place<E: Number>(isa: Isa, dy: &mut [E], saved: &[E], act: Activation) {
    assert_eq!(saved.len(), dy.len(), "inputs are as long as the output");
    let (p, len) = (dy.as_mut_ptr(), dy.len());
    // SAFETY: both have `len` numbers; an input may be the output.
    unsafe { sweep(isa, p, [saved.as_ptr(), p.cast_const()], len, Backward(act)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::kernels::testing::{
        Guarded, LENGTHS, Twins, assert_close, assert_same, floats, for_each_isa, normal, special, widen,
    };

    const ALL: [Activation; 11] = [
        Activation::Relu,
        Activation::Relu6,
        Activation::Gelu,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardSwish,
        Activation::Tanh,
        Activation::LeakyRelu { slope: 0.125 },
        Activation::Clip { min: -1.5, max: 2.5 },
        Activation::Clip { min: f32::NEG_INFINITY, max: 1.0 },
    ];

    /// Normal numbers times 4, so that ReLU6 is cut at both ends.
    fn input(len: usize) -> Vec<f32> {
        normal(7, len).iter().map(|x| 4.0 * x).collect()
    }

    /// What `backward` is given besides `dy`.
    fn saved<'a>(x: &'a [f32], y: &'a [f32], act: Activation) -> &'a [f32] {
        if act.keeps_output() { y } else { x }
    }

    for_each_isa! {
        fn forward_and_backward(isa: Isa) {
            for (act, len) in ALL.into_iter().flat_map(|act| LENGTHS.map(|len| (act, len))) {
                let (x, dy) = (Guarded::of(&input(len)), Guarded::of(&normal(8, len)));
                let (mut y, mut dx) = (Guarded::nan(len), Guarded::nan(len));
                forward(isa, &mut y, &x, act);
                // The sigmoid errs by 3e-7, the other functions by 3e-7 of x, the derivatives by 3e-7 for each of the two functions in
                // them, one of them times |x| < 6 where it is not flat; arithmetic adds a few roundings.
                let expected = reference::activation(&widen(&x), act);
                let bounded = matches!(act, Activation::Sigmoid | Activation::HardSigmoid);
                let factor = |i: usize| if bounded { 1.0 } else { x[i].abs() };
                assert_close("y", &y, &expected, |i| 4e-7 * f64::from(factor(i)));
                backward(isa, &mut dx, saved(&x, &y, act), &dy, act);
                let expected = reference::activation_backward(&widen(&x), &widen(&dy), act);
                assert_close("dx", &dx, &expected, |i| 1.5e-6 * f64::from(dy[i].abs()));

                let mut in_place = Guarded::of(&x);
                forward_in_place(isa, &mut in_place, act);
                assert_same("y in place", &in_place, &y);
                let mut in_place = Guarded::of(&dy);
                backward_in_place(isa, &mut in_place, saved(&x, &y, act), act);
                assert_same("dx in place", &in_place, &dx);
            }
        }

        fn special_values(isa: Isa) {
            for act in ALL {
                let x = [f32::NAN, f32::INFINITY, -0.0, 0.0, 1e30, -1e4];
                let mut y = Guarded::nan(x.len());
                forward(isa, &mut y, &x, act);
                assert!(y[0].is_nan(), "{act:?} hides a NaN");
                let bottom = match act {
                    Activation::Tanh => -1.0,
                    Activation::LeakyRelu { slope } => -1e4 * slope,
                    Activation::Clip { min, .. } => min.max(-1e4),
                    _ => 0.0,
                };
                assert!((y[5] - bottom).abs() <= 1e-30, "{act:?} of -1e4 is {}", y[5]);
                let (zero, top) = match act {
                    Activation::Relu
                    | Activation::Gelu
                    | Activation::Silu
                    | Activation::HardSwish
                    | Activation::LeakyRelu { .. } => (0.0, [f32::INFINITY, 1e30]),
                    Activation::Relu6 => (0.0, [6.0, 6.0]),
                    Activation::Sigmoid | Activation::HardSigmoid => (0.5, [1.0, 1.0]),
                    Activation::Tanh => (0.0, [1.0, 1.0]),
                    Activation::Clip { max, .. } => (0.0, [max, max]),
                };
                assert_eq!((&y[2..4], [y[1], y[4]]), (&[zero; 2][..], top), "{act:?}");
            }
        }

        fn results_in_bf16_are_rounded_once(isa: Isa) {
            for (act, len) in ALL.into_iter().flat_map(|act| LENGTHS.map(|len| (act, len))) {
                let (x, dy) = (Twins::of(&special(7, len, 4.0)), Twins::of(&special(8, len, 1.0)));
                let (mut y, mut dx) = (Twins::nan(len), Twins::nan(len));
                forward(isa, &mut y.halves, &x.halves, act);
                forward(isa, &mut y.floats, &x.floats, act);
                y.assert_rounded_once(&format!("{act:?}"));
                let mut in_place = Twins::of(&x.floats);
                forward_in_place(isa, &mut in_place.halves, act);
                assert_same("y in place", &floats(&in_place.halves), &floats(&y.halves));

                let y = y.settled();
                let saved = if act.keeps_output() { &y } else { &x };
                backward(isa, &mut dx.halves, &saved.halves, &dy.halves, act);
                backward(isa, &mut dx.floats, &saved.floats, &dy.floats, act);
                dx.assert_rounded_once(&format!("derivative of {act:?}"));
                let mut in_place = Twins::of(&dy.floats);
                backward_in_place(isa, &mut in_place.halves, &saved.halves, act);
                assert_same("dx in place", &floats(&in_place.halves), &floats(&dx.halves));
            }
        }

        fn corners_pass_no_gradient(isa: Isa) {
            let (y, dy) = ([0.0, 6.0, 3.0, -0.0, 0.0, 6.0, 3.0, 0.0, 6.0], [1.0; 9]);
            let mut dx = Guarded::nan(9);
            backward(isa, &mut dx, &y, &dy, Activation::Relu);
            assert_eq!(dx[..], [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]);
            backward(isa, &mut dx, &y, &dy, Activation::Relu6);
            assert_eq!(dx[..], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        }
    }
}
