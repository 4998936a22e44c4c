use super::*;
use crate::buffer::cast_mut;
use crate::geometry::Conv2dGeometry;
use crate::kernels::conv2d::{ByteArgs, Sweep};
use crate::kernels::depthwise::{self, DepthwiseByteArgs};
use crate::kernels::testing::for_each_isa;
use crate::parallel::{Columns, Pool, Threads, Wait};
use crate::rng::Rng;
use crate::simd::DotIsa;

/// Bytes on either side of an output, which must stay.
const GUARD: usize = 67;

/// Fails where `f` writes outside of `len` bytes; gives the bytes.
fn guarded(len: usize, f: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut all = vec![0xA5; len + 2 * GUARD];
    f(&mut all[GUARD..GUARD + len]);
    assert!(all[..GUARD].iter().chain(&all[GUARD + len..]).all(|&b| b == 0xA5), "writes stay inside");
    all[GUARD..GUARD + len].to_vec()
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed, 3);
    (0..len).map(|_| (rng.next_u64() >> 40) as u8).collect()
}

fn weights(seed: u64, len: usize) -> Vec<i8> {
    bytes(seed, len).into_iter().map(|b| (b as i8).max(-127)).collect()
}

fn geometry(
    [h, w, cin]: [usize; 3],
    (cout, groups): (usize, usize),
    (kernel, stride, dilation, padding): (usize, usize, usize, usize),
) -> Conv2dGeometry {
    let size = |n: usize| (n + 2 * padding - (kernel - 1) * dilation - 1) / stride + 1;
    Conv2dGeometry {
        h,
        w,
        cin,
        oh: size(h),
        ow: size(w),
        cout,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [dilation; 2],
        padding: [padding; 4],
        groups,
    }
}

