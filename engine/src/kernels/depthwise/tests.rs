//! Both paths of all passes against the oracle of grouped convolutions.

use super::*;
use crate::Shape;
use crate::graph::{Conv2d, Padding};
use crate::kernels::reference;
use crate::kernels::testing::{
    CHANNELS, Guarded, Twins, assert_bits, assert_close, assert_exact, assert_sums, for_each_isa, integers,
    magnitude, normal, sum_bound, widen,
};

/// Tiled widths and steps, others, dilations, padding wider than the kernel and on one side only, rows
/// shorter than a tile, images smaller than the kernel, steps longer than the kernel. Rows of tiles of 7 and of
/// 8, with and without a last tile that overlaps, more rows than a band.
fn geometries(c: usize) -> Vec<Conv2dGeometry> {
    let case =
        |h: usize, w: usize, kernel: [u32; 2], stride: [u32; 2], dilation: [u32; 2], padding: Padding| {
            let conv = Conv2d { kernel, stride, dilation, padding, groups: c as u32, ..Conv2d::new(c, 1) };
            Conv2dGeometry::new("conv", Shape::new(h, w, c), &conv).unwrap()
        };
    let same = Padding::Same;
    vec![
        case(5, 23, [3, 3], [1, 1], [1, 1], same),
        case(4, 8, [3, 3], [1, 1], [1, 1], Padding::Valid),
        case(7, 29, [3, 3], [2, 2], [1, 1], same),
        case(6, 9, [3, 3], [2, 1], [1, 1], Padding::Explicit([0, 1, 2, 0])),
        case(7, 17, [5, 5], [1, 1], [1, 1], same),
        case(9, 30, [5, 5], [2, 2], [1, 1], same),
        case(1, 1, [3, 3], [1, 1], [1, 1], same),
        case(3, 2, [5, 5], [2, 2], [1, 1], same),
        case(6, 7, [1, 1], [1, 1], [1, 1], Padding::Valid),
        case(6, 7, [1, 1], [2, 3], [1, 1], Padding::Valid),
        case(8, 9, [2, 4], [1, 1], [1, 1], same),
        case(9, 11, [7, 7], [2, 3], [1, 1], same),
        case(9, 11, [3, 3], [1, 1], [2, 3], same),
        case(12, 13, [3, 3], [2, 2], [2, 2], same),
        case(12, 17, [3, 5], [4, 6], [3, 4], Padding::Explicit([5, 3, 9, 2])),
        case(4, 9, [3, 3], [1, 1], [1, 1], Padding::Explicit([4, 5, 6, 3])),
        case(5, 6, [3, 3], [5, 4], [1, 1], Padding::Explicit([1, 1, 1, 1])),
        case(4, 4, [3, 3], [1, 1], [1, 1], same),
        case(3, 6, [3, 3], [1, 1], [1, 1], Padding::Explicit([1, 0, 1, 1])),
        case(5, 5, [5, 5], [1, 1], [1, 1], same),
        case(7, 7, [3, 3], [1, 1], [1, 1], same),
        case(7, 8, [5, 5], [1, 1], [1, 1], same),
        case(35, 16, [3, 3], [1, 1], [1, 1], same),
        case(3, 15, [5, 5], [1, 1], [1, 1], Padding::Explicit([2, 2, 1, 3])),
        case(5, 17, [3, 3], [1, 1], [1, 1], Padding::Explicit([0, 0, 2, 2])),
        case(6, 14, [3, 3], [2, 2], [1, 1], Padding::Explicit([1; 4])),
        case(6, 15, [5, 5], [2, 2], [1, 1], Padding::Explicit([2; 4])),
        case(4, 19, [5, 5], [1, 2], [1, 1], Padding::Explicit([2, 2, 0, 1])),
        case(8, 16, [1, 3], [1, 2], [1, 1], Padding::Valid),
        case(9, 20, [7, 5], [1, 1], [1, 1], same),
    ]
}

/// Channels of two and of three passes, the last without whole vectors.
const PASSES: [usize; 2] = [176, 203];

fn sweep(check: impl Fn(&Conv2dGeometry)) {
    CHANNELS.into_iter().flat_map(geometries).for_each(|g| check(&g));
    // Small images of each kind of tile, which alone know passes.
    let small = |g: &Conv2dGeometry| (g.h, g.w) == (7, 8) || (g.h, g.w) == (6, 14) || (g.h, g.w) == (6, 15);
    PASSES.into_iter().flat_map(geometries).filter(small).for_each(|g| check(&g));
}

