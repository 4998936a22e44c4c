//! Every pass against the f64 oracle: exact on whole numbers, within a derived bound on normal ones.

use super::*;
use crate::geometry::{Conv2dGeometry, Shape};
use crate::graph::{Conv2d, Padding};
use crate::kernels::reference;
use crate::kernels::testing::{
    Guarded, assert_exact, assert_sums, for_each_isa, integers, magnitude, normal, widen,
};
use crate::simd::Isa;

/// A convolution to test: height, width, input channels, and the layer.
struct Case {
    input: [usize; 3],
    conv: Conv2d,
}

impl Case {
    fn geometry(&self) -> Conv2dGeometry {
        let [h, w, c] = self.input;
        Conv2dGeometry::new("test", Shape::new(h, w, c), &self.conv).expect("test cases fit")
    }
}

fn conv(filters: usize, kernel: [u32; 2]) -> Conv2d {
    Conv2d { kernel, ..Conv2d::new(filters, 1) }
}

/// Sizes around the seams of every tile: rows 4, 6, 12, columns 8, 16, 32, bands, chains of small maps, and every
/// kind of stride, dilation, padding and group.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |input, conv| cases.push(Case { input, conv });
    for filters in [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40] {
        add([5, 7, 3], conv(filters, [3, 3]));
        add([4, 3, filters], conv(5, [1, 1]));
    }
    for width in [1, 2, 3, 5, 6, 7, 11, 12, 13, 14, 25] {
        add([3, width, 2], Conv2d { padding: Padding::Same, ..conv(6, [3, 3]) });
        add([2, width, 5], conv(9, [1, 1]));
    }
    for stride in [[2, 2], [1, 2], [3, 2], [4, 4]] {
        for (kernel, padding) in [
            ([3, 3], Padding::Explicit([1; 4])),
            ([1, 1], Padding::Valid),
            ([2, 5], Padding::Same),
            ([7, 7], Padding::Explicit([3; 4])),
        ] {
            add([9, 10, 4], Conv2d { stride, padding, ..conv(10, kernel) });
        }
    }
    add([9, 8, 3], Conv2d { padding: Padding::Explicit([0, 2, 1, 3]), stride: [2, 1], ..conv(5, [4, 3]) });
    add([3, 3, 2], Conv2d { padding: Padding::Explicit([5, 4, 6, 3]), ..conv(4, [3, 3]) });
    add([12, 11, 3], Conv2d { dilation: [2, 3], padding: Padding::Same, ..conv(7, [3, 3]) });
    add(
        [12, 11, 3],
        Conv2d { dilation: [3, 1], stride: [2, 2], padding: Padding::Explicit([2; 4]), ..conv(7, [3, 3]) },
    );
    add([7, 6, 6], Conv2d { groups: 2, padding: Padding::Same, ..conv(10, [3, 3]) });
    add(
        [7, 6, 12],
        Conv2d { groups: 3, stride: [2, 2], padding: Padding::Explicit([1; 4]), ..conv(54, [3, 3]) },
    );
    add([6, 6, 8], Conv2d { groups: 8, ..conv(16, [3, 3]) });
    // A source that is cut into several bands, and reductions longer than a slice of weights.
    add([70, 40, 33], Conv2d { padding: Padding::Same, ..conv(2, [3, 3]) });
    add([6, 6, 70], Conv2d { padding: Padding::Same, ..conv(3, [3, 3]) });
    cases
}

