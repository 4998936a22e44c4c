//! From a case to a kernel that can be called: operands, outputs, one call, one comparison with the oracle.
//!
//! One function per family of kernels, which is all that knows their interfaces.

use ocelli_engine::geometry::{Conv2dGeometry, PoolGeometry};
use ocelli_engine::kernels::batchnorm::{self, BnCoef, BnGate, BnSaved, BnSums};
use ocelli_engine::kernels::conv2d::{ByteArgs, Sweep, SweepArgs, WeightGradient};
use ocelli_engine::kernels::depthwise::{self, DepthwiseArgs};
use ocelli_engine::kernels::gemm::{self, GemmEpilogue, GemmShape};
use ocelli_engine::kernels::pool::{self, PoolSaved};
use ocelli_engine::kernels::softmax::{self, Labels, LossConfig};
use ocelli_engine::kernels::update::{self, AdamArgs, AdamState};
use ocelli_engine::kernels::winograd::{FilterGradient, Tile, Winograd};
use ocelli_engine::kernels::{Halves, reference};
use ocelli_engine::parallel::Columns;
use ocelli_engine::rng::Rng;
use ocelli_engine::simd::Bf16Isa;
use ocelli_engine::{Bf16, Buffer, DotIsa, Isa};

use crate::cases::{Case, Op, Pass, Product, Variant};
use crate::oracle::{Expected, Mismatch, compare, conv2d_at, product_at};

/// One kernel on its operands, confirmed by the oracle.
pub struct Kernel {
    outputs: Vec<Buffer>,
    call: Call,
    /// Largest error of any output in units of the root mean square of its tensor.
    pub error: f64,
}

impl Kernel {
    /// Calls the kernel once. Gradients of weights and Adam's state go on from where the last call left them.
    pub fn run(&mut self) {
        (self.call)(&mut self.outputs);
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("error", &self.error).finish_non_exhaustive()
    }
}

type Call = Box<dyn FnMut(&mut [Buffer]) + Send>;

/// A kernel that nobody has checked: outputs as they are before the first call, and what they should be after it.
pub(crate) struct Draft {
    pub(crate) outputs: Vec<Buffer>,
    pub(crate) expected: Vec<Expected>,
    pub(crate) call: Call,
}

/// Makes operands for a case, calls its kernel once and compares with the oracle: all outputs up to `limit`
/// multiply-adds, a thousand of them beyond. Yardsticks choose their instructions by themselves.
///
/// # Errors
/// [`Mismatch`] when an output is further off than rounding explains.
pub fn prepare(case: &Case, isa: Isa, limit: usize) -> Result<Kernel, Mismatch> {
    let Draft { mut outputs, expected, mut call } = draft(case, isa, limit);
    call(&mut outputs);
    assert_eq!(outputs.len(), expected.len(), "an expectation for every output");
    let mut error: f64 = 0.0;
    for (index, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
        let rounding = (case.terms(), case.stored_rounding());
        let largest = compare(output, expected, rounding).map_err(|wrong| Mismatch {
            id: case.full_id(case.unit(isa)),
            place: (index, wrong.place.1),
            ..wrong
        })?;
        error = error.max(largest);
    }
    Ok(Kernel { outputs, call, error })
}

fn draft(case: &Case, isa: Isa, limit: usize) -> Draft {
    match case.op {
        Op::Gemm(p) | Op::Dense(p) => match (case.variant, case.pass) {
            #[cfg(feature = "yardsticks")]
            (Variant::MatrixMultiply | Variant::GemmCrate, _) => yardstick(case.variant, p, limit),
            (_, Pass::Forward | Pass::BackwardData) => product(isa, p, case, limit),
            _ => product_weights(isa, p, limit),
        },
        Op::Conv2d(g) => match (case.variant, case.pass) {
            (Variant::Winograd2, pass) => conv2d_winograd(isa, g, (pass, Tile::Two), limit),
            (Variant::Winograd4, pass) => conv2d_winograd(isa, g, (pass, Tile::Four), limit),
            (_, Pass::BackwardWeights) => conv2d_weights(isa, g, limit),
            (_, pass) => conv2d_sweep(isa, g, pass, limit),
        },
        Op::HalfConv2d(g) => half_conv2d(isa, g, case.pass, limit),
        Op::ByteConv2d(g) => byte_conv2d(isa, g, limit),
        Op::Depthwise(g) => depthwise(isa, g, case.pass, limit),
        Op::MaxPool(g) => max_pool(isa, g, case.pass),
        Op::BatchNorm { images, side, channels } => {
            batch_norm(isa, (images * side * side, channels), case.pass)
        }
        Op::SoftmaxCrossEntropy { rows, classes } => softmax_cross_entropy(rows, classes),
        Op::Adam { parameters } => adam(isa, parameters),
    }
}