/// The sum of each output, by definition.
fn sums(g: &Conv2dGeometry, x: &[u8], w: &[i8], zero: u8) -> Vec<i64> {
    let (cin, cout) = (g.cin / g.groups, g.cout / g.groups);
    let mut sums = Vec::new();
    for oh in 0..g.oh {
        for ow in 0..g.ow {
            for co in 0..g.cout {
                let mut sum = 0;
                for kh in 0..g.kernel[0] {
                    for kw in 0..g.kernel[1] {
                        let row = (oh * g.stride[0] + kh * g.dilation[0]).checked_sub(g.padding[0]);
                        let col = (ow * g.stride[1] + kw * g.dilation[1]).checked_sub(g.padding[2]);
                        let inside = row.filter(|&r| r < g.h).zip(col.filter(|&c| c < g.w));
                        for ci in 0..cin {
                            let x =
                                inside.map_or(zero, |(r, c)| x[(r * g.w + c) * g.cin + co / cout * cin + ci]);
                            let at = ((kh * g.kernel[1] + kw) * cin + ci) * g.cout + co;
                            sum += i64::from(x) * i64::from(w[at]);
                        }
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

/// The byte that a sum becomes.
fn stored(sum: i64, scale: f32, residual: Option<(u8, f32)>, offset: f32) -> u8 {
    let mut y = sum as i32 as f32 * scale;
    if let Some((residual, factor)) = residual {
        y += f32::from(residual) * factor;
    }
    (y + offset).clamp(0.0, 255.0).round_ties_even() as u8
}

fn geometries() -> Vec<Conv2dGeometry> {
    vec![
        geometry([5, 7, 3], (5, 1), (3, 1, 1, 1)),
        geometry([9, 8, 3], (33, 1), (7, 2, 1, 3)),
        geometry([6, 5, 16], (40, 1), (1, 1, 1, 0)),
        geometry([6, 5, 7], (17, 1), (1, 1, 1, 0)),
        geometry([7, 7, 8], (70, 1), (3, 2, 1, 1)),
        geometry([8, 9, 12], (10, 2), (3, 1, 1, 1)),
        geometry([9, 9, 6], (8, 1), (3, 1, 2, 2)),
        geometry([4, 4, 20], (24, 1), (1, 2, 1, 0)),
        geometry([1, 1, 130], (3, 1), (1, 1, 1, 0)),
        geometry([14, 14, 64], (64, 1), (3, 1, 1, 1)),
    ]
}

for_each_isa! {
    fn convolutions_have_the_bytes_of_their_definition(isa: Isa) {
        for (case, g) in geometries().iter().enumerate() {
            for dot in DotIsa::all(isa) {
                let seed = 10 * case as u64;
                let (x, w) = (bytes(seed, g.x_len()), weights(seed + 1, g.w_len()));
                let residual = bytes(seed + 2, g.y_len());
                let sweep = Sweep::forward(dot, g);
                let mut packed = vec![99; sweep.packed_len()];
                let mut rng = Rng::new(seed + 3, 4);
                let channels = sweep.channels_len();
                let bias: Vec<i32> = (0..channels).map(|_| (rng.next_u64() >> 50) as i32 - 8000).collect();
                let mut start = bias.clone();
                sweep.pack_bytes(&mut packed, &mut start, &w);
                let k = (g.w_len() / g.cout) as f32;
                let scale: Vec<f32> = (0..channels).map(|c| (1.0 + c as f32 / 50.0) / 100.0 / k.sqrt()).collect();
                for (zero, with_residual, offset) in [(0, false, 0.0), (131, true, 57.25)] {
                    let expected: Vec<u8> = sums(g, &x, &w, zero).iter().enumerate().map(|(i, sum)| {
                        let c = i % g.cout;
                        let residual = with_residual.then(|| (residual[i], 0.37));
                        stored(sum + i64::from(bias[c]), scale[c], residual, offset)
                    }).collect();
                    let mut scratch = vec![77; sweep.scratch_len()];
                    // All rows at once, and in parts.
                    for rows in [sweep.output_rows(), 2] {
                        let row = g.y_len() / sweep.output_rows();
                        let y = guarded(g.y_len(), |y| for (i, y) in y.chunks_mut(rows * row).enumerate() {
                            let own = i * rows..i * rows + y.len() / row;
                            let residual = with_residual.then(|| (&residual[own.start * row..own.end * row], 0.37));
                            let args = ByteArgs { x: &x, zero, packed: &packed, bias: &start, scale: &scale, residual, offset };
                            sweep.run_bytes(Columns::all(y, g.cout), &mut scratch, args, own);
                        });
                        assert_eq!(y, expected, "{g:?} on {dot:?}, zero {zero}, {rows} rows");
                    }
                    if !sweep.splits_channels() {
                        continue;
                    }
                    // Some channels at a time, on threads that share one scratch.
                    let threads = Threads::new(&Pool::shared(2).unwrap(), Wait::Yield, sweep.scratch_len()).unwrap();
                    let y = guarded(g.y_len(), |y| threads.columns(usize::MAX, (y, g.cout), sweep.panel_width(), |y| {
                        let residual = with_residual.then_some((&residual[..], 0.37));
                        let args = ByteArgs { x: &x, zero, packed: &packed, bias: &start, scale: &scale, residual, offset };
                        sweep.run_bytes(y, cast_mut(&mut threads.scratch()), args, 0..sweep.output_rows());
                    }));
                    assert_eq!(y, expected, "{g:?} on {dot:?}, zero {zero}, by channels");
                }
            }
        }
    }

    fn the_largest_sums_do_not_saturate(isa: Isa) {
        for dot in DotIsa::all(isa) {
            let g = geometry([2, 2, 4096], (3, 1), (1, 1, 1, 0));
            let sweep = Sweep::forward(dot, &g);
            let x = vec![255; g.x_len()];
            for weight in [127i8, -127] {
                let (mut packed, mut bias) = (vec![0; sweep.packed_len()], vec![0; sweep.channels_len()]);
                sweep.pack_bytes(&mut packed, &mut bias, &vec![weight; g.w_len()]);
                let sum = 4096 * 255 * i32::from(weight);
                // 100 steps above an offset of 100, or as many below it.
                let scale = vec![100.0 / sum.abs() as f32; sweep.channels_len()];
                let y = guarded(g.y_len(), |y| {
                    let args = ByteArgs { x: &x, zero: 0, packed: &packed, bias: &bias, scale: &scale, residual: None, offset: 101.0 };
                    sweep.run_bytes(Columns::all(y, g.cout), &mut [], args, 0..sweep.output_rows());
                });
                assert!(y.iter().all(|&y| y == if weight > 0 { 201 } else { 1 }), "{dot:?} {y:?}");
            }
        }
    }

    fn depthwise_convolutions_have_the_bytes_of_their_definition(isa: Isa) {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)] {
            for (side, channels) in [(4, 3), (7, 16), (9, 40), (14, 33), (20, 170)] {
                let g = geometry([side, side + 1, channels], (channels, channels), (kernel, stride, 1, kernel / 2));
                let seed = (100 * kernel + 10 * side + stride) as u64;
                let (x, w) = (bytes(seed, g.x_len()), weights(seed + 1, g.w_len()));
                let whole: Vec<f32> = w.iter().map(|&w| w.into()).collect();
                let bias: Vec<f32> = (0..channels).map(|c| (c * 37) as f32 - 900.0).collect();
                let scale: Vec<f32> = (0..channels).map(|c| (1.0 + c as f32 / 9.0) / 700.0).collect();
                let expected: Vec<u8> = sums(&g, &x, &w, 0).iter().enumerate().map(|(i, sum)| {
                    let c = i % channels;
                    stored(sum + bias[c] as i64, scale[c], None, 3.0)
                }).collect();
                let args = DepthwiseByteArgs { w: &whole, bias: &bias, scale: &scale, offset: 3.0 };
                for rows in [g.oh, 3] {
                    let row = g.ow * channels;
                    let y = guarded(g.y_len(), |y| for (i, y) in y.chunks_mut(rows * row).enumerate() {
                        let own = i * rows..i * rows + y.len() / row;
                        depthwise::forward_bytes(isa, y, &x, args, &g, own);
                    });
                    assert_eq!(y, expected, "{g:?}, {rows} rows");
                }
            }
        }
    }

    fn bytes_become_numbers_and_numbers_bytes(isa: Isa) {
        for c in [1, 3, 16, 37] {
            let q = bytes(c as u64, 5 * c);
            let scale: Vec<f32> = (0..c).map(|i| 0.01 * (i + 1) as f32).collect();
            let mut x = vec![f32::NAN; q.len()];
            dequantize(isa, &mut x, &q, (&scale, 100));
            for (i, (&x, &q)) in x.iter().zip(&q).enumerate() {
                assert_eq!(x, (f32::from(q) - 100.0) * scale[i % c]);
            }
            let inverse: Vec<f32> = scale.iter().map(|s| 1.0 / s).collect();
            assert_eq!(guarded(q.len(), |y| quantize_channels(y, &x, (&inverse, 100))), q);
        }
        // Halves go to even, and everything past the ends to the ends.
        let x = [-1e30, -0.6, 0.5, 1.5, 2.5, 254.5, 255.4, 300.0, 1e30, f32::INFINITY, f32::NEG_INFINITY];
        let y = guarded(x.len(), |y| quantize(isa, y, &x, (1.0, 0)));
        assert_eq!(y, [0, 0, 0, 2, 2, 254, 255, 255, 255, 255, 0]);
        let y = guarded(x.len(), |y| quantize(isa, y, &x, (0.5, 10)));
        assert_eq!(y, [0, 10, 10, 11, 11, 137, 138, 160, 255, 255, 0]);
    }

    fn sums_and_pools_have_the_bytes_of_their_definition(isa: Isa) {
        let (a, b) = (bytes(1, 133), bytes(2, 133));
        let y = guarded(133, |y| add(isa, y, [&a, &b], [0.7, 0.4], -20.5));
        for (i, &y) in y.iter().enumerate() {
            let sum = f32::from(a[i]) * 0.7 + f32::from(b[i]) * 0.4 - 20.5;
            assert_eq!(y, sum.clamp(0.0, 255.0).round_ties_even() as u8);
        }
        for c in [1, 5, 16, 67] {
            let x = bytes(c as u64, 6 * 7 * c);
            let scale: Vec<f32> = (0..c).map(|i| 0.1 * (i + 1) as f32).collect();
            for what in [Global::Mean, Global::Max] {
                let mut y = vec![f32::NAN; c];
                global_pool(isa, &mut y, &x, (&scale, 7), what);
                for (channel, &y) in y.iter().enumerate() {
                    let values = x.iter().skip(channel).step_by(c).map(|&x| f32::from(x));
                    let all = match what {
                        Global::Mean => values.sum::<f32>() / 42.0,
                        Global::Max => values.fold(0.0, f32::max),
                    };
                    assert_eq!(y, (all - 7.0) * scale[channel]);
                }
            }
            let g = PoolGeometry { h: 6, w: 7, c, oh: 3, ow: 4, kernel: [3; 2], stride: [2; 2], padding: [1; 4] };
            let y = guarded(g.y_len(), |y| max_pool(isa, y, &x, &g));
            for (i, &y) in y.iter().enumerate() {
                let (oh, ow, channel) = (i / c / g.ow, i / c % g.ow, i % c);
                let rows = (2 * oh).saturating_sub(1)..(2 * oh + 2).min(6);
                let window = rows.flat_map(|r| ((2 * ow).saturating_sub(1)..(2 * ow + 2).min(7)).map(move |q| (r, q)));
                assert_eq!(Some(y), window.map(|(r, q)| x[(r * 7 + q) * c + channel]).max());
            }
        }
    }
}
