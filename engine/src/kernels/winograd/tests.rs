//! Both tiles against the f64 oracle, alone and fused, in any grouping; their error beside the direct form's.

use super::*;
use crate::Shape;
use crate::graph::{Conv2d, Padding};
use crate::kernels::conv2d::Sweep;
use crate::kernels::micro::KC;
use crate::kernels::reference;
use crate::kernels::testing::{
    Guarded, UNIT_ROUNDOFF, assert_close, assert_same, for_each_isa, magnitude, normal, widen,
};

const TILES: [Tile; 2] = [Tile::Two, Tile::Four];

fn geometry([h, w, cin, cout]: [usize; 4], padding: [u32; 4]) -> Conv2dGeometry {
    let conv = Conv2d { padding: Padding::Explicit(padding), ..Conv2d::new(cout, 3) };
    Conv2dGeometry::new("test", Shape::new(h, w, cin), &conv).unwrap()
}

/// Maps around the seams of tiles of 2 and 4, channels around those of vectors and panels, every padding, a reduction
/// longer than a slice.
fn geometries() -> Vec<Conv2dGeometry> {
    let mut all = Vec::new();
    for side in [1, 2, 3, 4, 5, 6, 7, 8, 9] {
        all.push(geometry([side, 10 - side, 3, 5], [1; 4]));
        all.push(geometry([side + 2, side + 3, 2, 9], [0; 4]));
    }
    for channels in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64] {
        all.push(geometry([5, 6, channels, 3], [1; 4]));
        all.push(geometry([6, 5, 4, channels], [1; 4]));
    }
    all.push(geometry([6, 7, 3, 4], [2, 0, 1, 2]));
    all.push(geometry([3, 3, 3, 4], [2; 4]));
    all.push(geometry([5, 5, KC + 3, 4], [1; 4]));
    all
}

/// Largest error of a sum of `k` products whose absolute values add up to at most `largest`: that of the direct sum,
/// and the roundings of the transforms. Their matrices' absolute row sums multiply to less than 60 for `F(4, 3)` along
/// both axes, of which normal data see a small part.
fn bound(k: usize, largest: f64) -> f64 {
    (k + 30) as f64 * UNIT_ROUNDOFF * largest
}

fn largest(magnitudes: &[f64]) -> f64 {
    magnitudes.iter().copied().fold(0.0, f64::max)
}

fn packed(winograd: &Winograd, w: &[f32]) -> Guarded {
    let mut packed = Guarded::nan(winograd.packed_len());
    for (index, panel) in packed.chunks_mut(winograd.pack_len()).enumerate() {
        winograd.pack(panel, w, index);
    }
    packed
}

fn check_forward(isa: Isa, g: &Conv2dGeometry, tile: Tile) {
    let (what, images) = (format!("{tile:?} {g:?}"), 3);
    let (x, w) = (Guarded::of(&normal(1, images * g.x_len())), Guarded::of(&normal(2, g.w_len())));
    let (bias, residual) = (Guarded::of(&normal(3, g.cout)), Guarded::of(&normal(4, images * g.y_len())));
    let mut expected = Vec::new();
    let mut size = 0.0f64;
    for x in x.chunks_exact(g.x_len()) {
        expected.extend(reference::conv2d(&widen(x), &widen(&w), Some(&widen(&bias)), g));
        size =
            size.max(largest(&reference::conv2d(&magnitude(x), &magnitude(&w), Some(&magnitude(&bias)), g)));
    }
    let winograd = Winograd::forward(isa, g, tile);
    let packed = packed(&winograd, &w);
    let lines = images * winograd.lines();
    let mut scratch = Guarded::nan(winograd.scratch_len(lines));
    let mut y = Guarded::nan(images * g.y_len());
    let args = SweepArgs { x: &x, packed: &packed, bias: Some(&bias), ..SweepArgs::default() };
    winograd.run(&mut y, &mut scratch, args, 0..lines);
    let bound = bound(9 * g.cin, size);
    assert_close(&what, &y, &expected, |_| bound);

    // Line by line, with everything fused: the same sums, then the residual and the clamp.
    let mut by_line = Guarded::nan(y.len());
    let mut scratch = Guarded::nan(winograd.scratch_len(1));
    for line in 0..lines {
        let at = winograd.offset(line)..winograd.offset(line + 1);
        let fused = SweepArgs { residual: Some(&residual[at.clone()]), clamp: Some((0.0, 2.0)), ..args };
        winograd.run(&mut by_line[at], &mut scratch, fused, line..line + 1);
    }
    let fused: Vec<f32> = y.iter().zip(residual.iter()).map(|(y, r)| (y + r).clamp(0.0, 2.0)).collect();
    assert_same(&what, &by_line, &fused);
}

