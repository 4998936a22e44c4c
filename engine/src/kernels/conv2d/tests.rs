//! Every pass against the f64 oracle: exact on whole numbers, within a derived bound on normal ones.

use super::*;
use crate::bf16::Bf16;
use crate::geometry::{Conv2dGeometry, Shape};
use crate::graph::{Conv2d, Padding};
use crate::kernels::testing::{
    Guarded, GuardedNumbers, assert_exact, assert_sums, floats, for_each_isa, integers, magnitude, normal,
    rounded, widen,
};
use crate::kernels::{Halves, reference};
use crate::simd::Bf16Isa;

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
fn exact<N: OuterProducts<Output = f32>>(numbers: N, case: &Case) {
    let (g, images) = (case.geometry(), 3);
    let [x, w, dy] = [(1, images * g.x_len()), (2, g.w_len()), (3, images * g.y_len())]
        .map(|(seed, len)| integers(seed, len, 4));
    let [from, gradient] = [&x, &dy].map(|x| GuardedNumbers::of(&rounded::<N::Input>(x)));
    let bias = Guarded::of(&integers(4, g.cout, 50));
    let residual = integers(5, g.y_len(), 50);
    let what = |pass: &str| format!("{pass} {numbers:?} {g:?}");

    let forward = Sweep::forward(numbers, &g);
    let mut packed = GuardedNumbers::nan(forward.packed_len());
    forward.pack(&mut packed, &w);
    let mut scratch = GuardedNumbers::nan(forward.scratch_len());
    let expected = reference::conv2d(&widen(&x[..g.x_len()]), &widen(&w), Some(&widen(&bias)), &g);
    let mut y = Guarded::nan(g.y_len());
    let image = &from[..g.x_len()];
    let args = SweepArgs { x: image, packed: &packed, bias: Some(&bias), ..SweepArgs::default() };
    let count = forward.output_rows();
    forward.run(&mut y, &mut scratch, args, 0..count);
    assert_exact(&what("forward"), &y, &expected);

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
    assert_exact(&what("fused"), &rows, &expected);

    let backward = Sweep::backward_data(numbers, &g);
    let mut packed = GuardedNumbers::nan(backward.packed_len());
    backward.pack(&mut packed, &w);
    let mut scratch = GuardedNumbers::nan(backward.scratch_len());
    let expected = reference::conv2d_backward_data(&widen(&dy[..g.y_len()]), &widen(&w), &g);
    let mut dx = Guarded::nan(g.x_len());
    let args = SweepArgs { x: &gradient[..g.y_len()], packed: &packed, ..SweepArgs::default() };
    backward.run(&mut dx, &mut scratch, args, 0..backward.output_rows());
    assert_exact(&what("backward data"), &dx, &expected);

    let weights = WeightGradient::new(numbers, &g);
    let mut scratch = GuardedNumbers::nan(weights.scratch_len());
    let mut expected = vec![7.0; g.w_len()];
    for (x, dy) in x.chunks_exact(g.x_len()).zip(dy.chunks_exact(g.y_len())) {
        let one = reference::conv2d_backward_weights(&widen(x), &widen(dy), &g);
        expected.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
    }
    let mut dw = Guarded::of(&vec![7.0; g.w_len()]);
    weights.accumulate(&mut dw, &mut scratch, &from, &gradient);
    assert_exact(&what("backward weights"), &dw, &expected);
}

for_each_isa! {
    fn all_passes_are_exact_on_whole_numbers(isa: Isa) {
        cases().iter().for_each(|case| exact(isa, case));
    }

    fn all_passes_are_exact_on_whole_numbers_in_bf16(isa: Isa) {
        for bf16 in Bf16Isa::all(isa) {
            cases().iter().for_each(|case| exact(Halves::<f32>::new(bf16), case));
        }
    }

    /// Outputs in bf16 are those in f32, rounded once; a residual in bf16 is added before.
    fn outputs_in_bf16_are_rounded_once(isa: Isa) {
        for bf16 in Bf16Isa::all(isa) {
            for case in cases().iter().step_by(4) {
                let g = case.geometry();
                let [x, residual] = [(1, g.x_len()), (2, g.y_len())].map(|(seed, len)| rounded::<Bf16>(&normal(seed, len)));
                let w = normal(3, g.w_len());
                let bias = normal(4, g.cout);
                let clamp = Some((-1.5, 1.5));
                let sweep = Sweep::forward(Halves::<f32>::new(bf16), &g);
                let mut packed = GuardedNumbers::nan(sweep.packed_len());
                sweep.pack(&mut packed, &w);
                let mut scratch = GuardedNumbers::nan(sweep.scratch_len());
                let wide = floats(&residual);
                let args = SweepArgs { x: &x, packed: &packed, bias: Some(&bias), residual: Some(&wide[..]), clamp };
                let mut expected = Guarded::nan(g.y_len());
                sweep.run(&mut expected, &mut scratch, args, 0..sweep.output_rows());
                let sweep = Sweep::forward(Halves::<Bf16>::new(bf16), &g);
                let args = SweepArgs { x: &x, packed: &packed, bias: Some(&bias), residual: Some(&residual[..]), clamp };
                let mut y = GuardedNumbers::nan(g.y_len());
                sweep.run(&mut y, &mut scratch, args, 0..sweep.output_rows());
                assert_eq!(y[..], rounded::<Bf16>(&expected), "{bf16:?} {g:?}");
            }
        }
    }

    /// Sums of rounded products, in whatever order an instruction set has.
    fn rounding_in_bf16_stays_within_its_bound(isa: Isa) {
        for bf16 in Bf16Isa::all(isa) {
            let numbers = Halves::<f32>::new(bf16);
            for case in cases().iter().step_by(5) {
                let g = case.geometry();
                let [x, w, dy] = [(1, g.x_len()), (2, g.w_len()), (3, g.y_len())].map(|(seed, len)| rounded::<Bf16>(&normal(seed, len)));
                let [wide_x, wide_w, wide_dy] = [&x, &w, &dy].map(|x| floats(x));
                let sweep = Sweep::forward(numbers, &g);
                let mut packed = GuardedNumbers::nan(sweep.packed_len());
                sweep.pack(&mut packed, &wide_w);
                let (mut y, mut scratch) = (Guarded::nan(g.y_len()), GuardedNumbers::nan(sweep.scratch_len()));
                sweep.run(&mut y, &mut scratch, SweepArgs { x: &x, packed: &packed, ..SweepArgs::default() }, 0..sweep.output_rows());
                let expected = reference::conv2d(&widen(&wide_x), &widen(&wide_w), None, &g);
                let sizes = reference::conv2d(&magnitude(&wide_x), &magnitude(&wide_w), None, &g);
                let taps = g.kernel[0] * g.kernel[1] * g.cin / g.groups;
                assert_sums(&format!("{bf16:?} forward"), &y, &expected, (taps, &sizes));
                let weights = WeightGradient::new(numbers, &g);
                let (mut dw, mut scratch) = (Guarded::of(&vec![0.0; g.w_len()]), GuardedNumbers::nan(weights.scratch_len()));
                weights.accumulate(&mut dw, &mut scratch, &x, &dy);
                let expected = reference::conv2d_backward_weights(&widen(&wide_x), &widen(&wide_dy), &g);
                let sizes = reference::conv2d_backward_weights(&magnitude(&wide_x), &magnitude(&wide_dy), &g);
                assert_sums(&format!("{bf16:?} backward weights"), &dw, &expected, (g.oh * g.ow, &sizes));
            }
        }
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