/// Runs all three passes on whole numbers, whose sums are exact in any order.
fn exact(isa: Isa, case: &Case) {
    let (g, images) = (case.geometry(), 3);
    let x = Guarded::of(&integers(1, images * g.x_len(), 4));
    let w = Guarded::of(&integers(2, g.w_len(), 4));
    let dy = Guarded::of(&integers(3, images * g.y_len(), 4));
    let bias = Guarded::of(&integers(4, g.cout, 50));
    let residual = integers(5, g.y_len(), 50);

    let forward = Sweep::forward(isa, &g);
    let mut packed = Guarded::nan(forward.packed_len());
    forward.pack(&mut packed, &w);
    let mut scratch = Guarded::nan(forward.scratch_len());
    let image = &x[..g.x_len()];
    let expected = reference::conv2d(&widen(image), &widen(&w), Some(&widen(&bias)), &g);
    let mut y = Guarded::nan(g.y_len());
    let args = SweepArgs { x: image, packed: &packed, bias: Some(&bias), ..SweepArgs::default() };
    let count = forward.output_rows();
    forward.run(&mut y, &mut scratch, args, 0..count);
    assert_exact(&format!("forward {g:?}"), &y, &expected);

    // The same rows one at a time, with everything fused.
    let row = g.y_len() / count;
    let mut rows = Guarded::nan(g.y_len());
    for oh in 0..count {
        let at = oh * row..(oh + 1) * row;
        let fused = SweepArgs { residual: Some(&residual[at.clone()]), clamp: Some((0.0, 60.0)), ..args };
        forward.run(&mut rows[at], &mut scratch, fused, oh..oh + 1);
    }
    let expected: Vec<f64> =
        expected.iter().zip(&residual).map(|(y, r)| (y + f64::from(*r)).clamp(0.0, 60.0)).collect();
    assert_exact(&format!("fused {g:?}"), &rows, &expected);

    let backward = Sweep::backward_data(isa, &g);
    let mut packed = Guarded::nan(backward.packed_len());
    backward.pack(&mut packed, &w);
    let mut scratch = Guarded::nan(backward.scratch_len());
    let expected = reference::conv2d_backward_data(&widen(&dy[..g.y_len()]), &widen(&w), &g);
    let mut dx = Guarded::nan(g.x_len());
    let args = SweepArgs { x: &dy[..g.y_len()], packed: &packed, ..SweepArgs::default() };
    backward.run(&mut dx, &mut scratch, args, 0..backward.output_rows());
    assert_exact(&format!("backward data {g:?}"), &dx, &expected);

    let weights = WeightGradient::new(isa, &g);
    let mut scratch = Guarded::nan(weights.scratch_len());
    let mut expected = vec![7.0; g.w_len()];
    for (x, dy) in x.chunks_exact(g.x_len()).zip(dy.chunks_exact(g.y_len())) {
        let one = reference::conv2d_backward_weights(&widen(x), &widen(dy), &g);
        expected.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
    }
    let mut dw = Guarded::of(&vec![7.0; g.w_len()]);
    weights.accumulate(&mut dw, &mut scratch, &x, &dy);
    assert_exact(&format!("backward weights {g:?}"), &dw, &expected);
}

for_each_isa! {
    fn all_passes_are_exact_on_whole_numbers(isa: Isa) {
        cases().iter().for_each(|case| exact(isa, case));
    }

    fn rounding_stays_within_its_bound(isa: Isa) {
        for case in cases().iter().step_by(5) {
            let g = case.geometry();
            let (x, w, dy) = (normal(1, g.x_len()), normal(2, g.w_len()), normal(3, g.y_len()));
            let taps = g.kernel[0] * g.kernel[1];
            let sweep = |sweep: Sweep, x: &[f32], len: usize| {
                let mut packed = Guarded::nan(sweep.packed_len());
                sweep.pack(&mut packed, &w);
                let (mut out, mut scratch) = (Guarded::nan(len), Guarded::nan(sweep.scratch_len()));
                let args = SweepArgs { x, packed: &packed, ..SweepArgs::default() };
                sweep.run(&mut out, &mut scratch, args, 0..sweep.output_rows());
                out
            };
            let y = sweep(Sweep::forward(isa, &g), &x, g.y_len());
            let expected = reference::conv2d(&widen(&x), &widen(&w), None, &g);
            let sizes = reference::conv2d(&magnitude(&x), &magnitude(&w), None, &g);
            assert_sums("forward", &y, &expected, (taps * g.cin / g.groups, &sizes));
            let dx = sweep(Sweep::backward_data(isa, &g), &dy, g.x_len());
            let expected = reference::conv2d_backward_data(&widen(&dy), &widen(&w), &g);
            let sizes = reference::conv2d_backward_data(&magnitude(&dy), &magnitude(&w), &g);
            assert_sums("backward data", &dx, &expected, (taps * g.cout / g.groups, &sizes));
            let weights = WeightGradient::new(isa, &g);
            let (mut dw, mut scratch) = (Guarded::of(&vec![0.0; g.w_len()]), Guarded::nan(weights.scratch_len()));
            weights.accumulate(&mut dw, &mut scratch, &x, &dy);
            let expected = reference::conv2d_backward_weights(&widen(&x), &widen(&dy), &g);
            let sizes = reference::conv2d_backward_weights(&magnitude(&x), &magnitude(&dy), &g);
            assert_sums("backward weights", &dw, &expected, (g.oh * g.ow, &sizes));
        }
    }

    fn a_clamp_passes_nan_on(isa: Isa) {
        let g = Case { input: [2, 3, 2], conv: conv(5, [1, 1]) }.geometry();
        let forward = Sweep::forward(isa, &g);
        let mut packed = Guarded::nan(forward.packed_len());
        forward.pack(&mut packed, &normal(1, g.w_len()));
        let mut x = normal(2, g.x_len());
        x[4] = f32::NAN;
        let mut y = Guarded::nan(g.y_len());
        let clamp = Some((0.0, f32::INFINITY));
        let args = SweepArgs { x: &x, packed: &packed, clamp, ..SweepArgs::default() };
        forward.run(&mut y, &mut [], args, 0..forward.output_rows());
        assert!(y[10..15].iter().all(|y| y.is_nan()), "the pixel that read a NaN is NaN");
        assert!(y[..10].iter().chain(&y[15..]).all(|y| *y >= 0.0), "the others are clamped");
    }
}