/// Uniform numbers of mean 0 and variance 1; a seed for every operand.
pub(crate) fn numbers(seed: u64, len: usize) -> Buffer {
    let mut rng = Rng::new(seed, 0);
    let mut buffer = Buffer::zeros(len);
    buffer.iter_mut().for_each(|x| *x = (rng.uniform() - 0.5) * 12f32.sqrt());
    buffer
}

/// An output that has to be overwritten: what is left of it is noticed.
pub(crate) fn unwritten(len: usize) -> Buffer {
    let mut buffer = Buffer::zeros(len);
    buffer.fill(f32::NAN);
    buffer
}

fn copy(x: &[f64]) -> Buffer {
    let mut buffer = Buffer::zeros(x.len());
    buffer.iter_mut().zip(x).for_each(|(y, &x)| *y = x as f32);
    buffer
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

/// What `x [rows, depth]` times `w [depth, cols]` should be.
pub(crate) fn expected_product(x: &[f32], w: &[f32], p: Product, limit: usize) -> Expected {
    if p.rows * p.depth * p.cols <= limit {
        return Expected::All(reference::dense(&widen(x), &widen(w), &vec![0.0; p.cols], p.depth));
    }
    Expected::sampled(p.rows * p.cols, |at| product_at([x, w], p, Pass::Forward, at))
}

/// Packs weights as they are, or their transpose.
type Pack = fn(Isa, &mut [f32], &[f32], GemmShape, usize);

/// `y = x w`, or `dx = dy w^T` with the transpose made while packing.
fn product(isa: Isa, p: Product, case: &Case, limit: usize) -> Draft {
    let w = numbers(2, p.depth * p.cols);
    let forward = case.pass == Pass::Forward;
    let (shape, pack): (_, Pack) = if forward {
        (GemmShape { depth: p.depth, cols: p.cols }, gemm::pack)
    } else {
        (GemmShape { depth: p.cols, cols: p.depth }, gemm::pack_transposed)
    };
    let x = numbers(1, p.rows * shape.depth);
    let expected = if forward {
        expected_product(&x, &w, p, limit)
    } else if p.rows * p.depth * p.cols <= limit {
        let nothing = vec![0.0; p.rows * p.depth];
        Expected::All(reference::dense_backward(&nothing, &widen(&w), &widen(&x), p.depth).0)
    } else {
        Expected::sampled(p.rows * p.depth, |at| product_at([&w, &x], p, case.pass, at))
    };
    let mut packed = Buffer::zeros(gemm::packed_len(isa, shape));
    pack(isa, &mut packed, &w, shape, 0);
    let outputs = vec![unwritten(p.rows * shape.cols)];
    let with_pack = case.variant == Variant::WithPack;
    let call = move |out: &mut [Buffer]| {
        if with_pack {
            pack(isa, &mut packed, &w, shape, 0);
        }
        gemm::gemm(isa, &mut out[0], &x, &packed, shape, GemmEpilogue::default());
    };
    Draft { outputs, expected: vec![expected], call: Box::new(call) }
}

/// `dw += x^T dy`
fn product_weights(isa: Isa, p: Product, limit: usize) -> Draft {
    let (x, dy) = (numbers(1, p.rows * p.depth), numbers(3, p.rows * p.cols));
    let len = p.depth * p.cols;
    let expected = if p.rows * len <= limit {
        Expected::All(reference::dense_backward(&widen(&x), &vec![0.0; len], &widen(&dy), p.depth).1)
    } else {
        Expected::sampled(len, |at| product_at([&x, &dy], p, Pass::BackwardWeights, at))
    };
    let shape = GemmShape { depth: p.depth, cols: p.cols };
    let mut scratch = Buffer::zeros(gemm::weight_gradient_scratch(isa));
    let call =
        move |out: &mut [Buffer]| gemm::weight_gradient(isa, &mut out[0], &mut scratch, (&x, &dy), shape, 0);
    Draft { outputs: vec![Buffer::zeros(len)], expected: vec![expected], call: Box::new(call) }
}

#[cfg(feature = "yardsticks")]
fn yardstick(variant: Variant, p: Product, limit: usize) -> Draft {
    let (x, w) = (numbers(1, p.rows * p.depth), numbers(2, p.depth * p.cols));
    let expected = expected_product(&x, &w, p, limit);
    let multiply = match variant {
        Variant::GemmCrate => crate::yardsticks::gemm_crate,
        _ => crate::yardsticks::matrixmultiply,
    };
    let call = move |out: &mut [Buffer]| multiply(&mut out[0], &x, &w, p);
    Draft { outputs: vec![unwritten(p.rows * p.cols)], expected: vec![expected], call: Box::new(call) }
}

/// What a pass of a convolution should give.
fn expected_conv2d([a, b]: [&[f32]; 2], g: &Conv2dGeometry, pass: Pass, limit: usize) -> Expected {
    if g.macs() > limit {
        let len = match pass {
            Pass::Forward => g.y_len(),
            Pass::BackwardData => g.x_len(),
            _ => g.w_len(),
        };
        return Expected::sampled(len, |at| conv2d_at([a, b], g, pass, at));
    }
    let (a, b) = (widen(a), widen(b));
    Expected::All(match pass {
        Pass::Forward => reference::conv2d(&a, &b, None, g),
        Pass::BackwardData => reference::conv2d_backward_data(&b, &a, g),
        _ => reference::conv2d_backward_weights(&a, &b, g),
    })
}

/// `y` or `dx` of one image.
fn conv2d_sweep(isa: Isa, g: Conv2dGeometry, pass: Pass, limit: usize) -> Draft {
    let w = numbers(2, g.w_len());
    let (sweep, source, len, expected) = if pass == Pass::Forward {
        let x = numbers(1, g.x_len());
        let expected = expected_conv2d([&x, &w], &g, pass, limit);
        (Sweep::forward(isa, &g), x, g.y_len(), expected)
    } else {
        let dy = numbers(3, g.y_len());
        let expected = expected_conv2d([&w, &dy], &g, pass, limit);
        (Sweep::backward_data(isa, &g), dy, g.x_len(), expected)
    };
    let mut packed = Buffer::zeros(sweep.packed_len());
    sweep.pack(&mut packed, &w);
    let mut scratch = Buffer::zeros(sweep.scratch_len());
    let rows = sweep.output_rows();
    let call = move |out: &mut [Buffer]| {
        let args = SweepArgs { x: &source, packed: &packed, ..SweepArgs::default() };
        sweep.run(&mut out[0], &mut scratch, args, 0..rows);
    };
    Draft { outputs: vec![unwritten(len)], expected: vec![expected], call: Box::new(call) }
}

/// One image in bf16; the gradient of the weights is in f32.
fn half_conv2d(isa: Isa, g: Conv2dGeometry, pass: Pass, limit: usize) -> Draft {
    let round = |x: &Buffer| x.iter().map(|&x| Bf16::from(x)).collect::<Vec<Bf16>>();
    let widen = |x: &[Bf16]| x.iter().map(|&x| x.into()).collect::<Vec<f32>>();
    let numbers = Halves::<Bf16>::new(Bf16Isa::of(isa));
    let [x, w, dy] = [(1, g.x_len()), (2, g.w_len()), (3, g.y_len())].map(|(seed, len)| {
        let rounded = round(&self::numbers(seed, len));
        (widen(&rounded), rounded)
    });
    let operands = match pass {
        Pass::Forward => [&x.0[..], &w.0],
        Pass::BackwardData => [&w.0[..], &dy.0],
        _ => [&x.0[..], &dy.0],
    };
    let expected = expected_conv2d(operands, &g, pass, limit);
    if pass == Pass::BackwardWeights {
        let gradient = WeightGradient::new(numbers, &g);
        let mut scratch = vec![Bf16::ZERO; gradient.scratch_len()];
        let call = move |out: &mut [Buffer]| gradient.accumulate(&mut out[0], &mut scratch, &x.1, &dy.1);
        return Draft {
            outputs: vec![Buffer::zeros(g.w_len())],
            expected: vec![expected],
            call: Box::new(call),
        };
    }
    let (sweep, source, len) = match pass {
        Pass::Forward => (Sweep::forward(numbers, &g), x.1, g.y_len()),
        _ => (Sweep::backward_data(numbers, &g), dy.1, g.x_len()),
    };
    let mut packed = vec![Bf16::ZERO; sweep.packed_len()];
    sweep.pack(&mut packed, &w.0);
    let (mut y, mut scratch) = (vec![Bf16::ZERO; len], vec![Bf16::ZERO; sweep.scratch_len()]);
    let (rows, mut is_told) = (sweep.output_rows(), false);
    let call = move |out: &mut [Buffer]| {
        let args = SweepArgs { x: &source, packed: &packed, ..SweepArgs::default() };
        sweep.run(&mut y, &mut scratch, args, 0..rows);
        // The first call is compared with the oracle; the others are timed.
        if !is_told {
            is_told = true;
            out[0].iter_mut().zip(&y).for_each(|(out, &y)| *out = y.into());
        }
    };
    Draft { outputs: vec![unwritten(len)], expected: vec![expected], call: Box::new(call) }
}

/// Bytes of one image: sums of products, scaled so that outputs fill their range, and rounded.
fn byte_conv2d(isa: Isa, g: Conv2dGeometry, limit: usize) -> Draft {
    let mut rng = Rng::new(1, 0);
    let x: Vec<u8> = (0..g.x_len()).map(|_| (rng.next_u64() >> 56) as u8).collect();
    let w: Vec<i8> = (0..g.w_len()).map(|_| ((rng.next_u64() >> 56) as i8).max(-127)).collect();
    let as_floats = |bytes: &mut dyn Iterator<Item = f32>| bytes.collect::<Vec<f32>>();
    let (wide_x, wide_w) =
        (as_floats(&mut x.iter().map(|&x| x.into())), as_floats(&mut w.iter().map(|&w| w.into())));
    // Root mean squares of the bytes are 147 and 74.
    let terms = (g.w_len() / g.cout) as f32;
    let (factor, offset) = (40.0 / (147.0 * 74.0 * terms.sqrt()), 128.0f32);
    let stored = |sum: f64| f64::from((sum as f32 * factor + offset).clamp(0.0, 255.0).round_ties_even());
    let expected = match expected_conv2d([&wide_x, &wide_w], &g, Pass::Forward, limit) {
        Expected::All(sums) => Expected::All(sums.into_iter().map(stored).collect()),
        Expected::Some(sums) => Expected::Some(sums.into_iter().map(|(at, sum)| (at, stored(sum))).collect()),
    };
    let sweep = Sweep::forward(DotIsa::of(isa), &g);
    let mut packed = vec![0; sweep.packed_len()];
    let (mut bias, scale) = (vec![0; sweep.channels_len()], vec![factor; sweep.channels_len()]);
    sweep.pack_bytes(&mut packed, &mut bias, &w);
    let (mut y, mut scratch) = (vec![0; g.y_len()], vec![0; sweep.scratch_len()]);
    let (rows, mut is_told) = (sweep.output_rows(), false);
    let call = move |out: &mut [Buffer]| {
        let (packed, bias, scale) = (&packed[..], &bias[..], &scale[..]);
        let args = ByteArgs { x: &x, zero: 0, packed, bias, scale, residual: None, offset };
        sweep.run_bytes(Columns::all(&mut y, g.cout), &mut scratch, args, 0..rows);
        // The first call is compared with the oracle; the others are timed.
        if !is_told {
            is_told = true;
            out[0].iter_mut().zip(&y).for_each(|(out, &y)| *out = y.into());
        }
    };
    Draft { outputs: vec![unwritten(g.y_len())], expected: vec![expected], call: Box::new(call) }
}

/// The same through Winograd's transforms; weights are transformed beforehand, as they are packed.
fn conv2d_winograd(isa: Isa, g: Conv2dGeometry, (pass, tile): (Pass, Tile), limit: usize) -> Draft {
    let (x, w, dy) = (numbers(1, g.x_len()), numbers(2, g.w_len()), numbers(3, g.y_len()));
    if pass == Pass::BackwardWeights {
        let expected = expected_conv2d([&x, &dy], &g, pass, limit);
        let gradient = FilterGradient::new(isa, &g, tile);
        let (lines, chunk) = (gradient.line_count(1), gradient.chunk_lines());
        let mut chunks = Buffer::zeros(lines.div_ceil(chunk) * gradient.chunk_len());
        let mut sums = Buffer::zeros(gradient.sums_len());
        let len = g.cin * g.cout;
        let call = move |out: &mut [Buffer]| {
            for (i, part) in chunks.chunks_exact_mut(gradient.chunk_len()).enumerate() {
                gradient.transform(part, &x, &dy, i * chunk..lines.min((i + 1) * chunk));
            }
            sums.fill(0.0);
            for (value, sums) in sums.chunks_exact_mut(len).enumerate() {
                gradient.accumulate(sums, &chunks, value, 0..g.cin);
            }
            let mut taps = out[0].chunks_exact_mut(len);
            let taps = std::array::from_fn(|_| taps.next().expect("a 3x3 filter has nine taps"));
            gradient.finish(taps, &sums, 0, false);
        };
        return Draft { outputs: vec![unwritten(g.w_len())], expected: vec![expected], call: Box::new(call) };
    }
    let (winograd, source, len, operands) = match pass {
        Pass::Forward => (Winograd::forward(isa, &g, tile), x.clone(), g.y_len(), [&x, &w]),
        _ => (Winograd::backward_data(isa, &g, tile), dy.clone(), g.x_len(), [&w, &dy]),
    };
    let expected = expected_conv2d([operands[0], operands[1]], &g, pass, limit);
    let mut packed = Buffer::zeros(winograd.packed_len());
    for (i, panel) in packed.chunks_mut(winograd.pack_len()).enumerate() {
        winograd.pack(panel, &w, i);
    }
    let lines = winograd.lines();
    let mut scratch = Buffer::zeros(winograd.scratch_len(lines));
    let call = move |out: &mut [Buffer]| {
        let args = SweepArgs { x: &source, packed: &packed, ..SweepArgs::default() };
        winograd.run(&mut out[0], &mut scratch, args, 0..lines);
    };
    Draft { outputs: vec![unwritten(len)], expected: vec![expected], call: Box::new(call) }
}

/// `dw += ..` of one image.
fn conv2d_weights(isa: Isa, g: Conv2dGeometry, limit: usize) -> Draft {
    let (x, dy) = (numbers(1, g.x_len()), numbers(3, g.y_len()));
    let expected = expected_conv2d([&x, &dy], &g, Pass::BackwardWeights, limit);
    let gradient = WeightGradient::new(isa, &g);
    let mut scratch = Buffer::zeros(gradient.scratch_len());
    let call = move |out: &mut [Buffer]| gradient.accumulate(&mut out[0], &mut scratch, &x, &dy);
    Draft { outputs: vec![Buffer::zeros(g.w_len())], expected: vec![expected], call: Box::new(call) }
}

fn depthwise(isa: Isa, g: Conv2dGeometry, pass: Pass, limit: usize) -> Draft {
    let (x, w, dy) = (numbers(1, g.x_len()), numbers(2, g.w_len()), numbers(3, g.y_len()));
    match pass {
        Pass::Forward => {
            let expected = expected_conv2d([&x, &w], &g, pass, limit);
            let call = move |out: &mut [Buffer]| {
                let args = DepthwiseArgs { w: &w, bias: None, act: None };
                depthwise::forward(isa, &mut out[0], &x, args, &g, 0..g.oh);
            };
            Draft { outputs: vec![unwritten(g.y_len())], expected: vec![expected], call: Box::new(call) }
        }
        Pass::BackwardData => {
            let expected = expected_conv2d([&w, &dy], &g, pass, limit);
            let call =
                move |out: &mut [Buffer]| depthwise::backward_data(isa, &mut out[0], &dy, &w, &g, 0..g.h);
            Draft { outputs: vec![unwritten(g.x_len())], expected: vec![expected], call: Box::new(call) }
        }
        _ => {
            let expected = expected_conv2d([&x, &dy], &g, pass, limit);
            let call = move |out: &mut [Buffer]| depthwise::backward_weights(isa, &mut out[0], &x, &dy, &g);
            Draft { outputs: vec![Buffer::zeros(g.w_len())], expected: vec![expected], call: Box::new(call) }
        }
    }
}

fn max_pool(isa: Isa, g: PoolGeometry, pass: Pass) -> Draft {
    let (x, dy) = (numbers(1, g.x_len()), numbers(3, g.y_len()));
    let exact = reference::max_pool(&widen(&x), &g);
    if pass == Pass::Forward {
        let call = move |out: &mut [Buffer]| pool::max_forward(isa, &mut out[0], &x, &g);
        let outputs = vec![unwritten(g.y_len())];
        return Draft { outputs, expected: vec![Expected::All(exact)], call: Box::new(call) };
    }
    let expected = reference::max_pool_backward(&widen(&x), &widen(&dy), &g);
    let y = copy(&exact);
    let call = move |out: &mut [Buffer]| {
        pool::max_backward(isa, &mut out[0], PoolSaved { x: &x, y: &y, dy: &dy, gate: false }, &g);
    };
    Draft {
        outputs: vec![unwritten(g.x_len())],
        expected: vec![Expected::All(expected)],
        call: Box::new(call),
    }
}

fn batch_norm(isa: Isa, (rows, c): (usize, usize), pass: Pass) -> Draft {
    const EPS: f64 = 1e-5;
    let (len, n) = (rows * c, rows as f64);
    let (x, dy, gamma, beta) = (numbers(1, len), numbers(3, len), numbers(4, c), numbers(5, c));
    let (mean, var) = reference::batch_statistics(&widen(&x), c);
    let inverse: Vec<f64> = var.iter().map(|var| 1.0 / (var + EPS).sqrt()).collect();
    let (dx, dgamma, dbeta) = reference::batch_norm_backward(&widen(&x), &widen(&gamma), &widen(&dy), EPS);
    let factor: Vec<f64> = (0..c).map(|i| f64::from(gamma[i]) * inverse[i]).collect();
    match pass {
        Pass::Moments => {
            let m2 = var.iter().map(|var| var * n).collect();
            let call = move |out: &mut [Buffer]| {
                let (mean, m2) = out.split_at_mut(1);
                batchnorm::moments(isa, &mut mean[0], &mut m2[0], &x);
            };
            let expected = vec![Expected::All(mean), Expected::All(m2)];
            Draft { outputs: vec![unwritten(c), unwritten(c)], expected, call: Box::new(call) }
        }
        Pass::Affine => {
            let affine = (&*widen(&gamma), &*widen(&beta));
            let expected = reference::batch_norm(&widen(&x), affine, (&mean, &var), EPS);
            let offset: Vec<f64> = (0..c).map(|i| f64::from(beta[i]) - mean[i] * factor[i]).collect();
            let (a, b) = (copy(&factor), copy(&offset));
            let call = move |out: &mut [Buffer]| batchnorm::affine(isa, &mut out[0], &x, &a, &b, None);
            Draft {
                outputs: vec![unwritten(len)],
                expected: vec![Expected::All(expected)],
                call: Box::new(call),
            }
        }
        Pass::BackwardSums => {
            // Each run adds to what the one before left; the first is checked.
            let dy_x = (0..c).map(|i| dgamma[i] / inverse[i]).collect();
            let (mean, inverse) = (copy(&mean), copy(&inverse));
            let call = move |out: &mut [Buffer]| {
                let (sum, dy_x) = out.split_at_mut(1);
                let sums = BnSums { dy: &mut sum[0], dy_x: &mut dy_x[0] };
                let gate = BnGate { a: &inverse, b: &mean, act: None };
                batchnorm::backward_sums(isa, sums, &x, &dy, BnSaved { mean: &mean, gate });
            };
            let expected = vec![Expected::All(dbeta), Expected::All(dy_x)];
            Draft { outputs: vec![Buffer::zeros(c), Buffer::zeros(c)], expected, call: Box::new(call) }
        }
        _ => {
            // The formulas at the top of the kernel's file.
            let slope: Vec<f64> = (0..c).map(|i| -factor[i] * inverse[i] * dgamma[i] / n).collect();
            let offset: Vec<f64> = (0..c).map(|i| -factor[i] * dbeta[i] / n - slope[i] * mean[i]).collect();
            let [a, b, c] = [&factor, &slope, &offset].map(|values| copy(values));
            let call = move |out: &mut [Buffer]| {
                let gate = BnGate { a: &a, b: &c, act: None };
                batchnorm::backward_dx(isa, &mut out[0], &x, &dy, (BnCoef { a: &a, b: &b, c: &c }, gate));
            };
            Draft { outputs: vec![unwritten(len)], expected: vec![Expected::All(dx)], call: Box::new(call) }
        }
    }
}

/// Gradient and loss of the mean over rows.
fn softmax_cross_entropy(rows: usize, classes: usize) -> Draft {
    let logits = numbers(1, rows * classes);
    let labels: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
    let weights = vec![1.0; classes];
    let loss = reference::cross_entropy(&widen(&logits), &labels, &weights, 0.0);
    let mut gradient = reference::cross_entropy_backward(&widen(&logits), &labels, &weights, 0.0);
    gradient.iter_mut().for_each(|d| *d /= rows as f64);
    let call = move |out: &mut [Buffer]| {
        let (dlogits, loss) = out.split_at_mut(1);
        let config = LossConfig { classes, smoothing: 0.0, class_weights: None, denominator: rows as f32 };
        loss[0][0] =
            softmax::cross_entropy(&mut dlogits[0], &logits, Labels::One(&labels), config).loss as f32;
    };
    let expected = vec![Expected::All(gradient), Expected::All(vec![loss])];
    Draft { outputs: vec![unwritten(rows * classes), unwritten(1)], expected, call: Box::new(call) }
}

fn adam(isa: Isa, len: usize) -> Draft {
    const STEP: i32 = 10;
    let settings = AdamArgs {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: STEP as u64,
        grad_scale: 1.0,
    };
    let (w, m, g) = (numbers(1, len), numbers(2, len), numbers(3, len));
    // Means of squares are positive.
    let mut v = numbers(4, len);
    v.iter_mut().for_each(|v| *v = 0.5 + v.abs());
    let [mut w_exact, mut m_exact, mut v_exact] = [&w, &m, &v].map(|x| widen(x));
    let AdamArgs { lr, beta1, beta2, eps, weight_decay, decoupled, .. } = settings;
    let exact = reference::Adam { lr, betas: [beta1, beta2], eps, weight_decay, decoupled };
    reference::adam([&mut w_exact, &mut m_exact, &mut v_exact], &widen(&g), STEP, exact);
    let call = move |out: &mut [Buffer]| {
        let [w, m, v] = out else { unreachable!("there are three outputs") };
        update::adam(isa, AdamState { w, m, v }, &g, settings);
    };
    let expected = [w_exact, m_exact, v_exact].map(Expected::All).into_iter().collect();
    Draft { outputs: vec![w, m, v], expected, call: Box::new(call) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::table;

    /// Multiply-adds of what is cheap enough for every run of the tests.
    const CHEAP: usize = 1_100_000;

    /// Cheap cases of all families.
    fn cheap() -> Vec<Case> {
        let cheap = |case: &Case| case.cost().flops <= 2 * CHEAP || case.pass == Pass::Update;
        table().into_iter().filter(cheap).collect()
    }

    #[test]
    fn kernels_are_what_the_oracle_says_on_every_instruction_set() {
        for isa in Isa::available() {
            let mut families = std::collections::BTreeSet::new();
            for case in &cheap() {
                let mut kernel = prepare(case, isa, CHEAP).unwrap_or_else(|wrong| panic!("{wrong}"));
                // No output is eight times their root mean square.
                let most = 1e-4 + 8.0 * case.stored_rounding();
                assert!(kernel.error < most, "{case}: {}", kernel.error);
                kernel.run();
                families.insert((case.op.name(), case.pass.name()));
            }
            for op in ["gemm", "dense", "conv2d", "conv2d-bf16", "depthwise"] {
                for pass in ["forward", "backward-data", "backward-weights"] {
                    assert!(families.contains(&(op, pass)), "{op} {pass}");
                }
            }
            assert_eq!(families.len(), 24, "{families:?}");
        }
    }

    #[test]
    fn samples_of_large_cases_agree_too() {
        for isa in Isa::available() {
            for case in &cheap() {
                prepare(case, isa, 0).unwrap_or_else(|wrong| panic!("{wrong}"));
            }
        }
    }

    #[test]
    fn a_kernel_that_is_wrong_is_not_given_away() {
        let p = Product { rows: 4, depth: 8, cols: 4 };
        let mut draft = product(Isa::available()[0], p, &Case::new(Op::Gemm(p), Pass::Forward), 1 << 20);
        // A kernel that writes nothing leaves what has to be overwritten.
        draft.call = Box::new(|_: &mut [Buffer]| {});
        (draft.call)(&mut draft.outputs);
        assert!(compare(&draft.outputs[0], &draft.expected[0], (p.depth, 0.0)).is_err());
    }
}
