//! Every window shape against the oracle: maxima, which element gets the gradient, means.

use super::*;
use crate::Shape;
use crate::graph::{Activation, Padding, Pool2d};
use crate::kernels::testing::{
    CHANNELS, Guarded, Twins, assert_bits, assert_close, assert_exact, assert_same, floats, for_each_isa,
    integers, normal, special, sum_bound, widen,
};
use crate::kernels::{activation, reference};

/// Tilings with and without uncovered rows and columns, overlaps, gaps, padding on any side, one big window.
fn geometries(c: usize) -> Vec<PoolGeometry> {
    let pool = |kernel, stride, padding| Pool2d { kernel, stride, padding };
    let cases = [
        (4, 6, Pool2d::new(2)),
        (5, 7, Pool2d::new(2)),
        (2, 2, Pool2d::new(2)),
        (3, 3, Pool2d::new(1)),
        (7, 8, Pool2d::new(3)),
        (6, 9, pool([2, 3], [2, 3], Padding::Valid)),
        (7, 7, pool([3, 3], [2, 2], Padding::Explicit([1, 1, 1, 1]))),
        (8, 5, pool([3, 3], [2, 2], Padding::Same)),
        (5, 5, pool([2, 2], [2, 2], Padding::Same)),
        (5, 6, pool([3, 2], [1, 1], Padding::Explicit([0, 2, 1, 0]))),
        (9, 9, pool([2, 2], [3, 4], Padding::Valid)),
        (1, 5, pool([1, 5], [1, 1], Padding::Valid)),
        (3, 2, pool([5, 5], [1, 3], Padding::Explicit([4, 1, 2, 4]))),
    ];
    let resolve =
        |(h, w, pool): &(usize, usize, Pool2d)| PoolGeometry::new("pool", Shape::new(*h, *w, c), pool);
    cases.iter().map(|case| resolve(case).unwrap()).collect()
}

fn sweep(mut check: impl FnMut(&PoolGeometry)) {
    CHANNELS.into_iter().flat_map(geometries).for_each(|g| check(&g));
}