fn check_backward(isa: Isa, g: &Conv2dGeometry, tile: Tile) {
    let (what, images) = (format!("{tile:?} {g:?}"), 5);
    let (x, w) = (Guarded::of(&normal(1, images * g.x_len())), Guarded::of(&normal(2, g.w_len())));
    let dy = Guarded::of(&normal(3, images * g.y_len()));

    let winograd = Winograd::backward_data(isa, g, tile);
    let panels = packed(&winograd, &w);
    let mut scratch = Guarded::nan(winograd.scratch_len(winograd.lines()));
    let mut dx = Guarded::nan(g.x_len());
    let args = SweepArgs { x: &dy[..g.y_len()], packed: &panels, ..SweepArgs::default() };
    winograd.run(&mut dx, &mut scratch, args, 0..winograd.lines());
    let expected = reference::conv2d_backward_data(&widen(&dy[..g.y_len()]), &widen(&w), g);
    let size = largest(&reference::conv2d_backward_data(&magnitude(&dy[..g.y_len()]), &magnitude(&w), g));
    assert_close(&format!("backward data {what}"), &dx, &expected, |_| bound(9 * g.cout, size));

    let gradient = FilterGradient::new(isa, g, tile);
    let lines = gradient.line_count(images);
    let mut sums = Guarded::of(&vec![0.0; gradient.sums_len()]);
    let chunks = lines.div_ceil(gradient.chunk_lines());
    let mut memory = Guarded::nan(chunks * gradient.chunk_len());
    for (i, chunk) in memory.chunks_exact_mut(gradient.chunk_len()).enumerate() {
        let first = i * gradient.chunk_lines();
        gradient.transform(chunk, &x, &dy, first..lines.min(first + gradient.chunk_lines()));
    }
    let value_len = g.cin * g.cout;
    for (value, sums) in sums.chunks_exact_mut(value_len).enumerate() {
        // In two parts, as threads may cut it.
        let half = g.cin / 2;
        let (first, second) = sums.split_at_mut(half * g.cout);
        gradient.accumulate(first, &memory, value, 0..half);
        gradient.accumulate(second, &memory, value, half..g.cin);
    }
    let mut dw = Guarded::nan(g.w_len());
    let half = value_len / 2;
    let mut parts: [Vec<&mut [f32]>; 2] = [Vec::new(), Vec::new()];
    for tap in dw.chunks_exact_mut(value_len) {
        let (first, second) = tap.split_at_mut(half);
        parts[0].push(first);
        parts[1].push(second);
    }
    for (part, first) in parts.into_iter().zip([0, half]) {
        gradient.finish(part.try_into().unwrap(), &sums, first, false);
    }
    let (mut expected, mut size) = (vec![0.0; g.w_len()], vec![0.0; g.w_len()]);
    for (x, dy) in x.chunks_exact(g.x_len()).zip(dy.chunks_exact(g.y_len())) {
        let add = |sum: &mut Vec<f64>, one: Vec<f64>| sum.iter_mut().zip(one).for_each(|(s, o)| *s += o);
        add(&mut expected, reference::conv2d_backward_weights(&widen(x), &widen(dy), g));
        add(&mut size, reference::conv2d_backward_weights(&magnitude(x), &magnitude(dy), g));
    }
    let bound = bound(images * g.oh * g.ow, largest(&size));
    assert_close(&format!("backward weights {what}"), &dw, &expected, |_| bound);
}

/// Root mean square error of the direct form and of a tile, over one padded map.
fn rms_errors(isa: Isa, tile: Tile) -> (f64, f64) {
    let g = geometry([16, 16, 64, 32], [1; 4]);
    let (x, w) = (normal(7, g.x_len()), normal(8, g.w_len()));
    let exact = reference::conv2d(&widen(&x), &widen(&w), None, &g);
    let rms = |y: &[f32]| {
        let squares = y.iter().zip(&exact).map(|(y, e)| (f64::from(*y) - e).powi(2));
        (squares.sum::<f64>() / y.len() as f64).sqrt()
    };
    let mut y = vec![0.0; g.y_len()];
    let direct = Sweep::forward(isa, &g);
    let mut panels = vec![0.0; direct.packed_len()];
    direct.pack(&mut panels, &w);
    let mut scratch = vec![0.0; direct.scratch_len()];
    let args = SweepArgs { x: &x, packed: &panels, ..SweepArgs::default() };
    direct.run(&mut y, &mut scratch, args, 0..g.oh);
    let direct = rms(&y);
    let winograd = Winograd::forward(isa, &g, tile);
    let panels = packed(&winograd, &w);
    let mut scratch = vec![0.0; winograd.scratch_len(winograd.lines())];
    winograd.run(&mut y, &mut scratch, SweepArgs { packed: &panels, ..args }, 0..winograd.lines());
    (direct, rms(&y))
}

for_each_isa! {
    fn forward(isa: Isa) {
        for (g, tile) in geometries().iter().flat_map(|g| TILES.map(|tile| (g, tile))) {
            check_forward(isa, g, tile);
        }
    }

    fn backward(isa: Isa) {
        for (g, tile) in geometries().iter().flat_map(|g| TILES.map(|tile| (g, tile))) {
            check_backward(isa, g, tile);
        }
    }

    fn errors_stay_near_those_of_the_direct_form(isa: Isa) {
        for (tile, limit) in [(Tile::Two, 2.0), (Tile::Four, 4.0)] {
            let (direct, winograd) = rms_errors(isa, tile);
            let ratio = winograd / direct;
            assert!(ratio < limit, "{tile:?}: {ratio:.2} times the direct form's {direct:.2e}");
        }
    }
}

#[test]
fn other_convolutions_do_not_fit() {
    let shape = Shape::new(9, 9, 4);
    for conv in [
        Conv2d::new(4, 5),
        Conv2d { stride: [2, 2], ..Conv2d::new(4, 3) },
        Conv2d { dilation: [1, 2], ..Conv2d::new(4, 3) },
        Conv2d { groups: 2, ..Conv2d::new(4, 3) },
    ] {
        assert!(!fits(&Conv2dGeometry::new("test", shape, &conv).unwrap()));
    }
}
