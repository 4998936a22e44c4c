//! GEMM and convolutions, one thread, every instruction set of this machine; `matrixmultiply` beside our GEMM.
//!
//! Each case is verified against the f64 oracle before it is timed. `cargo bench --bench kernels -- conv2d` picks some.

mod support;

use criterion::Criterion;
use ocelli_engine::geometry::Conv2dGeometry;
use ocelli_engine::graph::{Conv2d, Padding};
use ocelli_engine::kernels::conv2d::{Sweep, SweepArgs, WeightGradient};
use ocelli_engine::kernels::gemm::{self, GemmEpilogue, GemmShape};
use ocelli_engine::kernels::reference;
use ocelli_engine::{Isa, Shape};
use support::{measure, normal};

/// Rows, depth, columns.
const GEMMS: [[usize; 3]; 4] = [[64, 64, 64], [256, 256, 256], [128, 1600, 128], [512, 512, 512]];

/// A convolution: side of the square input, channels in and out, kernel, stride, padding.
const CONVS: [[usize; 6]; 9] = [
    [28, 1, 32, 3, 1, 0],
    [13, 32, 64, 3, 1, 0],
    [32, 3, 64, 3, 1, 1],
    [56, 64, 64, 3, 1, 1],
    [28, 128, 128, 3, 1, 1],
    [14, 256, 256, 3, 1, 1],
    [7, 512, 512, 3, 1, 1],
    [56, 64, 128, 3, 2, 1],
    [28, 96, 192, 1, 1, 0],
];

/// Fails unless a result is what the oracle says, within the rounding of sums of `k` products of normal numbers.
fn verify(id: &str, found: &[f32], expected: &[f64], k: usize) {
    let bound = (k as f64 + 8.0) * 6e-8 * 4.0 * (k as f64).sqrt().max(1.0);
    assert_eq!(found.len(), expected.len(), "{id}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f64::from(*f) - e).abs() <= bound, "{id}: {f}, expected {e}");
    }
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn gemms(c: &mut Criterion, isa: Isa) {
    for [rows, depth, cols] in GEMMS {
        let shape = GemmShape { depth, cols };
        let (x, w) = (normal(1, rows * depth), normal(2, depth * cols));
        let mut packed = vec![0.0; gemm::packed_len(isa, shape)];
        gemm::pack(isa, &mut packed, &w, shape, 0);
        let mut y = vec![0.0; rows * cols];
        let id = format!("gemm/{rows}x{depth}x{cols}/{}", isa.name());
        gemm::gemm(isa, &mut y, &x, &packed, shape, GemmEpilogue::default());
        let expected = reference::dense(&widen(&x), &widen(&w), &vec![0.0; cols], depth);
        verify(&id, &y, &expected, depth);
        let flops = 2 * rows * depth * cols;
        measure(c, isa, &id, flops, || gemm::gemm(isa, &mut y, &x, &packed, shape, GemmEpilogue::default()));
        // Packing included, as matrixmultiply has to.
        measure(c, isa, &format!("{id}/with-pack"), flops, || {
            gemm::pack(isa, &mut packed, &w, shape, 0);
            gemm::gemm(isa, &mut y, &x, &packed, shape, GemmEpilogue::default());
        });
    }
}

#[allow(unsafe_code, reason = "matrixmultiply's interface")]
fn yardstick(c: &mut Criterion, isa: Isa) {
    for [rows, depth, cols] in GEMMS {
        let (x, w) = (normal(1, rows * depth), normal(2, depth * cols));
        let mut y = vec![0.0; rows * cols];
        let run = |y: &mut [f32]| {
            let (d, n) = (depth as isize, cols as isize);
            // SAFETY: the slices hold the matrices that sizes and strides describe.
            unsafe {
                matrixmultiply::sgemm(
                    rows,
                    depth,
                    cols,
                    1.0,
                    x.as_ptr(),
                    d,
                    1,
                    w.as_ptr(),
                    n,
                    1,
                    0.0,
                    y.as_mut_ptr(),
                    n,
                    1,
                );
            }
        };
        run(&mut y);
        let expected = reference::dense(&widen(&x), &widen(&w), &vec![0.0; cols], depth);
        verify("matrixmultiply", &y, &expected, depth);
        let id = format!("gemm/{rows}x{depth}x{cols}/matrixmultiply");
        measure(c, isa, &id, 2 * rows * depth * cols, || run(&mut y));
    }
}

fn convolutions(c: &mut Criterion, isa: Isa) {
    for [side, cin, cout, kernel, stride, pad] in CONVS {
        let conv = Conv2d {
            stride: [stride as u32; 2],
            padding: Padding::Explicit([pad as u32; 4]),
            ..Conv2d::new(cout, kernel)
        };
        let g = Conv2dGeometry::new("bench", Shape::new(side, side, cin), &conv).expect("the table is sound");
        let (x, w, dy) = (normal(1, g.x_len()), normal(2, g.w_len()), normal(3, g.y_len()));
        let id = |pass: &str| {
            format!("conv2d/{pass}/{side}x{side}_{cin}to{cout}_k{kernel}s{stride}/{}", isa.name())
        };
        let flops = 2 * g.macs();
        let sweep =
            |c: &mut Criterion, pass: &str, sweep: Sweep, source: &[f32], len: usize, expected: &[f64]| {
                let mut packed = vec![0.0; sweep.packed_len()];
                sweep.pack(&mut packed, &w);
                let (mut out, mut scratch) = (vec![0.0; len], vec![0.0; sweep.scratch_len()]);
                let args = SweepArgs { x: source, packed: &packed, ..SweepArgs::default() };
                let rows = sweep.output_rows();
                sweep.run(&mut out, &mut scratch, args, 0..rows);
                verify(&id(pass), &out, expected, kernel * kernel * cin.max(cout));
                measure(c, isa, &id(pass), flops, || sweep.run(&mut out, &mut scratch, args, 0..rows));
            };
        let expected = reference::conv2d(&widen(&x), &widen(&w), None, &g);
        sweep(c, "forward", Sweep::forward(isa, &g), &x, g.y_len(), &expected);
        let expected = reference::conv2d_backward_data(&widen(&dy), &widen(&w), &g);
        sweep(c, "backward-data", Sweep::backward_data(isa, &g), &dy, g.x_len(), &expected);
        let weights = WeightGradient::new(isa, &g);
        let (mut dw, mut scratch) = (vec![0.0; g.w_len()], vec![0.0; weights.scratch_len()]);
        weights.accumulate(&mut dw, &mut scratch, &x, &dy);
        let expected = reference::conv2d_backward_weights(&widen(&x), &widen(&dy), &g);
        verify(&id("backward-weights"), &dw, &expected, g.oh * g.ow);
        measure(c, isa, &id("backward-weights"), flops, || {
            weights.accumulate(&mut dw, &mut scratch, &x, &dy)
        });
    }
}

fn main() {
    let mut c = support::criterion();
    for isa in Isa::available() {
        // The portable kernels are for correctness; a full table of them takes minutes.
        gemms(&mut c, isa);
        if isa.name() != "portable" {
            convolutions(&mut c, isa);
        }
    }
    yardstick(&mut c, Isa::available()[0]);
    c.final_summary();
}