for_each_isa! {
    /// Small whole numbers tie often: the first of equal elements must win.
    fn max(isa: Isa) {
        sweep(|g| {
            let x = Guarded::of(&integers(1, g.x_len(), 3));
            let dy = Guarded::of(&integers(2, g.y_len(), 9));
            let mut y = Guarded::nan(g.y_len());
            max_forward(isa, &mut y, &x, g);
            let expected = reference::max_pool(&widen(&x), g);
            assert_exact("y", &y, &expected);

            let mut dx = Guarded::nan(g.x_len());
            max_backward(isa, &mut dx, PoolSaved { x: &x, y: &y, dy: &dy, gate: false }, g);
            assert_exact("dx", &dx, &reference::max_pool_backward(&widen(&x), &widen(&dy), g));

            let gate = |i: usize| if y[i] > 0.0 { dy[i].into() } else { 0.0 };
            let gated: Vec<f64> = (0..dy.len()).map(gate).collect();
            max_backward(isa, &mut dx, PoolSaved { x: &x, y: &y, dy: &dy, gate: true }, g);
            assert_exact("gated dx", &dx, &reference::max_pool_backward(&widen(&x), &gated, g));
        });
    }

    fn avg(isa: Isa) {
        sweep(|g| {
            let taps = g.kernel[0] * g.kernel[1];
            let (x, dy) = (Guarded::of(&normal(1, g.x_len())), Guarded::of(&normal(2, g.y_len())));
            let mut y = Guarded::nan(g.y_len());
            avg_forward(isa, &mut y, &x, g);
            // Normal numbers of these counts stay below 6.
            assert_close("y", &y, &reference::avg_pool(&widen(&x), g), |_| sum_bound(taps, 6.0));
            let mut dx = Guarded::nan(g.x_len());
            avg_backward(isa, &mut dx, &dy, g);
            let expected = reference::avg_pool_backward(&widen(&dy), g);
            // A pixel is in at most as many windows as a window has pixels, and each gives it one of 6 at
            // most.
            assert_close("dx", &dx, &expected, |_| sum_bound(taps, 6.0 * taps as f64));
        });
    }

    /// Ties and special values included. Gradients of windows that overlap are added up in bf16: here they are whole numbers,
    /// of which sums are exact.
    fn bf16_is_rounded_once(isa: Isa) {
        sweep(|g| {
            for x in [integers(1, g.x_len(), 3), special(1, g.x_len(), 1.0)] {
                let (x, dy) = (Twins::of(&x), Twins::of(&integers(2, g.y_len(), 9)));
                let mut y = Twins::nan(g.y_len());
                max_forward(isa, &mut y.halves, &x.halves, g);
                max_forward(isa, &mut y.floats, &x.floats, g);
                y.assert_rounded_once("max");
                let y = y.settled();
                for gate in [false, true] {
                    let mut dx = Twins::nan(g.x_len());
                    let saved = PoolSaved { x: &x.halves[..], y: &y.halves[..], dy: &dy.halves[..], gate };
                    max_backward(isa, &mut dx.halves, saved, g);
                    let saved = PoolSaved { x: &x.floats[..], y: &y.floats[..], dy: &dy.floats[..], gate };
                    max_backward(isa, &mut dx.floats, saved, g);
                    dx.assert_rounded_once("gradient of max");
                }
            }
            let (x, dy) = (Twins::of(&special(3, g.x_len(), 1.0)), Twins::of(&normal(4, g.y_len())));
            let (mut y, mut dx) = (Twins::nan(g.y_len()), Twins::nan(g.x_len()));
            avg_forward(isa, &mut y.halves, &x.halves, g);
            avg_forward(isa, &mut y.floats, &x.floats, g);
            y.assert_rounded_once("mean");
            avg_backward(isa, &mut dx.halves, &dy.halves, g);
            avg_backward(isa, &mut dx.floats, &dy.floats, g);
            if is_tiling(g) {
                return dx.assert_rounded_once("gradient of mean");
            }
            // One rounding of 2^-9 for each of the windows that a pixel is in; the mean of normal numbers stays below 6.
            let taps = g.kernel[0] * g.kernel[1];
            let bound = taps as f64 * 6.0 / 512.0;
            assert_close("gradient of mean", &floats(&dx.halves), &widen(&dx.floats), |_| bound);
        });
    }

    fn whole_images_of_bf16(isa: Isa) {
        for (pixels, c) in [1, 2, 49, 300].into_iter().flat_map(|p| CHANNELS.map(|c| (p, c))) {
            let (x, dy) = (Twins::of(&normal(1, pixels * c)), Twins::of(&normal(2, c)));
            let mut means = [Guarded::nan(c), Guarded::nan(c)];
            global_avg_forward(isa, &mut means[0], &x.halves, c);
            global_avg_forward(isa, &mut means[1], &x.floats, c);
            assert_bits("mean", &means[0], &means[1]);
            let mut dx = Twins::nan(pixels * c);
            global_avg_backward(&mut dx.halves, &means[0], c);
            global_avg_backward(&mut dx.floats, &means[0], c);
            dx.assert_rounded_once("gradient of mean");

            let mut y = Twins::nan(c);
            global_max_forward(isa, &mut y.halves, &x.halves, c);
            global_max_forward(isa, &mut y.floats, &x.floats, c);
            y.assert_rounded_once("max");
            let y = y.settled();
            let saved = PoolSaved { x: &x.halves[..], y: &y.halves[..], dy: &dy.halves[..], gate: false };
            global_max_backward(isa, &mut dx.halves, saved, c);
            let saved = PoolSaved { x: &x.floats[..], y: &y.floats[..], dy: &dy.floats[..], gate: false };
            global_max_backward(isa, &mut dx.floats, saved, c);
            dx.assert_rounded_once("gradient of max");
        }
    }

    /// Bands of output rows are pools of their own, with the same results.
    fn bands_of_rows(isa: Isa) {
        sweep(|g| {
            let x = normal(1, g.x_len());
            let (mut y, mut bands) = (Guarded::nan(g.y_len()), Guarded::nan(g.y_len()));
            max_forward(isa, &mut y, &x, g);
            for first in (0..g.oh).step_by(2) {
                let rows = first..g.oh.min(first + 2);
                let (band, read) = g.band(rows.clone());
                let (y_row, x_row) = (g.ow * g.c, g.w * g.c);
                let part = Guarded::of(&x[read.start * x_row..read.end * x_row]);
                max_forward(isa, &mut bands[rows.start * y_row..rows.end * y_row], &part, &band);
            }
            assert_eq!(bands[..], y[..], "{g:?}");
        });
    }

    fn global(isa: Isa) {
        for (pixels, c) in [1, 2, 49, 300].into_iter().flat_map(|p| CHANNELS.map(|c| (p, c))) {
            let (x, dy) = (Guarded::of(&integers(1, pixels * c, 5)), Guarded::of(&integers(2, c, 9)));
            let (mut y, mut dx) = (Guarded::nan(c), Guarded::nan(pixels * c));
            global_max_forward(isa, &mut y, &x, c);
            assert_exact("max", &y, &reference::global_max(&widen(&x), c));
            global_max_backward(isa, &mut dx, PoolSaved { x: &x, y: &y, dy: &dy, gate: false }, c);
            assert_exact("max dx", &dx, &reference::global_max_backward(&widen(&x), &widen(&dy)));
            global_avg_forward(isa, &mut y, &x, c);
            assert_close("avg", &y, &reference::global_avg(&widen(&x), c), |_| sum_bound(0, 5.0));
            global_avg_backward(&mut dx, &dy, c);
            let expected = reference::global_avg_backward(&widen(&dy), pixels);
            assert_close("avg dx", &dx, &expected, |_| sum_bound(0, 9.0));
        }
    }

    /// A kept argmax gives the same maxima and gradients, bit for bit, as comparing again, NaN included. (A NaN behind a
    /// ReLU6 passes a gradient here and none there.)
    fn argmax_of_windows(isa: Isa) {
        sweep(|g| {
            if !argmax::fits(g) {
                return;
            }
            let dy = Guarded::of(&integers(2, g.y_len(), 9));
            for act in [None, Some(Activation::Relu), Some(Activation::Relu6)] {
                let mut x = integers(1, g.x_len(), 8);
                if act != Some(Activation::Relu6) {
                    x.iter_mut().skip(5).step_by(11).for_each(|x| *x = f32::NAN);
                }
                let clamp = |x: &f32| match act {
                    Some(Activation::Relu) if *x < 0.0 => 0.0,
                    Some(Activation::Relu6) => x.clamp(0.0, 6.0),
                    _ => *x,
                };
                let x = Guarded::of(&x.iter().map(clamp).collect::<Vec<_>>());
                let (mut y, mut dx) = (Guarded::nan(g.y_len()), Guarded::nan(g.x_len()));
                max_forward(isa, &mut y, &x, g);
                let gate = act == Some(Activation::Relu);
                max_backward(isa, &mut dx, PoolSaved { x: &x, y: &y, dy: &dy, gate }, g);
                if act == Some(Activation::Relu6) {
                    activation::backward_in_place(isa, &mut dx, &x, Activation::Relu6);
                }
                let mut found = [Guarded::nan(g.y_len()), Guarded::nan(g.y_len()), Guarded::nan(g.x_len())];
                let [maxima, indices, gradient] = &mut found;
                argmax::forward(isa, maxima, indices, &x, g, act);
                argmax::backward(isa, gradient, indices, &dy, g);
                assert_same("y", maxima, &y);
                assert_same("dx", gradient, &dx);

                // In bf16 all is as in floats.
                let twins = Twins::of(&x);
                let mut y = Twins::nan(g.y_len());
                argmax::forward(isa, &mut y.halves, indices, &twins.halves, g, act);
                argmax::forward(isa, &mut y.floats, &mut Guarded::nan(g.y_len()), &twins.floats, g, act);
                y.assert_rounded_once("y");
                let (dy, mut dx) = (Twins::of(&dy), Twins::nan(g.x_len()));
                argmax::backward(isa, &mut dx.halves, indices, &dy.halves, g);
                argmax::backward(isa, &mut dx.floats, indices, &dy.floats, g);
                dx.assert_rounded_once("dx");
            }
        });
    }

    /// What is picked by maxima is what their gradient goes to: `dy x` summed over the image is `dy picked` summed over windows.
    fn picked_by_maxima(isa: Isa) {
        sweep(|g| {
            let by = Guarded::of(&integers(1, g.x_len(), 3));
            // Each element its own number.
            let x = Guarded::of(&(0..g.x_len()).map(|i| i as f32).collect::<Vec<_>>());
            let (mut y, mut picked) = (Guarded::nan(g.y_len()), Guarded::nan(g.y_len()));
            max_forward(isa, &mut y, &by, g);
            argmax::pick(isa, &mut picked, &x, (&y, &by), g);
            for i in 0..g.y_len() {
                let mut one = vec![0.0; g.y_len()];
                one[i] = 1.0;
                let gradient = reference::max_pool_backward(&widen(&by), &widen(&one), g);
                assert_eq!(gradient.iter().position(|&d| d == 1.0), Some(picked[i] as usize), "{g:?}");
            }
            let (by, x) = (Twins::of(&by), Twins::of(&normal(2, g.x_len())));
            let (y, mut picked) = (Twins::of(&y), Twins::nan(g.y_len()));
            argmax::pick(isa, &mut picked.halves, &x.halves, (&y.halves, &by.halves), g);
            argmax::pick(isa, &mut picked.floats, &x.floats, (&y.floats, &by.floats), g);
            picked.assert_rounded_once("picked");
        });
    }

    /// One NaN at a time, then many: windows with a NaN give NaN, the first of them gets the gradient, and all other
    /// windows are as without it.
    fn nan_in_a_window(isa: Isa) {
        for g in [1, 8, 20].into_iter().flat_map(geometries) {
            let last = g.x_len() - 1;
            for places in [vec![0], vec![last / 2], vec![last], (0..=last).step_by(7).collect(), (0..=last).collect()] {
                let mut x = integers(1, g.x_len(), 3);
                places.iter().for_each(|&i| x[i] = f32::NAN);
                check_nan(isa, &x, &g);
            }
        }
    }

    fn nan_in_a_whole_image(isa: Isa) {
        for (pixels, c) in [1, 2, 49].into_iter().flat_map(|p| CHANNELS.map(|c| (p, c))) {
            for step in [1, 2, 5, pixels * c] {
                let mut x = integers(1, pixels * c, 5);
                x.iter_mut().step_by(step).for_each(|x| *x = f32::NAN);
                let (x, dy) = (Guarded::of(&x), Guarded::of(&integers(2, c, 9)));
                let (mut y, mut dx) = (Guarded::nan(c), Guarded::nan(pixels * c));
                global_max_forward(isa, &mut y, &x, c);
                assert_same("max", &y, &narrow(&reference::global_max(&widen(&x), c)));
                global_max_backward(isa, &mut dx, PoolSaved { x: &x, y: &y, dy: &dy, gate: false }, c);
                assert_same("max dx", &dx, &narrow(&reference::global_max_backward(&widen(&x), &widen(&dy))));
            }
        }
    }

    /// Both infinities in one window add up to a NaN, which is none.
    fn infinities_are_numbers(isa: Isa) {
        for g in [1, 8, 20].into_iter().flat_map(geometries) {
            let mut x = integers(1, g.x_len(), 3);
            x.iter_mut().step_by(3).for_each(|x| *x = f32::NEG_INFINITY);
            x.iter_mut().skip(1).step_by(5).for_each(|x| *x = f32::INFINITY);
            check_nan(isa, &x, &g);
        }
    }
}