/// Cuts of some rows into bands: none, in two, and in single rows.
fn cuts(rows: usize) -> [Vec<Range<usize>>; 3] {
    let half = rows.div_ceil(3);
    [
        std::iter::once(0..rows).collect(),
        vec![0..half, half..rows],
        (0..rows).map(|row| row..row + 1).collect(),
    ]
}

for_each_isa! {
    /// Whole numbers: every sum is exact whatever its order.
    fn exact_on_whole_numbers(isa: Isa) {
        sweep(|g| {
            let what = |pass: &str| format!("{pass} of {g:?}");
            let (x, w) = (Guarded::of(&integers(1, g.x_len(), 9)), Guarded::of(&integers(2, g.w_len(), 9)));
            let (dy, bias) = (Guarded::of(&integers(3, g.y_len(), 9)), Guarded::of(&integers(4, g.cout, 9)));
            let mut y = Guarded::nan(g.y_len());
            forward(isa, &mut y, &x, DepthwiseArgs { w: &w, bias: None, act: None }, g, 0..g.oh);
            assert_exact(&what("y"), &y, &reference::conv2d(&widen(&x), &widen(&w), None, g));
            let plain = reference::conv2d(&widen(&x), &widen(&w), Some(&widen(&bias)), g);
            for act in [Activation::Relu, Activation::Relu6] {
                forward(isa, &mut y, &x, DepthwiseArgs { w: &w, bias: Some(&bias), act: Some(act) }, g, 0..g.oh);
                assert_exact(&what("act(y)"), &y, &reference::activation(&plain, act));
            }
            let mut dx = Guarded::nan(g.x_len());
            backward_data(isa, &mut dx, &dy, &w, g, 0..g.h);
            assert_exact(&what("dx"), &dx, &reference::conv2d_backward_data(&widen(&dy), &widen(&w), g));
            let start = integers(5, g.w_len(), 9);
            let mut dw = Guarded::of(&start);
            backward_weights(isa, &mut dw, &x, &dy, g);
            let added = reference::conv2d_backward_weights(&widen(&x), &widen(&dy), g);
            let expected: Vec<f64> = added.iter().zip(widen(&start)).map(|(dw, start)| dw + start).collect();
            assert_exact(&what("dw"), &dw, &expected);
        });
    }

    fn close_on_real_numbers(isa: Isa) {
        sweep(|g| {
            let taps = g.kernel[0] * g.kernel[1];
            let (x, w) = (Guarded::of(&normal(1, g.x_len())), Guarded::of(&normal(2, g.w_len())));
            let (dy, bias) = (Guarded::of(&normal(3, g.y_len())), Guarded::of(&normal(4, g.cout)));
            let (xm, wm, dym) = (magnitude(&x), magnitude(&w), magnitude(&dy));
            let plain = reference::conv2d(&widen(&x), &widen(&w), Some(&widen(&bias)), g);
            let sizes = reference::conv2d(&xm, &wm, Some(&magnitude(&bias)), g);
            let mut y = Guarded::nan(g.y_len());
            let args = DepthwiseArgs { w: &w, bias: Some(&bias), act: None };
            forward(isa, &mut y, &x, args, g, 0..g.oh);
            assert_sums("y", &y, &plain, (taps, &sizes));
            // SiLU is no clamp, and steeper than 1 by a tenth at most.
            forward(isa, &mut y, &x, DepthwiseArgs { act: Some(Activation::Silu), ..args }, g, 0..g.oh);
            let expected = reference::activation(&plain, Activation::Silu);
            let bound = |i: usize| 1.1 * sum_bound(taps, sizes[i]) + 4e-7 * plain[i].abs();
            assert_close("silu(y)", &y, &expected, bound);
            let mut dx = Guarded::nan(g.x_len());
            backward_data(isa, &mut dx, &dy, &w, g, 0..g.h);
            let (exact, sizes) = (
                reference::conv2d_backward_data(&widen(&dy), &widen(&w), g),
                reference::conv2d_backward_data(&dym, &wm, g),
            );
            assert_sums("dx", &dx, &exact, (taps, &sizes));
            let mut dw = Guarded::of(&vec![0.0; g.w_len()]);
            backward_weights(isa, &mut dw, &x, &dy, g);
            let (exact, sizes) = (
                reference::conv2d_backward_weights(&widen(&x), &widen(&dy), g),
                reference::conv2d_backward_weights(&xm, &dym, g),
            );
            assert_sums("dw", &dw, &exact, (g.oh * g.ow, &sizes));
        });
    }

    fn bf16_is_rounded_once(isa: Isa) {
        sweep(|g| {
            let what = |pass: &str| format!("{pass} of {g:?}");
            let (x, dy) = (Twins::of(&normal(1, g.x_len())), Twins::of(&normal(2, g.y_len())));
            let (w, bias) = (Guarded::of(&normal(3, g.w_len())), Guarded::of(&normal(4, g.cout)));
            for (bias, act) in [(None, None), (Some(&bias[..]), Some(Activation::Relu6))] {
                let (args, mut y) = (DepthwiseArgs { w: &w, bias, act }, Twins::nan(g.y_len()));
                forward(isa, &mut y.halves, &x.halves, args, g, 0..g.oh);
                forward(isa, &mut y.floats, &x.floats, args, g, 0..g.oh);
                y.assert_rounded_once(&what("y"));
            }
            let mut dx = Twins::nan(g.x_len());
            backward_data(isa, &mut dx.halves, &dy.halves, &w, g, 0..g.h);
            backward_data(isa, &mut dx.floats, &dy.floats, &w, g, 0..g.h);
            dx.assert_rounded_once(&what("dx"));
            let [mut found, mut expected] = [0, 1].map(|_| Guarded::of(&normal(5, g.w_len())));
            backward_weights(isa, &mut found, &x.halves, &dy.halves, g);
            backward_weights(isa, &mut expected, &x.floats, &dy.floats, g);
            assert_bits(&what("dw"), &found, &expected);
        });
    }

    /// Rows that are computed apart have the same bits.
    fn bands_of_rows(isa: Isa) {
        sweep(|g| {
            let (x, w) = (Guarded::of(&normal(1, g.x_len())), Guarded::of(&normal(2, g.w_len())));
            let (dy, bias) = (Guarded::of(&normal(3, g.y_len())), Guarded::of(&normal(4, g.cout)));
            let args = DepthwiseArgs { w: &w, bias: Some(&bias), act: Some(Activation::Relu) };
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let images = cuts(g.oh).map(|bands| {
                let mut y = vec![f32::NAN; g.y_len()];
                for rows in bands {
                    let row = g.ow * g.cout;
                    forward(isa, &mut y[rows.start * row..rows.end * row], &x, args, g, rows);
                }
                bits(&y)
            });
            assert!(images[1] == images[0] && images[2] == images[0], "y of {g:?}");
            let images = cuts(g.h).map(|bands| {
                let mut dx = vec![f32::NAN; g.x_len()];
                for rows in bands {
                    let row = g.w * g.cin;
                    backward_data(isa, &mut dx[rows.start * row..rows.end * row], &dy, &w, g, rows);
                }
                bits(&dx)
            });
            assert!(images[1] == images[0] && images[2] == images[0], "dx of {g:?}");
        });
    }

    /// Outputs that lie in padding alone are the bias, and pixels that no tap reads get no gradient.
    fn padding_alone(isa: Isa) {
        let conv = Conv2d {
            padding: Padding::Explicit([4, 4, 4, 4]),
            groups: 3,
            ..Conv2d::new(3, 3)
        };
        let g = Conv2dGeometry::new("conv", Shape::new(2, 2, 3), &conv).unwrap();
        let (x, w) = (vec![f32::MAX; g.x_len()], vec![0.5; g.w_len()]);
        let mut y = Guarded::nan(g.y_len());
        forward(isa, &mut y, &x, DepthwiseArgs { w: &w, bias: Some(&[1.0, 2.0, 3.0]), act: None }, &g, 0..g.oh);
        assert_eq!(y[..3], [1.0, 2.0, 3.0]);
        assert_eq!(y[y.len() - 3..], [1.0, 2.0, 3.0]);
    }
}

#[test]
#[should_panic(expected = "one filter for every channel")]
fn grouped_convolutions_are_refused() {
    let conv = Conv2d { groups: 2, ..Conv2d::new(4, 1) };
    let g = Conv2dGeometry::new("conv", Shape::new(1, 1, 4), &conv).unwrap();
    let isa = Isa::Portable(crate::simd::Portable);
    backward_data(isa, &mut [0.0; 4], &[0.0; 4], &[0.0; 8], &g, 0..1);
}