/// Both maxima and both gradients against the oracle, for values that f32 holds exactly.
fn check_nan(isa: Isa, x: &[f32], g: &PoolGeometry) {
    let (x, dy) = (Guarded::of(x), Guarded::of(&integers(2, g.y_len(), 9)));
    let (mut y, mut dx) = (Guarded::nan(g.y_len()), Guarded::nan(g.x_len()));
    let max = narrow(&reference::max_pool(&widen(&x), g));
    max_forward(isa, &mut y, &x, g);
    assert_same("y", &y, &max);
    let gradient = narrow(&reference::max_pool_backward(&widen(&x), &widen(&dy), g));
    max_backward(isa, &mut dx, PoolSaved { x: &x, y: &y, dy: &dy, gate: false }, g);
    assert_same("dx", &dx, &gradient);
    if argmax::fits(g) {
        let mut indices = Guarded::nan(g.y_len());
        argmax::forward(isa, &mut y, &mut indices, &x, g, None);
        assert_same("y with argmax", &y, &max);
        argmax::backward(isa, &mut dx, &indices, &dy, g);
        assert_same("dx by argmax", &dx, &gradient);
    }
}

/// What an oracle computed from whole numbers, which fit.
fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

#[test]
#[should_panic(expected = "every window holds a pixel")]
fn a_window_in_padding_is_refused() {
    let mut g = PoolGeometry::new("pool", Shape::new(4, 4, 1), &Pool2d::new(2)).unwrap();
    g.padding = [2, 0, 0, 0];
    max_forward(Isa::Portable(crate::simd::Portable), &mut [0.0; 4], &[0.0; 16], &g);
}
